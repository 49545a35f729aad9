"""Every kind of task, and one as a user would write it, keeps the contract of tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from jtr_lightning.metric_facts import MetricFacts
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    DenseTask,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)
from jtr_lightning.tasks.base import masked_mean
from jtr_lightning.tasks.rendering import colour_map
from jtr_lightning.testing import TaskContract


class TestSegmentation(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return Segmentation(["floor", "wall", "chair", "table"])


class TestDepth(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return Depth(mean=0.2, std=0.7)


class TestInverseDepth(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return Depth(mean=0.2, std=0.7, inverse=True)


class TestNormals(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return Normals()


class TestDenseRegression(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return DenseRegression(2, low=-2.0, high=2.0, signed_channels=[0])


class TestEdges(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return DenseRegression()


class TestClassification(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return Classification(["kitchen", "office", "bathroom"])


class TestRegression(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return Regression(2, unit="deg", scale=3.0, mean=1.0)


class MeanError(Metric):
    total: Tensor
    number: Tensor

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task
        self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("number", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, prediction: Tensor, target: Tensor) -> None:
        valid = self.task.valid(target)
        self.total += (prediction - target)[valid].abs().sum()
        self.number += valid.sum()

    def compute(self) -> Tensor:
        return self.total / self.number


class Humidity(DenseTask):
    """A task of a user's own, from the base class: positive values in percent, 0 where it was not measured."""

    headline = "error"
    blank_value = 0.0

    @property
    def channels(self) -> int:
        return 1

    @property
    def unit(self) -> str:
        return "%"

    def valid(self, target: Tensor) -> Tensor:
        return target > 0

    def activate(self, raw: Tensor) -> Tensor:
        return 100 * raw.float().sigmoid()

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return (prediction - target).square()

    def metrics(self) -> MetricCollection:
        return MetricCollection({"error": MeanError(self)})

    def render(self, target: Tensor) -> Tensor:
        return colour_map(target[:, 0] / 100, self.valid(target)[:, 0])

    @property
    def joint_channels(self) -> int:
        return 1

    def encode_prediction(self, prediction: Tensor, *, hard: bool = False) -> Tensor:
        return prediction / 100

    def encode_target(self, target: Tensor) -> Tensor:
        return target / 100

    def reconstruction_loss(self, output: Tensor, code: Tensor, mask: Tensor) -> Tensor:
        return masked_mean((output - code).square(), mask)


class TestUsersOwn(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return Humidity()


BREACHES: dict[str, dict[str, Any]] = {
    "test_a_blank_target_is_valid_nowhere": {"valid": lambda self, target: target > -1},
    "test_the_loss_without_a_label_is_zero_with_a_gradient_path": {
        "pixel_loss": lambda self, prediction, target: prediction * float("inf"),
    },
    "test_a_samples_loss_does_not_depend_on_its_batch": {
        "loss": lambda self, prediction, target: (prediction - target).square().mean().expand(len(target)),
    },
    "test_a_prediction_where_the_target_is_invalid_changes_nothing": {
        "loss": lambda self, prediction, target: (prediction - target).square().flatten(1).mean(1),
    },
    "test_the_headline_is_one_of_the_metrics": {"headline": "another"},
    "test_the_facts_of_metrics_are_of_metrics_that_there_are": {
        "higher_is_better": True,
        "metric_facts": lambda self: {"error": MetricFacts("%")},
    },
    "test_mirroring_twice_changes_nothing": {"mirrored": lambda self, values: values.flip(-1) * 2},
    "test_a_zoom_can_be_undone_and_none_changes_nothing": {"zoomed": lambda self, values, zoom: values * 1.1},
    "test_codes_are_in_the_unit_interval": {"encode_target": lambda self, target: target},
    "test_the_reconstruction_loss_counts_the_masked_places_alone": {
        "reconstruction_loss": lambda self, output, code, mask: (output - code).abs().flatten(1).mean(1),
    },
    "test_a_picture_is_rgb_and_dark_grey_where_there_is_no_label": {
        "render": lambda self, target: target.expand(-1, 3, -1, -1).to(torch.uint8),
    },
}


@pytest.mark.parametrize("test", BREACHES)
def test_the_contract_notices_a_breach(test: str) -> None:
    broken = type("Broken", (Humidity,), BREACHES[test])()
    contract = TaskContract()
    getattr(contract, test)(Humidity())
    with pytest.raises(AssertionError, match=r"^assert|^Tensor-likes|^Scalars"):
        getattr(contract, test)(broken)
