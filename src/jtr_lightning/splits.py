"""Files that say which sample has which label.

Ours is a CSV that people can read and compare: a column ``id`` with the samples' names, then a 0/1 column for each
task. Further rows and columns may be there: one file serves every subset of a dataset and of its tasks.

Published splits (MTPSL, JTR) are ``torch.save`` files of ``{"labels_weights": float [N, K]}``, whose rows are the
samples in the order of the dataset and whose columns are segmentation, depth and, for NYU-v2, normals. They hold no
names, so they are read only for samples that are named by their row's number: those of the preprocessed ``.npy`` files.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.disk import is_there, read_tensors, read_text
from jtr_lightning.errors import DataError

PUBLISHED_ORDER = ("segmentation", "depth", "normals")
"""Columns of a published ``.pth``; a file for two tasks has the first two."""


def read_split(path: str | Path, names: Sequence[str], tasks: Sequence[str]) -> NDArray[np.bool_]:
    """Reads a label split.

    Args:
        path: ``.csv`` or ``.pth``.
        names: The dataset's sample names, ``N`` of them, in order.
        tasks: The tasks wanted, ``K`` of them.

    Returns:
        bool ``[N, K]``.

    Raises:
        DataError: The file is missing, unreadable, or does not fit the samples or the tasks.
    """
    path = Path(path).expanduser()
    if not is_there(path):
        raise DataError(f"A label split should be a .csv or .pth file; found no file '{path}'.")
    if path.suffix == ".pth":
        return _read_published(path, names, tasks)
    if path.suffix == ".csv":
        return _read_csv(path, names, tasks)
    raise DataError(f"A label split should be a .csv or .pth file; found '{path}'.")


def write_split(
    path: str | Path, names: Sequence[str], tasks: Sequence[str], available: NDArray[np.bool_]
) -> None:
    """Writes a label split as CSV.

    Args:
        path: The file to write; its folder must exist.
        names: The samples' names, ``N`` of them.
        tasks: The tasks' names, ``K`` of them.
        available: bool ``[N, K]``.
    """
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", *tasks])
        for name, row in zip(names, available, strict=True):
            writer.writerow([name, *(int(value) for value in row)])


def read_labelled(path: Path, tasks: Sequence[str]) -> dict[str, list[bool]]:
    """Reads every row of a label split in CSV.

    Args:
        path: The file.
        tasks: The tasks wanted, ``K`` of them.

    Returns:
        Sample name to which of the tasks are labelled (``K`` values), in the order of the rows.

    Raises:
        DataError: The file is missing or unreadable, a column is missing, a cell is neither 0 nor 1, or a name is
            there twice.
    """
    try:
        # -sig: spreadsheet programs put a byte order mark in front.
        return _rows(csv.DictReader(io.StringIO(read_text(path, "utf-8-sig"))), path, tasks)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"The label split '{path}' should be a readable CSV in UTF-8; found: {error}."
        ) from error


def _read_csv(path: Path, names: Sequence[str], tasks: Sequence[str]) -> NDArray[np.bool_]:
    rows = read_labelled(path, tasks)
    missing = [name for name in names if name not in rows]
    if missing:
        raise DataError(
            f"The label split '{path}' should have a row for each of the dataset's {len(names)} samples; found "
            f"{len(rows)} rows, and none for '{missing[0]}' ({len(missing)} are missing)."
        )
    return np.array([rows[name] for name in names], dtype=bool).reshape(len(names), len(tasks))


def _rows(reader: csv.DictReader[str], path: Path, tasks: Sequence[str]) -> dict[str, list[bool]]:
    header = list(reader.fieldnames or [])
    wrong = [column for column in ("id", *tasks) if header.count(column) != 1]
    if wrong:
        raise DataError(
            f"The label split '{path}' should have the columns {['id', *tasks]}, each once; found {header}, so {wrong} "
            "are missing or doubled."
        )
    rows: dict[str, list[bool]] = {}
    for row in reader:
        values = [row[task] for task in tasks]
        further = None in row  # where DictReader puts cells without a column
        if further or row["id"] in rows or any(value not in ("0", "1") for value in values):
            found = str(dict(zip(tasks, values, strict=True)))
            if further or row["id"] in rows:
                found = "more cells than columns" if further else "the id a second time"
            raise DataError(
                f"The label split '{path}' should have one row of 0 or 1 for each id; found {found} in line "
                f"{reader.line_num} (id '{row['id']}')."
            )
        rows[row["id"]] = [value == "1" for value in values]
    return rows


def _read_published(path: Path, names: Sequence[str], tasks: Sequence[str]) -> NDArray[np.bool_]:
    import torch

    try:
        content = read_tensors(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"The label split '{path}' should be a torch file of plain tensors; it could not be read safely "
            f"({error}), and is not read in any other way because pickles can run code."
        ) from error
    weights = content.get("labels_weights") if isinstance(content, dict) else None
    if not isinstance(weights, torch.Tensor) or weights.ndim != 2:
        raise DataError(
            f"The label split '{path}' should hold {{'labels_weights': tensor [N, K]}}; found other content."
        )
    columns = PUBLISHED_ORDER[: weights.shape[1]]
    unknown = [task for task in tasks if task not in columns]
    if weights.shape[0] != len(names) or weights.shape[1] > len(PUBLISHED_ORDER) or unknown:
        raise DataError(
            f"The label split '{path}' should have a row for each of the dataset's {len(names)} samples and columns "
            f"for the tasks {list(tasks)}; found {weights.shape[0]} rows and {weights.shape[1]} columns "
            f"{list(columns)}."
        )
    # No id stands beside a row: only names that are the rows' numbers tell that both are in the same order.
    moved = next((i for i, name in enumerate(names) if name != str(i)), None)
    if moved is not None:
        raise DataError(
            f"The label split '{path}' belongs to the preprocessed .npy files, its row i to i.npy, so that the "
            f"dataset's samples should be '0', '1', '2' and so on; found '{names[moved]}' in place of '{moved}'. "
            "Read the files with the dataset's own data module, or take a CSV split or a scenario such as OneLabel."
        )
    if not ((weights == 0) | (weights == 1)).all():
        raise DataError(f"The label split '{path}' should hold 0 and 1 alone; found other values.")
    return np.asarray(weights.numpy() == 1)[:, [columns.index(task) for task in tasks]]
