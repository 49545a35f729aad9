"""``jtr compare``: trains several methods in the same way and prints the table."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from jtr_lightning.cli.console import console
from jtr_lightning.cli.parser import Parser
from jtr_lightning.errors import ConfigError

if TYPE_CHECKING:
    from jtr_lightning.comparison.plan import Run
    from jtr_lightning.comparison.results import Results

_EPILOG = """\
Any option of `jtr fit` with a dot in its name is given to every run: --trainer.max_epochs 50 --data.size [64,80].

Finished runs are found again by their whole configuration and not repeated; an interrupted one goes on from its last
checkpoint. OUT/runs holds the runs, OUT/results.csv, OUT/results.md and OUT/curves.csv the results."""


def run(arguments: list[str]) -> int:
    """Runs a comparison.

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

    methods = plan.methods_of(given.configs)
    roles = {
        "baseline": plan.find_method(methods, given.baseline, "supervised", "--baseline"),
        "single_task": plan.find_method(methods, given.single_task, "stl", "--single-task"),
        "reference": plan.find_method(methods, given.reference, "jtr", "--reference"),
    }
    if given.jobs < 1:
        raise ConfigError(f"--jobs should be at least 1; found {given.jobs}.")
    if min(given.seeds) < 0:
        raise ConfigError(f"--seeds should be at least 0; found {min(given.seeds)}.")
    scenarios = given.scenarios or ([] if given.fractions else ["onelabel"])
    runs = plan.make_plan(
        methods,
        plan.labels_of(scenarios, given.fractions),
        list(dict.fromkeys(given.seeds)),
        overrides,
        roles["baseline"],
    )
    comparison = Comparison(runs, Path(given.out), roles, shlex.join(["jtr", "compare", *arguments]))
    if given.dry_run:
        comparison.show_plan()
        return 0
    failed = {} if given.results_only else comparison.train(given.jobs)
    comparison.show_results()
    for what, log in failed.items():
        console().print(f"Failed: {what}; see {log}", soft_wrap=True, markup=False)
    return 1 if failed else 0


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Takes out the options that every run is given: those with a dot in the name, each with its value.

    Args:
        arguments: All arguments.

    Returns:
        Our own arguments, and the others.
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
        help="onelabel (default), randomlabels, halflabels ...",
    )
    add(
        "--fractions",
        nargs="+",
        type=float,
        default=[],
        metavar="F",
        help="shares of labels, above 0 and at most 1",
    )
    add("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N", help="one run for each (0 1 2)")
    add("--jobs", type=int, default=1, metavar="N", help="runs at once (1)")
    add("--out", default="runs/compare", metavar="DIR", help="where runs and results are kept (runs/compare)")
    add("--baseline", metavar="METHOD", help="supervised multi-task training, whose delta is 0 (supervised)")
    add("--single-task", metavar="METHOD", help="single-task training (stl)")
    add("--reference", metavar="METHOD", help="what the paired differences are to (jtr)")
    add("--dry-run", action="store_true", help="list the runs, train nothing")
    add("--results-only", action="store_true", help="write the results of what is finished, train nothing")
    return parser


