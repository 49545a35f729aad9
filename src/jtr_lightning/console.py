"""A console that shows what concerns the user and nothing else."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

_ADVERTISEMENTS = ("💡 Tip", "TPU available", "Loading `train_dataloader` to estimate", "`Trainer.")
"""Beginnings of Lightning's messages that repeat what we print, or advertise other packages."""

_NOISE = (
    # Lightning asks torch about its trees in a way that torch has deprecated: theirs to mend.
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    # LightningCLI calls jsonargparse by names that are deprecated: theirs to mend.
    (r"\s*`*(By default only one Jsonargparse|instantiate_classes|skip_none)", DeprecationWarning),
    # With images of this library's usual sizes, loading in the main process is as fast; `num_workers` is in --help.
    (r"The '.*_dataloader' does not have many workers", UserWarning),
    # A training set of fewer batches than log_every_n_steps: every epoch's metrics are logged all the same.
    (r"The number of training batches .* is smaller than the logging interval", UserWarning),
    # A training that goes on from a checkpoint has a run folder of its own, where best.ckpt starts anew.
    (r"The dirpath has changed from", UserWarning),
    # A resumed training goes on in its own folder; its log is read before Lightning removes it.
    (r"(Experiment logs|Checkpoint) directory .* is not empty", UserWarning),
    # The checkpoint of a finished run is tested in a new Trainer, whose callbacks differ from the training's.
    (
        r"Be aware that when using `ckpt_path`, callbacks used to create the checkpoint need to be",
        UserWarning,
    ),
    # A checkpoint's weights are the average, which is what is tested.
    (r"You're using the WeightAveraging callback, but loading a checkpoint outside the 'fit'", UserWarning),
)

_LOGGERS = ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.rank_zero")


def _is_of_interest(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_ADVERTISEMENTS)


@contextmanager
def quiet() -> Iterator[None]:
    """Hides a few known messages of our dependencies; every other warning is shown."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(_is_of_interest)
    try:
        with warnings.catch_warnings():
            for message, category in _NOISE:
                warnings.filterwarnings("ignore", message=message, category=category)
            yield
    finally:
        for logger in loggers:
            logger.removeFilter(_is_of_interest)


def program() -> str:
    """What a user types for ``jtr``, for commands that are printed to be copied.

    Returns:
        ``jtr`` where the shell finds this installation by it, else the path of its program, quoted for a shell.
    """
    beside = Path(sys.executable).with_name("jtr")
    on_path = shutil.which("jtr")
    if not beside.is_file() or (on_path is not None and Path(on_path).samefile(beside)):
        return "jtr"
    near = beside.relative_to(Path.cwd()) if beside.is_relative_to(Path.cwd()) else beside
    return shlex.quote(str(near))


def counted(number: int, noun: str) -> str:
    """A number and what it counts: ``1 image``, ``2 images``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def console() -> Console:
    """Where results are printed: standard output, without colours when that is no terminal."""
    return Console(soft_wrap=False, highlight=False)
