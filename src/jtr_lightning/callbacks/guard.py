"""What happens when a loss or its gradient is NaN or infinite."""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Literal, NamedTuple, cast, get_args

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.errors import ConfigError, TrainingError, check_whole
from jtr_lightning.module import PartialLabelModule, StepLosses

OnNonFinite = Literal["stop", "skip"]

MOST_PENDING = 16
"""Steps on a GPU after which the oldest check is waited for."""
MOST_NAMES = 5
"""Samples that a message names."""

_log = logging.getLogger(__name__)


class _Step(NamedTuple):
    """What is told of a step."""

    number: int
    epoch: int
    losses: StepLosses | None


class _Check(NamedTuple):
    """A loss or a gradient on a device; whether it is finite is on its way to the host."""

    what: Literal["loss", "gradient"]
    step: _Step
    finite: Tensor
    arrived: torch.cuda.Event


class NonFiniteGuard(L.Callback):
    """Looks whether each step's loss and gradient are finite, and names the task and the samples where they are not.

    ``stop`` ends the training: on the CPU before the step changes anything; on a GPU, which is never waited for, some
    steps later (at most 16), but before any checkpoint is written, so that none ever holds weights of such a step.
    ``skip`` leaves out the optimizer step, reports it, and counts it in ``train/skipped_steps``; for that it waits for
    the device in each step. What a forward pass to such a loss made of BatchNorm's running statistics is undone. Where
    an optimizer makes weights that are not finite out of a gradient that is, no checkpoint is written, and the training
    ends as well.

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
        check_whole("patience", patience, 1)
        self.on_nonfinite = on_nonfinite
        self.patience = patience
        self.skipped = 0
        self._in_a_row = 0
        self._found: str | None = None
        self._pending: deque[_Check] = deque()
        self._sums: dict[str, Tensor] = {}
        self._buffers: dict[str, Tensor] = {}
        self._spoilt = False

    def state_dict(self) -> dict[str, Any]:
        """How many steps were left out."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]

    # Looking

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the epoch's means and the running statistics, to take a skipped step out of them."""
        if self.on_nonfinite == "skip" and isinstance(pl_module, PartialLabelModule):
            self._sums = pl_module.train_losses.sums()
            self._buffers = {name: buffer.clone() for name, buffer in pl_module.named_buffers()}

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        """Looks at the loss, or asks the device to."""
        if not isinstance(pl_module, PartialLabelModule) or pl_module.step_losses is None:
            return
        finite = pl_module.step_losses.total.isfinite()
        if self.on_nonfinite == "stop":
            self._stop_unless(finite, "loss", trainer)
        elif not finite:
            self._found = _SENTENCES["loss"](trainer, _step(trainer))
            pl_module.train_losses.go_on(self._sums)
            self._spoilt = True

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts back what the forward pass to a step that is skipped has made of the running statistics.

        BatchNorm takes NaN into its running mean for ever: every later validation would be NaN, and the training go on.
        The loss may be finite all the same, where the images concerned have no label.
        """
        if self.on_nonfinite == "skip" and (self._spoilt or not _statistics_are_finite(pl_module)):
            self._spoilt = False
            for name, buffer in pl_module.named_buffers():
                buffer.copy_(self._buffers[name])

    def _stop_unless(self, finite: Tensor, what: Literal["loss", "gradient"], trainer: L.Trainer) -> None:
        """Ends the training if something is not finite: now, or where a device knows it when that has arrived."""
        if not finite.is_cuda:
            if not finite:
                raise TrainingError(f"{_SENTENCES[what](trainer, _step(trainer))} {_REMEDY}")
            return
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        on_host = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(finite, non_blocking=True)
        arrived.record()
        self._pending.append(_Check(what, _step(trainer), on_host, arrived))
        self._look(trainer, wait=False)

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
                raise TrainingError(f"{_SENTENCES[check.what](trainer, check.step)} {_REMEDY}")

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks at what is left of the epoch."""
        self._look(trainer, wait=True)
        if self.on_nonfinite == "skip":
            pl_module.log("train/skipped_steps", float(self.skipped))

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Looks before anything is kept.

        Raises:
            TrainingError: A loss, a gradient or a weight is not finite.
        """
        self._look(trainer, wait=True)
        for name, weight in pl_module.named_parameters():
            if not weight.isfinite().all():
                raise TrainingError(
                    f"The weights should be finite; found NaN or infinity in '{name}' after step "
                    f"{trainer.global_step - 1} (epoch {trainer.current_epoch}), so that no checkpoint is written. The "
                    "step's gradient was finite: lower the learning rate, or raise the `eps` of the optimizer."
                )

    # Before the weights change

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        """Looks at the gradients, and takes them away to skip: an optimizer passes over a weight without one.

        Raises:
            TrainingError: A loss or gradient is not finite; where such steps are skipped, too many in a row.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        # With 16 bits an overflow of the gradients is usual, and the scaler of the loss answers it itself.
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        finite = None if scaled or not parameters else _all_finite([p.grad for p in parameters])
        if self.on_nonfinite == "stop":
            if finite is not None:
                self._stop_unless(finite, "gradient", trainer)
            return
        found, self._found = self._found, None
        if found is None and finite is not None and not finite:
            found = _SENTENCES["gradient"](trainer, _step(trainer))
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


