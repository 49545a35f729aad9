"""Rooms as a LightningDataModule: made on first use, then read from disk like Taskonomy."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.base import Split
from jtr_lightning.data.codings import ClassIds, Levels
from jtr_lightning.data.dataset import OnError
from jtr_lightning.data.rooms.layouts import IMAGE_LABELS_FILE, TaskonomyLayout
from jtr_lightning.data.rooms.scene import CLASS_NAMES, ROOM_TYPES
from jtr_lightning.data.rooms.writing import INFO_FILE, RoomsSpec, is_complete, make_rooms, spec_in
from jtr_lightning.data.tables import read_image_labels
from jtr_lightning.data.taskonomy import TaskonomyDataModule, TaskonomySource
from jtr_lightning.data.taskonomy_domains import Domain, known_domains
from jtr_lightning.errors import DataError, height_and_width
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


def _depth() -> Task:
    # Mean and standard deviation over all defined pixels of the first 400 rooms of seed 0, at 128 x 160.
    return Depth(mean=2.7, std=0.8, display_range=(0.0, 6.0))


class RoomsSource(TaskonomySource):
    """Some rooms; each type of room is a domain of its own."""

    def domains(self) -> NDArray[np.int64]:
        """The type of each room, a position in ``ROOM_TYPES``."""
        # Not the label of the task ``room_type``: the type is known whether that task is trained or not.
        path = self.index.root / IMAGE_LABELS_FILE
        rooms, values = read_image_labels(
            path, ("building", "point", "view"), {"room_type": Classification(list(ROOM_TYPES))}
        )
        names = [f"{building}/point_{point}_view_{view}" for building, point, view in rooms]
        types = dict(zip(names, values["room_type"][:, 0].astype(np.int64), strict=True))
        return np.array([types[self.name(i)] for i in range(len(self))], dtype=np.int64)


class RoomsDataModule(TaskonomyDataModule):
    """Procedural indoor scenes with exact labels for ten tasks, for trying everything without a download.

    The rooms are made once, into a folder whose name tells seed, size and numbers, and read from there afterwards.
    The same parameters give the same bytes on one kind of machine. Training, validation and test rooms are disjoint.

    Tasks: ``segmentation`` (12 classes), ``depth`` (metres), ``normals`` (x right, y down, z into the scene),
    ``edge_texture``, ``edge_occlusion``, ``keypoints2d``, ``reshading`` (0 to 1) and ``principal_curvature`` (-1 to 1,
    for 1/(3 cm)) as Taskonomy defines them, and for the whole image ``room_type`` and ``camera_pitch`` (degrees,
    positive looks down). A window has no depth, normals, reshading and curvature: it looks out to nothing. The type of
    a room is its domain as well.

    Args:
        root: A folder in which rooms are made and kept, the user's cache folder by default; or the folder of rooms
            that were made by hand (``jtr data make rooms``).
        tasks: Names of the tasks above, or names with tasks; segmentation, depth and normals by default.
        scenario: Which training labels may be used; all by default.
        seed: Seed of the scenario, the order and the augmentation.
        batch_size: Samples per batch and device.
        num_workers: Loader processes.
        size: Height and width of the rendered images. None here and below: as in the folder of rooms made by hand, else
            128 and 160.
        augmentation: What to do to training images; None for nothing.
        on_error: What to do about an unreadable file, see ``PartialLabelDataModule``.
        num_train: Number of rooms for training; None for 400.
        num_val: Number of rooms for validation; None for 60.
        num_test: Number of rooms for testing; None for 60.
        rooms_seed: Seed of the rooms themselves, None for 0; another seed gives other rooms.
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
        size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        on_error: OnError = "raise",
        num_train: int | None = None,
        num_val: int | None = None,
        num_test: int | None = None,
        rooms_seed: int | None = None,
        make_workers: int | None = None,
    ) -> None:
        cache = platformdirs.user_cache_path("jtr_lightning", appauthor=False)
        folder = cache if root is None else Path(root).expanduser()
        by_hand = (folder / INFO_FILE).exists()
        height, width = (None, None) if size is None else height_and_width("size", size)
        asked = {"train": num_train, "val": num_val, "test": num_test, "seed": rooms_seed}
        asked |= {"height": height, "width": width}
        spec = replace(
            spec_in(folder) if by_hand else RoomsSpec(),
            **{name: value for name, value in asked.items() if value is not None},
        )
        super().__init__(
            root=folder if by_hand else folder / spec.folder_name,
            tasks=tasks,
            scenario=scenario,
            seed=seed,
            batch_size=batch_size,
            num_workers=num_workers,
            size=(spec.height, spec.width),
            augmentation=augmentation,
            on_error=on_error,
        )
        self.spec = spec
        self.make_workers = make_workers

    def known_domains(self, depth_scale: float) -> dict[str, Domain]:
        """Taskonomy's own under names without jargon, with the classes and the holes of Rooms."""
        shared = known_domains(depth_scale)
        # Gradients per pixel are steeper in a smaller picture: clipped where Taskonomy's are, most edges would be 1.
        texture, occlusion = (Levels(0.0, 1.0, maximum=share * 65535) for share in (0.2, 0.02))
        return {
            "segmentation": Domain(
                "segment_semantic", ClassIds(first=1), lambda: Segmentation(list(CLASS_NAMES))
            ),
            "depth": Domain("depth_zbuffer", shared["depth_zbuffer"].coding, _depth),
            "normals": Domain("normal", shared["normal"].coding, Normals),
            "reshading": Domain("reshading", Levels(0.0, 1.0, invalid=13), DenseRegression),
            "edge_texture": Domain("edge_texture", texture, DenseRegression),
            "edge_occlusion": Domain("edge_occlusion", occlusion, DenseRegression),
            "keypoints2d": shared["keypoints2d"],
            "principal_curvature": shared["principal_curvature"],
        }

    def known_tasks(self) -> dict[str, Task]:
        return {
            **super().known_tasks(),
            "room_type": Classification(list(ROOM_TYPES)),
            "camera_pitch": Regression(unit="deg", scale=10.0, mean=14.0),
        }

    def prepare_data(self) -> None:
        """Makes the rooms unless they are there."""
        make_rooms(self.root, self.spec, workers=self.make_workers)

    def require_data(self) -> None:
        if is_complete(self.root, self.spec, TaskonomyLayout()):
            super().require_data()
            return
        # Rooms by hand are complete or refused, so these would be in a folder of their own below the one given: or in
        # that itself, where it holds nothing else.
        given = self.root.parent
        place = self.root if given.is_dir() and any(given.iterdir()) else given
        spec = self.spec
        raise DataError(
            f"The folder '{place}' should hold rooms; found none. Make them with `jtr data make rooms --out "
            f"{shlex.quote(str(place))} --num {spec.train} --num_val {spec.val} --num_test {spec.test} --size "
            f"{spec.height} {spec.width} --seed {spec.seed}`."
        )

    def source(self, split: Split) -> RoomsSource:
        if not is_complete(self.root, self.spec, TaskonomyLayout()):
            raise DataError(
                f"The rooms should be made before they are read; found none in '{self.root}'. Call `prepare_data()` "
                "first (the Trainer does), on every machine if the folder is not shared."
            )
        if not getattr(self.spec, split):
            raise DataError(f"The split '{split}' should have rooms; found `num_{split}` = 0. Ask for some.")
        source = super().source(split)
        return RoomsSource(source.index, source.tasks, source.values, source.image_domain)
