"""``jtr sweep``: runs a W&B sweep file on this machine, without a server."""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jtr_lightning.cli.compare import split_overrides
from jtr_lightning.cli.parser import Parser
from jtr_lightning.console import console, program
from jtr_lightning.errors import ConfigError

if TYPE_CHECKING:
    from jtr_lightning.sweeps.file import Sweep
    from jtr_lightning.sweeps.summary import Row

_EPILOG = """\
The file is W&B's own: `wandb sweep FILE` and `wandb agent` run it with a server. Here Optuna draws the parameters:
method random at random, grid one after the other, bayes by tree-structured Parzen estimators (TPE); early_terminate
hyperband stops trials by successive halving, counted in validations.

Any option of `jtr fit` with a dot in its name is given to every trial: --trainer.max_epochs 50 --data.size [64,80].

OUT/sweep.db holds the trials: the same command goes on where it was stopped, and --trials may grow. Each trial has its
run folder OUT/trial_NNNN; OUT/results.csv and OUT/results.png are written at the end."""


def run(arguments: list[str]) -> None:
    """Runs a sweep.

    Args:
        arguments: What follows the subcommand's name.

    Raises:
        UserError: An argument or the file does not fit.
    """
    rest, overrides = split_overrides(arguments)
    given = _parser().parse_args(rest)
    if not given.local:
        raise ConfigError(
            f"jtr sweep runs a sweep on this machine and should be given --local; with a server of W&B, run "
            f"`wandb sweep {given.file}`, then the `wandb agent` that it names."
        )
    if given.trials is not None and given.trials < 1:
        raise ConfigError(f"--trials should be at least 1; found {given.trials}.")
    # After the parser, whose --help should answer at once.
    from jtr_lightning.sweeps.file import read_sweep
    from jtr_lightning.sweeps.local import LocalSweep
    from jtr_lightning.sweeps.summary import rows_of, write_table

    sweep = read_sweep(given.file)
    folder = Path(given.out or Path("runs", "sweeps", Path(given.file).stem))
    local = LocalSweep(sweep, folder, overrides, given.seed)
    local.run(given.trials, _say, lambda study: write_table(rows_of(study), sweep, folder))
    with local.opened() as study:
        rows = rows_of(study)
    _show(rows, sweep, folder, overrides)


def _parser() -> Parser:
    parser = Parser(
        prog="jtr sweep",
        description="Search for good parameters, as a W&B sweep file describes it.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("file", metavar="FILE", help="a sweep file, such as experiments/sweeps/random.yaml")
    add("--local", action="store_true", help="run it here, through Optuna")
    add(
        "--trials",
        type=int,
        metavar="N",
        help="trials in all; by default the file's run_cap, or the whole grid",
    )
    add("--out", metavar="DIR", help="where trials and results are kept (runs/sweeps/<name of the file>)")
    add("--seed", type=int, default=0, metavar="N", help="seed of the search (0)")
    return parser


def _say(text: str) -> None:
    console().print(f"{time.strftime('%H:%M')} {text}", soft_wrap=True, markup=False)


def _show(rows: Sequence[Row], sweep: Sweep, folder: Path, overrides: Sequence[str]) -> None:
    """Prints the table and how to train the best again, and draws the picture."""
    from jtr_lightning.sweeps.local import trial_name
    from jtr_lightning.sweeps.summary import TABLE, draw, table_of

    out = console()
    out.print(table_of(rows, sweep))
    if rows and rows[0].state == "finished":
        again = shlex.join(["fit", *sweep.fit_arguments(rows[0].values), *overrides])
        out.print(f"Best: {folder / trial_name(rows[0].trial)}", soft_wrap=True, markup=False)
        out.print(f"The same again: {program()} {again}", soft_wrap=True, markup=False)
    draw(rows, sweep, folder)
    out.print(f"Results are in {folder / TABLE}", soft_wrap=True, markup=False)
