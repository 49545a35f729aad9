"""Tiny batches and predictions for the regularizers' tests."""

from __future__ import annotations

import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Normals, Segmentation, Task

B, K = 4, 4
ONE_LABEL = torch.eye(K, dtype=torch.bool)
SOME = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]]).bool()


def four_tasks() -> dict[str, Task]:
    return {
        "segmentation": Segmentation(4),
        "depth": Depth(),
        "normals": Normals(),
        "edges": DenseRegression(channels=2),
    }


def random_label(task: Task, b: int, size: tuple[int, int], holes: float = 0.1) -> Tensor:
    """Labels with a share of blank pixels; floating-point ones in the default dtype."""
    height, width = size
    if isinstance(task, Classification):
        return torch.randint(task.channels, (b,))
    blank = task.blank(height, width).expand(b, *task.target_shape(height, width))
    hole = torch.rand(b, height, width) < holes
    if isinstance(task, Segmentation):
        return torch.where(hole, blank, torch.randint(task.channels, (b, height, width)))
    values = torch.rand(b, task.channels, height, width)
    if isinstance(task, Depth):
        values = 0.5 + 5 * values
    if isinstance(task, Normals):
        values = torch.nn.functional.normalize(values - 0.5, dim=1)
    return torch.where(hole[:, None], blank.to(values.dtype), values)


def random_batch(
    tasks: dict[str, Task], available: Tensor, size: tuple[int, int] = (16, 12), holes: float = 0.1
) -> Batch:
    """A batch with this availability; hidden labels are blank."""
    b = len(available)
    labels = {}
    for k, (name, task) in enumerate(tasks.items()):
        label = random_label(task, b, size, holes)
        shown = available[:, k].view(-1, *(1,) * (label.ndim - 1))
        labels[name] = torch.where(shown, label, task.blank(*size).to(label.dtype))
    return Batch(torch.rand(b, 3, *size), labels, available, torch.zeros(b).long(), torch.arange(b))


def random_predictions(tasks: dict[str, Task], b: int, size: tuple[int, int] = (16, 12)) -> dict[str, Tensor]:
    """Predictions as a network's, each a leaf that takes a gradient."""
    predictions = {}
    for name, task in tasks.items():
        raw = torch.randn(b, task.channels, *(size if task.dense else ()))
        predictions[name] = task.activate(raw).detach().requires_grad_()
    return predictions


def noise_of_the_values(like: Tensor) -> Tensor:
    """Stands for ``gumbel_noise``: the same for the same prediction, however samples are grouped and ordered."""
    uniform = (torch.sin(12.9898 * like.detach().double()) * 43758.5453).frac().abs().clamp(1e-6, 1 - 1e-6)
    return (-(-uniform.log()).log()).to(like.dtype)


def small_jtr(tasks: dict[str, Task] | None = None, **settings) -> JTR:
    jtr = JTR(**{"widths": (4, 6), "depths": (1, 2), **settings})
    jtr.build(tasks or four_tasks())
    return jtr


def inputs(jtr: JTR, available: Tensor = ONE_LABEL, **kwargs):
    """Predictions and batches for all of JTR's views."""
    batches = [random_batch(jtr.tasks, available, **kwargs) for _ in range(jtr.views)]
    predictions = [random_predictions(jtr.tasks, len(available), batches[0].size) for _ in range(jtr.views)]
    return predictions, batches


def terms(jtr: JTR, predictions, batches, progress: float = 0.0, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return jtr(predictions, batches, [[]] * len(batches), progress)


def value(term: Tensor) -> float:
    return float(term.detach())


def gradients(predictions) -> list[dict[str, Tensor]]:
    return [
        {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in view.items()}
        for view in predictions
    ]
