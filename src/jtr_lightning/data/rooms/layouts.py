"""How rooms look on disk. A layout is a class that writes one room and, at the end, what is common to all."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from jtr_lightning.data.source import Array

SPLITS = ("train", "val", "test")
IMAGE_LABELS_FILE = "image_labels.csv"


@dataclass(frozen=True)
class Room:
    """One room of the dataset: its place in the files and the number of its scene."""

    split: str
    building: str
    point: int
    scene: int
    view: int = 0


@dataclass(frozen=True)
class RoomRecord:
    """What a layout's index may say of a written room."""

    room: Room
    room_type: str
    camera_pitch: float


class Layout(ABC):
    """How rooms look on disk. It is sent to worker processes.

    Attributes:
        name: Name of the layout.
        coding: What each kind of file holds, for people; goes into ``rooms.json``.
        splits: The splits that the layout has a place for.
    """

    name: ClassVar[str]
    coding: ClassVar[Mapping[str, str]]
    splits: ClassVar[tuple[str, ...]] = SPLITS

    @abstractmethod
    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        """Writes one room.

        Args:
            folder: The dataset's folder.
            room: Where the room belongs.
            labels: What ``rendering.render`` returned.
        """

    @abstractmethod
    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        """Writes what is common to all rooms: lists, splits, image-level labels."""


def write_png(path: Path, array: Array) -> None:
    """Writes a grey or RGB picture, uint8 or uint16, and its folder."""
    ordered = array[..., ::-1] if array.ndim == 3 else array
    _, data = cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, 2])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def write_csv(path: Path, header: str, rows: Sequence[str]) -> None:
    """Writes a table whose rows are already joined by commas."""
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")


def _filled(values: Array, where: Array, fill: int, dtype: type) -> Array:
    coded: Array = np.where(where, np.float32(fill), np.rint(values)).astype(dtype)
    return coded


def encode_depth(metres: Array) -> Array:
    """16-bit depth in 1/512 m; 65535 where it is undefined."""
    undefined = np.isnan(metres)
    return _filled(np.clip(np.where(undefined, 0, metres) * 512, 0, 65534), undefined, 65535, np.uint16)


def encode_normal(normal: Array) -> Array:
    """8-bit RGB normals, 127.5 for 0; (128, 128, 128) where they are undefined."""
    return _filled(127.5 * (np.nan_to_num(normal) + 1), np.isnan(normal), 128, np.uint8)


def encode_curvature(curvature: Array) -> Array:
    """8-bit RGB: both principal curvatures, clipped to +-1/0.03 m and brought to 0..254, and 0; 0 where undefined."""
    scaled = 127 * (1 + np.clip(0.03 * np.nan_to_num(curvature), -1, 1))
    coded = _filled(scaled, np.isnan(curvature), 0, np.uint8)
    return np.concatenate([coded, np.zeros_like(coded[..., :1])], axis=-1)


def encode_reshading(reshading: Array) -> Array:
    """8-bit RGB of equal channels, at least 14; 13 where it is undefined, as in Taskonomy."""
    undefined = np.isnan(reshading)
    grey = _filled(np.clip(255 * np.where(undefined, 0, reshading), 14, 255), undefined, 13, np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def encode_share(share: Array) -> Array:
    """16-bit grey, 65535 for 1."""
    coded: Array = np.rint(65535 * share).astype(np.uint16)
    return coded


class TaskonomyLayout(Layout):
    """The classic Taskonomy layout: ``<building>/<domain>/point_<i>_view_<j>_domain_<domain>.png``.

    Beside the buildings stand ``train_val_test_rooms.csv`` (Taskonomy's split format) and ``image_labels.csv``
    (building, point, view, room_type, camera_pitch in degrees).
    """

    name = "taskonomy"
    coding: ClassVar[Mapping[str, str]] = {
        "rgb": "8-bit RGB",
        "segment_semantic": "8-bit, class id + 1; 0 is uncertain",
        "depth_zbuffer": "16-bit, 1/512 m to the camera plane; 65535 is undefined",
        "normal": "8-bit RGB, 127.5 * (n + 1), x right, y down, z into the scene; (128, 128, 128) is undefined",
        "principal_curvature": "8-bit RGB, 127 * (1 + 0.03 m * k) for k1 >= k2 in R and G; (0, 0, 0) is undefined",
        "reshading": "8-bit RGB of equal channels, 255 * value, at least 14; 13 is undefined",
        "edge_texture": "16-bit, 65535 * value",
        "edge_occlusion": "16-bit, 65535 * value",
        "keypoints2d": "16-bit, 65535 * value",
    }
    encoders: ClassVar[Mapping[str, tuple[str, Callable[[Array], Array]]]] = {
        "rgb": ("image", np.asarray),
        "segment_semantic": ("segmentation", lambda ids: ids + 1),
        "depth_zbuffer": ("depth_zbuffer", encode_depth),
        "normal": ("normal", encode_normal),
        "principal_curvature": ("principal_curvature", encode_curvature),
        "reshading": ("reshading", encode_reshading),
        "edge_texture": ("edge_texture", encode_share),
        "edge_occlusion": ("edge_occlusion", encode_share),
        "keypoints2d": ("keypoints2d", encode_share),
    }

    @staticmethod
    def file(room: Room, domain: str) -> Path:
        """The file of a domain of a room, below the dataset's folder."""
        return Path(room.building, domain, f"point_{room.point}_view_{room.view}_domain_{domain}.png")

    def write_room(self, folder: Path, room: Room, labels: dict[str, Any]) -> None:
        for domain, (label, encode) in self.encoders.items():
            write_png(folder / self.file(room, domain), encode(labels[label]))

    def write_index(self, folder: Path, records: Sequence[RoomRecord]) -> None:
        rows = [
            f"{r.room.building},{r.room.point},{r.room.view},{r.room_type},{r.camera_pitch:.4f}"
            for r in records
        ]
        write_csv(folder / IMAGE_LABELS_FILE, "building,point,view,room_type,camera_pitch", rows)
        splits = {r.room.building: r.room.split for r in records}
        flags = [f"{b},{','.join(str(int(split == s)) for s in SPLITS)}" for b, split in splits.items()]
        write_csv(folder / "train_val_test_rooms.csv", f"id,{','.join(SPLITS)}", flags)
