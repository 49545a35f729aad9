"""Which views and labels a Taskonomy tree holds: found once, in parallel, and remembered.

A sample is a view of a point in a building. It is known by numbers (building, point, view, and a bit for each kind of
file that exists), never by strings, so that millions fit in memory; names and paths are made when they are needed.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.taskonomy_layouts import VIEW_FILE, Layout, ViewFolder, look
from jtr_lightning.data.taskonomy_scan import VIEW_KEYS, BuildingFiles, Strays, scan_building
from jtr_lightning.disk import open_regular
from jtr_lightning.errors import DataError

REMEMBER_FROM = 100_000
"""Trees with fewer files are looked through anew each time, which takes well under a second."""

_VERSION = 3
_THREADS = 16  # most of the time is waiting for the file system
_MOST_COLUMNS = 64  # bits of TreeIndex.present
_SETTLED_NS = 2_000_000_000  # file systems note times as coarsely as this


@dataclass(frozen=True)
class TreeIndex:
    """The samples of a tree, sorted by building, point and view.

    Attributes:
        root: The tree's folder.
        layout: How its folders are named.
        buildings: Names of the buildings, ``[number]``.
        columns: Domain and end of the file name of each bit of ``present``.
        building: Position in ``buildings``, int32 ``[N]``.
        point: int32 ``[N]``.
        view: int32 ``[N]``.
        present: One bit for each column, uint64 ``[N]``: whether that file exists.
        strays: The files that belong to no sample.
        elsewhere: Folders of images below the root that are laid out in another way, whose samples are not found.
    """

    root: Path
    layout: Layout
    buildings: tuple[str, ...]
    columns: tuple[tuple[str, str], ...]
    building: NDArray[np.int32]
    point: NDArray[np.int32]
    view: NDArray[np.int32]
    present: NDArray[np.uint64]
    strays: tuple[Strays, ...] = ()
    elsewhere: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.point)

    def name(self, index: int) -> str:
        """``<building>/point_<i>_view_<j>``."""
        return f"{self.buildings[self.building[index]]}/point_{self.point[index]}_view_{self.view[index]}"

    @property
    def domains(self) -> list[str]:
        """Every domain of which there is a file."""
        return sorted({domain for domain, _ in self.columns})

    def has(self, domain: str) -> NDArray[np.bool_]:
        """Which samples have a file of a domain, bool ``[N]``."""
        bits = sum(1 << bit for bit, (name, _) in enumerate(self.columns) if name == domain)
        return np.asarray((self.present & np.uint64(bits)) != 0)

    def path(self, index: int, domain: str) -> Path:
        """The file of a domain of a sample.

        Raises:
            DataError: There is none.
        """
        present = int(self.present[index])
        for bit, (name, end) in enumerate(self.columns):
            if name == domain and present >> bit & 1:
                building = self.buildings[self.building[index]]
                folder = self.layout.folder.format(building=building, domain=domain)
                return self.root / folder / f"point_{self.point[index]}_view_{self.view[index]}{end}"
        raise DataError(
            f"The sample '{self.name(index)}' in '{self.root}' should have a file of '{domain}'; found none."
        )

    def take(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> TreeIndex:
        """Some of the samples, by a mask or by numbers."""
        return replace(
            self,
            building=self.building[which],
            point=self.point[which],
            view=self.view[which],
            present=self.present[which],
        )

    def without(self, buildings: Sequence[str]) -> TreeIndex:
        """All samples but those of some buildings."""
        left = [name not in buildings for name in self.buildings]
        number = np.cumsum(left, dtype=np.int32) - 1
        kept = self.take(np.array(left)[self.building])
        names = tuple(name for name, stays in zip(self.buildings, left, strict=True) if stays)
        strays = tuple(found for found in self.strays if found.building not in buildings)
        return replace(kept, buildings=names, building=number[kept.building], strays=strays)

    def find(self, views: Sequence[tuple[str, int, int]]) -> NDArray[np.int64]:
        """Numbers of samples by building, point and view; -1 where there is no such sample."""
        starts = np.searchsorted(self.building, np.arange(len(self.buildings) + 1))
        keys = self.point * np.int64(VIEW_KEYS) + self.view
        rows: dict[str, list[int]] = {}
        for row, (building, _, _) in enumerate(views):
            rows.setdefault(building, []).append(row)
        found = np.full(len(views), -1, np.int64)
        for i, name in enumerate(self.buildings):
            chosen = rows.get(name, [])
            own = keys[starts[i] : starts[i + 1]]
            wanted = np.array([views[row][1] * VIEW_KEYS + views[row][2] for row in chosen], np.int64)
            at = np.searchsorted(own, wanted).clip(max=len(own) - 1)
            found[chosen] = np.where(own[at] == wanted, starts[i] + at, -1)
        return found


def open_tree(
    root: Path,
    image_domain: str = "rgb",
    may_be_void: Sequence[str] = ("segment_semantic",),
    keep_in_tree: bool = True,
) -> TreeIndex:
    """Finds all samples of a tree, or remembers them from last time.

    What a large tree holds (``REMEMBER_FROM`` files and more) is kept in ``<root>/.jtr_index.npz``, or in the user's
    cache folder where the tree cannot be written to. It is used only as long as the tree has the same folders and none
    of them has changed since, by the time of its last change: a file that comes or goes is seen, one that is written
    anew in its place is not. That matters only where a file that meant 'no label' (see ``may_be_void``) has become a
    label; remove the remembered file then.

    Args:
        root: The tree's folder, in any of ``taskonomy_layouts.LAYOUTS``.
        image_domain: The domain of the images. Only views that have one are samples.
        may_be_void: Domains in which a file under 100 bytes that is no picture means 'no label', as the authors' code
            takes it (StanfordVL/taskonomy: taskbank/lib/data/load_ops.py).
        keep_in_tree: Whether what was found may be kept in the tree itself; else it goes to the user's cache folder.

    Returns:
        The index.

    Raises:
        DataError: The folder is missing, holds no such tree, or two files of one view.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        layout, folders, elsewhere = look(root, image_domain, pool)
        times = list(pool.map(lambda folder: (root / folder.path).stat().st_mtime_ns, folders))
        key = _fingerprint(layout, image_domain, may_be_void, folders, times)
        for place in _places(root):
            known = _load(place, root, layout, key, folders)
            if known is not None:
                return replace(known, elsewhere=tuple(elsewhere))
        index, files = _scan(root, layout, folders, image_domain, frozenset(may_be_void), pool)
    settled = (
        max(times) < time.time_ns() - _SETTLED_NS
    )  # else a file may have come after we looked, at the same time
    if files >= REMEMBER_FROM and settled:
        in_tree, in_cache = _places(root)
        _save((in_tree, in_cache) if keep_in_tree else (in_cache,), index, key)
    return replace(index, elsewhere=tuple(elsewhere))


