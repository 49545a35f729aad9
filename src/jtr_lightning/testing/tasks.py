# ruff: noqa: S101, S301  tests assert, and unpickle what they pickled
"""Tests that every task should pass."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics import MetricCollection

from jtr_lightning.described import rebuild
from jtr_lightning.errors import DataError
from jtr_lightning.tasks import Task
from jtr_lightning.tasks.rendering import INVALID
from jtr_lightning.testing.comparing import same


class TaskContract:
    """What every ``Task`` must do. A subclass gives the fixture ``task``.

    Attributes:
        size: Height and width of the images that the tests make.
    """

    size: tuple[int, int] = (6, 8)

    @pytest.fixture
    def task(self) -> Task:
        """The task."""
        raise NotImplementedError(
            f"{type(self).__name__} should define a fixture `task` that returns a Task."
        )

    def raw(self, task: Task, number: int = 3, seed: int = 0) -> Tensor:
        """What a network's head might give, ``[B, channels, ...]``."""
        shape = (number, task.channels, *(self.size if task.dense else ()))
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def targets(self, task: Task, number: int = 3, seed: int = 1) -> Tensor:
        """Targets, some places of which are invalid; by default another prediction, decoded.

        Override it where a decoded prediction is not a label that could occur.
        """
        targets = task.decode(task.activate(self.raw(task, number, seed)))
        if task.dense:
            height, width = self.size
            gaps = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.3
            targets = torch.where(gaps, task.blank(height, width), targets)
        return targets

    def blanks(self, task: Task, number: int = 3) -> Tensor:
        """Targets of samples without a label."""
        return torch.stack([task.blank(*self.size)] * number)

    # Targets

    def test_a_blank_target_is_valid_nowhere(self, task: Task) -> None:
        blank = task.blank(*self.size)
        assert tuple(blank.shape) == task.target_shape(*self.size)
        assert blank.dtype == task.target_dtype
        assert not task.valid(blank.unsqueeze(0)).any()

    def test_valid_has_one_value_per_place(self, task: Task) -> None:
        valid = task.valid(self.targets(task))
        assert valid.dtype == torch.bool
        assert tuple(valid.shape) == ((3, 1, *self.size) if task.dense else (3,))
        assert valid.any(), "targets() should have valid places"
        assert not task.dense or not valid.all(), "targets() should have invalid places"

    def test_an_array_becomes_the_target_it_holds(self, task: Task) -> None:
        target = self.targets(task, 1)[0]
        array = (target.movedim(0, -1) if target.ndim == 3 else target).numpy()
        assert same(task.to_target(array), target)

    def test_an_array_of_another_shape_is_refused(self, task: Task) -> None:
        with pytest.raises(DataError, match="found"):
            task.to_target(np.zeros((3, 4, task.channels + 2, 2), dtype=np.float32))

    def test_a_decoded_prediction_has_the_layout_of_a_target(self, task: Task) -> None:
        decoded = task.decode(task.activate(self.raw(task)))
        assert tuple(decoded.shape) == (3, *task.target_shape(*self.size))
        assert decoded.dtype == task.target_dtype

    # Loss

    def test_the_loss_has_a_finite_value_for_each_sample(self, task: Task) -> None:
        for dtype in (torch.bfloat16, torch.float32, torch.float64):
            loss = task.loss(task.activate(self.raw(task).to(dtype)), self.targets(task))
            assert tuple(loss.shape) == (3,)
            assert loss.dtype in (torch.float32, torch.float64)
            assert loss.isfinite().all()
            assert (loss > 0).any()

    def test_the_loss_without_a_label_is_zero_with_a_gradient_path(self, task: Task) -> None:
        raw = self.raw(task).requires_grad_()
        loss = task.loss(task.activate(raw), self.blanks(task))
        assert loss.tolist() == [0.0] * 3
        (gradient,) = torch.autograd.grad(loss.sum(), raw)
        assert (gradient == 0).all()

    def test_a_samples_loss_does_not_depend_on_its_batch(self, task: Task) -> None:
        prediction = task.activate(self.raw(task, 4))
        targets = torch.cat([self.targets(task, 3), self.blanks(task, 1)])
        joined = task.loss(prediction, targets)
        alone = [task.loss(prediction[i : i + 1], targets[i : i + 1]) for i in range(4)]
        torch.testing.assert_close(joined, torch.cat(alone), rtol=1e-6, atol=1e-7)

    def test_a_prediction_where_the_target_is_invalid_changes_nothing(self, task: Task) -> None:
        targets = torch.cat([self.targets(task, 2), self.blanks(task, 1)])
        raw = self.raw(task)
        valid = task.valid(targets).view(3, *((1, *self.size) if task.dense else (1,)))
        other = torch.where(valid, raw, 5 * self.raw(task, seed=7))
        assert not torch.equal(raw, other)
        results = []
        for values in (raw, other):
            values.requires_grad_()
            loss = task.loss(task.activate(values), targets)
            (gradient,) = torch.autograd.grad(loss.sum(), values)
            assert (gradient[~valid.expand_as(gradient)] == 0).all()
            metrics = task.metrics()
            metrics.update(task.activate(values).detach(), targets)
            results.append((loss.detach(), gradient, _floats(metrics)))
        torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)

    # Metrics

    def test_the_headline_is_one_of_the_metrics(self, task: Task) -> None:
        metrics = task.metrics()
        metrics.update(task.activate(self.raw(task)), self.targets(task))
        values = _floats(metrics)
        assert task.headline in values
        assert all(np.isfinite(value) for value in values.values())
        assert task.headline_floor > 0

    def test_the_facts_of_metrics_are_of_metrics_that_there_are(self, task: Task) -> None:
        metrics = task.metrics()
        metrics.update(task.activate(self.raw(task)), self.targets(task))
        facts = task.metric_facts()
        assert set(facts) <= set(_floats(metrics))
        assert facts[task.headline].higher_is_better == task.higher_is_better

    def test_metrics_do_not_depend_on_batches_or_missing_labels(self, task: Task) -> None:
        predictions, targets = task.activate(self.raw(task, 4)), self.targets(task, 4)
        whole, parts = task.metrics(), task.metrics()
        whole.update(predictions, targets)
        for i in range(4):
            parts.update(predictions[i : i + 1], targets[i : i + 1])
        parts.update(predictions, self.blanks(task, 4))
        assert _floats(whole) == pytest.approx(_floats(parts), rel=1e-5)

    # Pictures

    def test_a_picture_is_rgb_and_dark_grey_where_there_is_no_label(self, task: Task) -> None:
        picture = task.render(self.targets(task))
        assert picture.dtype == torch.uint8
        assert tuple(picture.shape[:2]) == (3, 3)
        blank = task.render(self.blanks(task))
        assert blank.shape == picture.shape or not task.dense
        if task.dense:
            assert tuple(picture.shape[2:]) == self.size
            grey = torch.tensor(INVALID, dtype=torch.uint8).view(1, 3, 1, 1)
            assert (blank == grey).all()
            invalid = ~task.valid(self.targets(task))
            assert ((picture == grey) | ~invalid).all()

    # Geometry

    def test_mirroring_twice_changes_nothing(self, task: Task) -> None:
        for values in (self.targets(task), task.activate(self.raw(task)), self.blanks(task)):
            before = values.clone()
            assert same(task.mirrored(task.mirrored(values)), before)
            assert same(values, before), "mirrored() should leave its argument as it is"

    def test_a_zoom_can_be_undone_and_none_changes_nothing(self, task: Task) -> None:
        zoom = torch.tensor([1.0, 1.2, 1.5])
        for values in (self.targets(task), task.activate(self.raw(task))):
            before = values.clone()
            there = task.zoomed(values, zoom)
            torch.testing.assert_close(there[0], values[0], rtol=0, atol=0, equal_nan=True)
            torch.testing.assert_close(task.zoomed(there, 1 / zoom), values, equal_nan=True)
            assert same(values, before), "zoomed() should leave its argument as it is"

    def test_geometry_keeps_what_is_valid(self, task: Task) -> None:
        targets = torch.cat([self.targets(task, 2), self.blanks(task, 1)])
        for moved in (task.mirrored(targets), task.zoomed(targets, torch.tensor([1.0, 1.2, 1.5]))):
            assert torch.equal(task.valid(moved), task.valid(targets))

    # The joint-task space

    def test_codes_are_in_the_unit_interval(self, task: Task) -> None:
        if not task.joint_channels:
            return
        raw = self.raw(task).requires_grad_()
        codes = [task.encode_target(targets) for targets in (self.targets(task), self.blanks(task))]
        for hard in (False, True):
            code = task.encode_prediction(task.activate(raw), hard=hard)
            (gradient,) = torch.autograd.grad(code.square().sum(), raw)
            assert gradient.isfinite().all()
            assert gradient.any()
            codes.append(code.detach())
        for code in codes:
            assert tuple(code.shape) == (3, task.joint_channels, *(self.size if task.dense else (1, 1)))
            # A straight-through draw may miss 0 and 1 by rounding.
            assert code.min() >= -1e-6
            assert code.max() <= 1 + 1e-6

    def test_the_reconstruction_loss_counts_the_masked_places_alone(self, task: Task) -> None:
        if not task.joint_channels:
            return
        targets = torch.cat([self.targets(task, 2), self.blanks(task, 1)])
        mask = task.valid(targets).view(3, 1, *(self.size if task.dense else (1, 1)))
        code = task.encode_target(targets)
        output = torch.randn(code.shape, generator=torch.Generator().manual_seed(3))
        loss = task.reconstruction_loss(output, code, mask)
        other = task.reconstruction_loss(torch.where(mask, output, 9.0), torch.where(mask, code, 0.5), mask)
        assert tuple(loss.shape) == (3,)
        assert (loss[:2] > 0).all()
        assert loss[2] == 0
        torch.testing.assert_close(loss, other, rtol=0, atol=0)

    def test_a_task_outside_the_stack_says_so(self, task: Task) -> None:
        if task.joint_channels:
            return
        values = self.raw(task)
        mask = torch.ones(3, 1, *self.size, dtype=torch.bool)
        with pytest.raises(NotImplementedError, match="joint"):
            task.encode_prediction(values)
        with pytest.raises(NotImplementedError, match="joint"):
            task.encode_target(values)
        with pytest.raises(NotImplementedError, match="joint"):
            task.reconstruction_loss(values, values, mask)

    # Being sent and saved

    def test_a_task_can_be_sent_and_described(self, task: Task) -> None:
        description = task.describe()
        for copy in (pickle.loads(pickle.dumps(task)), rebuild(description)):
            assert isinstance(copy, Task)
            assert copy.describe() == description
            assert copy.channels == task.channels
            prediction, targets = task.activate(self.raw(task)), self.targets(task)
            assert torch.equal(copy.loss(prediction, targets), task.loss(prediction, targets))


def _floats(metrics: MetricCollection) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.compute().items()}
