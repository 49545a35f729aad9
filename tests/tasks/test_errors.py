"""Where each kind of task says a prediction is wrong, and by how much."""

import math

import pytest
import torch
from torch import Tensor

from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)


def errors(task: Task, prediction: Tensor, target: Tensor) -> list[float]:
    found = task.error(prediction, target)
    assert found is not None
    assert tuple(found.shape) == (1, 1, *prediction.shape[-2:])
    valid = task.valid(target)
    return [float(v) if ok else math.nan for v, ok in zip(found.flatten(), valid.flatten(), strict=True)]


def test_a_class_is_right_or_wrong() -> None:
    prediction = torch.tensor([[0.0, 0.0, 0.0], [-1.0, 1.0, 1.0]]).view(1, 2, 1, 3)
    right, wrong, invalid = errors(Segmentation(2), prediction, torch.tensor([[[0, 0, -1]]]))
    assert (right, wrong) == (0, 1)
    assert math.isnan(invalid)


def test_each_pixel_keeps_its_place() -> None:
    prediction = torch.tensor([[0.0, 0.0, 0.0, 0.0], [-1.0, 1.0, 1.0, -1.0]]).view(1, 2, 2, 2)
    found = Segmentation(2).error(prediction, torch.tensor([[[0, 0], [1, 1]]]))
    assert found.tolist() == [[[[0, 1], [0, 1]]]]


def test_a_depth_is_wrong_by_metres() -> None:
    target = torch.tensor([2.0, 2.0, 0.0, math.nan]).view(1, 1, 1, 4)
    found = errors(Depth(), torch.tensor([2.0, 1.25, 5.0, 5.0]).view(1, 1, 1, 4), target)
    assert found == pytest.approx([0, 0.75, math.nan, math.nan], nan_ok=True)


def test_a_normal_is_wrong_by_degrees() -> None:
    up = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    aside = torch.tensor([0.0, 3.0, 3.0]).view(1, 3, 1, 1)  # a length that is not 1 does not matter
    assert errors(Normals(), up, up) == [0]
    assert errors(Normals(), aside, up) == pytest.approx([45])


def test_values_are_wrong_by_their_mean_difference() -> None:
    target = torch.tensor([[0.5, math.nan], [0.5, 0.0]]).view(1, 2, 1, 2)
    found = errors(DenseRegression(2), torch.tensor([[0.5, 1.0], [0.0, 1.0]]).view(1, 2, 1, 2), target)
    assert found == pytest.approx([0.25, math.nan], nan_ok=True)


@pytest.mark.parametrize("task", [Classification(2), Regression()])
def test_a_task_without_pixels_has_no_map(task: Task) -> None:
    prediction = torch.zeros(1, task.channels)
    assert task.error(prediction, task.decode(prediction)) is None


@pytest.mark.parametrize(
    ("task", "scale", "unit"),
    [
        (Depth(display_range=(1, 9), unit="ft"), (0, 2), "ft"),
        (Normals(), (0, 60), "deg"),
        (DenseRegression(low=-1, high=1, unit="px"), (0, 0.5), "px"),
    ],
)
def test_the_scale_of_errors_is_fixed_so_that_epochs_compare(
    task: Task, scale: tuple[float, float], unit: str
) -> None:
    assert (task.error_legend().scale, task.error_legend().unit) == (scale, unit)
