"""Shows how labels, predictions and errors of the same few samples change while a network trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from jtr_lightning.batch import Batch, join
from jtr_lightning.callbacks.panels import panels
from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.dataset import PartialLabelDataset, collate
from jtr_lightning.errors import ConfigError, check_whole
from jtr_lightning.module import PartialLabelModule, Predictions
from jtr_lightning.run_folder import PANELS


class PanelLogger(L.Callback):
    """Draws the same samples every few epochs and at the end, and gives the picture to the loggers that are on.

    W&B and TensorBoard get it as an image; a ``CSVLogger``, which every run of ``jtr fit`` has, gets a PNG file
    beside its ``metrics.csv``. Drawing changes nothing about the training: no random number is drawn.

    Training samples are drawn without augmentation, with the labels that the scenario leaves them. Each availability
    occurs among them; where there are more than ``train_samples``, each task occurs with and without its label.

    Args:
        every_n_epochs: How often to draw; 0 for never.
        train_samples: Number of training samples.
        val_samples: Number of validation samples.

    Raises:
        ConfigError: A number is below 0, or there is no sample to draw.
    """

    def __init__(self, every_n_epochs: int = 10, train_samples: int = 6, val_samples: int = 2) -> None:
        for name, value in (
            ("every_n_epochs", every_n_epochs),
            ("train_samples", train_samples),
            ("val_samples", val_samples),
        ):
            check_whole(name, value, 0)
        if train_samples + val_samples == 0:
            raise ConfigError(
                "Parameters `train_samples` and `val_samples` should not both be 0; give `every_n_epochs: 0` to draw "
                "nothing."
            )
        self.every_n_epochs = every_n_epochs
        self.train_samples = train_samples
        self.val_samples = val_samples
        self._samples: tuple[Batch, list[str]] | None = None
        self._epoch = 0
        self._drawn_step = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remembers the epoch within which a training goes on, whose start is not told again."""
        self._epoch = trainer.current_epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Remembers the epoch, which the trainer counts on before the training ends."""
        self._epoch = trainer.current_epoch

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws when it is time."""
        if self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._draw(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draws the end of the training."""
        if self.every_n_epochs:
            self._draw(trainer, pl_module)

    def _draw(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loggers = [logger for logger in trainer.loggers if isinstance(logger, _SHOWN_BY)]
        if not loggers or not trainer.is_global_zero or self._drawn_step == trainer.global_step:
            return
        self._drawn_step = trainer.global_step
        module = cast(PartialLabelModule, pl_module)
        batch, names = self._read(trainer)
        predictions = predict_unseen(trainer, module, batch)
        title = f"Epoch {self._epoch}: labels, predictions and errors"
        picture = panels(batch, predictions, module.tasks, names, title, errors=True)
        for logger in loggers:
            _show(logger, picture, self._epoch, trainer.global_step)

    def _read(self, trainer: L.Trainer) -> tuple[Batch, list[str]]:
        """The samples, read at the first time."""
        if self._samples is None:
            data = getattr(trainer, "datamodule", None)
            if not isinstance(data, PartialLabelDataModule):
                raise ConfigError(
                    "PanelLogger should be given a trainer that fits a PartialLabelDataModule, to know which labels "
                    f"are available; found {type(data).__name__}. Train with one, or leave the callback out."
                )
            wanted = {"train": self.train_samples, "val": self.val_samples}
            self._samples = read_samples(
                {
                    split: (dataset, choose_samples(dataset.available, wanted[split]))
                    for split, dataset in data.datasets.items()
                    if split in wanted
                }
            )
        return self._samples


def choose_samples(available: NDArray[np.bool_], number: int) -> list[int]:
    """Samples in which every availability occurs, or every task with and without a label where there are too many.

    Args:
        available: bool ``[N, K]``.
        number: How many samples to choose; fewer if there are fewer.

    Returns:
        Their numbers, always the same for the same table.
    """
    patterns, group, counts = np.unique(available, axis=0, return_inverse=True, return_counts=True)
    members = [np.flatnonzero(group.reshape(-1) == i).tolist() for i in range(len(patterns))]
    order: list[int] = []
    covered: set[tuple[int, bool]] = set()
    rest = set(range(len(patterns)))
    while rest and len(order) < number:
        # What shows most that was not shown yet; of equals the more frequent one, then the first.
        best = max(
            sorted(rest), key=lambda i: (len(set(enumerate(patterns[i].tolist())) - covered), counts[i])
        )
        rest.remove(best)
        order.append(best)
        covered |= set(enumerate(patterns[best].tolist()))
    chosen: list[int] = []
    turn = 0
    while len(chosen) < min(number, len(available)):
        chosen += [members[i][turn] for i in order if turn < len(members[i])][: number - len(chosen)]
        turn += 1
    return chosen


def read_samples(chosen: dict[Any, tuple[PartialLabelDataset, list[int]]]) -> tuple[Batch, list[str]]:
    """Reads samples of several datasets as one batch, without augmentation.

    Args:
        chosen: For each split a dataset and numbers of samples; at least one in all.

    Returns:
        The batch, and for each sample its split and name. Images of different sizes are resized to the first.
    """
    batches: list[Batch] = []
    names: list[str] = []
    for split, (dataset, indexes) in chosen.items():
        for index in indexes:
            size = dataset.size if dataset.size or not batches else batches[0].size
            plain = PartialLabelDataset(
                dataset.source, dataset.tasks, dataset.available, size, on_error=dataset.on_error
            )
            batches.append(collate([plain[index]]))
            names.append(f"{split} {dataset.source.name(index)}")
    return join(batches), names


def predict_unseen(trainer: L.Trainer, module: PartialLabelModule, batch: Batch) -> Predictions:
    """Predicts in the trainer's precision and leaves everything as it was, random states included.

    Args:
        trainer: Gives the precision.
        module: What predicts; on its own device.
        batch: In host memory.

    Returns:
        Task name to prediction, in host memory.
    """
    precision = trainer.precision_plugin
    parts: list[Predictions] = []
    # A batch of another size would be compiled anew, which takes longer than all pictures.
    with _evaluating(module), torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        for image in torch.split(batch.image, CHUNK):
            converted = precision.convert_input(image.to(module.device))
            with precision.forward_context():
                parts.append(module(converted))
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in module.tasks}


CHUNK = 4
"""Samples predicted at once: no more memory than a training step takes."""


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each part is in the mode it was in, frozen ones too."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


_SHOWN_BY = (WandbLogger, TensorBoardLogger, CSVLogger)


def _show(logger: Logger, picture: Image.Image, epoch: int, step: int) -> None:
    """Gives the picture to a logger in its own way."""
    if isinstance(logger, WandbLogger):
        logger.log_image(PANELS, [picture], step=step, caption=[f"epoch {epoch}"])
    elif isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(PANELS, np.asarray(picture), step, dataformats="HWC")
    elif isinstance(logger, CSVLogger):
        folder = Path(logger.log_dir) / PANELS
        folder.mkdir(parents=True, exist_ok=True)
        picture.save(folder / f"epoch_{epoch:04d}.png")
