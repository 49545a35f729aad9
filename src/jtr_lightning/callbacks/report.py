"""Writes ``report.html`` into the run folder at the end of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import lightning as L
from lightning.pytorch.loggers import Logger

from jtr_lightning.baseline import Baseline
from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.reporting.facts import FACTS, gather, write_facts
from jtr_lightning.reporting.wandb_logger import PartialLabelWandbLogger


class Report(L.Callback):
    """Keeps what was trained on what in ``facts.json``, and writes ``report.html`` when the training ends.

    The page is made from the files of the run folder: ``metrics.csv`` and ``metrics.json`` (``CSVLogger`` and
    ``BestMetrics`` write them), ``panels/`` (``PanelLogger``) and ``config.yaml``. What is missing is left out.

    Args:
        single_task: Single-task training to compare with beside the model's own baseline (supervised multi-task
            training, as a rule); a delta is shown to each.
        folder: The run folder; None until it is known, and then nothing is written.
    """

    def __init__(self, single_task: Baseline | None = None, folder: str | Path | None = None) -> None:
        self.single_task = single_task
        self.folder = None if folder is None else Path(folder)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes ``facts.json``.

        Raises:
            ConfigError: The data are not those of a ``PartialLabelDataModule``.
        """
        if self.folder is None or not trainer.is_global_zero:
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, PartialLabelDataModule):
            raise ConfigError(
                "Report should be given a trainer that fits a PartialLabelDataModule, to know which labels are "
                f"available; found {type(data).__name__}. Train with one, or leave the callback out."
            )
        module = cast(PartialLabelModule, pl_module)
        facts = gather(
            trainer, module, data, {"supervised": module.baseline, "single_task": self.single_task}
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_facts(self.folder, facts)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the page."""
        self._write(trainer)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Writes the page of a training that was interrupted by hand."""
        if isinstance(exception, KeyboardInterrupt):
            self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        if self.folder is not None and trainer.is_global_zero:
            publish(self.folder, trainer.loggers, "val")


def publish(folder: Path, loggers: Sequence[Logger], stage: str) -> None:
    """Writes a run's page, and gives W&B the table of results.

    Args:
        folder: The run folder; nothing is done without ``facts.json`` in it.
        loggers: The trainer's, which may have something left to write.
        stage: Whose results are new: ``val`` or ``test``.
    """
    if not (folder / FACTS).is_file():
        return
    # Not before the end of a training: the page is all that needs jinja2.
    from jtr_lightning.reporting.page import results_table, write_report

    for logger in loggers:
        logger.save()
    write_report(folder)
    table = results_table(stage, folder)
    for logger in loggers:
        if table is not None and isinstance(logger, PartialLabelWandbLogger):
            logger.log_results(*table, stage)
