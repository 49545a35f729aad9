"""What ``jtr fit`` and ``jtr test`` add to a run for people to look at: loggers, pictures and the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger, TensorBoardLogger

from jtr_lightning.callbacks.panel_logger import PanelLogger
from jtr_lightning.callbacks.report import Report
from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.reporting.wandb_logger import PartialLabelWandbLogger

LOGGER = "--trainer.logger"
SHORT_NAMES = {
    "wandb": f"{PartialLabelWandbLogger.__module__}.{PartialLabelWandbLogger.__name__}",
    "tensorboard": f"{__name__}.RunTensorBoardLogger",
}
"""What ``--trainer.logger`` may be given beside classes, ``true`` and ``false``."""


class RunTensorBoardLogger(TensorBoardLogger):
    """TensorBoard's event files in the run folder: ``tensorboard --logdir runs``.

    Args:
        save_dir: Where they go; by default ``tensorboard`` in the run folder.
    """

    def __init__(self, save_dir: str = "") -> None:
        super().__init__(save_dir, name="", version="")

    def use_folder(self, folder: Path) -> None:
        """Takes a run folder where none was given."""
        if not self._root_dir:
            self._root_dir = str(folder / "tensorboard")


def write_out_logger(arguments: Sequence[str]) -> list[str]:
    """Puts the class in place of a logger's short name.

    Args:
        arguments: The subcommand's name and what follows it.

    Returns:
        The arguments for the parser.

    Raises:
        ConfigError: A name is misspelled.
    """
    written = list(arguments)
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if flag == LOGGER and equals:
            written[i] = f"{flag}={_class_of(value)}"
        elif flag == LOGGER and i + 1 < len(arguments):
            written[i + 1] = _class_of(arguments[i + 1])
    return written


def _class_of(name: str) -> str:
    if name.islower() and name not in SHORT_NAMES and get_close_matches(name, SHORT_NAMES):
        raise ConfigError(
            f"Parameter `trainer.logger` should be {', '.join(SHORT_NAMES)}, true, false or a class; found '{name}', "
            f"{did_you_mean(name, SHORT_NAMES)}"
        )
    return SHORT_NAMES.get(name, name)


def add_options(parser: LightningArgumentParser) -> None:
    """Adds the options of pictures and report."""
    parser.add_class_arguments(PanelLogger, "panels", instantiate=True)
    parser.add_class_arguments(Report, "report", skip={"folder"}, instantiate=True)


def settle_loggers(folder: Path, loggers: Any) -> None:
    """Lets loggers that know no folder write into the run's."""
    for logger in loggers if isinstance(loggers, list) else [loggers]:
        if isinstance(logger, PartialLabelWandbLogger):
            logger.use_folder(folder, f"{folder.parent.name}/{folder.name}")
        elif isinstance(logger, RunTensorBoardLogger):
            logger.use_folder(folder)


def log_config(loggers: Iterable[Logger], config: str) -> None:
    """Gives W&B the whole configuration.

    Args:
        loggers: The trainer's.
        config: YAML.
    """
    for logger in loggers:
        if isinstance(logger, PartialLabelWandbLogger):
            logger.log_hyperparams(yaml.safe_load(config))


def close(loggers: Iterable[Logger]) -> None:
    """Ends the runs of W&B, so that a next one in the same process is a run of its own."""
    for logger in loggers:
        if isinstance(logger, PartialLabelWandbLogger):
            logger.close()
