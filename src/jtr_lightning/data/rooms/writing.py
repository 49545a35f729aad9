"""Writes rooms to disk, in parallel and as a whole or not at all.

A layout (``layouts.Layout``) decides which files a room becomes; everything else (which rooms there are, worker
processes, the lock, the atomic rename, the description ``rooms.json``) is common to all layouts.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any
from uuid import uuid4

import cv2

from jtr_lightning.data.rooms.layouts import SPLITS, Layout, Room, RoomRecord, TaskonomyLayout
from jtr_lightning.data.rooms.rendering import render
from jtr_lightning.data.rooms.scene import CLASS_NAMES, ROOM_TYPES, Scene
from jtr_lightning.disk import read_object
from jtr_lightning.errors import ConfigError, DataError

VERSION = 2
"""Raised whenever the same parameters would give other files."""

INFO_FILE = "rooms.json"
_ROOMS_PER_BUILDING = 25
_SPLIT_STRIDE = 1_000_000  # numbers of scenes that belong to one split


@dataclass(frozen=True)
class RoomsSpec:
    """Which rooms to make. The same spec gives the same bytes.

    The splits are disjoint buildings of different scenes, and one split does not depend on the size of another: the
    first 100 training rooms are the same whether there are 100 or 1000.

    Args:
        train: Number of rooms for training.
        val: Number of rooms for validation.
        test: Number of rooms for testing.
        height: Height of the pictures in pixels.
        width: Width of the pictures in pixels.
        seed: Another seed gives other rooms.

    Raises:
        ConfigError: A number is out of range.
    """

    train: int = 400
    val: int = 60
    test: int = 60
    height: int = 128
    width: int = 160
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least, most in (
            *((split, 0, _SPLIT_STRIDE) for split in SPLITS),
            ("height", 8, 4096),
            ("width", 8, 4096),
            ("seed", 0, 2**32 - 1),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(
                    f"Parameter `{name}` of Rooms should be from {least} to {most}; found {value}."
                )
        if not self.train + self.val + self.test:
            raise ConfigError(
                "Rooms should have at least one room; found 0 in each of `train`, `val` and `test`."
            )

    @property
    def folder_name(self) -> str:
        """A folder name that tells these rooms from those of any other spec or version."""
        counts = "-".join(str(getattr(self, split)) for split in SPLITS)
        return f"rooms-v{VERSION}-seed{self.seed}-{self.height}x{self.width}-{counts}"

    def rooms(self) -> Iterator[Room]:
        """All rooms, split by split."""
        for number, split in enumerate(SPLITS):
            for point in range(getattr(self, split)):
                building = f"rooms_{split}_{point // _ROOMS_PER_BUILDING:04d}"
                yield Room(split, building, point, number * _SPLIT_STRIDE + point)


def describe(spec: RoomsSpec, layout: Layout) -> dict[str, Any]:
    """What ``rooms.json`` says of a dataset."""
    return {
        "version": VERSION,
        "layout": layout.name,
        **asdict(spec),
        "classes": list(CLASS_NAMES),
        "room_types": list(ROOM_TYPES),
        "coding": dict(layout.coding),
    }


def spec_in(folder: Path) -> RoomsSpec:
    """Which rooms a folder says it holds.

    Args:
        folder: A folder that ``make_rooms`` made.

    Returns:
        Its spec; the default where the folder does not say it, of which ``is_complete`` tells.
    """
    try:
        info = read_object(folder / INFO_FILE)
        return RoomsSpec(**{field.name: info[field.name] for field in fields(RoomsSpec)})
    except (OSError, ValueError, KeyError, TypeError):
        return RoomsSpec()


def is_complete(folder: Path, spec: RoomsSpec, layout: Layout) -> bool:
    """Whether the folder holds exactly these rooms; False where there is nothing yet.

    Raises:
        DataError: The folder holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    remedy = "Choose another folder, or remove this one to make the rooms anew."
    try:
        found = read_object(folder / INFO_FILE)
    except (OSError, ValueError):
        raise DataError(
            f"A folder for Rooms should be new, empty or written by jtr-lightning; found '{folder}' without a readable "
            f"{INFO_FILE}. {remedy}"
        ) from None
    expected = describe(spec, layout)
    if found.get("layout") != layout.name:  # from which the coding follows
        expected = {"layout": layout.name}
    differing = [key for key, value in expected.items() if found.get(key) != value]
    if differing:
        differences = ", ".join(f"{key} {found.get(key)!r} instead of {expected[key]!r}" for key in differing)
        if set(differing) <= set(asdict(spec)):
            remedy = (
                "Choose another folder, or take these rooms: RoomsDataModule reads from the folder which ones it holds "
                "if it is given no size, numbers and seed of rooms."
            )
        raise DataError(f"The rooms in '{folder}' are not those asked for: found {differences}. {remedy}")
    return True


