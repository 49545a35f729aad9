"""How raw file values become labels: one small class for each coding.

A coding takes what ``files.read_array`` gave and returns what the task's ``to_target`` takes, in the task's unit and
with the task's value for 'invalid' at every invalid pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from functools import singledispatch
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.class_ids import refuse_class_as_void
from jtr_lightning.data.files import check_array
from jtr_lightning.data.source import Array
from jtr_lightning.data.unit_vectors import check_unit_vectors
from jtr_lightning.errors import ConfigError, DataError, check_number
from jtr_lightning.tasks import DenseRegression, DenseTask, Depth, Normals, Segmentation, Task
from jtr_lightning.tasks.dense import IGNORE


class Coding(ABC):
    """Turns the values of one label file into a label; the base for codings of your own."""

    @abstractmethod
    def decode(self, raw: Array, path: Path) -> Array:
        """Decodes one label.

        Args:
            raw: The file's values ``[H, W]`` or ``[H, W, C]``, RGB order, in the file's dtype.
            path: The file, for messages.

        Returns:
            The label ``[H, W]`` or ``[H, W, C]``.

        Raises:
            DataError: The values cannot be such a label.
        """

    def of_task(self, task: Task) -> Coding:
        """This coding for the files of a task; by default it is the same for all.

        Args:
            task: The task.
        """
        del task
        return self


class MarkedHoles(Coding):
    """A coding of files that mark each pixel without a value themselves; the base for some of those below.

    Attributes:
        hole: What stands at such a pixel in the label: of a task its own value for 'invalid', whatever kind it is of.
    """

    hole: float

    def of_task(self, task: Task) -> Coding:
        known = copy(self)
        known.hole = task.blank_value if isinstance(task, DenseTask) else self.hole
        return known


class AsStored(Coding):
    """The file's values are the label."""

    def decode(self, raw: Array, path: Path) -> Array:
        del path
        # Neither OpenCV nor torch takes the other order of bytes, or more than 8 of them.
        dtype = np.dtype(np.float64) if raw.dtype.itemsize > 8 else raw.dtype.newbyteorder("=")
        return raw.astype(dtype, copy=False)


