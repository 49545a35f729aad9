"""What holds for every regularizer, for any availability, size, number of samples and dtype."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.tasks import Depth, Normals, Task
from tests.fuzzing import examples
from tests.regularizers.helpers import (
    four_tasks,
    noise_of_the_values,
    random_batch,
    random_label,
    random_predictions,
)

SMALL: dict[str, Any] = {"widths": (4, 6), "depths": (1, 1)}
REGULARIZERS: dict[str, Callable[[], Regularizer]] = {
    **{f"jtr with {n} views": (lambda n=n: JTR(views=n, **SMALL)) for n in (1, 2, 3)},
    "consistency": ConsistencyRegularization,
    "mtpsl": lambda: MTPSL(**SMALL),
    "direct map": lambda: DirectMap(**SMALL),
    "perceptual map": lambda: PerceptualMap(**SMALL),
}
EXAMPLES = examples(12)
DTYPES = {torch.float64: 1e-8, torch.float32: 2e-4}
"""What is computed in, and how far sums in another order may be apart, relative to their size."""


@dataclass
class Case:
    """What a regularizer is given in a step."""

    regularizer: Regularizer
    tasks: dict[str, Task]
    batches: list[Batch]
    predictions: list[dict[str, Tensor]]
    features: list[list[Tensor]]
    dtype: torch.dtype

    def terms(self, **others: Any) -> dict[str, Tensor]:
        """Its terms, with some of its arguments in another form."""
        of = replace(self, **others)
        return of.regularizer(of.predictions, of.batches, of.features, 0.5)

    def check(self, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
        assert found.keys() == expected.keys()
        for key, term in expected.items():
            torch.testing.assert_close(found[key], term, rtol=DTYPES[self.dtype], atol=DTYPES[self.dtype])


def make(name: str, draw: Any) -> Case:
    """A drawn situation; every prediction takes a gradient."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    b, size = draw(st.integers(1, 4)), (draw(st.integers(6, 20)), draw(st.integers(6, 20)))
    pattern = draw(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=b, max_size=b))
    holes, dtype = draw(st.sampled_from([0.0, 0.1, 0.6, 1.0])), draw(st.sampled_from(list(DTYPES)))
    return case_of(name, random_batch(four_tasks(), torch.tensor(pattern), size, holes), dtype)