def make_rooms(
    folder: Path,
    spec: RoomsSpec,
    layout: Layout | None = None,
    workers: int | None = None,
    progress: bool = True,
    start_method: str | None = None,
) -> Path:
    """Makes the rooms in a folder, once.

    Everything is written to a hidden folder beside it, which is renamed when it is whole; a lock lets one process
    write while others that want the same wait.

    Args:
        folder: Where the dataset shall be.
        spec: Which rooms.
        layout: How they look on disk; Taskonomy's classic layout by default.
        workers: Number of processes; by default one per core that may be used.
        progress: Show a progress bar on a terminal.
        start_method: How processes start (``fork``, ``spawn`` ...); Python's default, as for a loader's workers.

    Returns:
        The folder.

    Raises:
        DataError: The folder holds something else, or cannot be written.
    """
    from filelock import FileLock

    layout = TaskonomyLayout() if layout is None else layout
    folder = folder.expanduser().absolute()
    if is_complete(folder, spec, layout):  # needs no lock: a folder appears as a whole, and may be read-only
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = folder.parent / f".{folder.name}.lock"
        with FileLock(lock):
            if not is_complete(folder, spec, layout):
                prefix = f".{folder.name}.unfinished-"
                # What a killed process left behind: whoever is alive holds the lock.
                for left in filter(lambda path: path.name.startswith(prefix), folder.parent.iterdir()):
                    shutil.rmtree(left, ignore_errors=True)
                unfinished = folder.parent / f"{prefix}{uuid4().hex}"
                try:
                    _write(unfinished, spec, layout, workers, progress, start_method)
                    unfinished.replace(folder)
                finally:
                    shutil.rmtree(unfinished, ignore_errors=True)
            # Whoever waits for it, or for a new one of its name, finds the folder complete.
            with contextlib.suppress(OSError):
                lock.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(
            f"Rooms should be written to '{folder}', but that failed: {error}. Choose a folder that is writable and "
            "has room."
        ) from error
    except BrokenProcessPool as error:
        raise DataError(
            f"Every worker that makes rooms for '{folder}' should live to its end, but one died, often for lack of "
            "memory or because the script starts processes outside `if __name__ == '__main__':`. Try `workers=1`."
        ) from error
    return folder


def _write(
    folder: Path,
    spec: RoomsSpec,
    layout: Layout,
    workers: int | None,
    progress: bool,
    start_method: str | None,
) -> None:
    from tqdm import tqdm

    rooms = list(spec.rooms())
    make = partial(_make_room, folder, spec, layout)
    if workers is None:
        workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bar = partial(
        tqdm, total=len(rooms), desc="Making rooms", unit="room", disable=None if progress else True
    )
    if min(workers, len(rooms)) <= 1:
        records = list(bar(map(make, rooms)))
    else:
        context = get_context(start_method)
        with ProcessPoolExecutor(workers, context, initializer=_start_worker) as pool:
            records = list(bar(pool.map(make, rooms, chunksize=4)))
    layout.write_index(folder, records)
    (folder / INFO_FILE).write_text(json.dumps(describe(spec, layout), indent=2) + "\n", encoding="utf-8")


def _start_worker() -> None:
    cv2.setNumThreads(0)  # its threads do not survive a fork, and would fight over the cores
    parent = parent_process()
    if parent is not None:

        def end_with_parent() -> None:
            parent.join()
            os._exit(1)  # the parent was killed: nobody is left to wait for this worker

        threading.Thread(target=end_with_parent, daemon=True).start()


def _make_room(folder: Path, spec: RoomsSpec, layout: Layout, room: Room) -> RoomRecord:
    labels = render(Scene.random(spec.seed, room.scene), spec.height, spec.width)
    layout.write_room(folder, room, labels)
    return RoomRecord(room, ROOM_TYPES[labels["room_type"]], labels["camera_pitch"])