class ClassIds(Coding):
    """Class ids, returned as int16 (from 8-bit files) or int32.

    Args:
        first: The id on disk of the task's class 0; ids below it are 'no class'.
        void: A further id on disk that means 'no class'.
        channel: The channel that holds the ids where a file has three; by default they must all be equal.
        ids: The id on disk of each class in order, where they are not ``first, first + 1, ...``: ``[0, 255]`` for a
            mask of black and white. Beside them only ``void`` and -1 may occur.

    Attributes:
        classes: How many classes there are, where ``first`` is given and the task is known.

    Raises:
        ConfigError: ``ids`` names one twice, or comes together with ``first``.
    """

    def __init__(
        self,
        first: int = 0,
        void: int | None = None,
        channel: int | None = None,
        ids: Sequence[int] | None = None,
    ) -> None:
        if ids is not None and (first or not ids or len(set(ids)) < len(ids) or IGNORE in ids):
            raise ConfigError(
                f"Parameter `ids` of ClassIds should name the id of each class once, without `first` and without "
                f"{IGNORE}; found {list(ids)}{f' and first={first}' if first else ''}."
            )
        self.first = first
        self.void = void
        self.channel = channel
        self.ids = None if ids is None else list(ids)
        self.classes: int | None = None

    def of_task(self, task: Task) -> Coding:
        """Knows how many classes there are, so that an id above them is told as it is on disk and not shifted.

        Raises:
            ConfigError: Ids are shifted, and the task's ``ignore_index`` is one of the classes.
        """
        if self.first or self.ids is not None:
            refuse_class_as_void(task, "the coding ClassIds")
        known = copy(self)
        known.classes = task.channels if self.first else None
        return known

    def decode(self, raw: Array, path: Path) -> Array:
        if path.suffix.lower() in (".jpg", ".jpeg"):
            raise DataError(
                f"The class ids in '{path}' should be in a file that keeps values exactly; found a JPEG, whose values "
                "are only about right. Save them as PNG."
            )
        ids = one_channel(raw, path) if self.channel is None else _channel(raw, self.channel, path)
        if ids.dtype.kind == "f" and not (np.isfinite(ids).all() and np.array_equal(ids, np.rint(ids))):
            raise DataError(
                f"The file '{path}' should hold class ids; found values that are not whole numbers."
            )
        if ids.dtype.itemsize >= 4 and (ids.min() < -_MOST_ID or ids.max() > _MOST_ID):
            raise DataError(
                f"The file '{path}' should hold class ids; found values from {ids.min()} to {ids.max()}."
            )
        whole = ids.astype(np.int16 if ids.dtype.itemsize == 1 else np.int32)
        if self.classes is not None:
            self._check_end(whole, self.first + self.classes - 1, path)
        classes: Array = whole - self.first if self.ids is None else self._listed(whole, path)
        if self.first:
            np.maximum(classes, IGNORE, out=classes)
        if self.void is not None:
            classes[ids == self.void] = IGNORE
        return classes

    def _check_end(self, whole: Array, last: int, path: Path) -> None:
        """Refuses ids above those of the classes."""
        strange = whole[whole > last]
        if self.void is not None:
            strange = strange[strange != self.void]
        if len(strange):
            raise DataError(
                f"The file '{path}' should hold class ids from {self.first} to {last}, or smaller ones for 'no class'; "
                f"found {int(strange.max())} at {len(strange)} of {whole.size} pixels. Mend the file, or give the task "
                "a coding with that id as `void` (parameter `codings`)."
            )

    def _listed(self, whole: Array, path: Path) -> Array:
        """The place of each id in ``ids``."""
        listed = np.array(self.ids)
        order = listed.argsort()
        place: Array = order[np.searchsorted(listed, whole, sorter=order).clip(max=len(listed) - 1)].astype(
            whole.dtype
        )
        strange = (listed[place] != whole) & (whole != IGNORE)
        place[strange | (whole == IGNORE)] = IGNORE
        if self.void is not None:
            strange &= whole != self.void
        if strange.any():
            raise DataError(
                f"The file '{path}' should hold the class ids {self.ids}; found {int(whole[strange][0])}, too. Add it "
                "to `ids`, or name it as `void`."
            )
        return place


class Scaled(Coding):
    """Measured values: ``raw * scale``, float32.

    Args:
        scale: The unit's share per step of the file, such as 0.001 for millimetres read as metres. None: floating-point
            files hold the unit itself, and integer files are refused, since nobody can guess their unit.
        invalid: The raw value that marks a pixel without a value.
        hole: What stands at such a pixel in the label; NaN suits every task, ``Depth`` has 0 as well.
        nan_is_invalid: Take NaN and infinity for invalid pixels; otherwise they are an error.
        channels: Number of channels of the task; with 1 a grey label saved as RGB is taken as one channel.

    Attributes:
        scale_remedy: What the error about a missing scale advises.
        nan_remedy: What the error about NaN advises.

    Raises:
        ConfigError: ``scale`` is not above 0.
    """

    scale_remedy = "Save the values in their unit, as floating-point numbers."
    nan_remedy = "Mend the file."

    def __init__(
        self,
        scale: float | None = None,
        invalid: float | None = None,
        hole: float = float("nan"),
        nan_is_invalid: bool = False,
        channels: int | None = None,
    ) -> None:
        if scale is not None:
            check_number("scale", scale)
        if scale is not None and not scale > 0:
            raise ConfigError(f"Parameter `scale` should be above 0; found {scale}.")
        self.scale = scale
        self.invalid = invalid
        self.hole = hole
        self.nan_is_invalid = nan_is_invalid
        self.channels = channels

    def decode(self, raw: Array, path: Path) -> Array:
        if self.scale is None and raw.dtype.kind != "f":
            raise DataError(
                f"The file '{path}' should come with the size of one step, since it holds {raw.dtype} values; found "
                f"none. {self.scale_remedy}"
            )
        if self.channels == 1 and raw.ndim == 3 and raw.shape[2] > 1:
            raw = one_channel(raw, path)
        values = raw.astype(np.float32)
        if self.scale is not None:
            values *= np.float32(self.scale)
        if raw.dtype.kind == "f":
            finite = np.isfinite(values)
            if not self.nan_is_invalid and not finite.all():
                raise DataError(
                    f"The file '{path}' should hold finite values; found NaN or infinity at {int((~finite).sum())} of "
                    f"{finite.size} places. {self.nan_remedy}"
                )
            values[~finite] = self.hole
        if self.invalid is not None:
            values[raw == self.invalid] = self.hole
        return values