def _statistics_are_finite(module: torch.nn.Module) -> bool:
    """Whether every normalisation's running mean and variance are."""
    layers = [layer for layer in module.modules() if isinstance(layer, torch.nn.modules.batchnorm._NormBase)]  # noqa: SLF001
    kept = [s for layer in layers for s in (layer.running_mean, layer.running_var) if s is not None]
    return not kept or bool(_all_finite(kept))


def _all_finite(gradients: list[Tensor]) -> Tensor:
    """Whether every value is finite, bool ``[]`` on the gradients' device: in a few kernels, without waiting for it."""
    # The largest magnitude of each: NaN and infinity pass through, and no sum can overflow.
    some = [gradient for gradient in gradients if gradient.numel()]
    return torch.nn.utils.get_total_norm(some, norm_type=float("inf")).isfinite()


def _step(trainer: L.Trainer) -> _Step:
    losses = getattr(trainer.lightning_module, "step_losses", None)
    return _Step(trainer.global_step, trainer.current_epoch, losses)


def _of_loss(trainer: L.Trainer, step: _Step) -> str:
    """That a loss is not finite, in which step, for which task and samples."""
    losses, module = cast(StepLosses, step.losses), cast(PartialLabelModule, trainer.lightning_module)
    wrong = []
    index = losses.index.tolist()
    for name, column in zip(module.tasks, losses.tasks.isfinite().T.tolist(), strict=True):
        samples = [i for i, finite in zip(index, column, strict=True) if not finite]
        if samples:
            wrong.append(f"task '{name}' at the samples {_names(trainer, samples)}")
    wrong += [
        f"the regularizer's term '{name}'" for name, term in losses.terms.items() if not term.isfinite()
    ]
    if not wrong:
        wrong = [f"the weighted sum of finite losses, at the samples {_names(trainer, index)}"]
    return (
        f"The loss should be finite; found {float(losses.total):g} in step {step.number} (epoch {step.epoch}), from "
        f"{'; '.join(wrong)}."
    )


def _of_gradient(trainer: L.Trainer, step: _Step) -> str:
    """That a gradient is not finite, in which step, for which samples: of a gradient nobody knows the task."""
    last = "the last of the accumulated batches" if trainer.accumulate_grad_batches > 1 else "the samples"
    index = [] if step.losses is None else step.losses.index.tolist()
    where = f", at {last} {_names(trainer, index)}" if index else ""
    return (
        f"The gradient of the loss should be finite; found NaN or infinity in step {step.number} (epoch {step.epoch})"
        f"{where}. The loss itself was finite: look for a root, a logarithm or a quotient at 0."
    )


_SENTENCES = {"loss": _of_loss, "gradient": _of_gradient}


def _names(trainer: L.Trainer, index: list[int]) -> str:
    more = f" and {len(index) - MOST_NAMES} more" if len(index) > MOST_NAMES else ""
    return ", ".join(_name(trainer, i) for i in index[:MOST_NAMES]) + more


def _name(trainer: L.Trainer, index: int) -> str:
    data = getattr(trainer, "datamodule", None)
    if isinstance(data, PartialLabelDataModule) and "train" in data.datasets:
        return f"'{data.datasets['train'].source.name(index)}'"
    return f"number {index}"
