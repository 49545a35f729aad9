"""The progress bar of a training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, RichProgressBar
from rich import get_console

from jtr_lightning.module import PartialLabelModule

NARROW = 120
"""Columns of a terminal below which the tasks' metrics would stand one per line beside the bar."""


class LossBar(RichProgressBar):
    """Lightning's bar with the loss of every ``log_every_n_steps``-th step, and epochs counted from 1.

    A terminal of less than ``NARROW`` columns shows of all metrics the loss and the delta alone, or without a baseline
    the score.

    A metric that is logged with ``prog_bar=True`` is read in every step, bar or no bar, and a GPU is waited for each
    time; this bar reads the loss in the steps whose metrics the loggers read, too.

    Args:
        refresh_rate: Steps between two updates of what is drawn; 0 for no bar.
        leave: Leave the finished bar of each epoch in the terminal.
    """

    def __init__(self, refresh_rate: int = 100, leave: bool = False) -> None:
        super().__init__(refresh_rate, leave)
        self._loss: float | None = None

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reads the loss if it is due, and draws."""
        # Of all steps, not of the epoch's: there may be fewer in an epoch.
        due = trainer.global_step % max(1, trainer.log_every_n_steps) == 0  # type: ignore[attr-defined]
        if due and self.is_enabled and isinstance(pl_module, PartialLabelModule):
            losses = pl_module.step_losses
            self._loss = None if losses is None else float(losses.total)
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        if self._loss is not None:
            metrics = {"train/loss": self._loss, **metrics}
        if get_console().width >= NARROW:
            return metrics
        one = "val/delta" if "val/delta" in metrics else "val/score"
        return {name: value for name, value in metrics.items() if name in ("train/loss", one)}

    def _get_train_description(self, current_epoch: int) -> str:
        """What stands before the bar, of the same width as the word there during a validation."""
        last = self.trainer.max_epochs
        of = "" if last in (None, -1) else f"/{last}"
        return f"Epoch {current_epoch + 1}{of}".ljust(len(self.validation_description))


def loss_bar(callbacks: Sequence[L.Callback], enabled: bool | None) -> list[LossBar]:
    """The bar of a training.

    Args:
        callbacks: The trainer's others.
        enabled: The trainer's ``enable_progress_bar``.

    Returns:
        The bar; nothing where bars are switched off or the user has brought one.
    """
    own = any(isinstance(callback, ProgressBar) for callback in callbacks)
    return [] if own or enabled is False else [LossBar()]