class Levels(Coding):
    """Values between two ends: an integer file's 0..maximum becomes low..high, a floating-point file stays as it is.

    Args:
        low: The value of raw 0; the task's ``low`` by default, 0 for a task without one.
        high: The value of raw ``maximum``, to which what is above is clipped; the task's ``high`` by default, or 1.
        channels: Number of channels, the task's by default. With 1 a grey label saved as RGB is taken as one channel.
        maximum: The raw value of ``high``; the largest of the file's dtype by default, if that has at most 16 bits. A
            picture of 2 or 4 bits is read as of 8: give 3 or 15.
        invalid: The raw value (in every channel) that marks a pixel without a value, which becomes NaN.

    Raises:
        ConfigError: ``maximum`` is not above 0.
    """

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        channels: int | None = None,
        maximum: float | None = None,
        invalid: float | None = None,
    ) -> None:
        if maximum is not None:
            check_number("maximum", maximum)
        if maximum is not None and not maximum > 0:
            raise ConfigError(f"Parameter `maximum` should be above 0; found {maximum}.")
        self.low = low
        self.high = high
        self.channels = channels
        self.maximum = maximum
        self.invalid = invalid

    def of_task(self, task: Task) -> Coding:
        known = copy(self)
        if isinstance(task, DenseRegression):
            known.low = task.low if self.low is None else self.low
            known.high = task.high if self.high is None else self.high
        if isinstance(task, DenseTask) and self.channels is None:
            known.channels = task.target_channels
        return known

    def decode(self, raw: Array, path: Path) -> Array:
        values = one_channel(raw, path) if self.channels in (None, 1) else raw
        share = values.astype(np.float32) if values.dtype.kind == "f" else self._between(values, path)
        if self.invalid is not None:
            unknown = values == self.invalid
            share[unknown.all(-1) if unknown.ndim == 3 else unknown] = np.nan
        return np.asarray(share)

    def _between(self, values: Array, path: Path) -> NDArray[np.float32]:
        """Whole numbers from 0 to the largest, as float32 from low to high."""
        low, high = 0.0 if self.low is None else self.low, 1.0 if self.high is None else self.high
        if self.maximum is None and values.dtype.itemsize > 2:
            # NumPy's int64 of 0..255 would all be 0.
            raise DataError(
                f"The file '{path}' should come with the raw value that means {high:g}, since it holds "
                f"{values.dtype} values, whose range says nothing; found none. Save them with 8 or 16 bits, or give "
                "the task the coding Levels with that value as `maximum` (parameter `codings`)."
            )
        top = self.maximum if self.maximum is not None else _largest(values.dtype)
        share = np.minimum(values.astype(np.float32) * np.float32(1 / top), np.float32(1))
        if low != 0 or high != 1:
            share = share * np.float32(high - low) + np.float32(low)
        return np.asarray(share, np.float32)


