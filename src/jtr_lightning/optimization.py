"""The optimizer of a module's parts, and learning rates that follow a schedule of their own beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from jtr_lightning.errors import ConfigError

Steps = tuple[int, float]
"""``(step_size, gamma)``: the learning rate is multiplied by gamma after every step_size epochs."""


MakeOptimizer = Callable[[Iterable[Any]], Optimizer]
"""Makes an optimizer from groups of parameters."""
MakeSchedule = Callable[[Optimizer], LRScheduler]
"""Makes a schedule of an optimizer, stepped once per epoch."""


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


def make_optimizer(
    groups: Sequence[Mapping[str, Any]], make: MakeOptimizer | None, schedule: MakeSchedule | None
) -> tuple[Optimizer, list[LRScheduler]]:
    """Makes an optimizer and its schedules.

    Args:
        groups: Groups of parameters as ``torch.optim`` takes them; ``steps`` of a group is its own ``Steps``.
        make: Adam with learning rate 1e-4 by default.
        schedule: None for constant learning rates.

    Returns:
        The optimizer, and its schedules in the order in which to step them.

    Raises:
        ConfigError: The optimizer refuses an argument, or the schedule would end in a division by zero or, where it
            looks at the validation score, wait for it to fall.
    """
    steps = {number: group["steps"] for number, group in enumerate(groups) if "steps" in group}
    plain = [{key: value for key, value in group.items() if key != "steps"} for group in groups]
    try:
        optimizer = torch.optim.Adam(plain, lr=1e-4) if make is None else make(plain)
    except ValueError as error:
        raise ConfigError(
            f"The optimizer should be given arguments that it takes; found: {error}. Give others with "
            "--model.optimizer."
        ) from error
    schedules = [] if schedule is None else [_checked(schedule(optimizer))]
    rates = {number: optimizer.param_groups[number]["lr"] for number in steps}
    if steps:
        schedules.append(GroupSteps(optimizer, rates, steps))
    return optimizer, schedules


def stepping(schedule: LRScheduler, epochs: int) -> LRScheduler | dict[str, Any]:
    """How Lightning is told when to step a schedule: after each epoch, or after each validation if it looks at that.

    Args:
        schedule: The schedule.
        epochs: From one validation to the next.
    """
    if not isinstance(schedule, ReduceLROnPlateau):
        return schedule
    return {"scheduler": schedule, "monitor": "val/score", "frequency": epochs}


def _checked(schedule: LRScheduler) -> LRScheduler:
    name = type(schedule).__name__
    for length in ("step_size", "T_max", "T_0"):
        if getattr(schedule, length, 1) < 1:
            raise ConfigError(
                f"Parameter `{length}` of {name}, a number of epochs, should be at least 1; found "
                f"{getattr(schedule, length)}."
            )
    if isinstance(schedule, ReduceLROnPlateau) and schedule.mode != "max":
        raise ConfigError(
            "Parameter `mode` of ReduceLROnPlateau should be 'max', since it is shown val/score, of which more is "
            f"better; found '{schedule.mode}'. Add --model.lr_scheduler.mode max"
        )
    return schedule
