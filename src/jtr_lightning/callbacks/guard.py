"""What happens when a loss is NaN or infinite."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Literal, NamedTuple, get_args

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.errors import ConfigError, TrainingError
from jtr_lightning.module import PartialLabelModule, StepLosses

OnNonFinite = Literal["stop", "skip"]

MOST_PENDING = 16
"""Steps on a GPU after which the oldest check is waited for."""
MOST_NAMES = 5
"""Samples that a message names."""

_log = logging.getLogger(__name__)


class _Check(NamedTuple):
    """A step on a device whose result is on its way to the host."""

    step: int
    epoch: int
    losses: StepLosses
    finite: Tensor
    arrived: torch.cuda.Event


class NonFiniteGuard(L.Callback):
    """Looks whether each step's loss is finite, and names the task and the samples where it is not.

    ``stop`` ends the training: on the CPU before the step changes anything; on a GPU, which is never waited for, some
    steps later (at most 16), but before any checkpoint is written, so that none ever holds weights of such a step.
    ``skip`` leaves out the optimizer step, also where the loss is finite and its gradient is not, reports it, and
    counts it in ``train/skipped_steps``; for that it waits for the device in each step.

    Args:
        on_nonfinite: ``stop`` or ``skip``.
        patience: Skipped steps in a row after which the training ends all the same.

    Attributes:
        skipped: Optimizer steps that were left out so far.

    Raises:
        ConfigError: A parameter has no such value.
    """

    def __init__(self, on_nonfinite: OnNonFinite = "stop", patience: int = 100) -> None:
        if on_nonfinite not in get_args(OnNonFinite):
            raise ConfigError(f"Parameter `on_nonfinite` should be 'stop' or 'skip'; found '{on_nonfinite}'.")
        if patience < 1:
            raise ConfigError(f"Parameter `patience` should be at least 1; found {patience}.")
        self.on_nonfinite = on_nonfinite
        self.patience = patience
        self.skipped = 0
        self._in_a_row = 0
        self._found: str | None = None
        self._pending: deque[_Check] = deque()
        self._sums: dict[str, Tensor] = {}

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    # Looking

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the epoch's means, to take a skipped step out of them."""
        if self.on_nonfinite == "skip" and isinstance(pl_module, PartialLabelModule):
            self._sums = pl_module.train_losses.sums()

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Looks at the loss, or asks the device to."""
        if not isinstance(pl_module, PartialLabelModule) or pl_module.step_losses is None:
            return
        losses = pl_module.step_losses
        step, epoch = trainer.global_step, trainer.current_epoch
        finite = losses.total.isfinite()
        if self.on_nonfinite == "stop" and finite.is_cuda:
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            on_host = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(finite, non_blocking=True)
            arrived.record()
            self._pending.append(_Check(step, epoch, losses, on_host, arrived))
            self._look(trainer, wait=False)
        elif not finite:
            told = _sentence(trainer, pl_module, losses, step, epoch)
            if self.on_nonfinite == "stop":
                raise TrainingError(f"{told} {_REMEDY}")
            self._found = told
            pl_module.train_losses.go_on(self._sums)

    def _look(self, trainer: L.Trainer, wait: bool) -> None:
        """Takes in the checks that have arrived; all of them if told to wait."""
        while self._pending:
            check = self._pending[0]
            if wait or len(self._pending) > MOST_PENDING:
                check.arrived.synchronize()
            elif not check.arrived.query():  # type: ignore[no-untyped-call]
                return
            self._pending.popleft()
            if not check.finite:
                told = _sentence(trainer, trainer.lightning_module, check.losses, check.step, check.epoch)
                raise TrainingError(f"{told} {_REMEDY}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks at what is left of the epoch."""
        self._look(trainer, wait=True)
        if self.on_nonfinite == "skip":
            pl_module.log("train/skipped_steps", float(self.skipped))

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Looks before anything is kept."""
        self._look(trainer, wait=True)

    # Skipping

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Takes the gradients away where they are of no use: an optimizer passes over a weight without one."""
        if self.on_nonfinite != "skip":
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        found, self._found = self._found, None
        # With 16 bits an overflow of the gradients is usual, and the scaler of the loss answers it itself.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if found is None and not scaled and not _all_finite([p.grad for p in parameters]):
            found = (
                f"The gradient of the loss should be finite; found NaN or infinity in step {trainer.global_step} "
                f"(epoch {trainer.current_epoch})."
            )
        if not trainer.strategy.reduce_boolean_decision(found is not None, all=False):
            self._in_a_row = 0
            return
        for parameter in parameters:
            parameter.grad = None
        self.skipped += 1
        self._in_a_row += 1
        if found is not None:
            _log.warning("%s The step is skipped (%d so far).", found, self.skipped)
        if self._in_a_row >= self.patience:
            raise TrainingError(
                f"Fewer than {self.patience} steps in a row should be skipped; found as many (parameter `patience`). "
                f"The last: {found or 'on another process.'}"
            )


_REMEDY = (
    "Look at these samples with jtr data check, lower the learning rate or the term's weight, or leave such steps out: "
    "--guard.on_nonfinite skip."
)


def _all_finite(gradients: list[Tensor]) -> bool:
    return all(bool(gradient.isfinite().all()) for gradient in gradients)


def _sentence(
    trainer: L.Trainer, module: L.LightningModule, losses: StepLosses, step: int, epoch: int
) -> str:
    """What is not finite, in which step, for which task and samples."""
    wrong = []
    index = losses.index.tolist()
    tasks = module.tasks if isinstance(module, PartialLabelModule) else {}
    for name, column in zip(tasks, losses.tasks.isfinite().T.tolist(), strict=True):
        samples = [_name(trainer, i) for i, finite in zip(index, column, strict=True) if not finite]
        if samples:
            more = f" and {len(samples) - MOST_NAMES} more" if len(samples) > MOST_NAMES else ""
            wrong.append(f"task '{name}' at the samples {', '.join(samples[:MOST_NAMES])}{more}")
    wrong += [
        f"the regularizer's term '{name}'" for name, term in losses.terms.items() if not term.isfinite()
    ]
    if not wrong:
        names = ", ".join(_name(trainer, i) for i in index[:MOST_NAMES])
        wrong = [f"the weighted sum of finite losses, at the samples {names}"]
    return (
        f"The loss should be finite; found {float(losses.total):g} in step {step} (epoch {epoch}), from "
        f"{'; '.join(wrong)}."
    )


def _name(trainer: L.Trainer, index: int) -> str:
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, PartialLabelDataModule) and "train" in data.datasets:
        return f"'{data.datasets['train'].source.name(index)}'"
    return f"number {index}"
