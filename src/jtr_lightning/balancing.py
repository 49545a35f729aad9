"""How the tasks' losses become one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.tasks import Task


class Balancing(Described, nn.Module, ABC):
    """Joins the tasks' supervised losses. Built for tasks by ``PartialLabelModule``."""

    def build(self, tasks: Mapping[str, Task]) -> Balancing:
        """Makes what depends on the tasks; returns itself."""
        del tasks
        return self

    @abstractmethod
    def forward(self, losses: Tensor, available: Tensor) -> Tensor:
        """The supervised loss.

        Args:
            losses: ``[B, K]``, exactly 0 where there is no label.
            available: bool ``[B, K]``.

        Returns:
            Scalar with a gradient path to every loss.
        """


class FixedWeights(Balancing):
    """``(1/B) sum_b sum_k w_k l_bk``: the loss of a sample does not depend on its batch.

    Args:
        weights: Task name to weight; 1 for a task that is not named.
    """

    weight: Tensor

    def __init__(self, weights: dict[str, float] | None = None) -> None:
        super().__init__()
        self.weights = weights or {}

    def build(self, tasks: Mapping[str, Task]) -> FixedWeights:
        for name, value in self.weights.items():
            if name not in tasks:
                raise ConfigError(
                    f"Parameter `weights` of FixedWeights should name tasks; found '{name}', "
                    f"{did_you_mean(name, tasks)}"
                )
            if value < 0:
                raise ConfigError(
                    f"A weight of FixedWeights should be at least 0; found {value} for '{name}'."
                )
        weight = torch.tensor([float(self.weights.get(name, 1.0)) for name in tasks])
        self.register_buffer("weight", weight, persistent=False)
        return self

    def forward(self, losses: Tensor, available: Tensor) -> Tensor:
        del available
        return (losses * self.weight).sum(1).mean()
