"""Cityscapes' official files: ``<type>/<split>/<city>/<city>_<sequence>_<frame>_<type>.<ending>``.

Ids, classes and categories: mcordts/cityscapesScripts, cityscapesscripts/helpers/labels.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.files import read_image, read_png
from jtr_lightning.data.names import Names
from jtr_lightning.data.npy_folder import count_remark
from jtr_lightning.data.source import Array, SampleSource, without_sample
from jtr_lightning.disk import read_object, visible
from jtr_lightning.errors import DataError

DepthKind = Literal["inverse", "metres"]

CLASSES_19 = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
)  # fmt: skip
CLASSES_7 = ("flat", "construction", "object", "nature", "sky", "human", "vehicle")
CLASSES_2 = ("background", "foreground")

ID_OF_CLASS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The id in ``labelIds`` files of each of the 19 classes; all other ids 0..33 are ignored."""

PUBLISHED = {"train": 2975, "val": 500, "test": 1525}
"""Images of each split."""

_CATEGORY_OF_CLASS = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5, 6, 6, 6, 6, 6, 6)
_FOREGROUND = 5  # the categories from human on
_LAST_ID = 33

_IMAGE = "_leftImg8bit.png"
_TYPES = {
    "labels": ("gtFine", "_gtFine_labelIds.png"),
    "disparity": ("disparity", "_disparity.png"),
    "camera": ("camera", "_camera.json"),
}


def class_table(classes: int) -> NDArray[np.int16]:
    """Which class an id 0..33 belongs to.

    Args:
        classes: 19, 7 or 2.

    Returns:
        int16 ``[34]``, -1 for ids that are ignored.
    """
    table = np.full(_LAST_ID + 1, -1, dtype=np.int16)
    category = np.array(_CATEGORY_OF_CLASS)
    table[list(ID_OF_CLASS)] = {
        19: np.arange(len(ID_OF_CLASS)),
        7: category,
        2: (category >= _FOREGROUND).astype(np.int64),
    }[classes]
    return table


class OfficialSource(SampleSource):
    """One split; a sample's name is ``<city>_<sequence>_<frame>``.

    Args:
        root: The folder with ``leftImg8bit``.
        split: ``train``, ``val`` or ``test``. The public class files of the test split are dummies and are never read.
        classes: 19, 7 or 2.
        depth: See ``CityscapesDataModule``.
        max_depth: Metric depths beyond this are invalid.

    Raises:
        DataError: There is no image.
    """

    def __init__(
        self, root: Path, split: str, classes: int, depth: DepthKind = "inverse", max_depth: float = 80.0
    ) -> None:
        self.root = root
        self.split = split
        self.table = class_table(classes)
        self.depth = depth
        self.max_depth = max_depth
        folder = root / "leftImg8bit" / split
        cities = sorted(entry.name for entry in visible(folder) if entry.is_dir()) if folder.is_dir() else []
        names = [path.name for city in cities for path in sorted(visible(folder / city))]
        self.samples = Names(name.removesuffix(_IMAGE) for name in names if name.endswith(_IMAGE))
        if not self.samples:
            raise DataError(
                f"The folder '{folder}' should hold images <city>/<city>_<sequence>_<frame>{_IMAGE}; found "
                f"{'none' if folder.is_dir() else 'no such folder'}. Unpack leftImg8bit_trainvaltest.zip there."
            )

    def __len__(self) -> int:
        return len(self.samples)

    def name(self, index: int) -> str:
        return self.samples[index]

    def _city(self, index: int) -> str:
        return self.samples[index].rsplit("_", 2)[0]

    def _path(self, index: int, kind: str) -> Path:
        folder, ending = _TYPES[kind]
        return self.root / folder / self.split / self._city(index) / f"{self.samples[index]}{ending}"

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        depth = self._exist("disparity")
        if self.depth == "metres":
            depth = depth & self._exist("camera")
        none = np.zeros(len(self), dtype=bool)
        columns = {"segmentation": none if self.split == "test" else self._exist("labels"), "depth": depth}
        return np.stack([columns.get(task, none) for task in tasks], axis=1)

    def _exist(self, kind: str) -> NDArray[np.bool_]:
        """Which samples have a file of a kind."""
        found = self._found(kind)
        return np.array([file in found for file in self._expected(kind)], dtype=bool)

    def _expected(self, kind: str) -> list[str]:
        """The file of a kind that each sample may have, below the split's folder."""
        ending = _TYPES[kind][1]
        return [f"{sample.rsplit('_', 2)[0]}/{sample}{ending}" for sample in self.samples]

    def _found(self, kind: str) -> set[str]:
        """The files of a kind below the split's folder, from one listing per city."""
        folder, ending = _TYPES[kind]
        top = self.root / folder / self.split
        cities = [city for city in visible(top) if city.is_dir()] if top.is_dir() else []
        files = (path for city in cities for path in visible(city) if path.name.endswith(ending))
        return {f"{path.parent.name}/{path.name}" for path in files}

    def remarks(self) -> Sequence[str]:
        return count_remark(self.root / "leftImg8bit" / self.split, len(self), PUBLISHED.get(self.split))

    def problems(self) -> Sequence[str]:
        sentences: list[str] = []
        for kind in ("labels", "disparity"):
            found = self._found(kind)
            strays = sorted(found.difference(self._expected(kind)))
            sentences += without_sample(self.root / _TYPES[kind][0] / self.split, strays, len(found))
        return sentences

    def file_of(self, index: int, task: str | None = None) -> Path:
        if task is None:
            folder = self.root / "leftImg8bit" / self.split / self._city(index)
            return folder / f"{self.samples[index]}{_IMAGE}"
        return self._path(index, {"segmentation": "labels", "depth": "disparity"}[task])

    def read_image(self, index: int) -> Array:
        return read_image(self.file_of(index))

    def read_label(self, index: int, task: str) -> Array:
        return {"segmentation": self._classes, "depth": self._depth}[task](index)

    def _classes(self, index: int) -> Array:
        path = self._path(index, "labels")
        ids = read_png(path, np.uint8)
        if ids.max() > _LAST_ID:
            raise DataError(
                f"The file '{path}' should hold label ids 0..{_LAST_ID}; found {ids.max()}. Files of another coding "
                "(labelTrainIds, colours) cannot be read."
            )
        return np.asarray(self.table[ids])

    def _depth(self, index: int) -> Array:
        steps = read_png(self._path(index, "disparity"), np.uint16).astype(np.float32)
        if self.depth == "inverse":
            return np.asarray(steps * np.float32(1 / 65535))
        disparity = (steps - 1) / 256
        near = np.float32(self._baseline_times_fx(index)) / np.maximum(disparity, np.float32(1e-6))
        return np.asarray(np.where((disparity > 0) & (near <= self.max_depth), near, np.float32(0)))

    def _baseline_times_fx(self, index: int) -> float:
        """Depth times disparity, in metres times pixels of the full width."""
        path = self._path(index, "camera")
        try:
            camera = read_object(path)
            product = float(camera["extrinsic"]["baseline"]) * float(camera["intrinsic"]["fx"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"The file '{path}' should hold the camera's extrinsic.baseline and intrinsic.fx; found: "
                f"{type(error).__name__} ({error}). Unpack camera_trainvaltest.zip again."
            ) from error
        if not (math.isfinite(product) and product > 0):
            raise DataError(
                f"The file '{path}' should hold a baseline and a focal length above 0; found a product of {product}."
            )
        return product
