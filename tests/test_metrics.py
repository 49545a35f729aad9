import math

import pytest
import torch

from jtr_lightning.metrics import SegmentationScores, angles
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)


def log_one_hot(ids: torch.Tensor, classes: int) -> torch.Tensor:
    return (torch.nn.functional.one_hot(ids, classes).movedim(-1, 1).float() + 1e-6).log()


def test_miou_and_accuracy_come_from_all_pixels_of_the_set() -> None:
    scores = SegmentationScores(4)
    scores.update(log_one_hot(torch.tensor([[[0, 0, 1, 1]]]), 4), torch.tensor([[[0, 1, 1, -1]]]))
    scores.update(log_one_hot(torch.tensor([[[1, 2]]]), 4), torch.tensor([[[1, 1]]]))
    found = scores.compute()
    # Class 0: 1 of 2, class 1: 2 of 4, class 2: 0 of 1; class 3 occurs nowhere and does not count.
    assert found["miou"].item() == pytest.approx((1 / 2 + 2 / 4 + 0) / 3)
    assert found["pixel_accuracy"].item() == pytest.approx(3 / 5)


def test_depth_errors_in_closed_form() -> None:
    metrics = Depth().metrics()
    prediction = torch.tensor([1.0, 3.0, 2.0, 9.0]).view(1, 1, 2, 2)
    target = torch.tensor([2.0, 3.0, 1.7, 0.0]).view(1, 1, 2, 2)
    metrics.update(prediction, target)
    found = metrics.compute()
    assert found["abs_err"].item() == pytest.approx((1 + 0 + 0.3) / 3, rel=1e-5)
    assert found["rel_err"].item() == pytest.approx((0.5 + 0 + 0.3 / 1.7) / 3, rel=1e-5)
    assert found["rmse"].item() == pytest.approx(math.sqrt((1 + 0 + 0.09) / 3), rel=1e-5)
    assert found["delta1"].item() == pytest.approx(2 / 3, rel=1e-5)


def test_a_negative_depth_prediction_is_far_off_and_not_within_delta1() -> None:
    metrics = Depth().metrics()
    metrics.update(torch.full((1, 1, 1, 1), -2.0), torch.full((1, 1, 1, 1), 2.0))
    assert metrics.compute()["delta1"] == 0
    assert metrics.compute()["abs_err"] == 4


def test_depths_below_one_metre_count_as_others_do() -> None:
    metrics = Depth().metrics()
    metrics.update(torch.tensor([0.5, 0.25]).view(1, 1, 1, 2), torch.tensor([0.8, 0.3]).view(1, 1, 1, 2))
    assert metrics.compute()["delta1"] == 0.5


def test_normals_that_are_no_numbers_give_an_error_that_is_none() -> None:
    metrics = Normals().metrics()
    metrics.update(torch.full((1, 3, 2, 2), math.nan), Normals().decode(torch.ones(1, 3, 2, 2)))
    found = metrics.compute()
    assert math.isnan(found["mean_angle"])
    assert math.isnan(found["median_angle"])


