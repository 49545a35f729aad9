"""The layout of preprocessed ``.npy`` files in which NYU-v2 and Cityscapes are published for multi-task learning.

``<root>/{train,val}/<folder>/<i>.npy`` with ``i`` from 0 to N-1, no zero padding; the folder ``image`` says how many
there are (lorenmt/mtan, im2im_pred/create_dataset.py). The dtypes on disk are not documented: any real one is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.codings import Coding
from jtr_lightning.data.files import check_array, read_npy
from jtr_lightning.data.source import Array, SampleSource, without_sample
from jtr_lightning.disk import visible
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import Scenario, SplitFile

_OVERSHOOT = 0.02  # Interpolation while resizing may have left [0, 1] by this much.


class NpyFolderSource(SampleSource):
    """One split of the layout.

    Args:
        folder: ``<root>/<split>``.
        columns: For each task its label folder's name and how the files' values are coded.
        published: How many samples the published split has.

    Raises:
        DataError: There is no image, or the images are not numbered from 0 on.
    """

    def __init__(
        self, folder: str | Path, columns: Mapping[str, tuple[str, Coding]], published: int | None = None
    ) -> None:
        self.folder = Path(folder)
        self.published = published
        self.columns = dict(columns)
        images = set(_numbered(_arrays(self.folder / "image")))
        self._length = len(images)
        if self._length == 0:
            raise DataError(
                f"The folder '{self.folder / 'image'}' should hold the images 0.npy, 1.npy and so on; found none."
            )
        if max(images) != self._length - 1:
            gap = next(i for i in range(self._length) if i not in images)
            raise DataError(
                f"The images in '{self.folder / 'image'}' should be numbered from 0.npy on without a gap, "
                f"since row i of a published label split belongs to i.npy; found {self._length} files up to "
                f"{max(images)}.npy, but no {gap}.npy. Copy the missing files."
            )

    def __len__(self) -> int:
        return self._length

    def name(self, index: int) -> str:
        return str(index)

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        table = np.zeros((len(self), len(tasks)), dtype=bool)
        for k, task in enumerate(tasks):
            if task in self.columns:
                present = _numbered(_arrays(self.folder / self.columns[task][0]))
                table[[i for i in present if i < len(self)], k] = True
        return table

    def remarks(self) -> Sequence[str]:
        return count_remark(self.folder / "image", len(self), self.published)

    def problems(self) -> Sequence[str]:
        found: list[str] = []
        for name in ("image", *(folder for folder, _ in self.columns.values())):
            names = _arrays(self.folder / name)
            own = {f"{i}.npy" for i in _numbered(names) if i < len(self)}
            found += without_sample(self.folder / name, [n for n in names if n not in own], len(names))
        return found

    def file_of(self, index: int, task: str | None = None) -> Path:
        return self.folder / ("image" if task is None else self.columns[task][0]) / f"{index}.npy"

    def read_image(self, index: int) -> Array:
        path = self.file_of(index)
        array = read_npy(path)
        check_array(array, path, shape=(None, None, 3), finite=True)
        if array.dtype == np.uint8:
            return array
        low, high = float(array.min()), float(array.max())
        if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
            raise DataError(
                f"The image '{path}' should hold RGB values in [0, 1], or uint8; found {array.dtype} from {low:g} to "
                f"{high:g}. Divide it by 255."
            )
        values = array.astype(np.float32, copy=False)
        # OpenCV rounds and clips above in one pass, but would take the absolute value below.
        return np.asarray(cv2.convertScaleAbs(values if low >= 0 else values.clip(min=0), alpha=255))

    def read_label(self, index: int, task: str) -> Array:
        path = self.file_of(index, task)
        return self.columns[task][1].decode(read_npy(path), path)


def _arrays(folder: Path) -> list[str]:
    """The names of the ``.npy`` files in a folder; none for a folder that does not exist."""
    return [path.name for path in visible(folder) if path.suffix == ".npy"] if folder.is_dir() else []


def _numbered(names: Sequence[str]) -> list[int]:
    """The numbers of those files that are named ``<i>.npy``, without zeros in front."""
    stems = (name.removesuffix(".npy") for name in names)
    return [int(stem) for stem in stems if stem.isdecimal() and str(int(stem)) == stem]


def count_remark(folder: Path, found: int, published: int | None) -> list[str]:
    """A sentence where a folder has more or fewer images than the published split."""
    if published is None or found == published:
        return []
    return [f"The folder '{folder}' has {found} images; the published split has {published}."]


def is_npy_layout(root: Path) -> bool:
    """Whether a folder looks like the preprocessed layout."""
    return any((root / split / "image").is_dir() for split in ("train", "val"))


def refuse_published_rows(scenario: Scenario, layout: str) -> None:
    """Refuses a published ``.pth`` split for files that its rows were not made for.

    Args:
        scenario: What is to be used.
        layout: The layout of the files, for the message.

    Raises:
        ConfigError: The scenario is such a file.
    """
    if isinstance(scenario, SplitFile) and scenario.path.endswith(".pth"):
        raise ConfigError(
            f"The published label split '{scenario.path}' should be used with the preprocessed .npy layout "
            f"alone: its row i belongs to i.npy, and how these numbers map to the files of the {layout} is "
            f"not known; found the {layout}. Take a CSV split or a scenario such as OneLabel."
        )
