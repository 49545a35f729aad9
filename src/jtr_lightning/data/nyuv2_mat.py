"""NYU Depth v2 as its authors publish it: ``nyu_depth_v2_labeled.mat``, 1449 frames in one HDF5 file.

MATLAB's axes are reversed in HDF5: images are ``[1449, 3, 640, 480]``, depths and labels ``[1449, 640, 480]``. The
split (``splits.mat``) and the mapping from the 894 label names to 40 classes (``classMapping40.mat``, Gupta et al.
2013) are files of their own, which are read from where the user has them: their publisher (ankurhanda/nyuv2-meta-data
on GitHub) states no licence, so they are not part of this package. The step from 40 to 13 classes is written out
here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.files import check_array
from jtr_lightning.data.hdf5 import Hdf5File
from jtr_lightning.data.normals_from_depth import Intrinsics, normals_from_depth
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import DataError

MAT_NAME = "nyu_depth_v2_labeled.mat"

FRAME = (480, 640)
"""Height and width of every frame, labelled or not."""

BORDER_CROP = (slice(45, 472), slice(43, 608))
"""Rows and columns that the projection of the depth onto the colour camera never leaves blank (cleinc/bts,
pytorch/bts_dataloader.py): 427x565 pixels."""

CAMERA = Intrinsics(fx=518.858, fy=519.470, cx=325.582, cy=253.736)
"""The colour camera, onto which the published depth maps are projected (camera_params.m of the authors' toolbox)."""

CLASSES_13 = (
    "bed", "books", "ceiling", "chair", "floor", "furniture", "objects", "picture", "sofa", "table", "tv", "wall",
    "window",
)  # fmt: skip
"""Couprie et al. 2013, in the order of the ids 0..12."""

CLASSES_40 = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror", "floor mat",
    "clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel", "shower curtain", "box",
    "whiteboard", "person", "night stand", "toilet", "sink", "lamp", "bathtub", "bag", "otherstructure",
    "otherfurniture", "otherprop",
)  # fmt: skip
"""Gupta et al. 2013, in the order of the ids 0..39, spelled as there."""

FROM_40_TO_13 = (
    12, 5, 6, 1, 4, 9, 10, 12, 13, 6, 8, 6, 13, 10, 6, 13, 6, 7, 7, 5,
    7, 3, 2, 6, 11, 7, 7, 7, 7, 7, 7, 6, 7, 7, 7, 7, 7, 7, 6, 7,
)  # fmt: skip
"""For each of the 40 classes its number 1..13, as in class13Mapping.mat (ankurhanda/SceneNetv1.0 lists the same)."""

NAMES = 894
"""Number of label names in the labelled file; label 0 means unlabelled."""


@dataclass(frozen=True)
class MatFiles:
    """Where the three files are.

    Attributes:
        labelled: ``nyu_depth_v2_labeled.mat``.
        splits: ``splits.mat``, with the 1-based frame numbers ``trainNdxs`` and ``testNdxs``.
        class_mapping: ``classMapping40.mat``, with ``mapClass``, the class 1..40 of each label name.
    """

    labelled: Path
    splits: Path
    class_mapping: Path