def _scan(
    root: Path,
    layout: Layout,
    folders: Sequence[ViewFolder],
    image_domain: str,
    may_be_void: frozenset[str],
    pool: ThreadPoolExecutor,
) -> tuple[TreeIndex, int]:
    """Looks into all folders; also gives the number of files."""
    from tqdm import tqdm

    def scan(folders: list[ViewFolder]) -> BuildingFiles:
        return scan_building(root, folders, image_domain, may_be_void)

    groups = [list(group) for _, group in groupby(folders, key=lambda folder: folder.building)]
    bar = tqdm(pool.map(scan, groups), total=len(groups), desc="Indexing", unit="building", disable=None)
    scanned = list(bar)
    buildings = [building for building in scanned if len(building.keys)]
    columns = sorted({column for building in buildings for column in building.bits})
    if len(columns) > _MOST_COLUMNS:
        raise DataError(
            f"The tree '{root}' should have at most {_MOST_COLUMNS} kinds of files; found {len(columns)}, among them "
            f"{columns[:3]}. Keep other files elsewhere."
        )
    keys = np.concatenate([building.keys for building in buildings])
    present = np.zeros(len(keys), np.uint64)
    start = 0
    for building in buildings:
        end = start + len(building.keys)
        for column, exists in building.bits.items():
            present[start:end] |= exists.astype(np.uint64) << np.uint64(columns.index(column))
        start = end
    index = TreeIndex(
        root=root,
        layout=layout,
        buildings=tuple(building.name for building in buildings),
        columns=tuple(columns),
        building=np.repeat(np.arange(len(buildings), dtype=np.int32), [len(b.keys) for b in buildings]),
        point=(keys // VIEW_KEYS).astype(np.int32),
        view=(keys % VIEW_KEYS).astype(np.int32),
        present=present,
        strays=tuple(strays for building in scanned for strays in building.strays),
    )
    return index, sum(building.files for building in scanned)


# Remembering


def _fingerprint(
    layout: Layout,
    image_domain: str,
    may_be_void: Sequence[str],
    folders: Sequence[ViewFolder],
    times: Sequence[int],
) -> str:
    """Changes with anything that the index depends on, short of looking into the folders."""
    digest = hashlib.sha256(repr((_VERSION, layout.name, image_domain, sorted(may_be_void))).encode())
    for folder, changed in zip(folders, times, strict=True):
        digest.update(f"\n{folder.path}\0{changed}".encode())
    return digest.hexdigest()


def _places(root: Path) -> tuple[Path, Path]:
    """Where an index may be kept, best first."""
    from platformdirs import user_cache_path

    name = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:16]
    return root / ".jtr_index.npz", user_cache_path(
        "jtr_lightning", appauthor=False
    ) / "indexes" / f"{name}.npz"


