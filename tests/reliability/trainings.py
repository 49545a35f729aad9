"""Trainings that are stopped on purpose: in a forked process, so that a kill ends that one alone."""

import multiprocessing
import os
import random
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.testing.comparing import same
from tests.tiny import TinyData, ToyNetwork

__all__ = ["TinyData", "ToyNetwork"]  # imported so that the command line knows them

NUMBER = 10
"""Samples; with the batch size 2 an epoch has 5 steps."""
STEPS = 5
EPOCHS = 3
RUN = Path("runs/run/0")
CHECKPOINTS = RUN / "checkpoints"


class Draws(Regularizer):
    """Uses every random generator that there is, and has a parameter of its own."""

    def make_layers(self, tasks: Any, feature_channels: Any) -> None:
        self.scale = torch.nn.Parameter(torch.ones(()))

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        image = batch.image + 0.1 * torch.randn_like(batch.image) * random.random() * np.random.rand()  # noqa: NPY002
        return (View(Batch(image, batch.labels, batch.available, batch.domain, batch.index)),)

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        differences = [
            (predictions[0][name] - predictions[1][name]).square().mean() for name in predictions[0]
        ]
        return {"draws": (1 + progress) * self.scale.square() * torch.stack(differences).sum()}


class At(L.Callback):
    """Calls a function behind a training step."""

    def __init__(self, step: int, act: Callable[[], None]) -> None:
        self.step = step
        self.act = act

    def on_train_batch_end(self, trainer: L.Trainer, module: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            self.act()


class Order(L.Callback):
    """Notes which samples were trained, by step."""

    def __init__(self) -> None:
        self.samples: dict[int, list[int]] = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, module: Any, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.samples[trainer.global_step] = batch.index.tolist()


class AccidentError(Exception):
    """Ends a training, leaving what an accident would."""


def fit(*options: str, callbacks: Sequence[L.Callback] = (), epochs: int = EPOCHS) -> CommandLine:
    """A training with everything that has a state: momentum, schedule, DWA, a regularizer, augmentation."""
    given = [
        *("--data", "TinyData", f"--data.number={NUMBER}", "--data.scenario=RandomLabels"),
        *("--data.augmentation=jtr_lightning.data.augmentation.Augmentation", "--data.augmentation.flip=0.5"),
        *("--model.network=ToyNetwork", "--model.regularizer=Draws"),
        "--model.balancing=DynamicWeightAverage",
        *("--model.optimizer=Adam", "--model.optimizer.lr=0.01"),
        *("--model.lr_scheduler=StepLR", "--model.lr_scheduler.step_size=1"),
        f"--trainer.max_epochs={epochs}",
        *options,
    ]
    return command_line(["fit", *given, *QUIET], callbacks=callbacks)


def resume(folder: str | Path, *options: str, callbacks: Sequence[L.Callback] = ()) -> CommandLine:
    return command_line(["fit", "--resume", str(folder), *options], callbacks=callbacks)


QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]


def train(
    module: PartialLabelModule, data: L.LightningDataModule, *callbacks: L.Callback, **options: Any
) -> L.Trainer:
    """A training without the command line."""
    trainer = L.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_val_batches": 0,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": any(isinstance(c, Resume) for c in callbacks),
            "callbacks": list(callbacks),
            **options,
        }
    )
    trainer.fit(module, data)
    return trainer


def in_a_process(target: Callable[..., Any], *arguments: Any, timeout: float = 120) -> int:
    """Runs a function in a forked process.

    Returns:
        Its exit code; below 0 for the signal that ended it.
    """
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments)
    process.start()
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"the process did not end in {timeout} s")
    return process.exitcode


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def state(done: CommandLine) -> dict[str, Any]:
    """Everything that a training ends with and that decides how it would go on."""
    scheduler = done.trainer.lr_scheduler_configs[0].scheduler.state_dict()
    _, words, position, _, _ = np.random.get_state()  # noqa: NPY002
    return {
        "weights": {name: value.clone() for name, value in done.model.state_dict().items()},
        "optimizer": done.trainer.optimizers[0].state_dict(),
        "scheduler": {key: value for key, value in scheduler.items() if not key.startswith("_get")},
        "torch": torch.get_rng_state(),
        "numpy": (words.tolist(), position),
        "python": random.getstate(),
        "metrics": dict(done.metrics),
        "step": done.trainer.global_step,
    }


def equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return same(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[k], expected[k]) for k in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return bool(found == expected)


def differences(done: CommandLine, expected: dict[str, Any]) -> list[str]:
    found = state(done)
    assert found.keys() == expected.keys()
    return [key for key in expected if not equal(found[key], expected[key])]
