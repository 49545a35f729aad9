"""Whose prediction stands in for a missing label in JTR's term of the network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jtr_lightning.errors import ConfigError
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.tasks import DenseRegression, Task
from tests.regularizers.helpers import (
    ONE_LABEL,
    gradients,
    random_batch,
    random_predictions,
    small_jtr,
    terms,
    value,
)

TWO: dict[str, Task] = {"a": DenseRegression(), "b": DenseRegression()}
FIRST_ALONE = torch.tensor([[True, False]] * 3)


def seen_in_view_1(jtr, batch) -> tuple[list[dict[str, Tensor]], list]:
    """Predictions of the batch, and of its views as a network's that sees each pixel alike: the same, moved."""
    views = jtr.sample_views(batch)
    supervised = {"a": batch.labels["a"].clone(), "b": torch.rand_like(batch.labels["b"])}
    # One geometry for view 1, kept by the regularizer; view 2 trains the auto-encoder alone and may be anything.
    moved = {
        "a": views[0].batch.labels["a"],
        "b": jtr._geometry.apply(supervised["b"], TWO["b"], smooth=True),
    }
    other = random_predictions(TWO, len(batch), batch.size)
    return [supervised, moved, other], [batch, *(view.batch for view in views)]


@pytest.mark.parametrize("stand_ins", ["own_view", "supervised_view"])
def test_a_wrong_prediction_without_a_label_is_noticed_by_comparison_with_the_other_view_alone(
    stand_ins: str,
) -> None:
    jtr = small_jtr(tasks=TWO, stand_ins=stand_ins, view_maker=ViewMaker(scales=[1.5]))
    predictions, batches = seen_in_view_1(jtr, random_batch(TWO, FIRST_ALONE, holes=0.0))
    # The labelled task is predicted without error, the unlabelled one alike in both views.
    assert value(terms(jtr, predictions, batches)["jtr/distance"]) == pytest.approx(0, abs=1e-6)
    predictions[1] = {**predictions[1], "b": 1 - predictions[1]["b"]}
    found = value(terms(jtr, predictions, batches)["jtr/distance"])
    assert found == pytest.approx(0, abs=1e-6) if stand_ins == "own_view" else found > 1e-3


def test_the_supervised_view_that_stands_in_takes_no_gradient() -> None:
    jtr = small_jtr(stand_ins="supervised_view")
    batch = random_batch(jtr.tasks, ONE_LABEL)
    batches = [batch, *(view.batch for view in jtr.sample_views(batch))]
    predictions = [random_predictions(jtr.tasks, len(batch)) for _ in batches]
    terms(jtr, predictions, batches)["jtr/distance"].backward()
    supervised, network_view, autoencoder_view = gradients(predictions)
    assert all(float(g.abs().max()) == 0 for view in (supervised, autoencoder_view) for g in view.values())
    for k, gradient in enumerate(network_view.values()):
        trained = gradient.abs().flatten(1).amax(1) > 0
        assert trained.tolist() == (~ONE_LABEL[:, k]).tolist()


def test_nothing_is_drawn_for_the_networks_term() -> None:
    jtr = small_jtr(stand_ins="supervised_view")
    batch = random_batch(jtr.tasks, ONE_LABEL)
    batches = [batch, *(view.batch for view in jtr.sample_views(batch))]
    predictions = [random_predictions(jtr.tasks, len(batch)) for _ in batches]
    found = {value(terms(jtr, predictions, batches, seed=seed)["jtr/distance"]) for seed in range(3)}
    assert len(found) == 1


def test_there_should_be_another_view_to_stand_in() -> None:
    with pytest.raises(ConfigError, match=r"`views` of JTR should be 2 or 3 .* found 1"):
        small_jtr(stand_ins="supervised_view", views=1)
    with pytest.raises(ConfigError, match=r"one of own_view, supervised_view; found 'other'"):
        small_jtr(stand_ins="other")
