"""Samples whose image and labels are files of the same name in folders side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.codings import Coding
from jtr_lightning.data.files import SUFFIXES, read_array, read_image
from jtr_lightning.data.headers import stored_dtype
from jtr_lightning.data.names import Names
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.disk import files_below
from jtr_lightning.errors import DataError

IMAGE_KEY = "image"
"""In place of a task's name: the images."""
_NONE = -1  # in place of the number of a suffix: no file


@dataclass(frozen=True)
class Files:
    """The files of one folder that belong to samples.

    Attributes:
        folder: The folder.
        suffixes: Every ending that occurs.
        which: For each sample the number of its file's ending, -1 where there is no file, int8 ``[N]``.
    """

    folder: Path
    suffixes: tuple[str, ...]
    which: NDArray[np.int8]

    @classmethod
    def of(cls, folder: Path, endings: Mapping[str, str], ids: Sequence[str]) -> Files:
        """The files of samples.

        Args:
            folder: The folder.
            endings: Id to ending, see ``files_by_id``.
            ids: The samples' ids.
        """
        suffixes = tuple(sorted(set(endings.values())))
        number = {suffix: i for i, suffix in enumerate(suffixes)}
        which = [number[endings[name]] if name in endings else _NONE for name in ids]
        return cls(folder, suffixes, np.array(which, np.int8))

    @property
    def exist(self) -> NDArray[np.bool_]:
        """Which samples have a file, bool ``[N]``."""
        return np.asarray(self.which != _NONE)

    def path(self, index: int, name: str) -> Path:
        """The file of a sample of this number and name."""
        return self.folder / f"{name}{self.suffixes[self.which[index]]}"

    def take(self, samples: NDArray[np.int64]) -> Files:
        """Those of some samples."""
        return Files(self.folder, self.suffixes, self.which[samples])


class FolderSource(SampleSource):
    """Images and labels with the same names in folders side by side.

    Args:
        ids: Names of the samples, ``N`` of them.
        images: Their images.
        labels: For each dense task its label files.
        codings: For each dense task how its files are coded.
        values: For each image-level task its labels, float64 ``[N, C]``, NaN where there is none.
        allowed: bool ``[N]`` for each task: which of the existing labels may be used.
        keys: For a task, or ``IMAGE_KEY``, which array to take of ``.npz`` files with several.
        notes: What one should know of the files.
        wrong: What is wrong with the files as a whole.
    """

    def __init__(
        self,
        ids: Iterable[str],
        images: Files,
        labels: Mapping[str, Files],
        codings: Mapping[str, Coding],
        values: Mapping[str, NDArray[np.float64]],
        allowed: Mapping[str, NDArray[np.bool_]],
        keys: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
        wrong: Sequence[str] = (),
    ) -> None:
        self.ids = ids if isinstance(ids, Names) else Names(ids)
        self.images = images
        self.labels = dict(labels)
        self.codings = dict(codings)
        self.values = dict(values)
        self.allowed = dict(allowed)
        self.keys = dict(keys or {})
        self.notes = tuple(notes)
        self.wrong = tuple(wrong)

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, index: int) -> str:
        return self.ids[index]

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        columns = [self._exists(task) & self.allowed[task] for task in tasks]
        return np.stack(columns, 1) if columns else np.zeros((len(self), 0), bool)

    def _exists(self, task: str) -> NDArray[np.bool_]:
        if task in self.values:
            return np.asarray(np.isfinite(self.values[task]).all(1))
        return self.labels[task].exist

    def file_of(self, index: int, task: str | None = None) -> Path | None:
        if task in self.values:
            return None
        return (self.images if task is None else self.labels[task]).path(index, self.ids[index])

    def stored_dtype(self, index: int, task: str | None = None) -> str:
        file = self.file_of(index, task)
        return "" if file is None else stored_dtype(file, self.keys.get(task or IMAGE_KEY))

    def remarks(self) -> Sequence[str]:
        unused = {task: int((self._exists(task) & ~allowed).sum()) for task, allowed in self.allowed.items()}
        return [
            *self.notes,
            *(
                f"Task '{task}': {number} of {int(self._exists(task).sum())} labels may not be used, by the table of "
                "available labels."
                for task, number in unused.items()
                if number
            ),
        ]

    def problems(self) -> Sequence[str]:
        return self.wrong

    def read_image(self, index: int) -> Array:
        return read_image(self.images.path(index, self.ids[index]), self.keys.get(IMAGE_KEY))

    def read_label(self, index: int, task: str) -> Array:
        if task in self.values:
            return np.asarray(self.values[task][index])
        path = self.labels[task].path(index, self.ids[index])
        return self.codings[task].decode(read_array(path, self.keys.get(task)), path)

    def take(self, samples: NDArray[np.int64], notes: Sequence[str] = ()) -> FolderSource:
        """Some of the samples, with further notes."""
        return FolderSource(
            self.ids.take(samples),
            self.images.take(samples),
            {task: files.take(samples) for task, files in self.labels.items()},
            self.codings,
            {task: values[samples] for task, values in self.values.items()},
            {task: allowed[samples] for task, allowed in self.allowed.items()},
            self.keys,
            notes=(*self.notes, *notes),
            wrong=self.wrong,
        )


def files_by_id(folder: Path, what: str) -> dict[str, str]:
    """Looks for files of a kind that can be read (``files.SUFFIXES``), in subfolders too, but not for hidden ones.

    Links to folders are followed, except for those that lead back to where they are.

    Args:
        folder: The folder.
        what: What the files are, for messages.

    Returns:
        The id of each file (its path below the folder, with '/' and without ending) and its ending.

    Raises:
        DataError: No such folder, one that may not be entered, two files of one id, or a name that is not UTF-8.
    """
    if not folder.is_dir():
        raise DataError(f"The {what} should be in the folder '{folder}'; found no such folder.")
    endings: dict[str, str] = {}
    try:
        for place, name in files_below(folder):
            stem, dot, kind = name.rpartition(".")
            ending = dot + kind
            if not stem or ending.lower() not in SUFFIXES:
                continue
            sample = f"{place}{stem}"
            if not _is_unicode(sample):
                raise DataError(
                    f"The {what} should have names in UTF-8, in which splits and predictions name them; found "
                    f"{os.fsencode(folder / f'{place}{name}')!r}. Rename it (`convmv` does it for whole folders)."
                )
            if sample in endings:
                raise DataError(
                    f"The {what} should be one file for each id; found '{folder / sample}{endings[sample]}' and "
                    f"'{folder / sample}{ending}'. Remove one of them."
                )
            endings[sample] = ending
    except OSError as error:
        raise DataError(
            f"The {what} should be in folders that can be read; found: {error}. Mend its permissions, or remove it."
        ) from error
    return endings


def _is_unicode(name: str) -> bool:
    """Whether the bytes of a file's name are UTF-8; Python stands in for others with halves of surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
