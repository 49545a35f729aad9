"""Small parts that tests build modules from: a network without batch statistics, and data made of numbers."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.networks.base import Network
from jtr_lightning.scenarios import BoolArray, SampleTable, Scenario
from jtr_lightning.tasks import DenseRegression, Depth, Normals, Segmentation, Task

SIZE = (16, 20)


def toy_tasks() -> dict[str, Task]:
    return {
        "segmentation": Segmentation(4),
        "depth": Depth(),
        "normals": Normals(),
        "edges": DenseRegression(2),
    }


class ToyNetwork(Network):
    """One convolution and a linear head per task; samples never mix."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.width = width
        self.encoder = nn.Conv2d(3, width, 3, padding=1)

    def make_layers(self, tasks: Mapping[str, Task]) -> None:
        self.heads = nn.ModuleDict(
            {
                name: nn.Conv2d(self.width, task.channels, 1)
                if task.dense
                else nn.Linear(self.width, task.channels)
                for name, task in tasks.items()
            }
        )

    @property
    def feature_channels(self) -> list[int]:
        return [self.width]

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        feature = self.encoder(image).tanh()
        raw = {
            name: self.heads[name](feature if task.dense else feature.mean((2, 3)))
            for name, task in self.tasks.items()
        }
        return raw, [feature]


class ToySource(SampleSource):
    """Random images and labels that depend on the sample's number alone."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def name(self, index: int) -> str:
        return f"sample_{index}"

    def on_disk(self, tasks: Sequence[str]) -> BoolArray:
        return np.ones((self.number, len(tasks)), dtype=bool)

    def read_image(self, index: int) -> Array:
        return np.random.default_rng(index).integers(0, 256, (*SIZE, 3), dtype=np.uint8)

    def read_label(self, index: int, task: str) -> Array:
        rng = np.random.default_rng([index, len(task)])
        if task == "segmentation":
            return rng.integers(-1, 4, SIZE).astype(np.int16)
        if task == "depth":
            return (4 * rng.random(SIZE) + (rng.random(SIZE) < 0.9)).astype(np.float32)
        values = rng.normal(size=(*SIZE, {"normals": 3, "edges": 2}[task]))
        if task == "normals":
            values /= np.linalg.norm(values, axis=-1, keepdims=True)
        return values.astype(np.float32)


class Given(Scenario):
    """The availability that a test spells out."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        return np.array(self.rows, dtype=bool)


class ToyDataModule(PartialLabelDataModule):
    """Toy samples without any file."""

    def __init__(self, number: int = 8, **kwargs: object) -> None:
        self.number = number
        super().__init__(root=".", **kwargs)  # type: ignore[arg-type]

    def known_tasks(self) -> dict[str, Task]:
        return toy_tasks()

    def source(self, split: Split) -> SampleSource:
        return ToySource(self.number)


def seeded(seed: int = 0) -> None:
    torch.manual_seed(seed)
