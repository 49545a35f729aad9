"""A small dataset of ``.npy`` files with three dense tasks and an image-level one, and its data module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import DataError
from jtr_lightning.tasks import Depth, Normals, Regression, Segmentation, Task

NUMBER = {"train": 7, "val": 5, "test": 3}
HEIGHT, WIDTH = 24, 32


def write_tiny(root: Path) -> Path:
    """Writes ``root/<split>/<kind>/<i>.npy``; sample 1 of each split has no depth, a fifth of the pixels no label."""
    for split, number in NUMBER.items():
        rng = np.random.default_rng(number)
        for kind in ("image", "segmentation", "depth", "normals", "pitch"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for i in range(number):
            invalid = rng.random((HEIGHT, WIDTH)) < 0.2
            normals = rng.normal(size=(HEIGHT, WIDTH, 3))
            normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
            arrays = {
                "image": rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8),
                "segmentation": np.where(invalid, -1, rng.integers(0, 4, (HEIGHT, WIDTH))),
                "depth": np.where(invalid, 0, rng.uniform(0.5, 9, (HEIGHT, WIDTH))).astype(np.float32)[
                    ..., None
                ],
                "normals": np.where(invalid[..., None], 0, normals).astype(np.float32),
                "pitch": rng.normal(size=1).astype(np.float32),
            }
            for kind, array in arrays.items():
                if (kind, i) != ("depth", 1):
                    np.save(root / split / kind / f"{i}.npy", array)
    return root


class TinySource(SampleSource):
    def __init__(self, root: Path, split: str) -> None:
        self.folder = root / split
        self.number = len(list((self.folder / "image").glob("*.npy")))

    def __len__(self) -> int:
        return self.number

    def name(self, index: int) -> str:
        return f"{self.folder.name}/{index}"

    def on_disk(self, tasks: Sequence[str]) -> Array:
        return np.array([[self._path(t, i).is_file() for t in tasks] for i in range(len(self))], dtype=bool)

    def read_image(self, index: int) -> Array:
        return self._read("image", index)

    def read_label(self, index: int, task: str) -> Array:
        return self._read(task, index)

    def _path(self, kind: str, index: int) -> Path:
        return self.folder / kind / f"{index}.npy"

    def _read(self, kind: str, index: int) -> Array:
        path = self._path(kind, index)
        try:
            return np.load(path)
        except (EOFError, ValueError) as error:
            raise DataError(f"The file '{path}' should be a NumPy array; it could not be read.") from error


class TinyDataModule(PartialLabelDataModule):
    def known_tasks(self) -> dict[str, Task]:
        return {
            "segmentation": Segmentation(4),
            "depth": Depth(),
            "normals": Normals(),
            "pitch": Regression(unit="deg"),
        }

    def source(self, split: Split) -> SampleSource:
        return TinySource(self.root, split)
