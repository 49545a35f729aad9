"""Predictions and labels at random for tests of the methods that relate tasks, and what the tasks make of them."""

import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.tasks import DenseRegression, Depth, Normals, Segmentation, Task

SIZE = (16, 16)
AVAILABILITY = {
    "one label": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    "random": [[1, 1, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0], [1, 0, 1, 1]],
    "all": [[1, 1, 1, 1]] * 4,
    "some all, some none": [[1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]],
}
NONE = [[0, 0, 0, 0]] * 4
LOW, HIGH = -1.0, 2.0


def tasks() -> dict[str, Task]:
    return {
        "segmentation": Segmentation(3),
        "depth": Depth(mean=2.0, std=1.5),
        "normals": Normals(),
        "flow": DenseRegression(2, LOW, HIGH, signed_channels=[0]),
    }


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
    labels["flow"] = torch.rand(b, 2, *SIZE, generator=generator, dtype=torch.float64) * 4 - 1.5
    labels["flow"][:, 1, :, :3] = torch.nan
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


# The tasks' equations for one sample, written out: what the slow versions of the methods are made of.


def valid(name: str, label: Tensor) -> Tensor:
    """Where there is a label, ``[1, 1, H, W]``."""
    if name == "segmentation":
        return (label >= 0)[:, None]
    return label > 0 if name == "depth" else ~label.isnan().any(1, keepdim=True)


def supervised_loss(name: str, prediction: Tensor, label: Tensor) -> Tensor:
    """Mean over the pixels that have a label."""
    mask = valid(name, label)[0, 0]
    if name == "segmentation":
        return -prediction[0].gather(0, label.clamp(min=0))[0][mask].mean()
    one, other = prediction[0][:, mask], label[0][:, mask]
    return (1 - (one * other).sum(0)).mean() if name == "normals" else (one - other).abs().mean()


def code(name: str, prediction: Tensor) -> Tensor:
    """A prediction in [0, 1], as the joint space has it."""
    if name == "segmentation":
        return prediction.exp()
    if name == "depth":
        return (1 + torch.erf((prediction - 2.0) / 1.5 / 2**0.5)) / 2
    return (prediction + 1) / 2 if name == "normals" else ((prediction - LOW) / (HIGH - LOW)).clamp(0, 1)


def label_code(name: str, label: Tensor) -> Tensor:
    """A label in [0, 1]; without a class it is 0 in every class, and what is not finite counts as the lowest value."""
    if name == "segmentation":
        return F.one_hot(label.clamp(min=0), 3).movedim(-1, 1) * valid(name, label).double()
    return code(name, label.nan_to_num(nan=LOW))


def gradients(loss: Tensor, tensors: list[Tensor]) -> list[Tensor]:
    """Zeros where the loss does not depend on a tensor, and everywhere for a loss that is a constant."""
    if not loss.requires_grad:
        return [torch.zeros_like(tensor) for tensor in tensors]
    found = torch.autograd.grad(loss, tensors, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]


def assert_same_with_gradients(found: Tensor, expected: Tensor, tensors: list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    pairs = zip(gradients(found, tensors), gradients(expected, tensors), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)
