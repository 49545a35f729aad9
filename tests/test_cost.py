"""What a training step costs in arithmetic is what the page on costs says, counted without computing anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.tasks import DenseRegression, Depth, Normals, Segmentation, Task

PAGE = Path(__file__).parents[1] / "docs" / "cost.md"
NYUV2: dict[str, Task] = {"segmentation": Segmentation(13), "depth": Depth(), "normals": Normals()}


def step_flops(regularizer: Regularizer | None, tasks: dict[str, Task] = NYUV2) -> float:
    """TFLOP of a step at 288x384 with 4 samples."""
    number, height, width = 4, 288, 384
    module = PartialLabelModule(tasks, SegNet(), regularizer).to("meta")
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    labels = {
        n: torch.empty(number, *t.target_shape(height, width), dtype=t.target_dtype) for n, t in tasks.items()
    }
    index = torch.zeros(number, dtype=torch.int64)
    available = torch.ones(number, len(tasks), dtype=torch.bool)
    batch = Batch(torch.empty(number, 3, height, width), labels, available, index, index).to("meta")
    with FlopCounterMode(display=False) as counter:
        module.backward(module.training_step(batch, 0))
    return counter.get_total_flops() / 1e12


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("published", {}, 7.10),
        ("views 1", {"views": 1}, 5.26),
        ("half stacks", {"stack_scale": 0.5}, 4.18),
        ("efficient", {"views": 1, "stack_scale": 0.5}, 2.35),
    ],
)
def test_a_step_costs_what_the_page_says(name: str, settings: dict[str, float], expected: float) -> None:
    assert step_flops(JTR(**settings)) == pytest.approx(expected, abs=0.005)
    assert f"| {name} | {expected:.2f} |" in PAGE.read_text()


def test_the_supervised_step_costs_what_the_page_says() -> None:
    assert step_flops(None) == pytest.approx(1.37, abs=0.005)
    assert "| supervised | 1.37 |" in PAGE.read_text()


def test_jtr_hardly_costs_more_with_more_tasks() -> None:
    """Without the network's heads: only the auto-encoder's first and last layer see how many tasks there are."""

    def jtr_alone(number: int) -> float:
        regressions = {f"value{i}": DenseRegression() for i in range(1, number)}
        tasks: dict[str, Task] = {"segmentation": Segmentation(13), **regressions}
        return step_flops(JTR(views=1), tasks) - step_flops(None, tasks)

    assert 1 < jtr_alone(16) / jtr_alone(2) < 1.1
