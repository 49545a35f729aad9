"""A whole training on a data module, with the smallest network there is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

import lightning as L
import torch
from jsonargparse import ArgumentParser
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


def data_from_docstring(kind: type[PartialLabelDataModule], **replacements: str) -> PartialLabelDataModule:
    """The data module of the config that stands in its docstring.

    Args:
        kind: The data module.
        **replacements: Parameters of the config to change, as YAML.
    """
    block = re.search(r"::\n\n( +data:\n.*?)\n\n", kind.__doc__ or "", re.DOTALL)
    assert block is not None
    config = textwrap.dedent(block[1]).replace(
        f"jtr_lightning.data.{kind.__name__}", f"{kind.__module__}.{kind.__name__}"
    )
    for name, value in replacements.items():
        config, number = re.subn(rf"(\b{name}: ).*", rf"\g<1>{value}", config)
        assert number == 1
    parser = ArgumentParser()
    parser.add_subclass_arguments(PartialLabelDataModule, "data")
    return parser.instantiate(parser.parse_string(config)).data
