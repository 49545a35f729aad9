"""What is measured of the methods' gradients is what the benchmark says."""

from __future__ import annotations

import sys

import pytest
import torch

from benchmarks.gradient_alignment import OF_THE_MEANS, gradients_of, main, table
from benchmarks.oracle import latent_distance, plain_distance, stacks_with_hidden_labels
from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.tasks import DenseRegression, Task
from tests.regularizers.helpers import (
    ONE_LABEL,
    four_tasks,
    gradients,
    random_batch,
    random_predictions,
    small_jtr,
    terms,
    value,
)
from tests.steps import small_module


def full_and_shown(
    tasks: dict[str, Task], available: torch.Tensor = ONE_LABEL, holes: float = 0.0
) -> tuple[Batch, Batch]:
    """A batch with every label, and the same one with some."""
    batches = []
    for shown in (torch.ones_like(available), available):
        torch.manual_seed(1)
        batches.append(random_batch(tasks, shown, (24, 20), holes))
    return batches[0], batches[1]


@pytest.mark.parametrize(("views", "stand_ins"), [(3, "own_view"), (2, "supervised_view"), (1, "own_view")])
def test_the_hidden_labels_are_where_jtr_has_what_stands_in(views: int, stand_ins: str) -> None:
    jtr = small_jtr(views=views, stand_ins=stand_ins, view_maker=ViewMaker(scales=[1.5], flip=0.5))
    full, batch = full_and_shown(jtr.tasks)
    batches = [batch, *(view.batch for view in jtr.sample_views(batch))]
    predictions = [random_predictions(jtr.tasks, len(batch), batch.size) for _ in batches]
    stacks = stacks_with_hidden_labels(jtr, predictions, batches, full)
    codes = stacks.target.split([task.joint_channels for task in jtr.tasks.values()], 1)
    for (name, task), code in zip(jtr.tasks.items(), codes, strict=True):
        label = full.labels[name] if views == 1 else jtr._geometry.apply(full.labels[name], task)
        assert code.equal(task.encode_target(label)), name
    # The predictions without a label, of the view that JTR's term of the network is about, have the gradient.
    plain_distance(stacks).backward()
    for number, view in enumerate(gradients(predictions)):
        for name, gradient in view.items():
            taught = gradient.flatten(1).abs().amax(1) > 0
            expected = ~batch.labelled(name) & (number == min(1, views - 1))
            assert taught.tolist() == expected.tolist(), (number, name)


def test_where_a_hidden_label_is_not_defined_the_prediction_goes_on_standing_in() -> None:
    jtr = small_jtr(views=1)
    full, batch = full_and_shown(jtr.tasks, holes=0.3)
    predictions = [random_predictions(jtr.tasks, len(batch), batch.size)]
    stacks = stacks_with_hidden_labels(jtr, predictions, [batch], full)
    depth, label = jtr.tasks["depth"], full.labels["depth"]
    code = stacks.target[:, 4:5]  # behind the four classes
    missing = ~batch.labelled("depth").view(-1, 1, 1, 1) & stacks.mask
    for where, expected in (
        (missing & depth.valid(label), depth.encode_target(label)),
        (missing & ~depth.valid(label), depth.encode_prediction(predictions[0]["depth"])),
    ):
        assert where.any()
        assert code[where].equal(expected[where])


def test_a_wrong_prediction_without_a_label_is_noticed_with_the_hidden_labels_alone() -> None:
    tasks: dict[str, Task] = {"a": DenseRegression(), "b": DenseRegression()}
    jtr = small_jtr(tasks, views=1, stack_scale=0.5)
    full, batch = full_and_shown(tasks, torch.tensor([[True, False]] * 3))
    for wrong in (False, True):
        b = full.labels["b"]
        predictions = [{"a": full.labels["a"], "b": 1 - b if wrong else b}]
        stacks = stacks_with_hidden_labels(jtr, predictions, [batch], full)
        for distance in (value(latent_distance(jtr, stacks)), value(plain_distance(stacks))):
            assert distance > 1e-3 if wrong else distance == pytest.approx(0, abs=1e-6)
        assert value(terms(jtr, predictions, [batch])["jtr/distance"]) == pytest.approx(0, abs=1e-6)


def test_the_further_rows_leave_the_others_as_they_are() -> None:
    full, batch = full_and_shown(four_tasks(), holes=0.1)
    module = small_module(small_jtr())
    assert module.regularizer is not None
    methods = {"jtr": (module.regularizer, None), "again": (module.regularizer, None)}
    found = {}
    for oracle in (False, True):
        torch.manual_seed(2)
        _, found[oracle] = gradients_of(module, methods, full, batch, oracle)
    assert list(found[True]) == [
        name + row for name in methods for row in ("", ", true labels", ", true labels, no latent")
    ]
    assert all(float(gradient.norm()) > 0 for gradient in found[True].values())
    for name, gradient in found[False].items():
        assert found[True][name].equal(gradient)


def test_the_table_has_mean_and_deviation_over_the_trainings() -> None:
    row = {"depth": 0.1, "all": 0.0, OF_THE_MEANS: -1.0}
    one, other = {10: {"jtr": row}}, {10: {"jtr": {**row, "depth": 0.3, "all": 0.5}}}
    assert table({0: one}, ["depth"]).splitlines()[-1] == "| 10 | jtr | +0.10 | +0.00 | -1.00 |"
    assert table({0: one, 1: other}, ["depth"]).splitlines()[-1] == (
        "| 10 | jtr | +0.20 ± 0.14 | +0.25 ± 0.35 | -1.00 ± 0.00 |"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batches", "0"], "--batches should be at least 1; found 0."),
        (["--epochs", "10", "0"], "--epochs should be at least 1; found 0."),
        (["--seeds", "1", "1"], "--seeds should differ from each other; found [1, 1]."),
    ],
)
def test_a_wrong_option_is_told_in_one_sentence(
    options: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gradient_alignment.py", "jtr.yaml", *options])
    with pytest.raises(SystemExit):
        main()
    assert message in capsys.readouterr().err.splitlines()[-1]
