"""A tiny module, its data and a quiet trainer."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.data.dataset import collate
from jtr_lightning.module import PartialLabelModule
from tests.tiny import TinyData, ToyNetwork, tiny_tasks

__all__ = ["batches", "data", "loss_and_gradients", "model", "trainer"]


def data(**options: Any) -> TinyData:
    return TinyData(**{"tasks": list(tiny_tasks()), "number": 8, "batch_size": 4, **options})


def batches(number: int = 2, **options: Any) -> list[Batch]:
    module = data(**options)
    module.setup("fit")
    train = module.datasets["train"]
    return [collate([train[4 * i + j] for j in range(4)]) for i in range(number)]


def model(**options: Any) -> PartialLabelModule:
    torch.manual_seed(3)
    return PartialLabelModule(tiny_tasks(), ToyNetwork(), **options)


def trainer(folder: Path, **options: Any) -> L.Trainer:
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(accelerator="cpu", default_root_dir=folder, **{**quiet, "max_epochs": 1, **options})


def loss_and_gradients(module: PartialLabelModule, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    module.zero_grad()
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    loss = module.training_step(batch, 0)
    module.backward(loss)
    gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in module.named_parameters()}
    return loss.detach(), {name: gradient.clone() for name, gradient in gradients.items()}
