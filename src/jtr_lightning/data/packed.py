"""What ``jtr data pack`` writes: labels decoded and resized beforehand, as arrays that take least time to read.

::

    packed.json                       tasks, size, and which folder has the samples of which split
    <folder>/labels.csv               the samples in order: id, and 0 or 1 for each task
    <folder>/domains.npy              which of several datasets each sample comes from
    <folder>/images/<i>.npy           uint8 [H, W, 3]
    <folder>/labels/<task>/<i>.npy    what the dataset's own reader gave, where there is a label
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.files import check_array, read_npy
from jtr_lightning.data.npy_folder import refuse_published_rows
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.described import rebuild
from jtr_lightning.disk import read_object
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.splits import read_labelled
from jtr_lightning.tasks import Task

INFO_FILE = "packed.json"
VERSION = 1
LABELS_FILE = "labels.csv"
DOMAINS_FILE = "domains.npy"


def image_path(folder: Path, index: int) -> Path:
    """The image of a sample."""
    return folder / "images" / f"{index}.npy"


def label_path(folder: Path, index: int, task: str) -> Path:
    """The label of a sample."""
    return folder / "labels" / task / f"{index}.npy"


class PackedSource(SampleSource):
    """The samples of one folder, with the names and in the order that they had before.

    Args:
        folder: The folder.
        tasks: The tasks that were packed.

    Raises:
        DataError: A table of the folder is missing or does not fit.
    """

    def __init__(self, folder: Path, tasks: Sequence[str]) -> None:
        self.folder = folder
        self.tasks = list(tasks)
        rows = read_labelled(folder / LABELS_FILE, tasks)
        self.ids = list(rows)
        self.exists: NDArray[np.bool_] = np.array([*rows.values()], bool).reshape(len(rows), len(tasks))
        self.domain = read_npy(folder / DOMAINS_FILE) if rows else np.zeros(0, np.int64)
        if rows:
            check_array(self.domain, folder / DOMAINS_FILE, (np.integer,), (len(rows),))

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, index: int) -> str:
        return self.ids[index]

    def domains(self) -> NDArray[np.int64]:
        return self.domain.astype(np.int64, copy=False)

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        table = np.zeros((len(self), len(tasks)), dtype=bool)
        for k, task in enumerate(tasks):
            if task in self.tasks:
                table[:, k] = self.exists[:, self.tasks.index(task)]
        return table

    def file_of(self, index: int, task: str | None = None) -> Path:
        return image_path(self.folder, index) if task is None else label_path(self.folder, index, task)

    def read_image(self, index: int) -> Array:
        path = self.file_of(index)
        image = read_npy(path)
        check_array(image, path, (np.uint8,), (None, None, 3))
        return image

    def read_label(self, index: int, task: str) -> Array:
        return read_npy(self.file_of(index, task))


class PackedDataModule(PartialLabelDataModule):
    """Any dataset after ``jtr data pack``: the same samples, labels and tasks, read faster.

    It gives what the dataset's own data module gives with the ``size`` it was packed with, bit for bit, with the same
    scenario, seed and augmentation.

    Args:
        root: The folder that ``jtr data pack`` made.
        tasks: Names of packed tasks, or names with tasks; all by default.
        **kwargs: See ``PartialLabelDataModule``. ``size`` need not be given.

    Raises:
        ConfigError: A parameter does not fit.
        DataError: The folder was not made by ``jtr data pack``.
    """

    def __init__(
        self, root: str | Path, tasks: list[str] | dict[str, Task] | None = None, **kwargs: Any
    ) -> None:
        self.info = _read_info(Path(root).expanduser())  # before the base class asks for the known tasks
        super().__init__(root, tasks, **kwargs)

    def known_tasks(self) -> dict[str, Task]:
        return {name: self._rebuilt(name, description) for name, description in self.info["tasks"].items()}

    def usual_tasks(self) -> dict[str, Task]:
        """Those that were packed, as far as their classes are imported here."""
        found = {}
        for name, description in self.info["tasks"].items():
            with suppress(ConfigError):
                found[name] = self._rebuilt(name, description)
        return found

    def _rebuilt(self, name: str, description: dict[str, Any]) -> Task:
        try:
            task = rebuild(description)
        except ConfigError as error:
            raise ConfigError(
                f"The tasks in '{self.root / INFO_FILE}' should be of classes that are imported here, with arguments "
                f"that fit; found '{description['class_path']}' for task '{name}'. Import it before, pack again, or "
                "give the tasks as `tasks`."
            ) from error
        if not isinstance(task, Task):
            raise DataError(
                f"The tasks in '{self.root / INFO_FILE}' should be tasks; found '{description['class_path']}' for "
                f"'{name}'. Pack again."
            )
        return task

    def source(self, split: Split) -> PackedSource:
        folder = self.info["splits"].get(split)
        if folder is None:
            raise DataError(
                f"The split '{split}' should be packed in '{self.root}'; found {sorted(self.info['splits'])} alone."
            )
        source = PackedSource(self.root / folder, list(self.info["tasks"]))
        if split == "train" and source.ids != [str(i) for i in range(len(source))]:
            refuse_published_rows(self.scenario, f"packed {self.info['from']}")
        return source


def _read_info(root: Path) -> dict[str, Any]:
    path = root / INFO_FILE
    try:
        found = read_object(path)
        version = found["version"]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"A packed dataset should have a file '{path}' that can be read; found none ({type(error).__name__}: "
            f"{error}). Make it with `jtr data pack`."
        ) from error
    if version != VERSION:
        raise DataError(
            f"The folder '{root}' should be packed in the form {VERSION}; found the form {version}. Pack it again."
        )
    info = {name: found.get(name, {}) for name in ("from", "tasks", "splits")}
    fits = {"tasks": _are_tasks(info["tasks"]), "splits": _are_folders(info["splits"])}
    if not all(fits.values()):
        raise DataError(
            f"The file '{path}' should have descriptions of tasks by name under 'tasks', and a folder beside it for "
            f"each split under 'splits'; found something else under {[name for name, fit in fits.items() if not fit]}. "
            "Pack it again."
        )
    return info


def _are_tasks(tasks: Any) -> bool:
    """Whether these are descriptions by names that are folders at the same time."""
    return isinstance(tasks, dict) and all(
        _is_one_folder(name)
        and isinstance(description, dict)
        and set(description) == {"class_path", "init_args"}
        for name, description in tasks.items()
    )


def _are_folders(splits: Any) -> bool:
    return isinstance(splits, dict) and all(_is_one_folder(folder) for folder in splits.values())


def _is_one_folder(name: Any) -> bool:
    """Whether this names one folder: not a path, which might lead out of the dataset."""
    return (
        isinstance(name, str) and name not in ("", "..") and "\0" not in name and PurePath(name).name == name
    )