class Comparison:
    """A plan and its folder.

    Args:
        runs: Every planned run.
        out: The folder of runs and results.
        roles: ``baseline``, ``single_task`` and ``reference``: a method's name or None.
        command: The command that repeats it.
    """

    def __init__(self, runs: Sequence[Run], out: Path, roles: dict[str, str | None], command: str) -> None:
        self.runs = runs
        self.out = out
        self.roles = roles
        self.command = command

    @property
    def run_folders(self) -> Path:
        """The folder of the runs' folders."""
        return self.out / "runs"

    def show_plan(self) -> None:
        """Lists every run and how far it is."""
        from jtr_lightning.comparison.execution import is_finished

        counts = {"finished": 0, "to go on": 0, "to do": 0}
        for each in self.runs:
            begun = (self.run_folders / each.name / "training" / "checkpoints" / "last.ckpt").is_file()
            state = "finished" if is_finished(each, self.run_folders) else "to go on" if begun else "to do"
            counts[state] += 1
            console().print(f"{state:<9} {each.name}", soft_wrap=True, markup=False)
        summary = ", ".join(f"{number} {state}" for state, number in counts.items())
        console().print(f"{len(self.runs)} runs: {summary}.")

    def train(self, jobs: int) -> dict[Run, Path]:
        """Trains what is not finished.

        Args:
            jobs: Runs at once.

        Returns:
            Failed runs and their logs.
        """
        from jtr_lightning.comparison.execution import execute, is_finished

        waiting = [each for each in self.runs if not is_finished(each, self.run_folders)]
        console().print(f"{len(self.runs)} runs, {len(self.runs) - len(waiting)} of them finished.")
        if not waiting:
            return {}
        with _Display(self) as display:
            return execute(waiting, self.run_folders, jobs, display, self._seconds())

    def _seconds(self) -> dict[str, float]:
        """For each method how long a training took so far."""
        results = self.results()
        times: dict[str, list[float]] = {}
        for each in self.runs:
            if each.name in results.by_name:
                times.setdefault(each.method, []).append(results.by_name[each.name].train_seconds)
        return {method: fmean(values) for method, values in times.items()}

    def results(self) -> Results:
        """The results of what is finished."""
        from jtr_lightning.comparison.results import read_results

        return read_results(self.runs, self.run_folders, **self.roles)

    def write(self, plots: dict[str, str] | None = None) -> None:
        """Writes the tables of what is finished."""
        from jtr_lightning.comparison.report import report
        from jtr_lightning.comparison.results import write_csv

        self.out.mkdir(parents=True, exist_ok=True)
        results = self.results()
        write_csv(results, self.out / "results.csv")
        (self.out / "results.md").write_text(report(results, self.command, plots), encoding="utf-8")

    def show_results(self) -> None:
        """Writes tables and plots, and says where they are."""
        from jtr_lightning.comparison.curves import read_curves, write_curves
        from jtr_lightning.comparison.plots import draw

        self.write()
        curves = read_curves(self.results(), self.run_folders)
        write_curves(curves, self.out / "curves.csv")
        try:
            self.write(draw(self.results(), self.out, curves))
        except ImportError as error:
            if error.name is None or error.name.partition(".")[0] != "matplotlib":
                raise
            console().print(
                "No plots were drawn, since matplotlib is not installed; pip install matplotlib, then repeat with "
                "--results-only.",
                soft_wrap=True,
            )
        console().print(f"Results are in {self.out / 'results.md'}", soft_wrap=True, markup=False)


class _Display:
    """Shows the progress: a bar on a terminal, and a line for each run that ends."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.remaining: float | None = None
        self.ended_runs = 0
        self.number = 0
        self.out = console()
        self.stack = ExitStack()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}"),
        )
        self.progress = Progress(*columns, console=self.out, disable=not self.out.is_terminal)
        self.bar: TaskID = self.progress.add_task("training", total=None, rest="")

    def __enter__(self) -> _Display:
        self.stack.enter_context(self.progress)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def started(self, run: Run) -> None:
        """Says that a run is begun."""
        self._print(f"begun: {run}")

    def ended(self, run: Run, failed: bool, log: Path) -> None:
        """Says that a run has ended, and brings the tables up to date."""
        self.ended_runs += 1
        rest = "" if self.remaining is None else f"; {duration(self.remaining)} left"
        self._print(f"{f'FAILED, see {log}' if failed else 'finished'}: {run}{rest}")
        if not failed:
            self.comparison.write()

    def moved(self, done: float, of: int, active: int, remaining: float | None) -> None:
        """Moves the bar."""
        self.remaining = remaining
        rest = "" if remaining is None else f"{duration(remaining)} left"
        self.progress.update(
            self.bar,
            description=f"{int(done)} of {of} runs, {active} at work",
            completed=done,
            total=of,
            rest=rest,
        )

    def _print(self, text: str) -> None:
        self.progress.console.print(f"{time.strftime('%H:%M')} {text}", soft_wrap=True, markup=False)


def duration(seconds: float) -> str:
    """A time for people, e.g. ``about 2 h 5 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes} min" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min"
