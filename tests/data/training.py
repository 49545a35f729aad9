"""A whole training on a data module, with the smallest network there is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import lightning as L
import torch
from torch import Tensor, nn

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.base import Network
from jtr_lightning.tasks import Task


class OneConvolution(Network):
    """A convolution, and a linear head for each task."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 4, 3, padding=1)
        self.heads = nn.ModuleDict()

    def make_layers(self, tasks: Mapping[str, Task]) -> None:
        for name, task in tasks.items():
            self.heads[name] = nn.Linear(4, task.channels)

    @property
    def feature_channels(self) -> list[int]:
        return [4]

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        features = self.encoder(image).relu()
        pixels, pooled = features.movedim(1, -1), features.mean((2, 3))
        raw = {
            name: self.heads[name](pixels).movedim(-1, 1) if task.dense else self.heads[name](pooled)
            for name, task in self.tasks.items()
        }
        return raw, [features]


def train_and_predict(data: PartialLabelDataModule, folder: Path) -> list[dict[str, Tensor]]:
    """Trains for two epochs, checks every task's headline metric of the validation set, and predicts the test set."""
    model = PartialLabelModule(data.tasks, OneConvolution())
    trainer = L.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    for name, task in data.tasks.items():
        assert torch.isfinite(trainer.callback_metrics[f"val/{name}/{task.headline}"])
    predictions = trainer.predict(model, datamodule=data)
    assert predictions is not None
    return predictions
