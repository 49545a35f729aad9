"""Trains and tests one run of a comparison, in a process of its own: ``python -m jtr_lightning.comparison.worker``."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import torch
from filelock import FileLock, Timeout

import jtr_lightning
from jtr_lightning._version import __version__
from jtr_lightning.callbacks.run_folder import CHECKPOINTS
from jtr_lightning.cli.lightning import CommandLine, command_line
from jtr_lightning.cli.main import Command, main
from jtr_lightning.comparison.costs import Costs
from jtr_lightning.comparison.results import CONFIG, LOCK, PROGRESS, Result, TaskFacts, write_result
from jtr_lightning.disk import written_whole
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule, read_checkpoint

TRAINING = "training"
"""The run folder of the training, inside of the run's."""

_FOR_TRAINING = ("optimizer_states", "lr_schedulers")
"""Parts of a checkpoint that only a training needs that goes on from it."""


def run(arguments: list[str]) -> None:
    """Trains, chooses the checkpoint on the validation set, tests it, and writes the result last.

    An interrupted training goes on from its last checkpoint.

    Args:
        arguments: The run's folder, which holds ``config.yaml``.

    Raises:
        UserError: Something in the configuration or the data does not fit, or another process trains this run.
    """
    folder = Path(arguments[0])
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(f"The run '{folder}' is being trained by another process; wait for it.") from None
    try:
        _train_and_test(folder)
    finally:
        lock.release()


def _train_and_test(folder: Path) -> None:
    commit = _commit()
    config, training = folder / CONFIG, folder / TRAINING
    costs = Costs(folder / PROGRESS)
    last = _last_checkpoint(training)
    go_on = [] if last is None else ["--ckpt_path", str(last)]
    with warnings.catch_warnings():
        # On purpose, after an interruption; the log of the interrupted part has another name by now.
        warnings.filterwarnings("ignore", message="(Experiment logs|Checkpoint) directory .* is not empty")
        fitted = command_line(["fit", "--config", str(config), *go_on], training, [costs])
    best = _best_checkpoint(fitted, training)
    tested = command_line(["test", "--config", str(config), "--ckpt_path", str(best)], training)
    model = tested.model
    if not isinstance(model, PartialLabelModule):
        raise ConfigError(f"A compared model should be a PartialLabelModule; found {type(model).__name__}.")
    epoch = _keep_weights(best)
    for checkpoint in (training / CHECKPOINTS).glob("last*.ckpt"):
        checkpoint.unlink()
    result = Result(
        metrics={key: value for key, value in tested.metrics.items() if key.startswith("test/")},
        tasks={
            name: TaskFacts(task.headline, task.higher_is_better, task.unit)
            for name, task in model.tasks.items()
        },
        best_epoch=epoch,
        train_seconds=costs.seconds,
        peak_memory=costs.peak_memory,
        device=_device_name(fitted.trainer.strategy.root_device),
        threads=torch.get_num_threads(),
        commit=commit,
    )
    write_result(folder, result)


def _last_checkpoint(training: Path) -> Path | None:
    """The checkpoint to go on from; makes place for the files that a training wants to write anew."""
    last = training / CHECKPOINTS / "last.ckpt"
    try:
        read_checkpoint(last)
    except Exception:  # none there, or whatever an unpickler makes of half a file
        found = None
    else:
        found = last
    (training / CONFIG).unlink(missing_ok=True)
    log = training / "metrics.csv"
    if log.exists():
        log.rename(training / f"metrics_until_{len(list(training.glob('metrics*.csv')))}.csv")
    return found


def _best_checkpoint(fitted: CommandLine, training: Path) -> Path:
    best = getattr(fitted.trainer.checkpoint_callback, "best_model_path", "")
    if not best:
        raise ConfigError(
            f"A compared training should keep its best checkpoint, to test that one; found none in '{training}'. "
            "Leave the checkpoints to jtr, and train for at least one epoch with a validation."
        )
    return Path(best)


def _keep_weights(path: Path) -> int:
    """Takes from a checkpoint what only training needs, two thirds of it; the epoch it is of."""
    checkpoint = read_checkpoint(path)
    epoch = int(checkpoint["epoch"])
    for name in _FOR_TRAINING:
        checkpoint[name] = []
    with written_whole(path) as file:
        torch.save(checkpoint, file)
    return epoch


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"


def _commit() -> str:
    """The commit that this package is a checkout of, and whether its files have changed since; else its version."""
    package = Path(jtr_lightning.__file__).parent
    if not _git(
        package, "ls-files", "--error-unmatch", "__init__.py"
    ):  # installed, or below another repository
        return f"version {__version__}"
    changed = _git(package, "status", "--porcelain", "--", ".")
    return _git(package, "rev-parse", "HEAD") + ("-dirty" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    sys.exit(
        main(["run", *sys.argv[1:]], {"run": Command("jtr_lightning.comparison.worker:run", "trains a run")})
    )
