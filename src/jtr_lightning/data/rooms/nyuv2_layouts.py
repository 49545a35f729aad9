"""Rooms in the forms in which people have NYU-v2, to try its loader and configs before having the data.

Labels are exact but for one thing: the authors' file has no normals, and the loader computes them with NYU's camera,
while each room has its own.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from jtr_lightning.data.hdf5 import create_hdf5
from jtr_lightning.data.nyuv2_depth_only import depth_of
from jtr_lightning.data.nyuv2_mat import CLASSES_13, CLASSES_40, MAT_NAME, NAMES
from jtr_lightning.data.rooms.layouts import Layout, Room, RoomRecord, write_png
from jtr_lightning.data.rooms.scene import CLASS_NAMES
from jtr_lightning.data.source import Array

_NAME_IN_13 = {"cabinet": "furniture", "lamp": "objects", "vase": "objects"}
_NAME_IN_40 = {"vase": "otherprop"}


def _ids(classes: Sequence[str], names: Mapping[str, str]) -> Array:
    """For each class of Rooms the id of the class that stands for it."""
    return np.array([classes.index(names.get(name, name)) for name in CLASS_NAMES])


def save_npy(path: Path, array: Array) -> None:
    """Writes an array and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


class NYUv2NpyLayout(Layout):
    """The preprocessed arrays: ``{train,val}/{image,label,depth,normal}/<i>.npy``."""

    name = "nyuv2"
    splits = ("train", "val")
    coding: ClassVar[Mapping[str, str]] = {
        "image": "float32, RGB in [0, 1]",
        "label": "float32, class id 0..12 of NYU-v2's 13",
        "depth": "float32 [H, W, 1], metres; 0 is undefined",
        "normal": "float32 [H, W, 3], unit length, x right, y down, z into the scene; (0, 0, 0) is undefined",
    }

    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        arrays = {
            "image": labels["image"].astype(np.float32) / 255,
            "label": _ids(CLASSES_13, _NAME_IN_13)[labels["segmentation"]].astype(np.float32),
            "depth": np.nan_to_num(labels["depth_zbuffer"])[..., None],
            "normal": np.nan_to_num(labels["normal"]),
        }
        for kind, array in arrays.items():
            save_npy(folder / room.split / kind / f"{room.point}.npy", array)

    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        del folder, records  # nothing beside the arrays


class NYUv2MatLayout(Layout):
    """The authors' ``nyu_depth_v2_labeled.mat`` with ``splits.mat`` and a ``classMapping40.mat`` of its own.

    That mapping is not the published one: label k belongs to class (k - 1) % 40 + 1.
    """

    name = "nyuv2_mat"
    splits = ("train", "val")
    coding: ClassVar[Mapping[str, str]] = {
        "images": "uint8 [N, 3, W, H]",
        "labels": "uint16 [N, W, H], 1..894; 0 is unlabelled",
        "depths, rawDepths": "float32 [N, W, H], metres; 0 is undefined",
    }
    _parts = "parts"

    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        # One file cannot be written by several processes, so each room waits in a file of its own.
        path = folder / self._parts / f"{room.split}_{room.point}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        depth = np.nan_to_num(labels["depth_zbuffer"]).T
        classes = _ids(CLASSES_40, _NAME_IN_40)[labels["segmentation"]]
        spread = len(CLASSES_40) * (room.point % (NAMES // len(CLASSES_40)))
        np.savez(
            path,
            images=labels["image"].transpose(2, 1, 0),
            labels=(1 + classes.T + spread).astype(np.uint16),
            depths=depth,
            rawDepths=depth,
        )

    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        from scipy.io import savemat

        with create_hdf5(folder / MAT_NAME) as file:
            for number, record in enumerate(records):
                part = folder / self._parts / f"{record.room.split}_{record.room.point}.npz"
                with np.load(part) as arrays:
                    for key, array in arrays.items():
                        if number == 0:
                            shape = (len(records), *array.shape)
                            file.create_dataset(key, shape, array.dtype, chunks=(1, *array.shape))
                        file[key][number] = array
        shutil.rmtree(folder / self._parts)
        numbers = {
            split: [i for i, record in enumerate(records, 1) if record.room.split == split]
            for split in self.splits
        }
        columns = {
            key: np.array(numbers[split], np.uint16)[:, None]
            for key, split in (("trainNdxs", "train"), ("testNdxs", "val"))
        }
        savemat(folder / "splits.mat", columns)
        classes = (np.arange(NAMES) % len(CLASSES_40) + 1).astype(np.uint8)
        savemat(folder / "classMapping40.mat", {"mapClass": classes[None]})


class NYUv2H5Layout(Layout):
    """Depth-only frames: ``train/<building>/<n>.h5`` with ``rgb`` and ``depth``."""

    name = "nyuv2_h5"
    splits = ("train",)
    coding: ClassVar[Mapping[str, str]] = {
        "rgb": "uint8 [3, H, W]",
        "depth": "float32 [H, W], metres; 0 is undefined",
    }

    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        path = folder / room.split / room.building / f"{room.point:05d}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        with create_hdf5(path) as file:
            file["rgb"] = labels["image"].transpose(2, 0, 1)
            file["depth"] = np.nan_to_num(labels["depth_zbuffer"])

    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        del folder, records  # the loader looks


class NYUv2SyncLayout(Layout):
    """Depth-only frames: ``<building>/rgb_<n>.jpg``, ``sync_depth_<n>.png``, and the list ``train_files.txt``."""

    name = "nyuv2_sync"
    splits = ("train",)
    coding: ClassVar[Mapping[str, str]] = {
        "rgb": "JPEG",
        "sync_depth": "16-bit millimetres; 0 is undefined",
    }

    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        image = folder / self._image(room)
        write_png(depth_of(image), np.rint(1000 * np.nan_to_num(labels["depth_zbuffer"])).astype(np.uint16))
        _, data = cv2.imencode(".jpg", labels["image"][..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
        image.write_bytes(data.tobytes())

    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        images = [self._image(record.room) for record in records]
        # The third column is a focal length; the published list has the same one in every row.
        rows = [f"/{image.as_posix()} /{depth_of(image).as_posix()} 518.8579" for image in images]
        (folder / "train_files.txt").write_text("\n".join(rows), encoding="utf-8")

    @staticmethod
    def _image(room: Room) -> Path:
        return Path(room.building) / f"rgb_{room.point:05d}.jpg"
