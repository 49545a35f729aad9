"""What the folders of one building of a Taskonomy tree hold."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.files import SUFFIXES, read_pixels
from jtr_lightning.data.taskonomy_layouts import VIEW_FILE, ViewFolder
from jtr_lightning.errors import DataError

VIEW_KEYS = 2**31
"""A view is known by one number of 64 bits, ``point * VIEW_KEYS + view``."""

_SMALLEST_PICTURE = 100  # bytes; smaller files may be placeholders


class Strays(NamedTuple):
    """Files of one folder that belong to no image.

    Attributes:
        building: The building.
        domain: The domain.
        number: How many there are.
        first: One of them, as a path below the tree's folder.
    """

    building: str
    domain: str
    number: int
    first: str


@dataclass(frozen=True)
class BuildingFiles:
    """What one building holds.

    Attributes:
        name: The building.
        keys: Its views that have an image, sorted, int64 ``[N]``.
        bits: For each domain and end of the file name which of these views have such a file, bool ``[N]``.
        files: How many files its folders have, whatever they are.
        strays: The files that belong to none of these views.
    """

    name: str
    keys: NDArray[np.int64]
    bits: dict[tuple[str, str], NDArray[np.bool_]]
    files: int
    strays: list[Strays]


@dataclass(frozen=True)
class _FolderFiles:
    """The views of which a folder has a file, for each end of a file name, and what else it has."""

    path: str
    domain: str
    ends: dict[str, NDArray[np.int64]]
    files: int
    misnamed: list[str]

    def strays(
        self, building: str, views: NDArray[np.int64], bits: Mapping[tuple[str, str], NDArray[np.bool_]]
    ) -> list[Strays]:
        """The files that belong to none of a building's views, by which of the views have a file."""
        number, first = len(self.misnamed), min(self.misnamed, default="")
        for end, keys in self.ends.items():
            alone = len(keys) - np.count_nonzero(bits[self.domain, end])
            number += alone
            if alone and not first:  # seldom: only then it matters which
                first = f"{_view(np.setdiff1d(keys, views)[0])}{end}"
        return [Strays(building, self.domain, number, f"{self.path}/{first}")] if number else []


def scan_building(
    root: Path, folders: Sequence[ViewFolder], image_domain: str, may_be_void: frozenset[str]
) -> BuildingFiles:
    """Looks into the folders of one building.

    Args:
        root: The tree's folder.
        folders: The building's folders, at least one.
        image_domain: The domain of the images.
        may_be_void: Domains in which a tiny file that is no picture means 'no label'.

    Returns:
        What they hold.

    Raises:
        DataError: Two files of one view in one folder.
    """
    found = [_files(root, folder, without_void=folder.domain in may_be_void) for folder in folders]
    images = [keys for folder in found if folder.domain == image_domain for keys in folder.ends.values()]
    views = np.sort(np.concatenate(images)) if images else np.zeros(0, np.int64)
    bits = {
        (folder.domain, end): np.isin(views, keys) for folder in found for end, keys in folder.ends.items()
    }
    building = folders[0].building
    return BuildingFiles(
        name=building,
        keys=views,
        bits={column: exists for column, exists in bits.items() if exists.any()},
        files=sum(folder.files for folder in found),
        strays=[strays for folder in found for strays in folder.strays(building, views, bits)],
    )


def _files(root: Path, folder: ViewFolder, without_void: bool) -> _FolderFiles:
    path = root / folder.path
    with os.scandir(path) as entries:
        names = [entry.name for entry in entries]
    found = VIEW_FILE.findall("\n".join(names))
    # Other files, such as the points' JSON, are nobody's label.
    misnamed = [] if len(found) == len(names) else [name for name in names if _is_misnamed(name)]
    if without_void:
        found = [f for f in found if not _is_void(path / f"point_{f[0]}_view_{f[1]}{f[2]}")]
    keys = np.array([int(point) * VIEW_KEYS + int(view) for point, view, _ in found], np.int64)
    ends = [end for _, _, end in found]
    kinds = sorted(set(ends))
    by_end = {kinds[0]: keys} if len(kinds) == 1 else {k: keys[[end == k for end in ends]] for k in kinds}
    _refuse_twins(path, by_end)
    return _FolderFiles(folder.path, folder.domain, by_end, len(names), misnamed)


def _is_misnamed(name: str) -> bool:
    """Whether a file could be a label by its ending, but names no view."""
    return name.lower().endswith(tuple(SUFFIXES)) and not name.startswith(".") and not VIEW_FILE.match(name)


def _is_void(path: Path) -> bool:
    """Whether a file is a placeholder for 'no label': too small for a picture of a scene, and none."""
    if path.stat().st_size >= _SMALLEST_PICTURE:
        return False
    try:
        read_pixels(path)
    except DataError:
        return True
    return False


def _refuse_twins(folder: Path, ends: dict[str, NDArray[np.int64]]) -> None:
    """Two files of one view in one folder: nobody knows which to take."""
    kinds = list(ends)
    for i, first in enumerate(kinds):
        for second in kinds[i + 1 :]:
            both = np.intersect1d(ends[first], ends[second])
            if len(both):
                view = _view(both[0])
                raise DataError(
                    f"The folder '{folder}' should have one file for each view; found '{view}{first}' and "
                    f"'{view}{second}'. Remove one of them."
                )


def _view(key: int) -> str:
    """How the name of a view's file begins."""
    return f"point_{key // VIEW_KEYS}_view_{key % VIEW_KEYS}"
