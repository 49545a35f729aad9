"""How the tasks' losses become one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError, check_number, did_you_mean
from jtr_lightning.tasks import Task


class Balancing(Described, nn.Module, ABC):
    """Joins the tasks' supervised losses. Built for tasks by ``PartialLabelModule``."""

    def build(self, tasks: Mapping[str, Task]) -> Balancing:
        """Makes what depends on the tasks; returns itself.

        Raises:
            ConfigError: A parameter does not fit the tasks.
        """
        del tasks
        return self

    @abstractmethod
    def forward(self, losses: Tensor, available: Tensor) -> Tensor:
        """The supervised loss.

        Args:
            losses: ``[B, K]``, exactly 0 where there is no label.
            available: Which labels there are that have a valid place, bool ``[B, K]``.

        Returns:
            Scalar with a gradient path to every loss.
        """

    def end_epoch(self, means: Sequence[float]) -> None:
        """Told at the end of each training epoch.

        Args:
            means: Each task's mean loss over its labelled samples of the epoch, over all ranks; NaN for a task that
                had none.
        """

    def backward(self, loss: Tensor, losses: Tensor, available: Tensor, parameters: Sequence[Tensor]) -> None:
        """Fills the gradients; a method that works on the tasks' gradients does it here.

        Args:
            loss: The whole loss, terms of a regularizer included.
            losses: The tasks' losses ``[B, K]`` behind it, on the same scale.
            available: As in ``forward``.
            parameters: The network's parameters.
        """
        del losses, available, parameters
        loss.backward()  # type: ignore[no-untyped-call]


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
            check_number(f"weights['{name}']", value)
            if not 0 <= value < math.inf:
                raise ConfigError(
                    f"A weight of FixedWeights should be at least 0 and finite; found {value} for '{name}'."
                )
        weight = torch.tensor([float(self.weights.get(name, 1.0)) for name in tasks])
        self.register_buffer("weight", weight, persistent=False)
        return self

    def forward(self, losses: Tensor, available: Tensor) -> Tensor:
        del available
        return (losses * self.weight).sum(1).mean()


class UncertaintyWeighting(Balancing):
    """Learned weights: ``(1/B) sum_b sum_{k in S_b} (exp(-s_k) l_bk + s_k / 2)`` with a learned ``s_k`` per task.

    Kendall, Gal and Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses" (CVPR 2018), with ``s_k`` the
    logarithm of the variance and the factor 1/2 of regression losses left to the loss. Only labelled pairs count: a
    task without a label in a step adds neither its loss nor its ``s_k``, so that its weight stays as it is.

    Args:
        initial: ``s_k`` at the start; 0 gives every task the weight 1.

    Raises:
        ConfigError: ``initial`` is no finite number.
    """

    log_variance: nn.Parameter

    def __init__(self, initial: float = 0.0) -> None:
        super().__init__()
        check_number("initial", initial)
        if not math.isfinite(initial):
            raise ConfigError(
                f"Parameter `initial` of UncertaintyWeighting should be finite; found {initial}."
            )
        self.initial = initial

    def build(self, tasks: Mapping[str, Task]) -> UncertaintyWeighting:
        self.log_variance = nn.Parameter(torch.full((len(tasks),), float(self.initial)))
        return self

    def forward(self, losses: Tensor, available: Tensor) -> Tensor:
        per_pair = losses * (-self.log_variance).exp() + available * self.log_variance / 2
        return per_pair.sum(1).mean()


class DynamicWeightAverage(Balancing):
    """Weights by how fast each task still learns: ``w_k = K softmax_k(r_k / T)``, ``r_k = L_k(t-1) / L_k(t-2)``.

    Liu, Johns and Davison, "End-to-End Multi-Task Learning with Attention" (CVPR 2019), equation 7. ``L_k(t)`` is the
    mean over the labelled samples of epoch ``t``. The weights are 1 in the first two epochs; a task without a label
    in an epoch keeps its last two means, and one that never had two counts as ``r_k = 1``.

    Args:
        temperature: ``T``; the larger, the more even the weights.

    Raises:
        ConfigError: ``temperature`` is not above 0.
    """

    means: Tensor
    weight: Tensor

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        check_number("temperature", temperature)
        if not temperature > 0:
            raise ConfigError(f"Parameter `temperature` should be above 0; found {temperature}.")
        self.temperature = temperature

    def build(self, tasks: Mapping[str, Task]) -> DynamicWeightAverage:
        self.register_buffer("means", torch.full((2, len(tasks)), float("nan")))
        self.register_buffer("weight", torch.ones(len(tasks)))
        return self

    def forward(self, losses: Tensor, available: Tensor) -> Tensor:
        del available
        return (losses * self.weight).sum(1).mean()

    def end_epoch(self, means: Sequence[float]) -> None:
        for k, mean in enumerate(means):
            if not math.isnan(mean):
                self.means[:, k] = torch.tensor([float(self.means[1, k]), mean])
        ratio = (self.means[1] / self.means[0]).nan_to_num(nan=1.0, posinf=1.0)
        self.weight.copy_(len(means) * (ratio / self.temperature).softmax(0))
