"""CSV files beside a dataset: image-level labels and lists of splits."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from functools import singledispatch
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.disk import open_text
from jtr_lightning.errors import DataError, did_you_mean
from jtr_lightning.tasks import Classification, Task

Row = dict[str, str]


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Reads a CSV file with a header, with lines that end in CR, LF or both.

    Args:
        path: The file, UTF-8 (a byte order mark is dropped).
        columns: Columns that must be there.

    Yields:
        Number of the line, and the row by column; spaces around cells are dropped.

    Raises:
        DataError: The file is missing or unreadable, a column is missing, or a row is too short.
    """
    lines = _lines(path)
    _, header = next(lines, (0, []))
    absent = [column for column in columns if column not in header]
    if absent or len(set(header)) < len(header):
        raise DataError(
            f"The table '{path}' should have the columns {list(columns)}, each once; found {header}."
        )
    for line, cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise DataError(
                f"Each row of the table '{path}' should have {len(header)} cells; found {len(cells)} in line {line}."
            )
        yield line, dict(zip(header, cells, strict=True))


def header_of(path: Path) -> list[str]:
    """The columns of a CSV file.

    Raises:
        DataError: The file is missing or unreadable.
    """
    return next(_lines(path), (0, []))[1]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The number of each line, where it ends, and its cells without spaces around them."""
    try:
        # Newlines are universal: CR alone ends a line, as in Taskonomy's own files.
        with open_text(path, "utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            for cells in reader:
                yield reader.line_num, [cell.strip() for cell in cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"The table '{path}' should be a readable CSV file in UTF-8; found: {error}."
        ) from error


@singledispatch
def parse_cell(task: Task, text: str) -> list[float]:
    """An image-level label from a cell of a table.

    Args:
        task: The task; for ``Classification`` the cell is a class name or an id, for others ``channels`` numbers with
            spaces between them.
        text: The cell, not empty.

    Returns:
        The label's values.

    Raises:
        DataError: The cell cannot be such a label; the message begins with what was found.
    """
    try:
        values = [float(word) for word in text.split()]
    except ValueError:
        values = []
    if len(values) != task.channels or not np.isfinite(values).all():
        raise DataError(f"found '{text}' where {task.channels} number(s) should be.")
    return values


@parse_cell.register
def _(task: Classification, text: str) -> list[float]:
    if text in task.class_names:
        return [float(task.class_names.index(text))]
    if text.isdecimal() and int(text) < task.channels:
        return [float(text)]
    raise DataError(
        f"found '{text}' where one of {task.channels} classes should be, {did_you_mean(text, task.class_names)}"
    )


def read_image_labels(
    path: Path, key: Sequence[str], tasks: Mapping[str, Task]
) -> tuple[list[tuple[str, ...]], dict[str, NDArray[np.float64]]]:
    """Reads image-level labels from a CSV file: key columns, then a column for each task.

    Args:
        path: The file. An empty cell is a missing label.
        key: The columns that together name a sample.
        tasks: The tasks wanted; those that are dense or have no column are left out.

    Returns:
        The samples of the rows, ``R`` of them, and for each task its values ``[R, C]``, NaN where missing.

    Raises:
        DataError: The file is unreadable, a cell does not fit, or a sample is there twice.
    """
    header = header_of(path)
    wanted = {name: task for name, task in tasks.items() if not task.dense and name in header}
    samples: dict[tuple[str, ...], None] = {}
    values: dict[str, list[list[float]]] = {name: [] for name in wanted}
    for line, row in read_rows(path, key):
        sample = tuple(row[column] for column in key)
        if sample in samples:
            raise DataError(
                f"The table '{path}' should have one row for each sample; found {sample} again in line {line}."
            )
        samples[sample] = None
        for name, task in wanted.items():
            try:
                cell = parse_cell(task, row[name]) if row[name] else [float("nan")] * _width(task)
            except DataError as error:
                raise DataError(f"Table '{path}', line {line}, column '{name}': {error}") from error
            values[name].append(cell)
    return list(samples), {
        name: np.array(cells, np.float64).reshape(len(samples), _width(wanted[name]))
        for name, cells in values.items()
    }


@singledispatch
def _width(task: Task) -> int:
    """How many values a cell has."""
    return task.channels


@_width.register
def _(task: Classification) -> int:
    del task
    return 1
