"""``jtr data check``: what a dataset holds and what is wrong with it, before any training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args

from rich.box import SIMPLE_HEAD
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.table import Table

from jtr_lightning.cli.data_options import parse_with_dataset, parser_of, usable_cores
from jtr_lightning.console import console
from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.checking import SplitFacts, check
from jtr_lightning.data.contact_sheet import Part, choose, contact_sheet
from jtr_lightning.data.doubts import LabelFacts, class_names, expected
from jtr_lightning.errors import ConfigError
from jtr_lightning.exits import EXIT_USER_ERROR
from jtr_lightning.tasks import Task

SHEETS = Path("runs") / "check"
"""Where contact sheets go by default: beside the runs, since the dataset's folder may be read-only."""
_LISTED = 30  # problems or notes of one split that are printed
_COMBINATIONS = 16
_BAR = 30


def run(arguments: list[str]) -> int | None:
    """Checks a dataset.

    Args:
        arguments: The options.

    Returns:
        1 where something is wrong with the data, else None.

    Raises:
        UserError: An argument does not fit.
    """
    parser = parser_of("check", "Reads every image and label, and says what is there and what is wrong.")
    splits = get_args(Split)
    parser.add_argument("--splits", nargs="+", default=list(splits), help=f"Which of {', '.join(splits)}.")
    parser.add_argument(
        "--limit",
        type=int | None,
        default=None,
        help="Read at most this many samples of a split, evenly spaced.",
    )
    parser.add_argument("--workers", type=int, default=usable_cores(), help="Processes that read.")
    parser.add_argument(
        "--sheet",
        type=str | None,
        default=None,
        help="Where the picture of some samples goes; by default runs/check/<name of the dataset's folder>.png; '' for "
        "none.",
    )
    parser.add_argument("--rows", type=int, default=4, help="Samples of each split in that picture.")
    given, data = parse_with_dataset(parser, arguments, prepare=False)
    for split in given.splits:
        if split not in splits:
            raise ConfigError(f"Parameter `splits` should be among {list(splits)}; found '{split}'.")
    for name, least in (("limit", 1), ("rows", 1), ("workers", 0)):
        if given[name] is not None and given[name] < least:
            raise ConfigError(f"Parameter `{name}` should be at least {least}; found {given[name]}.")
    report = check(data, given.splits, given.limit, given.workers)
    out = console()
    for split, facts in report.items():
        _print_split(out, split, facts, data.tasks)
    if given.sheet != "":
        sheet = (
            SHEETS / f"{data.root.resolve().name or 'data'}.png" if given.sheet is None else Path(given.sheet)
        )
        _write_sheet(out, sheet, report, data, given.rows)
    wrong = sum(len(facts.problems) for facts in report.values())
    out.print(f"{wrong} problem{'' if wrong == 1 else 's'} found." if wrong else "Nothing is wrong.")
    return EXIT_USER_ERROR if wrong else None


def _print_split(out: Console, split: str, facts: SplitFacts, tasks: Mapping[str, Task]) -> None:
    number = len(facts.on_disk)
    out.rule(f"{split}: {number} samples", align="left", style="dim")
    if facts.same_as is not None:
        out.print(f"The same samples as {facts.same_as}.")
    elif facts.source is not None:
        if facts.read < number:
            out.print(f"{facts.read} of them were read.")
        out.print(_file_table(facts, tasks))
        out.print(_value_table(facts, tasks))
        out.print(_joint_table(facts, tasks))
        for name, label in facts.labels.items():
            if label.classes is not None:
                out.print(_class_table(name, tasks[name], label))
    for title, style, lines in (("Note", "yellow", facts.notes), ("Wrong", "bold red", facts.problems)):
        for line in lines[:_LISTED]:
            out.print(f"[{style}]{title}:[/] {escape(line)}", soft_wrap=True)
        if len(lines) > _LISTED:
            out.print(f"[{style}]{title}:[/] {len(lines) - _LISTED} more of these.")


def _counts(counter: Counter[tuple[int, ...]]) -> str:
    """Sizes and how many have each, such as ``288x384 (795)``."""
    shown = [f"{'x'.join(map(str, key)) or 'one value'} ({number})" for key, number in counter.most_common(4)]
    return ", ".join(shown) + (f" and {len(counter) - 4} more" if len(counter) > 4 else "") or "none"


def _types(counter: Counter[str]) -> str:
    """The types in which values are kept, the most frequent first; nothing where that is not known."""
    return ", ".join(name for name, _ in counter.most_common() if name)


def _table(title: str, *columns: str, justify: JustifyMethod = "right") -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify=justify if i else "left")
    return table


def _file_table(facts: SplitFacts, tasks: Mapping[str, Task]) -> Table:
    """What was read; the type is that of the values on disk."""
    table = _table("Files", "", "labels", "read", "size (how many)", "type on disk", justify="left")
    images = facts.images
    table.add_row("image", "", str(images.total()), _counts(images), _types(facts.dtypes))
    for k, name in enumerate(tasks):
        label = facts.labels.get(name, LabelFacts())
        number = str(int(facts.on_disk[:, k].sum()))
        table.add_row(escape(name), number, str(label.number), _counts(label.shapes), _types(label.dtypes))
    return table


def _value_table(facts: SplitFacts, tasks: Mapping[str, Task]) -> Table:
    """The valid values of all labels beside those that the task expects; what has classes has no mean."""
    table = _table("Values", "task", "invalid", "min", "max", "mean", "std", "expected")
    for name, label in facts.labels.items():
        moments = ("", "") if label.classes is not None else (f"{label.mean:.4g}", f"{label.std:.4g}")
        ends = (f"{label.low:.4g}", f"{label.high:.4g}") if label.values else ("", "")
        share = f"{label.invalid / max(label.places, 1):.1%}"
        table.add_row(escape(name), share, *ends, *moments, escape(expected(tasks[name])))
    return table


def _joint_table(facts: SplitFacts, tasks: Mapping[str, Task]) -> Table:
    table = _table("Samples by the labels they have", "samples", *map(escape, tasks), justify="center")
    rows = facts.joint_table()
    for pattern, number in rows[:_COMBINATIONS]:
        table.add_row(str(number), *("yes" if exists else "-" for exists in pattern))
    if len(rows) > _COMBINATIONS:
        rest = sum(number for _, number in rows[_COMBINATIONS:])
        table.add_row(str(rest), *["..."] * len(tasks))
    return table


def _class_table(name: str, task: Task, label: LabelFacts) -> Table:
    table = _table(f"Classes of {escape(name)}", "class", "share", "", justify="left")
    counts: Sequence[int] = [] if label.classes is None else label.classes.tolist()
    total, largest = max(sum(counts), 1), max([*counts, 1])
    for class_name, count in zip(map(str, class_names(task)), counts, strict=True):
        table.add_row(escape(class_name), f"{count / total:7.2%}", "#" * round(_BAR * count / largest))
    return table


def _write_sheet(
    out: Console,
    path: Path,
    report: Mapping[Split, SplitFacts],
    data: PartialLabelDataModule,
    rows: int,
) -> None:
    parts = [
        Part(split, facts.source, facts.on_disk, choose(facts.on_disk, rows))
        for split, facts in report.items()
        if facts.source is not None and facts.same_as is None
    ]
    if not parts:
        return
    sheet = contact_sheet(parts, data.tasks)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sheet.save(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Parameter `sheet` should be a picture that can be written; found '{path}': {error}."
        ) from error
    out.print(f"Contact sheet: {escape(str(path))}", soft_wrap=True)
