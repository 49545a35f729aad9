"""What holds for any tasks, availability, sizes and dtypes.

The definitions of the scenarios for any number of samples and tasks and any seed are in ``tests/test_scenarios.py``,
the round trip of split files in ``tests/test_splits.py``.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jtr_lightning.balancing import Balancing, DynamicWeightAverage, FixedWeights, UncertaintyWeighting
from jtr_lightning.batch import Batch
from jtr_lightning.cli.main import main
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)
from tests.regularizers.helpers import four_tasks, noise_of_the_values, random_batch, random_predictions
from tests.toy import ToyNetwork

EXPERIMENTS = sorted(Path(__file__).parents[2].glob("experiments/*/*.yaml"))
EXPERIMENTS = [path for path in EXPERIMENTS if path.parent.name not in ("sweeps", "loggers")]

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
@settings(max_examples=150)
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
@settings(max_examples=60)
def test_a_loss_follows_the_order_of_the_samples(case: tuple[Task, Tensor, Tensor], rng: Any) -> None:
    task, raw, target = case
    order = list(range(len(raw)))
    rng.shuffle(order)
    found = task.loss(task.activate(raw[order]), target[order])
    torch.testing.assert_close(found, task.loss(task.activate(raw), target)[order], rtol=1e-5, atol=1e-6)


@given(losses())
@settings(max_examples=60)
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
@settings(max_examples=25)
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


# Regularizers


SMALL: dict[str, Any] = {"widths": (4, 6), "depths": (1, 1)}
REGULARIZERS: dict[str, Callable[[], Regularizer]] = {
    **{f"jtr with {n} views": (lambda n=n: JTR(views=n, **SMALL)) for n in (1, 2, 3)},
    "consistency": ConsistencyRegularization,
    "mtpsl": lambda: MTPSL(**SMALL),
    "direct map": lambda: DirectMap(**SMALL),
    "perceptual map": lambda: PerceptualMap(**SMALL),
}


def reorder(value: Any, order: Tensor) -> Any:
    """The same of a batch, a geometry, or anything made of tensors, with its samples in another order."""
    if isinstance(value, Tensor):
        return value[order]
    if isinstance(value, dict):
        return {key: reorder(part, order) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(reorder(part, order) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: reorder(getattr(value, field.name), order) for field in fields(value)}
        return replace(value, **parts)
    return value


@pytest.fixture
def _draws_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jtr_lightning.tasks.dense.gumbel_noise", noise_of_the_values)


@pytest.mark.usefixtures("_draws_by_value")
@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("seed", range(6))
def test_a_regularizer_is_finite_and_does_not_depend_on_the_order_of_samples(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    tasks = four_tasks()
    b = 1 + seed % 4
    pattern = torch.rand(b, 4) < (0.0, 0.3, 0.5, 0.5, 0.8, 1.0)[seed]
    batch = random_batch(tasks, pattern, size=(12, 16), holes=(0.1, 1.0)[seed == 4])
    regularizer = REGULARIZERS[name]().build(tasks, [5]).double()
    views = regularizer.sample_views(batch)
    batches = [_double(part) for part in (batch, *(view.batch for view in views))]
    predictions = [
        {n: p.detach().double().requires_grad_() for n, p in random_predictions(tasks, b, (12, 16)).items()}
        for _ in batches
    ]
    features = [[torch.randn(b, 5, 6, 8, dtype=torch.float64)] for _ in batches]

    def terms(of: Regularizer, order: Tensor) -> dict[str, Tensor]:
        return of(reorder(predictions, order), reorder(batches, order), reorder(features, order), 0.5)

    found = terms(regularizer, torch.arange(b))
    assert found
    assert all(term.isfinite() and term.ndim == 0 for term in found.values())
    total = sum(found.values(), torch.zeros((), dtype=torch.float64))
    leaves = [p for values in predictions for p in values.values()] + list(regularizer.parameters())
    gradients = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else []
    assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
    order = torch.randperm(b)
    other = deepcopy(regularizer)
    for key, value in vars(regularizer).items():
        if is_dataclass(value):
            setattr(other, key, reorder(value, order))
    again = terms(other, order)
    for key, term in found.items():
        torch.testing.assert_close(again[key], term, rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("_draws_by_value")
@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizer_takes_any_mark_of_an_invalid_place_for_the_same(name: str) -> None:
    torch.manual_seed(3)
    tasks = four_tasks()
    batch = _double(random_batch(tasks, torch.rand(4, 4) < 0.6, size=(12, 16)))
    regularizer = REGULARIZERS[name]().build(tasks, [5]).double()
    views = regularizer.sample_views(batch)
    batches = [batch, *(_double(view.batch) for view in views)]
    predictions = [
        {n: p.detach().double() for n, p in random_predictions(tasks, 4, (12, 16)).items()} for _ in batches
    ]
    features = [[torch.randn(4, 5, 6, 8, dtype=torch.float64)] for _ in batches]
    expected = regularizer(predictions, batches, features, 0.5)
    for mark in (float("nan"), float("inf")):
        marked = [replace(part, labels=_marked(part.labels, tasks, mark)) for part in batches]
        found = regularizer(predictions, marked, features, 0.5)
        for key, term in expected.items():
            torch.testing.assert_close(found[key], term, rtol=0, atol=0)


def _double(batch: Batch) -> Batch:
    labels = {n: label.double() if label.is_floating_point() else label for n, label in batch.labels.items()}
    return replace(batch, image=batch.image.double(), labels=labels)


def _marked(labels: dict[str, Tensor], tasks: dict[str, Task], mark: float) -> dict[str, Tensor]:
    return {
        name: torch.where(tasks[name].valid(label), label, mark) if label.is_floating_point() else label
        for name, label in labels.items()
    }


# Config files


@pytest.mark.parametrize("path", EXPERIMENTS, ids=[f"{p.parent.name}/{p.stem}" for p in EXPERIMENTS])
def test_a_shipped_config_round_trips(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])

    def printed(config: Path) -> str:
        with pytest.raises(SystemExit) as end:
            main(["fit", "--config", str(config), "--print_config"])
        assert end.value.code == 0
        return capsys.readouterr().out

    first = printed(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(first)
    assert printed(copy) == first
    assert "class_path" in first
