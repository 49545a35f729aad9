"""What a dataset's files look like to the rest of the library."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.headers import stored_dtype

Array = NDArray[Any]


class SampleSource(ABC):
    """Reads the samples of one split of a dataset, one label at a time.

    Hiding labels, augmentation and batching are not its business. It is sent to loader workers, so it should hold
    paths and small arrays, and open files only while it reads.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples ``N``."""

    @abstractmethod
    def name(self, index: int) -> str:
        """A name that tells a sample from all others, for messages, split files and predictions."""

    @abstractmethod
    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        """Which labels exist, bool ``[N, K]`` for the tasks in this order."""

    @abstractmethod
    def read_image(self, index: int) -> Array:
        """One image, RGB uint8 ``[H, W, 3]``.

        Raises:
            DataError: The file is missing or unreadable.
        """

    @abstractmethod
    def read_label(self, index: int, task: str) -> Array:
        """One label that exists.

        Args:
            index: Number of the sample.
            task: Name of the task.

        Returns:
            What ``Task.to_target`` of the task takes, in the task's unit and with the task's value for 'invalid' at
            every invalid pixel: ``[H, W]`` or ``[H, W, C]`` of the image's size, or the value of an image-level task.

        Raises:
            DataError: The file is missing, unreadable or has unexpected content.
        """

    def file_of(self, index: int, task: str | None = None) -> Path | None:
        """Where a sample's image, or its label for a task, is kept; for messages.

        Args:
            index: Number of the sample.
            task: Name of the task; None for the image.

        Returns:
            The file; None, the default, where a file of its own is not known.
        """
        del index, task
        return None

    def stored_dtype(self, index: int, task: str | None = None) -> str:
        """The type in which a sample's image, or its label for a task, is kept; for people.

        Args:
            index: Number of the sample.
            task: Name of the task; None for the image.

        Returns:
            Such as ``uint16``; by default what the header of ``file_of`` says, '' where there is no such file.
        """
        file = self.file_of(index, task)
        return "" if file is None else stored_dtype(file)

    def remarks(self) -> Sequence[str]:
        """What one should know of the split as a whole, a sentence each, such as that a part of it is missing."""
        return ()

    def where(self, index: int, task: str | None, sentence: str) -> str:
        """A sentence about a sample's image or label that says whose it is, and names the file.

        Args:
            index: Number of the sample.
            task: Name of the task; None for the image.
            sentence: What is to be said.
        """
        file = self.file_of(index, task)
        place = "" if file is None or str(file) in sentence else f" (file '{file}')"
        return f"Sample '{self.name(index)}', {task or 'image'}{place}: {sentence}"

    def problems(self) -> Sequence[str]:
        """What is wrong with the split's files as a whole, a sentence each, such as files that belong to no sample."""
        return ()

    def domains(self) -> NDArray[np.int64]:
        """Which of several datasets or domains each sample comes from, ``[N]``; all 0 by default."""
        return np.zeros(len(self), dtype=np.int64)

    def names(self) -> Sequence[str]:
        """All samples' names in order, made when they are asked for."""
        return _Names(self)


def without_sample(folder: Path, strays: Sequence[str], number: int) -> list[str]:
    """A sentence where files of a folder belong to no sample, mostly since they are named in another way.

    Args:
        folder: The folder.
        strays: Those files, below the folder.
        number: How many files it has in all.
    """
    if not strays:
        return []
    sentence = (
        f"{len(strays)} of {number} files in '{folder}' belong to no sample and are not read, the first "
        f"'{min(strays)}'. Mend their names, add their images, or remove them."
    )
    return [sentence]


class _Names(Sequence[str]):
    def __init__(self, source: SampleSource) -> None:
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._source.name(index)