def _save(places: Sequence[Path], index: TreeIndex, key: str) -> None:
    """Writes the index to the first place that lets us; without one it is made anew next time."""
    for place in places:
        unfinished = place.with_name(f"{place.name}.{os.getpid()}")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                np.savez(
                    file,
                    key=np.array(key),
                    buildings=np.array(index.buildings),
                    columns=np.array(index.columns),
                    building=index.building,
                    point=index.point,
                    view=index.view,
                    present=index.present,
                    strays=np.array(index.strays, dtype=str).reshape(-1, len(Strays._fields)),
                )
            unfinished.replace(place)
            return
        except OSError:
            unfinished.unlink(missing_ok=True)


def _load(
    place: Path, root: Path, layout: Layout, key: str, folders: Sequence[ViewFolder]
) -> TreeIndex | None:
    """A remembered index; None where there is none, it is of another state of the tree, or it cannot be of this tree.

    Whoever can write into the tree can write the file as well, key and all: nothing in it is taken for a path that is
    not among the folders that were found just now.
    """
    try:
        with open_regular(place) as file, np.load(file, allow_pickle=False) as known:
            if str(known["key"]) != key:
                return None
            index = TreeIndex(
                root=root,
                layout=layout,
                buildings=tuple(known["buildings"].tolist()),
                columns=tuple((domain, end) for domain, end in known["columns"].tolist()),
                **{name: known[name] for name in ("building", "point", "view", "present")},
                strays=tuple(
                    Strays(building, domain, int(number), first)
                    for building, domain, number, first in known["strays"].tolist()
                ),
            )
        return index if _is_possible(index, folders) else None
    except Exception:  # a damaged archive may raise anything; the index is made anew
        return None


def _is_possible(index: TreeIndex, folders: Sequence[ViewFolder]) -> bool:
    """Whether an index names nothing but files that the folders may hold."""
    numbered = (index.building, index.point, index.view)
    number = index.point.size
    if number == 0 or any(array.shape != (number,) for array in (*numbered, index.present)):
        return False
    if index.present.dtype != np.uint64 or any(array.dtype != np.int32 for array in numbered):
        return False
    names = set(index.buildings) <= {folder.building for folder in folders}
    columns = all(VIEW_FILE.fullmatch(f"point_0_view_0{end}") for _, end in index.columns) and {
        domain for domain, _ in index.columns
    } <= {folder.domain for folder in folders}
    numbers = (
        min(array.min() for array in numbered) >= 0
        and index.building.max() < len(index.buildings)
        and int(index.present.max()) >> len(index.columns) == 0
    )
    keys = index.point * np.int64(VIEW_KEYS) + index.view
    further = np.diff(index.building)
    in_order = ((further > 0) | ((further == 0) & (np.diff(keys) > 0))).all()
    return bool(names and columns and numbers and in_order)
