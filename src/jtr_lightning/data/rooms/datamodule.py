"""Rooms as a LightningDataModule: made on first use, then read from disk like any other dataset."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.codings import ClassIds, Levels
from jtr_lightning.data.dataset import OnError
from jtr_lightning.data.files import read_image, read_pixels
from jtr_lightning.data.rooms.furniture import CLASS_NAMES
from jtr_lightning.data.rooms.layouts import IMAGE_LABELS_FILE, Room, TaskonomyLayout
from jtr_lightning.data.rooms.scene import ROOM_TYPES
from jtr_lightning.data.rooms.writing import INFO_FILE, RoomsSpec, is_complete, make_rooms
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.data.taskonomy_domains import Domain, known_domains
from jtr_lightning.errors import ConfigError, DataError, did_you_mean
from jtr_lightning.scenarios import Scenario
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)


def dense_domains() -> dict[str, Domain]:
    """The files of each dense task, by the task's name: Taskonomy's own, but with the classes and holes of Rooms.

    Mean and standard deviation of the depth were measured on 400 rooms.
    """
    shared = known_domains()
    return {
        "segmentation": Domain(
            "segment_semantic", ClassIds(first=1), lambda: Segmentation(list(CLASS_NAMES))
        ),
        "depth": Domain(
            "depth_zbuffer",
            shared["depth_zbuffer"].coding,
            lambda: Depth(mean=2.45, std=0.75, display_range=(0.0, 6.0)),
        ),
        "normals": Domain("normal", shared["normal"].coding, Normals),
        "reshading": Domain("reshading", Levels(invalid=13), DenseRegression),
        **{
            name: shared[name]
            for name in ("edge_texture", "edge_occlusion", "keypoints2d", "principal_curvature")
        },
    }


@dataclass(frozen=True)
class ImageLabel:
    """A column of the table of image-level labels.

    Attributes:
        read: Makes the label of the column's text.
        task: Makes the task that predicts it.
    """

    read: Callable[[str], float]
    task: Callable[[], Task]


def image_labels() -> dict[str, ImageLabel]:
    """The image-level tasks, by name, which is the column's."""
    return {
        "room_type": ImageLabel(ROOM_TYPES.index, lambda: Classification(list(ROOM_TYPES))),
        "camera_pitch": ImageLabel(float, lambda: Regression(unit="deg", scale=10.0, mean=14.0)),
    }


class RoomsSource(SampleSource):
    """Reads rooms that were written in the Taskonomy layout.

    Args:
        folder: The dataset's folder.
        rooms: The rooms to read.

    Raises:
        DataError: The table of image-level labels is missing or lacks a room.
    """

    def __init__(self, folder: Path, rooms: Sequence[Room]) -> None:
        self.folder = folder
        self.rooms = list(rooms)
        self._files = {name: (domain.folder, domain.coding) for name, domain in dense_domains().items()}
        self._values = self._image_labels()

    def __len__(self) -> int:
        return len(self.rooms)

    def name(self, index: int) -> str:
        room = self.rooms[index]
        return f"{room.building}/point_{room.point}_view_{room.view}"

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        known = [*self._files, *self._values]
        for task in tasks:
            if task not in known:
                raise ConfigError(f"Rooms have no labels for the task '{task}'; {did_you_mean(task, known)}")
        return np.ones((len(self), len(tasks)), bool)

    def read_image(self, index: int) -> Array:
        return read_image(self._path(index, "rgb"))

    def read_label(self, index: int, task: str) -> Array:
        if task in self._values:
            return np.array(self._values[task][index])
        folder, coding = self._files[task]
        path = self._path(index, folder)
        return coding.decode(read_pixels(path), path)

    def _path(self, index: int, domain: str) -> Path:
        return self.folder / TaskonomyLayout.file(self.rooms[index], domain)

    def _image_labels(self) -> dict[str, list[float]]:
        path = self.folder / IMAGE_LABELS_FILE
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = {(row["building"], row["point"], row["view"]): row for row in csv.DictReader(file)}
            mine = [rows[room.building, str(room.point), str(room.view)] for room in self.rooms]
            return {name: [column.read(row[name]) for row in mine] for name, column in image_labels().items()}
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise DataError(
                f"The table '{path}' should have the room type and the camera's pitch of every room; found "
                f"{type(error).__name__}: {error}. Remove the folder to make the rooms anew."
            ) from error


