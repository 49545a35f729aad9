"""The optimizer of a module's parts, and learning rates that follow a schedule of their own beside it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from jtr_lightning.errors import ConfigError

Steps = tuple[int, float]
"""``(step_size, gamma)``: the learning rate is multiplied by gamma after every step_size epochs."""
MakeOptimizer = Callable[[Iterable[Any]], Optimizer]
"""Makes an optimizer from groups of parameters."""
MakeSchedule = Callable[[Optimizer], LRScheduler]
"""Makes a schedule of an optimizer, stepped once per epoch."""

_NEVER = sys.maxsize
"""After how many epochs Lightning steps a schedule that waits for the score: it does not, see ``show_score``."""


class _GroupSteps(LRScheduler):
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
        ConfigError: The optimizer or the schedule refuses an argument; or the schedule would divide by 0, wait for the
            score to fall, or undo schedules of single groups.
    """
    steps: dict[int, Steps] = {
        number: group["steps"] for number, group in enumerate(groups) if "steps" in group
    }
    plain = [{key: value for key, value in group.items() if key != "steps"} for group in groups]
    try:
        optimizer = torch.optim.Adam(plain, lr=1e-4) if make is None else make(plain)
    except ValueError as error:
        raise ConfigError(
            f"The optimizer should be given arguments that it takes; found: {error}. Give others with "
            "--model.optimizer."
        ) from error
    # Before there is a schedule, which may change them at once.
    rates = {number: optimizer.param_groups[number]["lr"] for number in steps}
    try:
        schedules = [] if schedule is None else [schedule(optimizer)]
    except ValueError as error:
        raise ConfigError(
            f"The learning-rate schedule should be given arguments that it takes; found: {error}. Give others with "
            "--model.lr_scheduler."
        ) from error
    for made in schedules:
        _check(made, alone=not steps)
    if steps:
        schedules.append(_GroupSteps(optimizer, rates, steps))
    return optimizer, schedules


def stepping(schedule: LRScheduler, trainer: L.Trainer | None) -> LRScheduler | dict[str, Any]:
    """How Lightning is told of a schedule: to step it after each epoch, or not if the module shows it each validation.

    Lightning itself would show it the validation behind the epoch's checkpoints. They would not have that step, and a
    training that goes on from one would never make it.

    Args:
        schedule: The schedule.
        trainer: Says when there is a validation; None for one at the end of each epoch.

    Raises:
        ConfigError: The schedule looks at the validation, but there is none at the end of an epoch.
    """
    if not isinstance(schedule, ReduceLROnPlateau):
        return schedule
    every = 1 if trainer is None else trainer.check_val_every_n_epoch
    if trainer is not None and (
        every is None
        or trainer.val_check_interval != 1
        or isinstance(trainer.val_check_interval, int)  # after every batch
        or not trainer.limit_val_batches
    ):
        raise ConfigError(
            "A training with ReduceLROnPlateau should have a validation at the end of every or every n-th epoch, whose "
            f"val/score it looks at; found check_val_every_n_epoch={every}, val_check_interval="
            f"{trainer.val_check_interval}, limit_val_batches={trainer.limit_val_batches} of the trainer."
        )
    # The score is a mean of logarithms: a difference is a relative improvement, and 0 is nothing to be relative to.
    schedule.threshold_mode = "abs"
    return {"scheduler": schedule, "monitor": "val/score", "frequency": _NEVER}


def show_score(module: L.LightningModule, score: float | None) -> None:
    """Steps the schedules of ``stepping`` that wait for ``val/score``, at the end of a validation.

    Args:
        module: The module that is trained, or measured, which steps none.
        score: None where there is none.

    Raises:
        ConfigError: There is such a schedule, but no score.
    """
    trainer = module.trainer
    if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or not module.automatic_optimization:
        return
    for config in trainer.lr_scheduler_configs:
        if not isinstance(config.scheduler, ReduceLROnPlateau) or config.frequency != _NEVER:
            continue
        if score is None:
            raise ConfigError(
                "A training with ReduceLROnPlateau should have a val/score to look at; found no label with a valid "
                "place in the validation set. Give it some, or another --model.lr_scheduler."
            )
        module.lr_scheduler_step(config.scheduler, score)


def training_steps(trainer: L.Trainer) -> float:
    """Steps of the optimizer in a whole training, with accumulated batches that change from epoch to epoch, too.

    Args:
        trainer: When it has begun to train, so that its loader is open.

    Returns:
        Their number; infinite for a training without an end, or one whose loader has no length and that has an end by
        epochs alone.
    """
    estimate = float(trainer.estimated_stepping_batches)
    if estimate < 0:
        return math.inf
    changing = [c for c in trainer.callbacks if isinstance(c, GradientAccumulationScheduler)]  # type: ignore[attr-defined]
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    if not changing or math.isinf(batches) or epochs is None or epochs < 0:
        return estimate
    # Lightning's estimate takes the first epoch's number of batches for all.
    steps = sum(
        math.ceil(batches / changing[0].get_accumulate_grad_batches(epoch)) for epoch in range(epochs)
    )
    return float(steps if trainer.max_steps < 0 else min(steps, trainer.max_steps))


def _check(schedule: LRScheduler, alone: bool) -> None:
    name = type(schedule).__name__
    for length in ("step_size", "T_max"):
        if getattr(schedule, length, 1) < 1:
            raise ConfigError(
                f"Parameter `{length}` of {name}, a number of epochs, should be at least 1; found "
                f"{getattr(schedule, length)}."
            )
    if not isinstance(schedule, ReduceLROnPlateau):
        return
    if schedule.mode != "max":
        raise ConfigError(
            "Parameter `mode` of ReduceLROnPlateau should be 'max', since it is shown val/score, of which more is "
            f"better; found '{schedule.mode}'. Add --model.lr_scheduler.mode max"
        )
    if not alone:
        raise ConfigError(
            "ReduceLROnPlateau should be the only schedule, since it changes every learning rate after the others; "
            "found parameters with a schedule of their own. Add --model.regularizer.film_step_size null (MTPSL)."
        )
