"""What tables say of each metric: its unit, and which direction is better."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jtr_lightning.metric_facts import MetricFacts
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)

KINDS: dict[str, Task] = {
    "segmentation": Segmentation(3),
    "depth": Depth(),
    "normals": Normals(),
    "dense regression": DenseRegression(unit="mm"),
    "classification": Classification(3),
    "regression": Regression(unit="deg"),
}


def measured(task: Task, prediction: Tensor, target: Tensor) -> dict[str, float]:
    metrics = task.metrics()
    metrics.update(prediction, target)
    return {name: float(value) for name, value in metrics.compute().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_is_better_in_the_direction_that_tables_show(kind: str) -> None:
    task = KINDS[kind]
    right = task.activate(torch.randn(2, task.channels, *((6, 8) if task.dense else ())).abs())
    target = task.decode(right)
    perfect, wrong = measured(task, right, target), measured(task, -right, target)
    assert {
        name: facts.higher_is_better for name, facts in task.metric_facts().items()
    } == {name: perfect[name] > wrong[name] for name in perfect}  # fmt: skip


def test_only_what_has_the_unit_of_the_labels_is_shown_with_it() -> None:
    units = {kind: {n: f.unit for n, f in task.metric_facts().items()} for kind, task in KINDS.items()}
    assert units["depth"] == {"abs_err": "m", "rel_err": "", "rmse": "m", "delta1": ""}
    assert units["normals"] == {
        "mean_angle": "deg", "median_angle": "deg", "within_11_25": "", "within_22_5": "", "within_30": "",
    }  # fmt: skip
    assert KINDS["normals"].unit == "", "the vectors themselves have none"
    assert units["dense regression"] == {"l1": "mm", "rmse": "mm"}


def test_a_head_has_unit_and_arrow() -> None:
    assert MetricFacts("m").head("rmse") == "rmse [m] ↓"
    assert MetricFacts(higher_is_better=True).head("delta1") == "delta1 ↑"


def test_the_least_that_a_headline_metric_counts_as_has_the_scale_of_its_labels() -> None:
    tasks = [
        *(Segmentation(3), Depth(mean=2.0, std=0.5), Normals(), Classification(3)),
        *(DenseRegression(low=-1.0, high=3.0), Regression(scale=20.0)),
    ]
    floors = [task.headline_floor for task in tasks]
    assert floors == pytest.approx([0.01, 0.0005, 0.1, 0.01, 0.004, 0.02])


def test_an_error_of_unknown_scale_may_be_a_millionth() -> None:
    class Unknown(Depth):
        headline_floor = Task.headline_floor

    assert Unknown().headline_floor == pytest.approx(1e-6)
