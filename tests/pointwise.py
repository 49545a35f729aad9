"""A network whose every prediction follows from the colour of the same pixel, so that results are known in advance."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.base import Network
from jtr_lightning.tasks import Classification, Depth, Normals, Regression, Segmentation, Task


class PointNetwork(Network):
    """Segmentation by red against green, depth 1 + red, normals by the colour, image-level tasks the mean colour.

    Args:
        column: Added to the depth for each pixel from the left.
    """

    def __init__(self, column: float = 0.0) -> None:
        super().__init__()
        self.column = column
        self.batches: list[tuple[int, ...]] = []

    def make_layers(self, tasks: Mapping[str, Task]) -> None:
        self.scale = nn.Parameter(torch.ones(()))

    @property
    def feature_channels(self) -> list[int]:
        return [3]

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        self.batches.append(tuple(image.shape))
        columns = torch.arange(image.shape[-1], device=image.device) * self.column
        mean = image.mean((2, 3))
        raw = {
            "segmentation": 5 * image[:, :2],
            "depth": 1 + image[:, :1] + columns,
            "disparity": 1 + image[:, :1],
            "normals": image + 0.5,
            "room": mean[:, :2],
            "pitch": mean[:, 2:],
        }
        return {name: self.scale * raw[name] for name in self.tasks}, [image]


def point_tasks() -> dict[str, Task]:
    return {
        "segmentation": Segmentation(["floor", "wall"]),
        "depth": Depth(),
        "disparity": Depth(inverse=True, unit="1/m"),
        "normals": Normals(),
        "room": Classification(["kitchen", "office"]),
        "pitch": Regression(unit="deg"),
    }


def point_module(column: float = 0.0, tasks: dict[str, Task] | None = None) -> PartialLabelModule:
    return PartialLabelModule(tasks or point_tasks(), PointNetwork(column)).eval()
