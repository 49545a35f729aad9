"""A dataset of a few pixels with labels that can be learnt, and a regularizer, for tests of what surrounds them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.scenarios import BoolArray
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)
from tests.toy import ToyNetwork

__all__ = ["Agreement", "Albedo", "TinyData", "ToyNetwork", "tiny_tasks"]

SIZE = (8, 10)


class Albedo(DenseRegression):
    """A task of a user's own, by subclassing."""

    def __init__(self) -> None:
        super().__init__(channels=3, unit="reflectance")


def tiny_tasks() -> dict[str, Task]:
    return {
        "segmentation": Segmentation(["floor", "wall", "chair"]),
        "depth": Depth(),
        "normals": Normals(),
        "edges": DenseRegression(),
        "room": Classification(["kitchen", "office"]),
        "pitch": Regression(unit="deg"),
    }


class TinySource(SampleSource):
    """Noise whose labels follow from the brightness of each pixel."""

    def __init__(self, number: int, seed: int, broken: str) -> None:
        self.number = number
        self.seed = seed
        self.broken = broken

    def __len__(self) -> int:
        return self.number

    def name(self, index: int) -> str:
        return f"building/sample_{index}"

    def on_disk(self, tasks: Sequence[str]) -> BoolArray:
        return np.ones((self.number, len(tasks)), dtype=bool)

    def read_image(self, index: int) -> Array:
        return (self._values(index) * np.array([250, 120, 60])).astype(np.uint8)

    def read_label(self, index: int, task: str) -> Array:
        values = self._values(index).astype(np.float32)
        if self.broken == "id" and task == "segmentation":
            return np.full(SIZE, 7, dtype=np.int16)
        if self.broken == "size" and task == "depth":
            return np.ones((SIZE[0], SIZE[1] + 1), dtype=np.float32)
        x = 2 * values - 1
        labels: dict[str, Array] = {
            "segmentation": (values[..., 0] * 2.99).astype(np.int16),
            "depth": 4 * values[..., 0] + 0.1,
            "normals": np.concatenate([x, 0 * x, np.sqrt(1 - x**2)], -1),
            "edges": values,
            "albedo": values.repeat(3, -1),
            "room": np.array(index % 2),
            "pitch": np.array(float(index)),
        }
        return labels[task]

    def _values(self, index: int) -> Array:
        return np.random.default_rng([self.seed, index]).random((*SIZE, 1))


class TinyData(PartialLabelDataModule):
    """Six tasks, images of 8x10 pixels, no file.

    Args:
        number: Samples of each split.
        broken: ``size`` or ``id`` makes labels that cannot be used.
        root: Not read.
        batch_size: Samples per batch.
        **kwargs: Those of PartialLabelDataModule.
    """

    default_tasks = ("segmentation", "depth", "normals")

    def __init__(
        self, number: int = 6, broken: str = "", root: str | Path = ".", batch_size: int = 2, **kwargs: Any
    ) -> None:
        super().__init__(root, batch_size=batch_size, **kwargs)
        self.number = number
        self.broken = broken

    def known_tasks(self) -> dict[str, Task]:
        return tiny_tasks()

    def source(self, split: Split) -> SampleSource:
        return TinySource(self.number, ("train", "val", "test").index(split), self.broken)


class Agreement(Regularizer):
    """Wants the predictions of a noisy view to agree with those of a view without a gradient.

    Args:
        weight: Weight of the term.
    """

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.scale = nn.Parameter(torch.ones(()))

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        image = batch.image + 0.01 * torch.randn_like(batch.image)
        noisy = Batch(image, batch.labels, batch.available, batch.domain, batch.index)
        return (View(batch, grad=False), View(noisy))

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        terms = [(predictions[1][n] - predictions[2][n]).square().mean() for n in predictions[0]]
        return {"agreement": self.weight * self.scale.square() * torch.stack(terms).sum()}
