"""Training steps without a trainer, for tests of precision, layout and what a step waits for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.base import Network
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.jtr import JTR
from tests.regularizers.helpers import four_tasks, random_batch

SMALL: dict[str, Any] = {"widths": (4, 6), "depths": (2, 1)}
ONE_LABEL = torch.eye(4, dtype=torch.bool)[[0, 1, 2, 3, 0, 2]]


def small_jtr(**settings: Any) -> JTR:
    return JTR(**{**SMALL, **settings})


def small_module(
    regularizer: Regularizer | None, network: Network | None = None, **settings: Any
) -> PartialLabelModule:
    """SegNet for four tasks, the same weights every time; logging goes nowhere."""
    torch.manual_seed(0)
    module = PartialLabelModule(four_tasks(), network or SegNet(**SMALL), regularizer, **settings)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    return module


def small_batch(available: Tensor = ONE_LABEL, holes: float = 0.1) -> Batch:
    torch.manual_seed(1)
    return random_batch(four_tasks(), available, (24, 20), holes)


def step(module: PartialLabelModule, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients of one step, with the same draws every time."""
    torch.manual_seed(2)
    module.zero_grad(set_to_none=True)
    loss = module.training_step(batch, 0)
    module.backward(loss)
    gradients = {name: p.grad for name, p in module.named_parameters()}
    assert all(gradient is not None for gradient in gradients.values())
    return loss.detach(), {name: g for name, g in gradients.items() if g is not None}