class UnitVectors(MarkedHoles):
    """Surface normals: colours of 8 or 16 bits are centred (``v / 127.5 - 1``), floating-point files hold the vectors.

    A pixel whose vector is far from unit length (below 0.5 or above 1.5: grey, black or white in a picture) is invalid
    and becomes the zero vector; all others are brought to unit length, which 8 bits keep to half a percent only.
    A floating-point file whose vectors are of another length or have no negative component is refused: it holds
    something else, mostly ``(n + 1) / 2``.
    """

    hole = 0.0

    def decode(self, raw: Array, path: Path) -> Array:
        check_array(raw, path, (np.uint8, np.uint16, np.floating), (None, None, 3))
        vectors: NDArray[np.float32] = raw.astype(np.float32, copy=False)
        if raw.dtype.kind != "f":
            vectors *= np.float32(2 / _largest(raw.dtype))
            vectors -= 1
        # OpenCV's passes over a picture: a third of the time of the same in NumPy.
        length = np.sqrt(cv2.transform(cv2.multiply(vectors, vectors), np.ones((1, 3), dtype=np.float32)))
        if raw.dtype.kind == "f":
            check_unit_vectors(vectors, length, path)
        # A comparison with NaN is False, so a vector that is not finite is invalid, too.
        valid = (length > 0.5) & (length < 1.5)
        scale = np.divide(1, length, out=np.zeros_like(length), where=valid)
        unit = cv2.multiply(vectors, cv2.merge([scale, scale, scale]))
        cv2.patchNaNs(unit, 0.0)
        if self.hole != 0:
            unit[~valid] = self.hole
        return np.asarray(unit)


def one_channel(raw: Array, path: Path) -> Array:
    """A label of one channel, also where a file repeats it for red, green and blue.

    Args:
        raw: ``[H, W]``, ``[H, W, 1]``, or ``[H, W, 3]`` with three equal channels.
        path: The file, for messages.

    Returns:
        ``[H, W]``.

    Raises:
        DataError: Another shape, or channels that differ.
    """
    if raw.ndim == 2:
        return raw
    if raw.ndim == 3 and raw.shape[2] == 1:
        return np.asarray(raw[..., 0])
    check_array(raw, path, shape=(None, None, 3))
    first = np.ascontiguousarray(raw[..., 0])
    if not (np.array_equal(first, raw[..., 1]) and np.array_equal(first, raw[..., 2])):
        raise DataError(
            f"The file '{path}' should hold one value per pixel; found a colour picture. Save the values themselves, "
            "as a grey picture or an array."
        )
    return first


def _channel(raw: Array, channel: int, path: Path) -> Array:
    check_array(raw, path, shape=(None, None, 3))
    return np.ascontiguousarray(raw[..., channel])


def _largest(dtype: np.dtype[Any]) -> float:
    return 1.0 if dtype.kind == "b" else float(np.iinfo(dtype).max)


_MOST_ID = 2**30
"""No id is larger, so that ids can be shifted in 32 bits."""


@singledispatch
def coding_for(task: Task) -> Coding:
    """The coding that a task's label files have unless something else is said.

    A kind of task of your own has that of its nearest base class; ``coding_for.register`` gives it one of its own.

    Args:
        task: The task.

    Returns:
        ``ClassIds`` for segmentation, ``Scaled`` for depth, ``UnitVectors`` for normals, ``Levels`` between the task's
        ``low`` and ``high`` for dense regression, ``AsStored`` for all else.
    """
    del task
    return AsStored()


@coding_for.register
def _(task: Segmentation) -> Coding:
    del task
    return ClassIds()


@coding_for.register
def _(task: Depth) -> Coding:
    return Scaled(hole=task.blank_value, channels=1)


@coding_for.register
def _(task: Normals) -> Coding:
    del task
    return UnitVectors()


@coding_for.register
def _(task: DenseRegression) -> Coding:
    return Levels(task.low, task.high, task.channels)
