"""Trains and tests one run of a comparison, in a process of its own: ``python -m jtr_lightning.comparison.worker``."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import lightning as L
import torch
from filelock import FileLock, Timeout

from jtr_lightning.callbacks.checkpoint_files import LAST, newest_whole_checkpoint
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.comparison.commit import current_commit
from jtr_lightning.comparison.costs import Costs
from jtr_lightning.comparison.curves import points_of
from jtr_lightning.comparison.results import CONFIG, LOCK, PROGRESS, RESULT, Result, TaskFacts, write_result
from jtr_lightning.disk import written_whole
from jtr_lightning.errors import ConfigError
from jtr_lightning.exits import exit_code_of
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.run_folder import CHECKPOINTS, METRICS_LOG

TRAINING = "training"
"""The run folder of the training, inside of the run's."""

_PATIENCE = 1.0  # seconds; a comparison that only looks whether the run is locked holds the lock for a moment

_FOR_TRAINING = ("optimizer_states", "lr_schedulers")
"""Parts of a checkpoint that only a training needs that goes on from it."""
_BESIDE_AN_AVERAGE = ("current_model_state", "averaging_state")
"""The same, where the weights are averaged; other checkpoints do not have them."""


VALIDATION_ONLY = "--validation-only"
"""The worker's option for the trial of a search: it is not tested, and no weights are kept."""


class Unwatched(CommandLine):
    """A training that nobody looks at: pictures and page would take longer than the epochs of a small one."""

    def looked_at(self, folder: Path) -> list[L.Callback]:
        del folder
        return []


def run(arguments: list[str]) -> None:
    """Trains, chooses the checkpoint on the validation set, tests it, and writes the result.

    An interrupted training goes on from its newest whole checkpoint; a damaged one is named in the log.

    Args:
        arguments: ``--validation-only``, if there is to be no test, and the run's folder, which holds ``config.yaml``.

    Raises:
        UserError: Something in the configuration or the data does not fit, or another process trains this run.
    """
    *options, path = arguments
    folder = Path(path)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise ConfigError(f"The run '{folder}' is being trained by another process; wait for it.") from None
    try:
        if (folder / RESULT).is_file():  # another comparison has finished it in the meantime
            return
        _train(folder, with_test=VALIDATION_ONLY not in options)
    finally:
        lock.release()


def _train(folder: Path, with_test: bool) -> None:
    config, training = folder / CONFIG, folder / TRAINING
    costs = Costs(folder / PROGRESS, current_commit())
    # Weights alone are those of a finished run, whose result was removed to train it anew.
    newest = newest_whole_checkpoint(training / CHECKPOINTS, weights_alone=False)
    go_on = [] if newest is None else ["--ckpt_path", str(newest)]
    fitted = command_line(["fit", "--config", str(config), *go_on], training, [costs], Unwatched)
    model = fitted.model
    if not isinstance(model, PartialLabelModule):
        raise ConfigError(f"A compared model should be a PartialLabelModule; found {type(model).__name__}.")
    best = _best_checkpoint(fitted, training)
    epoch = int(read_checkpoint(best)["epoch"])
    metrics = {key: value for key, value in fitted.metrics.items() if key.startswith("val/")}
    if with_test:
        # In a new Trainer, as `jtr test` does it: callbacks keep something of the training.
        metrics |= command_line(["test", "--config", str(config), "--ckpt_path", str(best)], training).metrics
    tasks = {
        name: TaskFacts(task.headline, task.higher_is_better, task.metric_facts()[task.headline].unit)
        for name, task in model.tasks.items()
    }
    result = Result(
        metrics=metrics,
        tasks=tasks,
        best_epoch=epoch,
        train_seconds=costs.seconds,
        peak_memory=costs.peak_memory,
        device=_device_name(fitted.trainer.strategy.root_device),
        threads=torch.get_num_threads(),
        commit=" and ".join(costs.commits),
        points=points_of(training / METRICS_LOG, tasks),
    )
    write_result(folder, result)
    # Not before, or a training could be lost, or go on without its optimizer's state.
    if with_test:
        _keep_weights(best)
        (training / CHECKPOINTS / LAST).unlink(missing_ok=True)
    else:
        shutil.rmtree(training / CHECKPOINTS)


def _best_checkpoint(fitted: CommandLine, training: Path) -> Path:
    best = getattr(fitted.trainer.checkpoint_callback, "best_model_path", "")
    if not best:
        raise ConfigError(
            f"A compared training should keep its best checkpoint, to test that one; found none in '{training}'. "
            "Leave the checkpoints to jtr, and train for at least one epoch with a validation."
        )
    return Path(best)


def _keep_weights(path: Path) -> None:
    """Takes from a checkpoint what only training needs, two thirds of it."""
    checkpoint = read_checkpoint(path)
    for name in _FOR_TRAINING:
        checkpoint[name] = []
    for name in _BESIDE_AN_AVERAGE:
        checkpoint.pop(name, None)
    with written_whole(path) as file:
        torch.save(checkpoint, file)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} CPU"


if __name__ == "__main__":
    sys.exit(exit_code_of(lambda: run(sys.argv[1:])))