class MatSource(SampleSource):
    """One split of the labelled file; a sample's name is its 1-based frame number, ``0001`` to ``1449``.

    Depths are metres. Normals are computed, see ``normals_from_depth``: the file holds none. Only the frame that is
    asked for is read, through a file handle that each process opens for itself.

    Args:
        files: Where the files are.
        training: The training frames, or the test frames.
        classes: 13 or 40; None without segmentation, for which alone the class mapping must be there.
        crop_border: Cut the blank border away.
        depth: ``filled``: holes filled by the authors (``depths``); ``raw``: as measured, holes invalid
            (``rawDepths``).

    Raises:
        ConfigError: h5py is not installed.
        DataError: A file is missing or has other content.
    """

    def __init__(
        self,
        files: MatFiles,
        training: bool,
        classes: Literal[13, 40] | None = 13,
        crop_border: bool = True,
        depth: Literal["filled", "raw"] = "filled",
    ) -> None:
        self.file = Hdf5File(files.labelled)
        self.depth_key = {"filled": "depths", "raw": "rawDepths"}[depth]
        height, width = self._frame_size()
        # The numbers are those of the published file; frames of another size are taken for the same ones resized.
        cut = crop_border and (height, width) == FRAME
        self.crop = BORDER_CROP if cut else (slice(None), slice(None))
        self.camera = CAMERA.resized(height / FRAME[0], width / FRAME[1])
        frames = self.file.dataset("images").shape[0]
        self.file.close()
        self.frames = read_split(files.splits, training, frames)
        self.tasks = ("depth", "normals") if classes is None else ("segmentation", "depth", "normals")
        none = np.zeros(0, np.int16)
        self.class_of_label = none if classes is None else read_class_table(files.class_mapping, classes)

    def _frame_size(self) -> tuple[int, int]:
        shapes = {key: tuple(self.file.dataset(key).shape) for key in ("images", "labels", self.depth_key)}
        number, channels, width, height = (*shapes["images"], 0, 0, 0, 0)[:4]
        maps = {shape for key, shape in shapes.items() if key != "images"}
        if len(shapes["images"]) != 4 or channels != 3 or maps != {(number, width, height)}:
            raise DataError(
                f"The file '{self.file.path}' should hold images [N, 3, {FRAME[1]}, {FRAME[0]}], and labels and "
                f"{self.depth_key} [N, {FRAME[1]}, {FRAME[0]}]; found {shapes}. Copy it again."
            )
        return height, width

    def __len__(self) -> int:
        return len(self.frames)

    def name(self, index: int) -> str:
        return f"{self.frames[index]:04d}"

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        known = [task in self.tasks for task in tasks]
        return np.tile(np.array(known, dtype=bool), (len(self), 1))

    def file_of(self, index: int, task: str | None = None) -> Path:
        del index, task  # all is in one file
        return self.file.path

    def stored_dtype(self, index: int, task: str | None = None) -> str:
        if task == "normals":
            return "computed"
        keys = {None: "images", "segmentation": "labels", "depth": self.depth_key}
        return str(self.file.dataset(keys[task]).dtype)

    def read_image(self, index: int) -> Array:
        return np.ascontiguousarray(self._frame("images", index, np.uint8).transpose(2, 1, 0)[self.crop])

    def read_label(self, index: int, task: str) -> Array:
        readers = {"segmentation": self._classes, "depth": self._depth, "normals": self._normals}
        return np.ascontiguousarray(readers[task](index)[self.crop])

    def _classes(self, index: int) -> Array:
        labels = self._frame("labels", index, np.integer).T
        if labels.size and not (labels.min() >= 0 and labels.max() < len(self.class_of_label)):
            raise DataError(
                f"The labels of frame {self.name(index)} in '{self.file.path}' should be from 0 to {NAMES}; found "
                f"{labels.min()} to {labels.max()}."
            )
        return np.asarray(self.class_of_label[labels])

    def _depth(self, index: int) -> Array:
        depth = self._frame(self.depth_key, index, np.floating).T.astype(np.float32)
        if not np.isfinite(depth).all() or depth.min() < 0:
            raise DataError(
                f"The depth of frame {self.name(index)} in '{self.file.path}' should be finite and at least 0; found "
                f"values from {depth.min():g} to {depth.max():g}."
            )
        return np.asarray(depth)

    def _normals(self, index: int) -> Array:
        return np.asarray(normals_from_depth(self._depth(index), self.camera))

    def _frame(self, key: str, index: int, dtype: Any) -> Array:
        frame = self.file.row(key, int(self.frames[index]) - 1)
        check_array(frame, self.file.path, (dtype,))
        return frame


def read_split(path: Path, training: bool, frames: int) -> NDArray[np.int64]:
    """The 1-based frame numbers of the official training or test set.

    Args:
        path: ``splits.mat``.
        training: Which of both.
        frames: How many frames there are.

    Returns:
        int64 ``[N]``.

    Raises:
        DataError: The file is missing or has other content.
    """
    key = "trainNdxs" if training else "testNdxs"
    numbers = _read_mat5(path, key, "with the official split").ravel().astype(np.int64)
    if not len(numbers) or numbers.min() < 1 or numbers.max() > frames:
        found = f"{numbers.min()} to {numbers.max()}" if len(numbers) else "none"
        raise DataError(
            f"'{key}' in the file '{path}' should hold frame numbers from 1 to {frames}; found {found}."
        )
    return numbers


def read_class_table(path: Path, classes: int) -> NDArray[np.int16]:
    """Which class each of the labels 0..894 belongs to.

    Args:
        path: ``classMapping40.mat``.
        classes: 13 or 40.

    Returns:
        int16 ``[895]``, ids from 0 on, -1 for label 0, which has no class.

    Raises:
        DataError: The file is missing or has other content.
    """
    mapping = _read_mat5(path, "mapClass", "with the class of each label name").ravel().astype(np.int64)
    if len(mapping) != NAMES or mapping.min() < 1 or mapping.max() > len(CLASSES_40):
        raise DataError(
            f"'mapClass' in the file '{path}' should hold {NAMES} numbers from 1 to 40; found {len(mapping)}"
            + (f" from {mapping.min()} to {mapping.max()}." if len(mapping) else ".")
        )
    if classes == len(CLASSES_13):
        mapping = np.array(FROM_40_TO_13)[mapping - 1]
    return np.concatenate([[-1], mapping - 1]).astype(np.int16)


def _read_mat5(path: Path, key: str, what: str) -> Array:
    from scipy.io import loadmat

    if not path.is_file():
        raise DataError(
            f"The official layout of NYU-v2 needs the file '{path.name}' {what}; found no file '{path}'. Put "
            "it there (a copy is in the repository ankurhanda/nyuv2-meta-data on GitHub), or name its place."
        )
    try:
        content: dict[str, Any] = loadmat(path, variable_names=[key])
    except Exception as error:  # whatever the reader makes of a damaged file
        raise DataError(
            f"The file '{path}' should be a whole MATLAB 5 file; found: {error}. Copy it again."
        ) from error
    if key not in content:
        raise DataError(f"The file '{path}' should hold '{key}' {what}; found no such variable.")
    numbers = np.asarray(content[key])
    check_array(numbers, path, (np.number,), finite=True)
    return numbers
