"""Predictions and labels at random for tests of the methods that relate tasks."""

import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.tasks import Depth, Normals, Segmentation, Task

SIZE = (16, 16)
AVAILABILITY = {
    "one label": [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]],
    "random": [[1, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1]],
    "all": [[1, 1, 1]] * 4,
    "some all, some none": [[1, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0]],
}
NONE = [[0, 0, 0]] * 4


def tasks() -> dict[str, Task]:
    return {"segmentation": Segmentation(3), "depth": Depth(), "normals": Normals()}


def batch_of(rows: list[list[int]], seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    available = torch.tensor(rows, dtype=torch.bool)
    b = len(rows)
    labels = {
        "segmentation": torch.randint(-1, 3, (b, *SIZE), generator=generator),
        "depth": torch.rand(b, 1, *SIZE, generator=generator, dtype=torch.float64) * 4,
        "normals": torch.nn.functional.normalize(
            torch.randn(b, 3, *SIZE, generator=generator, dtype=torch.float64)
        ),
    }
    labels["depth"][:, :, :3] = 0
    for k, (name, task) in enumerate(tasks().items()):
        labels[name][~available[:, k]] = task.blank(*SIZE).to(labels[name].dtype)
    image = torch.rand(b, 3, *SIZE, generator=generator, dtype=torch.float64)
    return Batch(image, labels, available, torch.zeros(b, dtype=torch.long), torch.arange(b))


def predictions_of(b: int, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name, task in tasks().items():
        raw = torch.randn(b, task.channels, *SIZE, generator=generator, dtype=torch.float64) + 1
        found[name] = task.activate(raw).detach().requires_grad_()
    return found


def gradients(loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]


def assert_same_with_gradients(found: Tensor, expected: Tensor, tensors: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    pairs = zip(gradients(found, tensors), gradients(expected, tensors), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)
