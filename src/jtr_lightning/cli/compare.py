"""``jtr compare``: trains several methods in the same way and prints the table."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jtr_lightning.cli.compared_runs import ComparedRuns, Comparison, Search
from jtr_lightning.cli.parser import Parser
from jtr_lightning.console import console
from jtr_lightning.errors import ConfigError

if TYPE_CHECKING:
    from jtr_lightning.comparison.plan import Method

_EPILOG = """\
Any option of `jtr fit` with a dot in its name is given to every run: --trainer.max_epochs 50 --data.size [64,80].

Finished runs are found again by their whole configuration and not repeated; an interrupted one goes on from its last
checkpoint. OUT/runs holds the runs, OUT/results.csv, OUT/results.md and OUT/curves.csv the results, OUT/configs the
configuration of each row.

With --search, FILE has for each method the values of some options; every combination is trained, and the best on the
validation set goes into OUT/chosen.yaml. Each method must have as many trials as the others."""

_SEEDS = (0, 1, 2)
_SEARCH_SEED = 100


def run(arguments: list[str]) -> int:
    """Runs a comparison, or the search before it.

    Args:
        arguments: What follows the subcommand's name.

    Returns:
        0, or 1 if a run failed.

    Raises:
        UserError: An argument or a config does not fit.
    """
    rest, overrides = split_overrides(arguments)
    given = _parser().parse_args(rest)
    # After the parser, whose --help should answer at once.
    from jtr_lightning.comparison import plan
    from jtr_lightning.lightning_cli.command_line import LARGEST_SEED

    methods = plan.methods_of(given.configs)
    if given.jobs < 1:
        raise ConfigError(f"--jobs should be at least 1; found {given.jobs}.")
    given.seeds = list(dict.fromkeys(given.seeds or ([_SEARCH_SEED] if given.search else _SEEDS)))
    for seed in given.seeds:
        if not 0 <= seed <= LARGEST_SEED:
            raise ConfigError(f"--seeds should be from 0 to {LARGEST_SEED}; found {seed}.")
    given.scenarios = given.scenarios or ([] if given.fractions else ["onelabel"])
    # Written into the results to be repeated, which trains.
    command = shlex.join(["jtr", "compare", *(each for each in arguments if each != "--results-only")])
    runs = (_search if given.search else _comparison)(methods, given, overrides, command)
    if given.dry_run:
        runs.show_plan()
        return 0
    runs.make_folders()
    failed = {} if given.results_only else runs.train(given.jobs)
    runs.show_results(failed)
    for what, log in failed.items():
        console().print(f"Failed: {what}; see {log}", soft_wrap=True, markup=False)
    return 1 if failed else 0


def _comparison(
    methods: Sequence[Method], given: argparse.Namespace, overrides: Sequence[str], command: str
) -> ComparedRuns:
    from jtr_lightning.comparison import plan
    from jtr_lightning.comparison.search import read_chosen

    roles = {
        "baseline": plan.find_method(methods, given.baseline, "supervised", "--baseline"),
        "single_task": plan.find_method(methods, given.single_task, "stl", "--single-task"),
        "reference": plan.find_method(methods, given.reference, "jtr", "--reference"),
    }
    chosen = None if given.chosen is None else read_chosen(given.chosen)
    options = {} if chosen is None else chosen.options_of(methods, given.seeds, "' and '".join(given.chosen))
    labels = plan.labels_of(given.scenarios, given.fractions)
    runs = plan.make_plan(methods, labels, given.seeds, overrides, roles["baseline"], options)
    return Comparison(runs, Path(given.out or "runs/compare"), command, roles, chosen)


def _search(
    methods: Sequence[Method], given: argparse.Namespace, overrides: Sequence[str], command: str
) -> ComparedRuns:
    from jtr_lightning.comparison import plan
    from jtr_lightning.comparison.search import plan_trials, read_search

    labels = plan.labels_of(given.scenarios, given.fractions)
    if len(labels) > 1:
        raise ConfigError(
            f"A search should have one scenario; found {', '.join(each.title for each in labels)}."
        )
    trials = read_search(given.search, methods)
    runs = plan_trials(methods, trials, labels[0], given.seeds, overrides)
    return Search(runs, Path(given.out or "runs/search"), command)


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes out the options that every run is given: those with a dot in the name, each with its value.

    Args:
        arguments: All arguments.

    Returns:
        Our own arguments, and the others.

    Raises:
        ConfigError: An option has no value.
    """
    own: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, _ = argument.partition("=")
        if not (name.startswith("--") and "." in name):
            own.append(argument)
            continue
        overrides.append(argument)
        if not equals:
            value = next(rest, None)
            if value is None:
                raise ConfigError(f"The option {argument} should be followed by a value; found none.")
            overrides.append(value)
    return own, overrides


def _parser() -> Parser:
    parser = Parser(
        prog="jtr compare",
        description="Trains each method with each scenario and seed, and compares them on the test set.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "configs",
        nargs="+",
        metavar="CONFIG",
        help="one config file per method, which is named after the file",
    )
    add(
        "--scenarios",
        nargs="+",
        default=[],
        metavar="NAME",
        help="onelabel (default), randomlabels, halflabels ..., or own: what the configs say",
    )
    add(
        "--fractions",
        nargs="+",
        type=float,
        default=[],
        metavar="F",
        help="shares of labels, above 0 and at most 1",
    )
    add("--seeds", nargs="+", type=int, metavar="N", help="one run for each (0 1 2; for a search 100)")
    add("--jobs", type=int, default=1, metavar="N", help="runs at once (1)")
    add(
        "--out",
        metavar="DIR",
        help="where runs and results are kept (runs/compare; for a search runs/search)",
    )
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--search", metavar="FILE", help="search for each method's options instead of comparing")
    one.add_argument(
        "--chosen",
        action="append",
        metavar="FILE",
        help="give each method what a search has chosen for it; again for what another search has",
    )
    add("--baseline", metavar="METHOD", help="supervised multi-task training, whose delta is 0 (supervised)")
    add("--single-task", metavar="METHOD", help="single-task training (stl)")
    add("--reference", metavar="METHOD", help="what the paired differences are to (jtr)")
    add("--dry-run", action="store_true", help="list the runs, train nothing")
    add("--results-only", action="store_true", help="write the results of what is finished, train nothing")
    return parser
