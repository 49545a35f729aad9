"""What holds for any tasks, availability, sizes and dtypes.

The definitions of the scenarios for any number of samples and tasks and any seed are in ``tests/test_scenarios.py``,
the round trip of split files in ``tests/test_splits.py``, that of configs in ``test_config_round_trips.py``, what
holds for regularizers in ``test_regularizer_properties.py``.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jtr_lightning.balancing import Balancing, DynamicWeightAverage, FixedWeights, UncertaintyWeighting
from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)
from tests.fuzzing import examples
from tests.regularizers.helpers import four_tasks, random_batch, random_predictions
from tests.toy import ToyNetwork

KINDS: dict[str, Callable[[int], Task]] = {
    "segmentation": lambda c: Segmentation(c + 1),
    "depth": lambda c: Depth(),
    "normals": lambda c: Normals(),
    "dense regression": lambda c: DenseRegression(c),
    "classification": lambda c: Classification(c + 1),
    "regression": lambda c: Regression(c),
}
DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_target(task: Task, b: int, size: tuple[int, int], seed: int) -> Tensor:
    """Decoded random predictions with holes; some samples have no label at all."""
    shape = (b, task.channels, *(size if task.dense else ()))
    target = task.decode(task.activate(torch.randn(shape, generator=generator(seed))))
    if isinstance(task, Depth):
        target = target.abs() + 0.1
    blank = task.blank(*size).expand_as(target)
    places = (b, *(size if task.dense else ()))
    hole = torch.rand(places, generator=generator(seed + 1)) < 0.4
    hole |= (torch.rand(b, generator=generator(seed + 2)) < 0.3).view(b, *(1,) * (hole.ndim - 1))
    hole = hole.view(*hole.shape, 1) if target.ndim == 2 else hole.unsqueeze(1) if target.ndim == 4 else hole
    return torch.where(hole, blank, target)


@st.composite
def losses(draw: Any) -> tuple[Task, Tensor, Tensor]:
    """A task, a raw prediction and targets."""
    kind, c = draw(st.sampled_from(sorted(KINDS))), draw(st.integers(1, 5))
    b, size = draw(st.integers(1, 4)), (draw(st.integers(1, 9)), draw(st.integers(1, 9)))
    seed, dtype = draw(st.integers(0, 2**31)), draw(st.sampled_from(DTYPES))
    task = KINDS[kind](c)
    raw = 3 * torch.randn(b, task.channels, *(size if task.dense else ()), generator=generator(seed + 9))
    return task, raw.to(dtype), random_target(task, b, size, seed)


@given(losses())
@settings(max_examples=examples(150))
def test_any_loss_is_finite_and_deaf_to_what_is_invalid(case: tuple[Task, Tensor, Tensor]) -> None:
    task, raw, target = case
    raw.requires_grad_()
    loss = task.loss(task.activate(raw), target)
    (gradient,) = torch.autograd.grad(loss.sum(), raw)
    assert loss.shape == (len(raw),)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    valid = task.valid(target)
    seen = valid.reshape(len(raw), 1, *(raw.shape[2:] if task.dense else ())).expand_as(gradient)
    assert (gradient[~seen] == 0).all()
    other = torch.where(seen, raw.detach(), -raw.detach() + 2)
    assert torch.equal(task.loss(task.activate(other), target), loss.detach())
    assert (loss[~valid.reshape(len(raw), -1).any(1)] == 0).all()


@given(losses(), st.randoms(use_true_random=False))
@settings(max_examples=examples(60))
def test_a_loss_follows_the_order_of_the_samples(case: tuple[Task, Tensor, Tensor], rng: Any) -> None:
    task, raw, target = case
    order = list(range(len(raw)))
    rng.shuffle(order)
    found = task.loss(task.activate(raw[order]), target[order])
    torch.testing.assert_close(found, task.loss(task.activate(raw), target)[order], rtol=1e-5, atol=1e-6)


@given(losses())
@settings(max_examples=examples(60))
def test_any_mark_of_an_invalid_place_is_as_good_as_another(case: tuple[Task, Tensor, Tensor]) -> None:
    task, raw, target = case
    if not target.is_floating_point():
        return
    valid = task.valid(target).view(len(target), 1, *target.shape[2:])
    marks = [float("nan"), float("inf"), float("-inf")] + [0.0, -2.0] * isinstance(task, Depth)
    expected = task.loss(task.activate(raw), target)
    for mark in marks:
        marked = torch.where(valid, target, mark)
        assert torch.equal(task.valid(marked), task.valid(target))
        assert torch.equal(task.loss(task.activate(raw), marked), expected)


# The loss of all tasks


BALANCINGS: list[Callable[[], Balancing]] = [FixedWeights, UncertaintyWeighting, DynamicWeightAverage]
Pattern = list[list[bool]]
patterns = st.integers(1, 5).flatmap(
    lambda b: st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=b, max_size=b)
)


@pytest.mark.parametrize("balancing", BALANCINGS)
@given(patterns, st.permutations(range(4)), st.integers(0, 1000))
@settings(max_examples=examples(25))
def test_the_supervised_loss_does_not_depend_on_the_order_of_tasks_or_samples(
    balancing: Callable[[], Balancing], pattern: Pattern, order: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    tasks = four_tasks()
    batch = random_batch(tasks, torch.tensor(pattern), size=(5, 7))
    predictions = random_predictions(tasks, len(batch), size=(5, 7))
    names = [list(tasks)[i] for i in order]
    samples = torch.randperm(len(batch))

    def loss(names: list[str], rows: Tensor) -> Tensor:
        module = PartialLabelModule({name: tasks[name] for name in names}, ToyNetwork(), None, balancing())
        columns = [list(tasks).index(name) for name in names]
        part = Batch(
            batch.image[rows],
            {name: batch.labels[name][rows] for name in names},
            batch.available[rows][:, columns],
            batch.domain[rows],
            batch.index[rows],
        )
        values = module.supervised_losses({name: predictions[name][rows] for name in names}, part)
        assert (values[~part.available] == 0).all()
        found: Tensor = module.balancing(values, part.available)
        return found

    expected = loss(list(tasks), torch.arange(len(batch)))
    assert expected.isfinite()
    torch.testing.assert_close(loss(names, samples), expected, rtol=1e-5, atol=1e-6)
