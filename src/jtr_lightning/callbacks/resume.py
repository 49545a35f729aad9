"""What makes a training that was stopped in any way go on as if it had not been."""

from __future__ import annotations

import logging
import os
import random
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import (
    Checkpoint,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    WeightAveraging,
)
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException

from jtr_lightning.callbacks.best_metrics import BestMetrics
from jtr_lightning.callbacks.checkpoint_files import LAST, WholeCheckpointIO
from jtr_lightning.errors import ConfigError, check_whole
from jtr_lightning.module import PartialLabelModule

RANKS = "jtr_lightning_ranks"
"""The checkpoint's key of what each process has of its own: random states and running means."""

AGREE_EVERY = 8
"""Steps between two exchanges of several processes about whether one of them was told to stop."""

_log = logging.getLogger(__name__)


class Resume(Checkpoint):
    """Keeps ``last.ckpt``: whole at any time, with everything that is needed to go on bit for bit.

    It is written at the end of each epoch, and when the training is told to stop. (``save_last`` of Lightning's
    ``ModelCheckpoint`` leaves out the epochs that are not among the best.) The checkpoints of a ``ModelCheckpoint`` in
    the same trainer are written in the same way and hold the same.

    A resumed training on the CPU equals the uninterrupted one in weights, optimizer, schedule, regularizer, balancing,
    random states and order of the samples. It may be resumed in the middle of an epoch, with any number of loader
    workers; only the gradients of a step that is not complete (``accumulate_grad_batches``) are lost.

    In a run folder that was moved or copied since, the best epoch before that is known as well.

    SIGTERM (what clusters send before they take the machine away) is noticed at the end of a training step, or of a
    batch of the validation, which is done again from its beginning; then ``last.ckpt`` is written and the training
    ends. Several processes agree on it after every eighth step, whichever of them the signal has reached.

    Args:
        folder: Where to write ``last.ckpt``.
        every_n_steps: Write it during an epoch, too, every so many optimizer steps; 0 for not.
        every_epoch: False to write it at SIGTERM, and after ``every_n_steps``, alone.

    Raises:
        ConfigError: ``every_n_steps`` is below 0.
    """

    def __init__(self, folder: str | Path, every_n_steps: int = 0, every_epoch: bool = True) -> None:
        super().__init__()
        check_whole("every_n_steps", every_n_steps, 0)
        self.folder = Path(folder)
        self.every_n_steps = every_n_steps
        self.every_epoch = every_epoch
        self._saved_step: int | None = None  # until the training has begun, and everything was put back
        self._asked_to_stop = False
        self._ranks: list[dict[str, Any]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Takes over writing, unless the user brought a way of their own."""
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()

    # What a checkpoint holds

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds what belongs to each process, and brings the logs as far as the checkpoint."""
        mine = {"random": _random_states()}
        if isinstance(pl_module, PartialLabelModule):
            mine["train_losses"] = pl_module.train_losses.sums()
        checkpoint[RANKS] = _of_all_ranks(mine, trainer.world_size)
        if trainer.received_sigterm and trainer.validating:
            _validate_again(checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"])
        for logger in trainer.loggers:
            logger.save()

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keeps it for the start of the training; until then others draw random numbers.

        Raises:
            ConfigError: The checkpoint has weights alone: the optimizer would silently begin anew.
        """
        self._ranks = checkpoint.get(RANKS, [])
        if trainer.state.fn == TrainerFn.FITTING and not checkpoint.get("optimizer_states"):
            raise ConfigError(
                "A training should go on from a checkpoint with the state of its optimizer; found one of weights "
                "alone, as jtr compare keeps them. Give another checkpoint."
            )
        _remember_the_best_of_a_moved_folder(trainer, checkpoint.get("callbacks") or {})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts everything back, and takes over from Lightning the answer to SIGTERM where it must be agreed on.

        Raises:
            ConfigError: The checkpoint does not hold the random states in the form that is read.
        """
        self._saved_step = trainer.global_step
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, GradientAccumulationScheduler):
                # It waits for the start of an epoch, which a training that goes on within one is not told again.
                trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(trainer.current_epoch)
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            # Lightning's own talks to the other processes from within the signal, which may be in the middle of
            # another exchange: then all of them hang. Lightning restores the earlier handler at the end.
            signal.signal(signal.SIGTERM, self._ask_to_stop)
        ranks, self._ranks = self._ranks, []
        if not ranks:
            return
        if len(ranks) != trainer.world_size:
            _log.warning(
                "The checkpoint was written by %d processes and this training has %d: it goes on with other random "
                "numbers.",
                len(ranks),
                trainer.world_size,
            )
            return
        try:
            mine = ranks[trainer.global_rank]
            _set_random_states(mine["random"])
            if isinstance(pl_module, PartialLabelModule) and "train_losses" in mine:
                pl_module.train_losses.go_on(mine["train_losses"])
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(
                f"The checkpoint should hold the random states of each process under '{RANKS}'; found something else: "
                f"{type(error).__name__} ({error}). Take an earlier checkpoint, or start anew."
            ) from error

    # When it is written

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Writes every so many steps, except in the last of an epoch, which has its end still before it."""
        if trainer.is_last_batch:
            return
        if self.every_n_steps and trainer.global_step % self.every_n_steps == 0:
            self._save(trainer)
        if batch_idx % AGREE_EVERY == 0:
            self._stop_together(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes behind every hook of the module: Lightning calls callbacks of this kind last."""
        if self.every_epoch or trainer.received_sigterm:
            self._save(trainer)
        self._stop_together(trainer)

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        self._asked_to_stop = True

    def _stop_together(self, trainer: L.Trainer) -> None:
        """Ends the training in every process between the same two steps."""
        if trainer.world_size == 1:
            return
        if trainer.strategy.reduce_boolean_decision(self._asked_to_stop, all=False):
            self._save(trainer)
            raise SIGTERMException

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Writes when told to stop: every process is between two steps then."""
        if not isinstance(exception, SIGTERMException):
            return
        if trainer.validating:
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, WeightAveraging):
                    # It has exchanged its average and the module's weights for as long as the validation takes, and
                    # would be told of the end of a validation that is not broken off.
                    callback.on_validation_epoch_end(trainer, pl_module)
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        if self._saved_step is None or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        # Once per step, however many batches are accumulated.
        if trainer.global_step != self._saved_step:
            self._saved_step = trainer.global_step
            trainer.save_checkpoint(self.folder / LAST, weights_only=False)


def _remember_the_best_of_a_moved_folder(trainer: L.Trainer, states: dict[str, Any]) -> None:
    """Tells callbacks where their files are in a run folder that was moved, with the checkpoint that is gone on from.

    They know their files by the whole path, and begin anew in another folder: rightly where that is a new run's. In the
    same run's the next epoch would take the place of a better ``best.ckpt``.

    Args:
        trainer: Has the callbacks, and the checkpoint's path.
        states: The callbacks' states in the checkpoint, which are changed.
    """
    gone_on_from = Path(str(trainer.ckpt_path)).resolve().parent
    for callback in trainer.checkpoint_callbacks:
        state = states.get(callback.state_key)
        if (
            not isinstance(callback, ModelCheckpoint)
            or not isinstance(state, dict)
            or callback.dirpath is None
        ):
            continue
        before, now = str(state.get("dirpath")), str(callback.dirpath)
        moved = {path: str(Path(now, Path(path).name)) for path in state.get("best_k_models", {})}
        if (
            before == now
            or Path(now).resolve() != gone_on_from
            or not all(map(os.path.exists, moved.values()))
        ):
            continue
        state["best_k_models"] = {moved[path]: score for path, score in state["best_k_models"].items()}
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = moved.get(state.get(name, ""), "")
        state["dirpath"] = now
        for other in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(other, BestMetrics) and isinstance(states.get(other.state_key), dict):
                states[other.state_key]["folder"] = str(other.path.absolute())


def _validate_again(progress: dict[str, Any]) -> None:
    """Makes the progress of a validation that of its first batch: its metrics so far are in no checkpoint."""
    done = progress["total"]["completed"] - progress["current"]["completed"]
    for name, before in (("total", done), ("current", 0)):
        begun = {"ready": before + 1, "started": before + 1}
        progress[name].update(**begun, processed=before, completed=before)
    progress["is_last_batch"] = False


def _random_states() -> dict[str, Any]:
    """The states of every generator of this process, as tensors and plain values."""
    numpy = np.random.get_state(legacy=False)  # noqa: NPY002  the global one, which others use
    version, internal, gauss_next = random.getstate()
    cuda = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if cuda else None,
        "numpy": {
            "key": torch.from_numpy(numpy["state"]["key"].astype(np.int64)),
            "pos": int(numpy["state"]["pos"]),
            "has_gauss": int(numpy["has_gauss"]),
            "gauss": float(numpy["gauss"]),
        },
        "python": (version, torch.tensor(internal), gauss_next),
    }


def _set_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
    numpy = states["numpy"]
    key = numpy["key"].cpu().numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, numpy["pos"], numpy["has_gauss"], numpy["gauss"]))  # noqa: NPY002
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal.tolist()), gauss_next))


def _of_all_ranks(mine: dict[str, Any], world_size: int) -> list[dict[str, Any]]:
    """Every process's part, in the order of the ranks."""
    if world_size == 1:
        return [mine]
    parts: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(parts, mine)
    return parts
