"""Folders of a user's own data with seeded values, and their data module."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)

HEIGHT, WIDTH = 10, 14
NUMBER = 30
TASKS: dict[str, Task] = {
    "segmentation": Segmentation(4),
    "depth": Depth(),
    "normals": Normals(),
    "albedo": DenseRegression(3),
    "room": Classification(["kitchen", "office"]),
    "pitch": Regression(unit="deg"),
}


def save(path: Path, array: np.ndarray) -> None:
    """Writes an array in the form that the file's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, array)
    elif path.suffix == ".tiff" or array.dtype == np.uint16:
        assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    else:
        Image.fromarray(array).save(path)


def values(kind: str, i: int) -> np.ndarray:
    rng = np.random.default_rng([i, len(kind)])
    if kind == "segmentation":
        return rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (HEIGHT, WIDTH))
    if kind == "depth":
        return rng.choice(np.array([0, 500, 4200], np.uint16), (HEIGHT, WIDTH))
    if kind == "normals":
        vectors = rng.normal(size=(HEIGHT, WIDTH, 3))
        return np.rint(127.5 * (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) + 1)).astype(
            np.uint8
        )
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write(
    root: Path, kinds: tuple[str, ...] = ("images", "segmentation", "depth", "normals", "albedo")
) -> Path:
    """Every image has most labels; every third lacks the depth and every fifth the room."""
    for i in range(NUMBER):
        for kind in kinds:
            if kind != "depth" or i % 3:
                save(root / kind / f"{i:03d}.png", values(kind, i))
    rows = [f"{i:03d},{'' if i % 5 == 0 else ('kitchen', 'office')[i % 2]},{i / 2}" for i in range(NUMBER)]
    (root / "labels.csv").write_text("\n".join(["id,room,pitch", *rows]))
    return root


def folder(root: Path, *tasks: str, **changes: Any) -> FolderDataModule:
    chosen = {name: TASKS[name] for name in tasks or TASKS}
    changes.setdefault("scales", {"depth": 0.001} if "depth" in chosen else None)
    return FolderDataModule(root, chosen, **changes)


def everything(data: FolderDataModule) -> list[str]:
    return sorted(name for split in ("train", "val", "test") for name in data.source(split).names())