def case_of(name: str, batch: Batch, dtype: torch.dtype) -> Case:
    """What a regularizer would be given for a batch of the four tasks."""
    tasks, b, size = four_tasks(), len(batch), batch.size
    regularizer = REGULARIZERS[name]().build(tasks, [5]).to(dtype)
    batches = [_of(part, dtype) for part in (batch, *(v.batch for v in regularizer.sample_views(batch)))]
    predictions = [
        {n: p.detach().to(dtype).requires_grad_() for n, p in random_predictions(tasks, b, size).items()}
        for _ in batches
    ]
    features = [[torch.randn(b, 5, -(-size[0] // 2), -(-size[1] // 2), dtype=dtype)] for _ in batches]
    return Case(regularizer, tasks, batches, predictions, features, dtype)


def _of(batch: Batch, dtype: torch.dtype) -> Batch:
    labels = {n: label.to(dtype) if label.is_floating_point() else label for n, label in batch.labels.items()}
    return replace(batch, image=batch.image.to(dtype), labels=labels)


@contextmanager
def draws_by_value() -> Iterator[None]:
    """What is drawn for a pixel depends on its value, not on its place in the batch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jtr_lightning.tasks.dense.gumbel_noise", noise_of_the_values)
        yield


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


of_any_kind = pytest.mark.parametrize("name", REGULARIZERS)


@of_any_kind
@given(st.data())
@settings(max_examples=EXAMPLES)
def test_it_is_finite_and_does_not_depend_on_the_order_of_samples(name: str, data: Any) -> None:
    case = make(name, data.draw)
    with draws_by_value():
        found = case.terms()
        assert found
        assert all(term.isfinite() and term.ndim == 0 for term in found.values())
        total = sum(found.values(), torch.zeros((), dtype=case.dtype))
        leaves = [p for values in case.predictions for p in values.values()]
        leaves += list(case.regularizer.parameters())
        gradients = torch.autograd.grad(total, leaves, allow_unused=True) if total.requires_grad else []
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
        order = torch.randperm(len(case.batches[0]))
        other = deepcopy(case.regularizer)
        for key, value in vars(case.regularizer).items():
            if is_dataclass(value):
                setattr(other, key, reorder(value, order))
        parts = {key: reorder(getattr(case, key), order) for key in ("predictions", "batches", "features")}
        case.check(case.terms(regularizer=other, **parts), found)


@of_any_kind
@given(st.data(), st.permutations(range(4)))
@settings(max_examples=EXAMPLES)
def test_it_does_not_depend_on_the_order_of_tasks(name: str, data: Any, order: list[int]) -> None:
    case = make(name, data.draw)
    names = [list(case.tasks)[i] for i in order]
    other = REGULARIZERS[name]().build({n: case.tasks[n] for n in names}, [5]).to(case.dtype)
    for key, value in vars(case.regularizer).items():
        if is_dataclass(value):
            setattr(other, key, value)
    carry_over(case, other, names)
    batches = [
        replace(part, labels={n: part.labels[n] for n in names}, available=part.available[:, order])
        for part in case.batches
    ]
    predictions = [{n: values[n] for n in names} for values in case.predictions]
    with draws_by_value():
        case.check(case.terms(regularizer=other, batches=batches, predictions=predictions), case.terms())


def carry_over(case: Case, other: Regularizer, names: list[str]) -> None:
    """Gives a regularizer of tasks in another order the same weights."""
    weights = case.regularizer.state_dict()
    if isinstance(other, JTR):
        # The channels of its stack follow the order of the tasks.
        sizes = [task.joint_channels for task in case.tasks.values()]
        places = dict(zip(case.tasks, torch.arange(sum(sizes)).split(sizes), strict=True))
        channels = torch.cat([places[n] for n in names])
        for name in ("autoencoder.head.1.weight", "autoencoder.head.1.bias"):
            weights[name] = weights[name][channels]
        first = "autoencoder.encoder.stages.0.0.weight"
        weights[first] = weights[first][:, channels]
    if isinstance(other, MTPSL):
        weights = by_place(weights, [list(case.tasks).index(n) for n in names])
    other.load_state_dict(weights)


def by_place(weights: dict[str, Tensor], order: list[int]) -> dict[str, Tensor]:
    """MTPSL's weights, its tasks in another order: stems are numbered by task, gammas and betas by ordered pair."""
    old = {pair: number for number, pair in enumerate(permutations(range(len(order)), 2))}
    rows = torch.tensor([old[order[source], order[target]] for source, target in old])
    found = {}
    for key, value in weights.items():
        parts = key.split(".")
        if parts[-1] in ("gamma", "beta"):
            found[key] = value[rows]
        elif "stems" in parts:
            found[key] = weights[".".join([*parts[:2], str(order[int(parts[2])]), *parts[3:]])]
        else:
            found[key] = value
    return found


@of_any_kind
@given(st.data())
@settings(max_examples=EXAMPLES)
def test_hidden_and_invalid_labels_change_neither_a_term_nor_a_gradient(name: str, data: Any) -> None:
    """A hidden label is blank; even if it were not, nobody would look at it."""
    case = make(name, data.draw)
    unseen = [
        {n: ~(case.tasks[n].valid(part.labels[n]) & _as_map(part.labelled(n))) for n in case.tasks}
        for part in case.batches
    ]
    marks = {n: data.draw(st.sampled_from(_marks(task)), label=n) for n, task in case.tasks.items()}
    batches = []
    for part, places in zip(case.batches, unseen, strict=True):
        labels = {}
        for n, task in case.tasks.items():
            other = random_label(task, len(part), part.size, holes=0.0).to(part.labels[n].dtype)
            hidden = ~_as_map(part.labelled(n)).expand_as(places[n])
            if other.is_floating_point():
                other = torch.where(hidden, other, marks[n])
                label = torch.where(places[n], other, part.labels[n])
            else:
                label = torch.where(hidden[:, 0], other, part.labels[n])
            labels[n] = label
        batches.append(replace(part, labels=labels))
    case.check(outcome(case, batches), outcome(case, case.batches))


# Where no gradient may arrive at a prediction

Silent = list[dict[str, Tensor]]


def silent_for_jtr(case: Case) -> Silent:
    """Its network term is of one view alone, teaches no labelled task, and sees no pixel with an invalid label."""
    view = min(1, len(case.batches) - 1)
    batch = case.batches[view]
    silent = [
        dict.fromkeys(case.tasks, _as_map(torch.ones(len(batch), dtype=torch.bool))) for _ in case.batches
    ]
    invalid = torch.zeros(len(batch), 1, *batch.size, dtype=torch.bool)
    for n, task in case.tasks.items():
        invalid |= _as_map(batch.labelled(n)) & ~task.valid(batch.labels[n]).view_as(invalid)
    silent[view] = {n: _as_map(batch.labelled(n)) | invalid for n in case.tasks}
    return silent


def silent_for_consistency(case: Case) -> Silent:
    """It teaches no labelled task, and compares no pixel of the batch that the view does not show."""
    regularizer, batch = case.regularizer, case.batches[0]
    assert isinstance(regularizer, ConsistencyRegularization)
    hidden = ~regularizer._geometry.visible(*batch.size)
    labelled = {n: _as_map(batch.labelled(n)) for n in case.tasks}
    return [{n: labelled[n] | hidden for n in case.tasks}, labelled]


def silent_for_mtpsl(case: Case) -> Silent:
    """It reads the view alone, and relates unlabelled tasks to labelled ones, or all tasks where all are labelled."""
    available = case.batches[0].available
    silent = available & ~available.all(1, keepdim=True) | ~available.any(1, keepdim=True)
    return [
        dict.fromkeys(case.tasks, _as_map(torch.ones(len(available), dtype=torch.bool))),
        {n: _as_map(silent[:, k]) for k, n in enumerate(case.tasks)},
    ]


def silent_for_maps(case: Case) -> Silent:
    """Unlabelled tasks are taught alone, and by valid pixels alone."""
    batch = case.batches[0]
    teaching = torch.stack(
        [batch.labelled(n) & task.valid(batch.labels[n]).flatten(1).any(1) for n, task in case.tasks.items()],
        1,
    )
    silent = batch.available | ~teaching.any(1, keepdim=True)
    return [{n: _as_map(silent[:, k]) for k, n in enumerate(case.tasks)}]


SILENT: dict[type[Regularizer], Callable[[Case], Silent]] = {
    JTR: silent_for_jtr,
    ConsistencyRegularization: silent_for_consistency,
    MTPSL: silent_for_mtpsl,
    DirectMap: silent_for_maps,
    PerceptualMap: silent_for_maps,
}


def assert_silent(case: Case) -> Tensor:
    """Asserts that the gradient is 0, exactly, wherever it has to be.

    Returns:
        Its largest absolute value elsewhere.
    """
    found, largest = outcome(case, case.batches), torch.zeros((), dtype=case.dtype)
    for i, places in enumerate(SILENT[type(case.regularizer)](case)):
        for n, where in places.items():
            gradient = found.get(f"{i}/{n}")
            if gradient is not None:
                where = where.expand(-1, gradient.shape[1], *gradient.shape[2:])
                assert (gradient[where] == 0).all(), f"view {i}, {n}"
                largest = torch.maximum(largest, gradient.abs().max())
    return largest


@of_any_kind
@given(st.data())
@settings(max_examples=EXAMPLES)
def test_no_gradient_arrives_where_nothing_is_to_be_learned(name: str, data: Any) -> None:
    assert_silent(make(name, data.draw))


@of_any_kind
def test_a_gradient_arrives_at_a_task_without_label(name: str) -> None:
    """Or the test before this one would prove nothing."""
    tasks = four_tasks()
    one_label = torch.eye(4, dtype=torch.bool)
    assert (
        assert_silent(case_of(name, random_batch(tasks, one_label, (12, 16), holes=0.1), torch.float64)) > 0
    )


def outcome(case: Case, batches: list[Batch]) -> dict[str, Tensor]:
    """Its terms and the gradients of all predictions."""
    torch.manual_seed(0)
    terms = case.terms(batches=batches)
    leaves = {f"{i}/{n}": p for i, values in enumerate(case.predictions) for n, p in values.items()}
    total = sum(terms.values(), torch.zeros((), dtype=case.dtype))
    if not total.requires_grad:
        return terms
    gradients = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {**terms, **{n: g for n, g in zip(leaves, gradients, strict=True) if g is not None}}


def _as_map(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1)


def _marks(task: Task) -> list[float]:
    """What may stand at an invalid place."""
    marks = [float("nan"), float("inf"), float("-inf")]
    return marks + ([0.0, -2.0] if isinstance(task, Depth) else [0.0] if isinstance(task, Normals) else [])
