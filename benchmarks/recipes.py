"""The training steps that the benchmarks compare: SegNet and JTR with the tasks of NYU-v2, and made-up batches."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import torch

from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.networks.segnet_blocks import SegNetHead
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.tasks import DenseRegression, Depth, Normals, Segmentation, Task

sys.path.append(str(Path(__file__).resolve().parents[1]))
from benchmarks.variants import FrozenByCopy, GraphOfEveryView, TwoLayerHeads
from tests.regularizers.reference import LoopJTR

REGULARIZERS: dict[str, Callable[[], Regularizer | None]] = {
    "loop": LoopJTR,
    "published": JTR,
    "heads as two layers": TwoLayerHeads,
    "view 2 with a graph": GraphOfEveryView,
    "frozen by copy": FrozenByCopy,
    "views 1": lambda: JTR(views=1),
    "half stacks": lambda: JTR(stack_scale=0.5),
    "efficient": lambda: JTR(views=1, stack_scale=0.5),
    "supervised": lambda: None,
}
"""What is compared: name to regularizer (None for supervised training alone).

``loop`` is the slow version that the tests hold: one sample after the other, a deep copy of the auto-encoder for each,
three views with a graph, and heads of two layers.
"""


def nyuv2_tasks() -> dict[str, Task]:
    """The three tasks of NYU-v2 with 13 classes."""
    return {"segmentation": Segmentation(13), "depth": Depth(), "normals": Normals()}


def many_tasks(number: int) -> dict[str, Task]:
    """Segmentation and ``number - 1`` single-channel regressions."""
    regressions = {f"value{i}": DenseRegression() for i in range(1, number)}
    return {"segmentation": Segmentation(13), **regressions}


def make_module(regularizer: Regularizer | None, tasks: dict[str, Task], **flags: bool) -> PartialLabelModule:
    """SegNet with a regularizer and the module's flags."""
    module = PartialLabelModule(tasks, SegNet(), regularizer, **flags)
    if isinstance(regularizer, LoopJTR | TwoLayerHeads):
        for part in module.modules():
            if isinstance(part, SegNetHead):
                part.as_one = False
    module.log = lambda *_, **__: None  # type: ignore[method-assign]  # there is no trainer
    return module


def make_batch(tasks: dict[str, Task], number: int, height: int, width: int, device: str = "cpu") -> Batch:
    """Smooth noise with one label per sample, the tasks in turn."""
    labels = {}
    available = torch.zeros(number, len(tasks), dtype=torch.bool)
    available[torch.arange(number), torch.arange(number) % len(tasks)] = True
    for k, (name, task) in enumerate(tasks.items()):
        blank = task.blank(height, width).expand(number, *task.target_shape(height, width))
        if isinstance(task, Segmentation):
            label = torch.randint(task.channels, blank.shape)
        else:
            label = 0.5 + torch.rand(blank.shape)
        if isinstance(task, Normals):
            label = torch.nn.functional.normalize(label - 1, dim=1)
        shown = available[:, k].view(-1, *(1,) * (label.ndim - 1))
        labels[name] = torch.where(shown, label, blank)
    image = torch.rand(number, 3, height, width)
    batch = Batch(image, labels, available, torch.zeros(number).long(), torch.arange(number))
    return batch.to(device)