@pytest.mark.parametrize("place", [0, 3])
def test_classes_of_no_number_are_no_class(place: int) -> None:
    """Their largest value is that of the first class, which many a label has."""
    target = torch.zeros(1, 2, 2, dtype=torch.int64)
    target[0, 1, 1] = -1
    prediction = Segmentation(3).activate(torch.randn(1, 3, 2, 2))
    prediction[0, :, place // 2, place % 2] = math.nan
    images = Classification(3).metrics()
    images.update(prediction[0, :, place // 2, place % 2][None], target[0, place // 2, place % 2][None])
    images.update(torch.tensor([[0.0, -9.0, -9.0]]), torch.tensor([0]))
    metrics = Segmentation(3).metrics()
    metrics.update(prediction, target)
    metrics.update(prediction[..., :1, 1:], target[..., :1, 1:])
    labelled = place == 0  # the other pixel has no class
    found = metrics.compute()
    assert [math.isnan(found[name]) for name in ("miou", "pixel_accuracy")] == [labelled, labelled]
    assert math.isnan(images.compute()["accuracy"]) is labelled


def test_angles_in_closed_form() -> None:
    metrics = Normals().metrics()
    degrees = torch.tensor([0.0, 10.0, 20.0, 29.0, 90.0])
    target = torch.stack([torch.zeros(5), torch.zeros(5), -torch.ones(5)]).view(1, 3, 1, 5)
    angle = torch.deg2rad(degrees)
    prediction = torch.stack([angle.sin(), torch.zeros(5), -angle.cos()]).view(1, 3, 1, 5)
    metrics.update(prediction, target)
    metrics.update(torch.ones(1, 3, 1, 1), torch.zeros(1, 3, 1, 1))
    found = metrics.compute()
    assert found["mean_angle"].item() == pytest.approx(149 / 5, abs=1e-3)
    assert found["median_angle"].item() == pytest.approx(20, abs=0.1)
    assert found["within_11_25"].item() == pytest.approx(2 / 5)
    assert found["within_22_5"].item() == pytest.approx(3 / 5)
    assert found["within_30"].item() == pytest.approx(4 / 5)


def test_a_vector_of_length_0_is_a_right_angle_off() -> None:
    up = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1)
    for first, second in ((0 * up, up), (up, 0 * up), (0 * up, 0 * up)):
        assert angles(first, second).item() == 90
    metrics = Normals().metrics()
    metrics.update(0 * up, up)
    found = metrics.compute()
    assert found["mean_angle"].item() == 90
    assert found["median_angle"].item() == pytest.approx(90, abs=0.1)
    assert found["within_30"].item() == 0


def angle_errors(*degrees: float) -> dict[str, float]:
    """The metrics of predictions that are so many degrees off."""
    angle = torch.tensor(degrees).deg2rad()
    zeros = torch.zeros_like(angle)
    metrics = Normals().metrics()
    metrics.update(
        torch.stack([angle.sin(), zeros, -angle.cos()])[None, :, None],
        torch.stack([zeros, zeros, zeros - 1])[None, :, None],
    )
    return {name: value.item() for name, value in metrics.compute().items()}


@pytest.mark.parametrize(
    ("name", "degrees"), [("within_11_25", 11.25), ("within_22_5", 22.5), ("within_30", 30.0)]
)
def test_the_thresholds_of_angles(name: str, degrees: float) -> None:
    assert angle_errors(degrees - 0.01)[name] == 1
    assert angle_errors(degrees + 0.01)[name] == 0


@pytest.mark.parametrize(("degrees", "middle"), [(0.0, 0.05), (90.04, 90.05), (180.0, 179.95)])
def test_the_median_angle_is_the_middle_of_its_bin(degrees: float, middle: float) -> None:
    assert angle_errors(degrees)["median_angle"] == pytest.approx(middle, abs=1e-4)


def test_a_depth_that_is_off_by_a_quarter_is_not_within_delta1() -> None:
    metrics = Depth().metrics()
    metrics.update(
        torch.tensor([5.0, 4.0, 4.9]).view(1, 1, 1, 3), torch.tensor([4.0, 5.0, 4.0]).view(1, 1, 1, 3)
    )
    assert metrics.compute()["delta1"].item() == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    "task",
    [Segmentation(3), Depth(), Normals(), DenseRegression(2), Regression(2)],
    ids=lambda t: type(t).__name__,
)
def test_no_error_of_nothing_is_perfect(task: Task) -> None:
    metrics = task.metrics()
    raw = torch.zeros(1, task.channels, 2, 2) if task.dense else torch.zeros(1, task.channels)
    metrics.update(task.activate(raw), task.blank(2, 2)[None])
    assert all(value.isnan() for value in metrics.compute().values())


def test_the_median_angle_is_that_of_all_pixels() -> None:
    angle = torch.rand(1, 1, 40, 40).square() * math.pi
    prediction = torch.cat([angle.sin(), torch.zeros_like(angle), -angle.cos()], 1)
    target = torch.tensor([0.0, 0.0, -1.0]).view(1, 3, 1, 1).expand_as(prediction)
    metrics = Normals().metrics()
    metrics.update(prediction, target)
    assert metrics.compute()["median_angle"].item() == pytest.approx(
        torch.rad2deg(angle).median().item(), abs=0.06
    )


def test_dense_errors_in_closed_form() -> None:
    metrics = DenseRegression(2).metrics()
    target = torch.tensor([[1.0, float("nan")], [0.0, 0.0]]).view(1, 2, 1, 2)
    metrics.update(torch.tensor([[3.0, 7.0], [-1.0, 7.0]]).view(1, 2, 1, 2), target)
    assert metrics.compute()["l1"].item() == pytest.approx((2 + 1) / 2)
    assert metrics.compute()["rmse"].item() == pytest.approx(math.sqrt((4 + 1) / 2))


def test_errors_of_values_in_closed_form() -> None:
    metrics = Regression(2).metrics()
    target = torch.tensor([[1.0, 0.0], [float("nan"), 0.0]])
    metrics.update(torch.tensor([[3.0, -1.0], [7.0, 7.0]]), target)
    assert metrics.compute()["mae"].item() == pytest.approx((2 + 1) / 2)


@pytest.mark.parametrize(
    "task", [Segmentation(3), Depth(), Normals(), DenseRegression(2)], ids=lambda t: type(t).__name__
)
def test_batching_does_not_matter_and_unlabelled_samples_do_not_count(task) -> None:
    prediction = task.activate(torch.randn(6, task.channels, 5, 7))
    target = task.decode(task.activate(torch.randn(6, task.channels, 5, 7)))
    together, apart = task.metrics(), task.metrics()
    together.update(prediction, target)
    blank = torch.stack([task.blank(5, 7)])
    for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
        apart.update(torch.cat([prediction[rows], prediction[:1]]), torch.cat([target[rows], blank]))
    for key, value in together.compute().items():
        torch.testing.assert_close(apart.compute()[key], value, rtol=1e-6, atol=0)
