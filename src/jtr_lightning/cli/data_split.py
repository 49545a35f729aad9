"""``jtr data split``: draws which sample may use which label, and writes it as a file that people can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jsonargparse import ArgumentParser, Namespace
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from jtr_lightning.cli.data_options import instantiate, names_a_dataset, parse, parse_with_dataset, parser_of
from jtr_lightning.console import console
from jtr_lightning.errors import ConfigError
from jtr_lightning.scenarios import BoolArray, SampleTable, Scenario
from jtr_lightning.splits import write_split


def run(arguments: list[str]) -> None:
    """Draws a label split.

    Args:
        arguments: The options.

    Raises:
        UserError: An argument does not fit, or the file cannot be written.
    """
    parser = parser_of(
        "split",
        "Draws from a scenario which training sample may use which label; training takes the file as `scenario: "
        "SplitFile`.",
        "Or, for samples numbered from 0: --num N --tasks NAME NAME ...",
    )
    parser.add_argument("--out", required=True, help="The CSV file to write; must not exist.")
    asks_for_help = any(argument in ("-h", "--help") for argument in arguments)
    if names_a_dataset(arguments) or asks_for_help:
        given, names, tasks, available = _of_dataset(parser, arguments)
    else:
        given, names, tasks, available = _of_numbers(parser, arguments)
    path = Path(given.out)
    if path.suffix != ".csv" or path.exists():
        found = "a file that exists" if path.exists() else "another ending"
        raise ConfigError(
            f"Parameter `out` should be a new .csv file; found {found}, '{path}'. Choose another name."
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_split(path, names, tasks, available)
    except OSError as error:
        raise ConfigError(
            f"Parameter `out` should be a file that can be written; found '{path}': {error.strerror}."
        ) from error
    _print_counts(path, tasks, available)


def _of_dataset(
    parser: ArgumentParser, arguments: list[str]
) -> tuple[Namespace, Sequence[str], Sequence[str], BoolArray]:
    """The data module's own scenario and seed, which `--scenario` and `--seed` set."""
    short = ("--scenario", "--seed")
    spelled = [
        f"--data.{argument[2:]}" if argument.replace("=", ".").split(".")[0] in short else argument
        for argument in arguments
    ]
    given, data = parse_with_dataset(parser, spelled)
    train = data.dataset("train")
    return given, train.source.names(), tuple(data.tasks), train.available


def _of_numbers(
    parser: ArgumentParser, arguments: list[str]
) -> tuple[Namespace, Sequence[str], Sequence[str], BoolArray]:
    """As if every one of so many samples had every label."""
    parser.add_argument("--num", type=int, required=True, help="Number of samples.")
    parser.add_argument("--tasks", nargs="+", required=True, help="Names of the tasks.")
    parser.add_argument("--seed", type=int, default=0, help="Another seed gives another draw.")
    parser.add_subclass_arguments(Scenario, "scenario", required=True, help="OneLabel, RandomLabels ...")
    given = parse(parser, arguments)
    if given.num < 1:
        raise ConfigError(f"Parameter `num` should be at least 1; found {given.num}.")
    if len(set(given.tasks)) < len(given.tasks):
        raise ConfigError(f"Parameter `tasks` should name each task once; found {given.tasks}.")
    names = [str(i) for i in range(given.num)]
    shape = (given.num, len(given.tasks))
    table = SampleTable(
        names, tuple(given.tasks), np.ones(shape, dtype=bool), np.zeros(given.num, dtype=np.int64)
    )
    scenario: Scenario = instantiate(parser, given)["scenario"]
    return given, names, given.tasks, scenario.availability(table, given.seed)


def _print_counts(path: Path, tasks: Sequence[str], available: BoolArray) -> None:
    number = len(available)
    out = console()
    table = Table(title=f"{number} samples", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for title in ("", "samples", "share"):
        table.add_column(title, justify="right" if title else "left")
    for task, count in zip(tasks, available.sum(0).tolist(), strict=True):
        table.add_row(escape(f"with a label of {task}"), str(count), f"{count / number:.1%}")
    table.add_section()
    for labels, count in sorted(Counter(available.sum(1).tolist()).items()):
        table.add_row(f"with {labels} label{'' if labels == 1 else 's'}", str(count), f"{count / number:.1%}")
    out.print(table)
    out.print(f"Label split: {escape(str(path))}", soft_wrap=True)
