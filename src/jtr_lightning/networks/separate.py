"""One network per task: single-task training (STL) as one network among others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from jtr_lightning.networks.base import Network
from jtr_lightning.tasks import Task


class SeparateNetworks(Network):
    """Gives every task a whole network of its own, so that no task learns from another's labels.

    Trained without a regularizer, this is single-task learning: each network's loss sees its own task's labelled
    samples alone, with the same number of steps as every other method, and one checkpoint and one table hold all
    tasks. Its BatchNorm layers do see the images of all samples.

    Args:
        network: The network to make one of for each task; not yet built.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        # Kept out of the module's children: only its copies are trained.
        object.__setattr__(self, "prototype", network)

    def make_layers(self, tasks: Mapping[str, Task]) -> None:
        prototype: Network = object.__getattribute__(self, "prototype")
        self.networks = nn.ModuleDict(
            {name: copy.deepcopy(prototype).build({name: task}) for name, task in tasks.items()}
        )

    @property
    def feature_channels(self) -> list[int]:
        """Those of the first task's network."""
        return cast(Network, next(iter(self.networks.values()))).feature_channels

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        raw: dict[str, Tensor] = {}
        features: list[Tensor] = []
        for name, network in self.networks.items():
            own, own_features = network(image)
            raw[name] = own[name]
            features = features or own_features
        return raw, features
