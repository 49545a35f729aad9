"""One sample: read, hidden where it must be, moved, and made into tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from jtr_lightning.batch import Batch
from jtr_lightning.data.augmentation import Augmentation, Augmented
from jtr_lightning.data.resizing import resize
from jtr_lightning.data.sampler import SampleKey, sample_seed
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.tasks import Task

OnError = Literal["raise", "skip"]

PATIENCE = 100
"""Unreadable images in a row after which it is no longer a matter of single files."""

_Result = TypeVar("_Result")


@dataclass
class Sample:
    """One sample of a batch: a ``Batch`` without its first dimension, whose image is still uint8 ``[3, H, W]``."""

    pixels: Tensor
    labels: dict[str, Tensor]
    available: Tensor
    domain: int
    index: int
    skipped: tuple[str, ...] = ()

    @property
    def image(self) -> Tensor:
        """The image as a batch has it: float32 ``[3, H, W]`` in [0, 1]."""
        return _as_float(self.pixels)


class PartialLabelDataset(Dataset[Sample]):
    """A source of samples seen through an availability mask.

    A hidden label is never read: the task's blank target stands in its place from the start.

    Args:
        source: Where images and labels come from.
        tasks: Task name to task, in order.
        available: bool ``[N, K]``.
        size: Height and width to resize to, or None to keep each image's own.
        augmentation: What to do to the training images, or None.
        seed: Seed of the augmentation.
        on_error: What to do about an unreadable file: ``raise``, or ``skip``. A skipped label counts as not
            available. In place of a skipped image comes the next readable one without any label, so that no sample
            counts twice. Each is noted in ``Sample.skipped``.
        split: Name of the split, for messages.

    Raises:
        ConfigError: ``available`` does not fit the source and the tasks.
    """

    def __init__(
        self,
        source: SampleSource,
        tasks: Mapping[str, Task],
        available: NDArray[np.bool_],
        size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        on_error: OnError = "raise",
        split: str = "",
    ) -> None:
        if available.dtype != np.bool_ or available.shape != (len(source), len(tasks)):
            raise ConfigError(
                f"Parameter `available` should be bool {[len(source), len(tasks)]}, samples by tasks; found "
                f"{available.dtype} {list(available.shape)}."
            )
        self.source = source
        self.tasks = dict(tasks)
        self.available = available
        self.domain = source.domains()
        if self.domain.shape != (len(source),):
            raise ConfigError(
                f"{type(source).__name__}.domains() should have the shape {[len(source)]}, one for each sample; found "
                f"{list(self.domain.shape)}."
            )
        self.size = size
        self.augmentation = augmentation
        self.seed = seed
        self.on_error = on_error
        self.split = split

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """One sample in one epoch; a plain number means epoch 0.

        Raises:
            IndexError: There is no sample of this number.
            DataError: A file is missing, unreadable or has unexpected content, and ``on_error`` is ``raise``.
        """
        epoch, wanted, labelled = _asked_for(key)
        if not 0 <= wanted < len(self):
            raise IndexError(f"The dataset has the samples 0..{len(self) - 1}; found {wanted}.")
        skipped: list[str] = []
        image, index = self._readable_image(wanted, skipped)
        available = self.available[index] & (labelled and index == wanted)
        arrays = self._readable_labels(index, image, available, skipped)
        dense = {name: array for name, array in arrays.items() if self.tasks[name].dense}
        moved = self._move(image, dense, sample_seed(self.seed, (epoch, index)))
        arrays.update(moved.labels)
        targets = {
            name: self._attempt(index, name, skipped, self._target, name, array, moved)
            for name, array in arrays.items()
        }
        height, width = moved.image.shape[:2]
        labels = {
            name: task.blank(height, width) if (target := targets.get(name)) is None else target
            for name, task in self.tasks.items()
        }
        return Sample(
            pixels=_planes(moved.image),
            labels=labels,
            available=torch.tensor([targets.get(name) is not None for name in self.tasks]),
            domain=int(self.domain[index]),
            index=index,
            skipped=tuple(skipped),
        )

    def read(self, index: int, skipped: list[str]) -> tuple[Array, dict[str, Array]] | None:
        """One sample as its files have it, in ``size`` but not augmented.

        Args:
            index: Number of the sample.
            skipped: Takes what could not be read where ``on_error`` is ``skip``.

        Returns:
            The image, uint8 ``[H, W, 3]``, and the available labels; None where the image is skipped.

        Raises:
            DataError: A file is missing, unreadable or has unexpected content, and ``on_error`` is ``raise``.
        """
        image = self._attempt(index, "image", skipped, self._read_image, index)
        if image is None:
            return None
        labels = self._readable_labels(index, image, self.available[index], skipped)
        image, dense = self._resized(image, {n: a for n, a in labels.items() if self.tasks[n].dense})
        return image, {**labels, **dense}

    def _readable_image(self, wanted: int, skipped: list[str]) -> tuple[Array, int]:
        """The image of a sample and its number; where it is skipped, those of the next readable sample."""
        tries = min(len(self), PATIENCE)
        for step in range(tries):
            index = (wanted + step) % len(self)
            image = self._attempt(index, "image", skipped, self._read_image, index)
            if image is not None:
                return image, index
        raise DataError(
            f"At least one image in {tries} should be readable; found none from sample '{self.source.name(wanted)}' "
            f"on. The first: {skipped[0]}"
        )

    def _read_image(self, index: int) -> Array:
        image = self.source.read_image(index)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise DataError(
                f"an image should be RGB uint8 [H, W, 3]; found {image.dtype} {list(image.shape)} from "
                f"{type(self.source).__name__}.read_image()."
            )
        return image

    def _readable_labels(
        self, index: int, image: Array, available: NDArray[np.bool_], skipped: list[str]
    ) -> dict[str, Array]:
        arrays = {}
        for name, has_label in zip(self.tasks, available, strict=True):
            if has_label:
                array = self._attempt(index, name, skipped, self._read_label, index, name, image)
                if array is not None:
                    arrays[name] = array
        return arrays

    def _read_label(self, index: int, name: str, image: Array) -> Array:
        array = np.asarray(self.source.read_label(index, name))
        if array.dtype == object:
            raise DataError(
                f"a label should be an array of numbers; found objects from "
                f"{type(self.source).__name__}.read_label()."
            )
        if self.tasks[name].dense and array.shape[:2] != image.shape[:2]:
            raise DataError(
                f"a label should have the size of its image, {image.shape[0]}x{image.shape[1]} pixels; found the "
                f"shape {list(array.shape)}. Mend or remove the label's file."
            )
        # torch takes no array that must not be written to.
        return array if array.flags.writeable else array.copy()

    def _resized(self, image: Array, dense: Mapping[str, Array]) -> tuple[Array, Mapping[str, Array]]:
        if self.size is None or image.shape[:2] == self.size:
            return image, dense
        return resize(image, dense, self.size)

    def _move(self, image: Array, dense: Mapping[str, Array], seed: int) -> Augmented:
        image, dense = self._resized(image, dense)
        if self.augmentation is None:
            return Augmented(image, dict(dense))
        return self.augmentation(image, dense, seed)

    def _target(self, name: str, array: Array, moved: Augmented) -> Tensor:
        task = self.tasks[name]
        target = task.to_target(array).unsqueeze(0)
        if moved.zoom != 1.0:
            target = task.zoomed(target, torch.tensor([moved.zoom]))
        if moved.mirrored:
            target = task.mirrored(target)
        return target[0]

    def _attempt(
        self, index: int, part: str, skipped: list[str], function: Callable[..., _Result], *args: object
    ) -> _Result | None:
        """What the function gives; None, with a note, where it fails and errors are skipped."""
        try:
            return function(*args)
        except (DataError, OSError) as error:
            message = self.source.where(index, None if part == "image" else part, str(error))
            if self.on_error == "raise":
                raise DataError(message) from error
            skipped.append(message)
            return None


def _planes(image: Array) -> Tensor:
    """RGB uint8 ``[H, W, 3]`` as ``[3, H, W]``."""
    import cv2

    planes = np.empty((3, *image.shape[:2]), dtype=np.uint8)
    # Much faster than a permutation in NumPy or torch.
    cv2.split(image, [planes[0], planes[1], planes[2]])
    return torch.from_numpy(planes)


def _as_float(pixels: Tensor) -> Tensor:
    return pixels.float().div_(255)


def _asked_for(key: SampleKey | int) -> tuple[int, int, bool]:
    """Epoch, number of the sample, and whether its labels are wanted."""
    if not isinstance(key, tuple):
        return 0, int(key), True
    epoch, number = key
    return (epoch, number, True) if number >= 0 else (epoch, -1 - number, False)


def collate(samples: list[Sample]) -> Batch:
    """Stacks samples into a batch.

    Raises:
        DataError: The images differ in size.
    """
    sizes = {tuple(s.pixels.shape[1:]) for s in samples}
    if len(sizes) > 1:
        raise DataError(
            f"The images of a batch should have one size; found {sorted(sizes)}. Give the data module `size: [height, "
            "width]`, or a batch size of 1."
        )
    return Batch(
        image=_as_float(torch.stack([s.pixels for s in samples])),
        labels={name: torch.stack([s.labels[name] for s in samples]) for name in samples[0].labels},
        available=torch.stack([s.available for s in samples]),
        domain=torch.tensor([s.domain for s in samples]),
        index=torch.tensor([s.index for s in samples]),
        skipped=tuple(message for s in samples for message in s.skipped),
    )
