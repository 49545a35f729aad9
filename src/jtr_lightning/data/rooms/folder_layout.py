"""Rooms as anybody's own folder of images and labels: one folder per task, files matched by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from jtr_lightning.data.rooms.layouts import Layout, Room, RoomRecord, encode_normal, write_csv, write_png


class FolderLayout(Layout):
    """``images``, ``segmentation``, ``depth``, ``normals`` with ``<id>.png``; ``splits.csv`` and ``labels.csv``."""

    name = "folder"
    coding: ClassVar[Mapping[str, str]] = {
        "images": "8-bit RGB",
        "segmentation": "8-bit class id",
        "depth": "16-bit millimetres; 0 is undefined",
        "normals": "8-bit RGB, 127.5 * (n + 1), x right, y down, z into the scene; (128, 128, 128) is undefined",
        "splits.csv": "id, split",
        "labels.csv": "id, room_type, camera_pitch in degrees",
    }

    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        millimetres = np.clip(np.rint(1000 * np.nan_to_num(labels["depth_zbuffer"])), 0, 65535)
        files = {
            "images": labels["image"],
            "segmentation": labels["segmentation"],
            "depth": millimetres.astype(np.uint16),
            "normals": encode_normal(labels["normal"]),
        }
        for kind, array in files.items():
            write_png(folder / kind / f"{self._id(room)}.png", array)

    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        write_csv(folder / "splits.csv", "id,split", [f"{self._id(r.room)},{r.room.split}" for r in records])
        rows = [f"{self._id(r.room)},{r.room_type},{r.camera_pitch:.4f}" for r in records]
        write_csv(folder / "labels.csv", "id,room_type,camera_pitch", rows)

    @staticmethod
    def _id(room: Room) -> str:
        return f"{room.split}_{room.point:05d}"
