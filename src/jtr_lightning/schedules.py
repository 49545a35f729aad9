"""Learning rates that follow a schedule of their own beside the optimizer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Steps = tuple[int, float]
"""``(step_size, gamma)``: the learning rate is multiplied by gamma after every step_size epochs."""


class GroupSteps(LRScheduler):
    """``lr gamma**(epoch // step_size)`` for single groups of an optimizer, whatever its other schedules do to them.

    To be stepped after the optimizer's other schedules, which set the learning rates of all groups.

    Args:
        optimizer: The optimizer.
        rates: Number of a group to its learning rate in the first epoch.
        steps: Number of a group to its steps, for the same groups.
    """

    def __init__(self, optimizer: Optimizer, rates: Mapping[int, float], steps: Mapping[int, Steps]) -> None:
        self.rates = dict(rates)
        self.steps = dict(steps)
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """The groups' learning rates in this epoch; those of other groups are left as they are."""
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for number, (step_size, gamma) in self.steps.items():
            rates[number] = self.rates[number] * gamma ** (self.last_epoch // step_size)
        return rates
