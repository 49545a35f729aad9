"""Further NYU-v2 frames that have a depth map and no other label.

Two forms are read, told apart by the files' names:

* ``h5``: ``<scene>/<n>.h5`` with ``rgb`` uint8 ``[3, 480, 640]`` and ``depth`` in metres ``[480, 640]``, the 47,584
  training frames of sparse-to-dense and FastDepth (fangchangma/sparse-to-dense.pytorch, dataloaders/dataloader.py);
* ``sync``: ``<scene>/rgb_00000.jpg`` with ``<scene>/sync_depth_00000.png``, 16-bit millimetres (cleinc/bts,
  pytorch/bts_dataloader.py).

In both a depth of 0 means 'not measured'.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.files import check_array, read_image, read_png
from jtr_lightning.data.hdf5 import dataset_of, open_hdf5, read_hdf5
from jtr_lightning.data.names import Names
from jtr_lightning.data.nyuv2_mat import BORDER_CROP, FRAME
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.disk import is_there, read_text, visible
from jtr_lightning.errors import DataError

DepthOnlyLayout = Literal["auto", "h5", "sync"]


class DepthOnlySource(SampleSource):
    """Frames whose only label is depth, in metres. A sample's name is its file's path below ``root``.

    Args:
        root: The folder with the scenes.
        frames: The image files, relative to ``root``.
        crop_border: Cut the blank border of 480x640 frames away.

    Attributes:
        published: How many frames the published training set has.
    """

    published: int | None = None

    def __init__(self, root: Path, frames: Sequence[str], crop_border: bool = True) -> None:
        self.root = root
        self.frames = Names(frames)
        self.crop_border = crop_border

    def __len__(self) -> int:
        return len(self.frames)

    def name(self, index: int) -> str:
        return self.frames[index]

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        return np.tile(np.array([task == "depth" for task in tasks], dtype=bool), (len(self), 1))

    def file_of(self, index: int, task: str | None = None) -> Path:
        del task
        return self.root / self.frames[index]

    def remarks(self) -> Sequence[str]:
        if self.published in (None, len(self)):
            return ()
        return [f"'{self.root}' has {len(self)} depth-only frames; the published set has {self.published}."]

    def read_image(self, index: int) -> Array:
        return self._cropped(self.image_at(self.root / self.frames[index]))

    def read_label(self, index: int, task: str) -> Array:
        del task  # it can only be depth
        return self._cropped(self.depth_at(self.root / self.frames[index]))

    def _cropped(self, array: Array) -> Array:
        if self.crop_border and array.shape[:2] == FRAME:
            return np.ascontiguousarray(array[BORDER_CROP])
        return array

    @abstractmethod
    def image_at(self, path: Path) -> Array:
        """The RGB image of a frame, uint8 ``[H, W, 3]``.

        Raises:
            DataError: The file is missing or unreadable.
        """

    @abstractmethod
    def depth_at(self, path: Path) -> Array:
        """The depth of a frame, float32 ``[H, W]`` in metres, 0 where it is not known.

        Raises:
            DataError: The file is missing or unreadable.
        """


class H5Source(DepthOnlySource):
    """Frames in one ``.h5`` file each."""

    published = 47584

    def stored_dtype(self, index: int, task: str | None = None) -> str:
        with open_hdf5(self.file_of(index)) as file:
            key = "rgb" if task is None else "depth"
            return str(file[key].dtype) if key in file else ""

    def image_at(self, path: Path) -> Array:
        rgb = _read_h5(path, "rgb")
        check_array(rgb, path, (np.uint8,), (3, None, None))
        return np.ascontiguousarray(rgb.transpose(1, 2, 0))

    def depth_at(self, path: Path) -> Array:
        depth = _read_h5(path, "depth")
        check_array(depth, path, (np.floating,), (None, None), finite=True)
        return depth.astype(np.float32)


class SyncSource(DepthOnlySource):
    """Frames as pairs of ``rgb_<n>.jpg`` and ``sync_depth_<n>.png``; reading a frame that lacks one of them fails."""

    def file_of(self, index: int, task: str | None = None) -> Path:
        image = super().file_of(index)
        return image if task is None else depth_of(image)

    def image_at(self, path: Path) -> Array:
        _expect_beside(path, depth_of(path))
        return read_image(path)

    def depth_at(self, path: Path) -> Array:
        _expect_beside(depth_of(path), path)
        return read_png(depth_of(path), np.uint16).astype(np.float32) / 1000


def depth_of(image: Path) -> Path:
    """The depth file that belongs to ``rgb_<n>.jpg``."""
    return image.with_name(image.name.replace("rgb_", "sync_depth_", 1)).with_suffix(".png")


def _image_of(depth: str) -> str:
    """The image file that belongs to ``sync_depth_<n>.png``."""
    return f"rgb_{depth.removeprefix('sync_depth_').removesuffix('.png')}.jpg"


def _is_whole(image: Path) -> bool:
    """Whether both files of a pair are there."""
    return is_there(image) and is_there(depth_of(image))


def _expect_beside(file: Path, other: Path) -> None:
    """Refuses a pair of which one file alone is there."""
    if not is_there(file) and is_there(other):
        raise DataError(
            f"The file '{file}' should be there beside '{other.name}'; found none. Copy it again, or remove the other."
        )


def _read_h5(path: Path, key: str) -> Array:
    with open_hdf5(path) as file:
        return read_hdf5(dataset_of(file, key))


def find_depth_only(
    root: Path, layout: DepthOnlyLayout = "auto", list_file: Path | None = None, crop_border: bool = True
) -> DepthOnlySource:
    """Finds all frames.

    Args:
        root: A folder with scenes, or one whose ``train`` or ``sync`` folder has them.
        layout: Which form the files have; ``auto`` looks.
        list_file: Take only the frames that a BTS list file names (``/<scene>/rgb_00045.jpg <depth> <focal>``).
        crop_border: Cut the blank border of 480x640 frames away.

    Returns:
        The frames in the order of their names.

    Raises:
        DataError: There is no such frame, or a file of the list is missing.
    """
    if list_file is not None:
        return SyncSource(root, _listed(root, list_file), crop_border)
    for folder in (root, root / "train", root / "sync"):
        frames = sorted(_frames(folder)) if folder.is_dir() else []
        h5 = [frame for frame in frames if frame.endswith(".h5")]
        pairs = [frame for frame in frames if not frame.endswith(".h5")]
        if h5 and layout != "sync":
            return H5Source(folder, h5, crop_border)
        if layout != "h5" and any(_is_whole(folder / frame) for frame in pairs):
            return SyncSource(folder, pairs, crop_border)
    raise DataError(
        f"The folder '{root}' should hold depth-only frames of NYU-v2, <scene>/<n>.h5 or <scene>/rgb_<n>.jpg with "
        f"<scene>/sync_depth_<n>.png; found none{'' if layout == 'auto' else f' of the layout {layout!r}'}."
    )


def _frames(folder: Path) -> Iterator[str]:
    """The image files of all scenes, relative to the folder; of a pair that lacks its image, the one it should have."""
    for scene in (entry.name for entry in visible(folder) if entry.is_dir()):
        files = {path.name for path in visible(folder / scene)}
        depths = {file for file in files if file.startswith("sync_depth_") and file.endswith(".png")}
        images = {file for file in files if file.startswith("rgb_") and file.endswith(".jpg")}
        h5 = {file for file in files if file.endswith(".h5")}
        for file in h5 | images | {_image_of(depth) for depth in depths}:
            yield f"{scene}/{file}"


def _listed(root: Path, list_file: Path) -> list[str]:
    try:
        lines = read_text(list_file).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"The list of depth-only frames '{list_file}' should be readable text; found: {error}."
        ) from error
    # Paths in the list begin with a slash, which must not make them absolute; a frame without depth is called 'None'.
    rows = [line.split() for line in lines if line.strip()]
    wrong = [number for number, row in enumerate(rows, 1) if not _is_like(row, rows[0])]
    if wrong:
        raise DataError(
            f"The list '{list_file}' should have <image> <depth> <focal length> in each line, or an image alone; found "
            f"'{' '.join(rows[wrong[0] - 1])[:100]}' in line {wrong[0]}."
        )
    frames = [row[0].lstrip("/") for row in rows if len(row) < 2 or row[1] != "None"]
    outside = [frame for frame in frames if ".." in Path(frame).parts]
    if outside:
        raise DataError(
            f"The list '{list_file}' should name files below '{root}'; found '{outside[0]}', which leads out of it. "
            "Remove such lines."
        )
    files = (f for frame in frames for f in (root / frame, depth_of(root / frame)))
    missing = [str(file.relative_to(root)) for file in files if not _is_file(file)]
    if missing or not frames:
        found = (
            f"{len(missing)} of {2 * len(frames)} not there, first '{missing[0][:100]}'"
            if missing
            else "an empty list"
        )
        raise DataError(
            f"The list '{list_file}' should name files below '{root}'; found {found}. Give the folder that holds the "
            "scenes."
        )
    return frames


def _is_like(row: Sequence[str], first: Sequence[str]) -> bool:
    """Whether a line of a list has as many columns as the first, and a number as focal length where there is one."""
    try:
        return len(row) == len(first) <= 3 and all(float(cell) > 0 for cell in row[2:])
    except ValueError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # no name that a file can have, or a folder that may not be entered
        return False