class RoomsDataModule(PartialLabelDataModule):
    """Procedural indoor scenes with exact labels for ten tasks, for trying everything without a download.

    The rooms are made once, into a folder whose name tells seed, size and numbers, and read from there afterwards.
    The same parameters give the same bytes on one kind of machine. Training, validation and test rooms are disjoint.

    Tasks: ``segmentation`` (12 classes), ``depth`` (metres), ``normals`` (x right, y down, z into the scene),
    ``edge_texture``, ``edge_occlusion``, ``keypoints2d``, ``reshading`` and ``principal_curvature`` as Taskonomy
    defines and scales them, and for the whole image ``room_type`` and ``camera_pitch`` (degrees, positive looks down).
    A window has no depth, normals, reshading and curvature: it looks out to nothing.

    Args:
        root: A folder in which rooms are made and kept, the user's cache folder by default; or the folder of rooms
            made by hand, whose parameters must then be given here, too.
        tasks: Names of the tasks above, or these names with tasks of your own; segmentation, depth and normals by
            default.
        scenario: Which training labels may be used; all by default.
        seed: Seed of the scenario, the order and the augmentation.
        batch_size: Samples per batch and device.
        num_workers: Loader processes.
        size: Height and width of the rendered images.
        augmentation: What to do to training images; None for nothing.
        on_error: What to do about an unreadable file, see ``PartialLabelDataModule``.
        num_train: Number of rooms for training.
        num_val: Number of rooms for validation.
        num_test: Number of rooms for testing.
        rooms_seed: Seed of the rooms themselves; another seed gives other rooms.
        make_workers: Processes that make the rooms; by default one per core.

    Raises:
        ConfigError: A parameter does not fit.
    """

    default_tasks = ("segmentation", "depth", "normals")

    def __init__(
        self,
        root: str | Path | None = None,
        tasks: list[str] | dict[str, Task] | None = None,
        scenario: Scenario | None = None,
        seed: int = 0,
        batch_size: int = 8,
        num_workers: int = 0,
        size: tuple[int, int] = (128, 160),
        augmentation: Augmentation | None = None,
        on_error: OnError = "raise",
        num_train: int = 400,
        num_val: int = 60,
        num_test: int = 60,
        rooms_seed: int = 0,
        make_workers: int | None = None,
    ) -> None:
        super().__init__(
            root=platformdirs.user_cache_path("jtr_lightning", appauthor=False) if root is None else root,
            tasks=tasks,
            scenario=scenario,
            seed=seed,
            batch_size=batch_size,
            num_workers=num_workers,
            augmentation=augmentation,
            on_error=on_error,
        )
        self.spec = RoomsSpec(num_train, num_val, num_test, *size, seed=rooms_seed)
        self.make_workers = make_workers

    @property
    def folder(self) -> Path:
        """Where the rooms are, or will be."""
        return self.root if (self.root / INFO_FILE).exists() else self.root / self.spec.folder_name

    def known_tasks(self) -> dict[str, Task]:
        tasks = {name: domain.task() for name, domain in dense_domains().items() if domain.task is not None}
        return {**tasks, **{name: label.task() for name, label in image_labels().items()}}

    def prepare_data(self) -> None:
        """Makes the rooms unless they are there."""
        make_rooms(self.folder, self.spec, workers=self.make_workers)

    def source(self, split: Split) -> RoomsSource:
        if not is_complete(self.folder, self.spec, TaskonomyLayout()):
            raise DataError(
                f"The rooms should be made before they are read; found none in '{self.folder}'. Call `prepare_data()` "
                "first (the Trainer does), on every machine if the folder is not shared."
            )
        return RoomsSource(self.folder, [room for room in self.spec.rooms() if room.split == split])
