"""Rooms in the forms in which people have Cityscapes, to try its loader and configs before having the data.

Indoor classes stand for outdoor ones (the floor is the road, a cabinet a building ...), and a room is taken for ten
times its size, so that its disparities are those of a street.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jtr_lightning.data.cityscapes_official import CLASSES_19, ID_OF_CLASS, class_table
from jtr_lightning.data.rooms.layouts import Layout, Room, RoomRecord, write_png
from jtr_lightning.data.rooms.nyuv2_layouts import save_npy
from jtr_lightning.data.rooms.scene import CLASS_NAMES
from jtr_lightning.data.source import Array

STAND_INS = {
    "wall": "building", "floor": "road", "ceiling": "sky", "window": "traffic light", "picture": "traffic sign",
    "table": "car", "chair": "bicycle", "sofa": "bus", "bed": "truck", "cabinet": "wall", "lamp": "pole",
    "vase": "person",
}  # fmt: skip
"""The Cityscapes class that each class of Rooms is written as."""

ENLARGED = 10.0
BASELINE = 0.209313  # metres, as usual in the dataset's camera files
FOCAL_LENGTH = 2262.52  # pixels of the full width


def label_ids(segmentation: Array) -> Array:
    """Cityscapes' label ids, uint8 ``[H, W]``."""
    ids = [ID_OF_CLASS[CLASSES_19.index(STAND_INS[name])] for name in CLASS_NAMES]
    return np.array(ids, dtype=np.uint8)[segmentation]


def disparity_steps(depth: Array) -> Array:
    """The 16-bit disparity coding: 256 steps per pixel, plus 1; 0 where the depth is undefined."""
    undefined = np.isnan(depth)
    disparity = BASELINE * FOCAL_LENGTH / (ENLARGED * np.where(undefined, 1, depth))
    steps = np.clip(np.rint(256 * disparity) + 1, 1, 65535)
    return np.asarray(np.where(undefined, 0, steps).astype(np.uint16))


class CityscapesLayout(Layout):
    """The official files, below ``leftImg8bit``, ``gtFine``, ``disparity`` and ``camera``."""

    name = "cityscapes"
    coding: ClassVar[Mapping[str, str]] = {
        "leftImg8bit": "8-bit RGB",
        "gtFine": "8-bit label ids",
        "disparity": "16-bit, 256 * disparity + 1; 0 is undefined",
        "camera": f"baseline in metres and fx in pixels, for depths of {ENLARGED:g} times the room's",
    }

    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        city = room.building.replace("_", "")
        stem = f"{city}_{room.point:06d}_000019"

        def place(kind: str, ending: str) -> Path:
            return folder / kind / room.split / city / f"{stem}_{ending}"

        write_png(place("leftImg8bit", "leftImg8bit.png"), labels["image"])
        write_png(place("gtFine", "gtFine_labelIds.png"), label_ids(labels["segmentation"]))
        write_png(place("disparity", "disparity.png"), disparity_steps(labels["depth_zbuffer"]))
        camera = {"extrinsic": {"baseline": BASELINE}, "intrinsic": {"fx": FOCAL_LENGTH, "fy": FOCAL_LENGTH}}
        path = place("camera", "camera.json")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(camera), encoding="utf-8")

    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        del folder, records  # nothing beside the files


class CityscapesNpyLayout(Layout):
    """The preprocessed arrays: ``{train,val}/{image,label_2,label_7,label_19,depth}/<i>.npy``."""

    name = "cityscapes_npy"
    splits = ("train", "val")
    coding: ClassVar[Mapping[str, str]] = {
        "image": "float32, RGB in [0, 1]",
        "label_k": "float32, class id 0..k-1",
        "depth": "float32 [H, W, 1], (256 * disparity + 1) / 65535; 0 is undefined",
    }

    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        ids = label_ids(labels["segmentation"])
        arrays = {
            "image": labels["image"].astype(np.float32) / 255,
            "depth": disparity_steps(labels["depth_zbuffer"]).astype(np.float32)[..., None] / 65535,
            **{f"label_{k}": class_table(k)[ids].astype(np.float32) for k in (2, 7, 19)},
        }
        for kind, array in arrays.items():
            save_npy(folder / room.split / kind / f"{room.point}.npy", array)

    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        del folder, records  # nothing beside the arrays
