import numpy as np
import pytest
import torch

from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.tasks import Classification, Regression


def test_classification_loss_is_cross_entropy_and_0_without_a_label() -> None:
    task = Classification(3)
    raw = torch.randn(3, 3, requires_grad=True)
    loss = task.loss(task.activate(raw), torch.tensor([2, -1, 0]))
    expected = torch.nn.functional.cross_entropy(raw, torch.tensor([2, 0, 0]), reduction="none")
    torch.testing.assert_close(loss[[0, 2]], expected[[0, 2]])
    assert loss[1] == 0
    loss[1].backward()
    assert torch.equal(raw.grad, torch.zeros_like(raw))


def test_regression_loss_is_smooth_l1_in_units_of_the_scale() -> None:
    task = Regression(1, unit="deg", scale=10.0, mean=5.0)
    target = torch.tensor([[5.0], [35.0], [float("nan")]])
    # A raw 0 predicts the mean: errors of 0 and 3 scales, |3| - 1/2.
    assert task.loss(task.activate(torch.zeros(3, 1)), target).tolist() == pytest.approx([0.0, 2.5, 0.0])


def test_a_missing_value_has_a_zero_gradient_not_nan() -> None:
    raw = torch.zeros(2, 1, requires_grad=True)
    task = Regression(1)
    task.loss(task.activate(raw), torch.tensor([[1.0], [float("nan")]])).sum().backward()
    assert raw.grad.flatten().tolist() == [-0.5 * 2, 0.0]


def test_accuracy_ignores_images_without_a_label() -> None:
    metrics = Classification(3).metrics()
    metrics.update(torch.eye(3)[[0, 1, 2]].log(), torch.tensor([0, -1, 1]))
    assert metrics.compute()["accuracy"] == 0.5


def test_mae_is_in_the_labels_unit() -> None:
    metrics = Regression(1, scale=10.0).metrics()
    metrics.update(torch.tensor([[3.0], [100.0]]), torch.tensor([[7.0], [float("nan")]]))
    assert metrics.compute()["mae"] == 4.0


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match=r"class id 0..1.*found 2"):
        Classification(2).to_target(np.array(2))
    with pytest.raises(DataError, match="one class id"):
        Classification(2).to_target(np.array([0, 1]))
    for bad in (0.7, np.nan):
        with pytest.raises(DataError, match=f"whole numbers as class ids; found {bad:g}"):
            Classification(2).to_target(np.array(bad))
    with pytest.raises(DataError, match=r"2 value\(s\)"):
        Regression(2).to_target(np.array(1.0))
    with pytest.raises(ConfigError, match="at least 2"):
        Classification(["only"])
    with pytest.raises(ConfigError, match="`scale` should be above 0"):
        Regression(scale=0)


def test_the_mean_of_log_probabilities_is_made_one_again() -> None:
    mean = torch.tensor([[0.2, 0.2], [0.1, 0.3]]).log()
    found = Classification(2).renormalize(mean).exp()
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5], [0.25, 0.75]]))


def test_minus_1_is_no_class_and_minus_2_a_mistake() -> None:
    assert int(Classification(2).to_target(np.array([-1]))) == -1
    assert int(Classification(2).to_target(np.array([[1]]))) == 1
    with pytest.raises(DataError, match="found -2"):
        Classification(2).to_target(np.array(-2))


def test_the_parameters_of_a_regression() -> None:
    with pytest.raises(ConfigError, match="`channels` should be at least 1; found 0"):
        Regression(0)
    task = Regression(2, scale=0.5, mean=3.0)
    assert task.activate(torch.tensor([[0.0, 2.0]])).tolist() == [[3.0, 4.0]]
    assert task.blank(5, 6).isnan().all()
    assert task.to_target(np.array([[1.0], [2.0]])).tolist() == [1.0, 2.0]


def test_an_image_with_one_of_two_values_counts_as_unlabelled() -> None:
    task, raw = Regression(2), torch.zeros(2, 2)
    target = torch.tensor([[0.5, 3.0], [0.5, float("nan")]])
    assert task.valid(target).tolist() == [True, False]
    # Smooth L1: 0.5^2 / 2 and 3 - 1/2, averaged.
    assert task.loss(task.activate(raw), target).tolist() == pytest.approx([(0.125 + 2.5) / 2, 0.0])


def test_pictures_show_the_value() -> None:
    one, other = Classification(["kitchen", "office"]).render(torch.tensor([0, 1]))
    assert not torch.equal(one, other)
    assert Regression(1, unit="deg").render(torch.tensor([[1.0], [float("nan")]])).shape == (2, 3, 48, 96)


def test_image_level_tasks_have_no_place_in_the_stack_yet() -> None:
    assert Classification(2).joint_channels == 0
    with pytest.raises(NotImplementedError, match="no place in the joint-task stack"):
        Classification(2).encode_target(torch.tensor([0]))
