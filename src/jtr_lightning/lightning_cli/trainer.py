"""What ``jtr fit`` adds to the trainer that a user configures, and what it refuses of it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.errors import ConfigError
from jtr_lightning.lightning_cli.resuming import csv_log
from jtr_lightning.run_folder import CHECKPOINTS, MONITOR


class Trainer(L.Trainer):
    """Lightning's trainer.

    Here ``limit_train_batches: 1`` is one batch, and ``1.0`` is all of them. Lightning means that as well and writes
    ``Optional[Union[int, float]]``, but typing keeps unions in a cache in which ``Optional[Union[float, int]]`` is the
    same one: the command line's parser, which tries the types in their order, may see whichever another package wrote
    first. ``int | float | None`` is in no cache.

    Args:
        limit_train_batches: Training batches in an epoch: a whole number, or a share such as 0.1.
        limit_val_batches: Batches in a validation: a whole number, or a share.
        limit_test_batches: Batches in a test: a whole number, or a share.
        limit_predict_batches: Batches in a prediction: a whole number, or a share.
        overfit_batches: Train and validate on the same few batches: a whole number, or a share; 0.0 for not at all.
        val_check_interval: Validate every so many training batches, each such share of an epoch, or by the clock.
        **kwargs: All other arguments of Lightning's trainer.
    """

    def __init__(
        self,
        *,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        overfit_batches: int | float = 0.0,
        val_check_interval: int | float | str | timedelta | dict[str, int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            overfit_batches=overfit_batches,
            val_check_interval=val_check_interval,
            **kwargs,
        )


def loggers(given: Any, folder: Path, checkpoint: str | None) -> Any:
    """The CSV log of the run folder first, then the user's loggers; ``false`` stays none at all."""
    if given is False:
        return False
    more = [] if given in (None, True) else given if isinstance(given, list) else [given]
    return [csv_log(folder, checkpoint), *more]


def expect_a_validation(config: Any) -> None:
    """Lightning would train to the end, and keep no best checkpoint.

    Raises:
        ConfigError: There are fewer epochs than from one validation to the next.
    """
    every, epochs = config["check_val_every_n_epoch"], config["max_epochs"]
    if config["fast_dev_run"] or every is None or epochs is None or not 0 < epochs < every:
        return
    raise ConfigError(
        "Option `trainer.check_val_every_n_epoch` should be at most `trainer.max_epochs`, or nothing is validated and "
        f"no best checkpoint kept; found {every} and {epochs}. Add --trainer.check_val_every_n_epoch {epochs}."
    )


def checkpoints(config: Any, folder: Path, every_n_steps: int) -> list[L.Callback]:
    """The best and the last checkpoint; nothing but what SIGTERM asks for where the user configures checkpoints."""
    if config["enable_checkpointing"] is False:
        return []
    own = any(isinstance(callback, ModelCheckpoint) for callback in config["callbacks"])
    best = ModelCheckpoint(
        folder / CHECKPOINTS,
        filename="best",
        monitor=MONITOR,
        mode="max",
        auto_insert_metric_name=False,
        enable_version_counter=False,
    )
    return [*([] if own else [best]), Resume(folder / CHECKPOINTS, every_n_steps, every_epoch=not own)]
