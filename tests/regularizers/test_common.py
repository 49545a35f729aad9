"""What every regularizer keeps to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from jtr_lightning.batch import Batch, join
from jtr_lightning.errors import ConfigError
from jtr_lightning.regularizers import JTR, MTPSL, ConsistencyRegularization, DirectMap, PerceptualMap
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.views import Geometry, ViewMaker
from jtr_lightning.tasks import dense
from tests.regularizers.helpers import noise_of_the_values
from tests.regularizers.pair_cases import AVAILABILITY, NONE, batch_of, gradients, predictions_of, tasks

SMALL: dict[str, Any] = {"widths": (4, 6), "depths": (1, 1)}
FEATURES = 6
REGULARIZERS: dict[str, Callable[..., Regularizer]] = {
    "jtr": lambda **given: JTR(**SMALL, **given),
    "jtr_efficient": lambda **given: JTR(views=1, stack_scale=0.5, **SMALL, **given),
    "consistency": ConsistencyRegularization,
    "mtpsl": lambda **given: MTPSL(**SMALL, **given),
    "direct_map": lambda **given: DirectMap(**SMALL, **given),
    "perceptual_map": lambda **given: PerceptualMap(**SMALL, **given),
}


def build(name: str, **given: Any) -> Regularizer:
    torch.manual_seed(0)
    return REGULARIZERS[name](**given).build(tasks(), [FEATURES]).double()


def terms(
    regularizer: Regularizer, batch: Batch, progress: float = 1.0
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The terms for a batch, and the predictions they were made from; the same draws every time."""
    torch.manual_seed(0)
    batches = [batch, *(view.batch for view in regularizer.sample_views(batch))]
    batches = [replace(one, image=one.image.double()) for one in batches]
    predictions = [predictions_of(len(batch), seed) for seed in range(len(batches))]
    feature = torch.rand(len(batch), FEATURES, 4, 4, dtype=torch.float64)
    found = regularizer(predictions, batches, [[feature]] * len(batches), progress)
    return found, [prediction for view in predictions for prediction in view.values()]


@pytest.mark.parametrize(
    ("method", "name", "value"),
    [
        (ConsistencyRegularization, "weight", -1.0),
        (MTPSL, "weight", float("nan")),
        (MTPSL, "film_lr", -1e-3),
        (MTPSL, "film_gamma", float("inf")),
        (DirectMap, "weight", -0.5),
        (PerceptualMap, "map_weight", float("inf")),
    ],
)
def test_a_weight_that_cannot_be_one_is_refused(method: type[Regularizer], name: str, value: float) -> None:
    message = rf"`{name}` of {method.__name__} should be at least 0 and finite; found {value}"
    with pytest.raises(ConfigError, match=message):
        method(**{name: value})


def draw_by_index(maker: ViewMaker, batch: Batch) -> Geometry:
    """Stands for ``ViewMaker.draw``: a crop and a flip that depend on the sample alone."""
    zoom = 1 + 0.25 * (batch.index % 3).to(batch.image.dtype)
    room = 1 - 1 / zoom
    return Geometry(zoom, room * 0.3, room * 0.7, batch.index % 2 == 1)


def predicted(batch: Batch, seed: int) -> dict[str, Tensor]:
    """Predictions that depend on the samples alone, each a leaf."""
    whole = predictions_of(16, seed)
    return {name: values.detach()[batch.index].requires_grad_() for name, values in whole.items()}


@pytest.mark.parametrize("name", REGULARIZERS)
@pytest.mark.parametrize("labels", ["one label", "random", "some all, some none"])
def test_the_terms_and_gradients_of_a_joined_batch_are_the_mean(
    name: str, labels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that ranks and accumulated batches add up to one large batch."""
    monkeypatch.setattr(ViewMaker, "draw", draw_by_index)
    monkeypatch.setattr(dense, "gumbel_noise", noise_of_the_values)
    regularizer = build(name)
    # The halves differ in how many labels and pairs they have.
    halves = [
        batch_of(rows, seed) for seed, rows in enumerate((AVAILABILITY[labels], [[0, 1, 0, 0], *NONE[:3]]))
    ]
    halves[1].index += 4
    regularizer.start_training(join(halves).available)
    found = []
    for batch in (*halves, join(halves)):
        batches = [batch, *(view.batch for view in regularizer.sample_views(batch))]
        predictions = [predicted(batch, seed) for seed in range(len(batches))]
        feature = predictions_of(16, 7)["normals"].detach()[batch.index].repeat(1, 2, 1, 1)
        values = regularizer(predictions, batches, [[feature]] * len(batches), 1.0)
        regularizer.zero_grad()
        sum(values.values()).backward()
        trained = [p.grad.clone() for p in regularizer.parameters()]
        of_predictions = [
            torch.zeros_like(p) if p.grad is None else p.grad for view in predictions for p in view.values()
        ]
        found.append((values, trained, of_predictions))
    (one, trained_one, to_one), (two, trained_two, to_two), (whole, trained, to_whole) = found
    for term, value in whole.items():
        assert value != 0
        torch.testing.assert_close(value, (one[term] + two[term]) / 2)
    for first, second, both in zip(trained_one, trained_two, trained, strict=True):
        torch.testing.assert_close(both, (first + second) / 2)
    for first, second, both in zip(to_one, to_two, to_whole, strict=True):
        torch.testing.assert_close(both, torch.cat([first, second]) / 2)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_the_ramp_raises_what_trains_the_network_and_nothing_else(name: str) -> None:
    regularizer, batch = build(name, ramp=0.4), batch_of(AVAILABILITY["random"])
    at = {progress: terms(regularizer, batch, progress)[0] for progress in (0.0, 0.1, 0.4, 1.0)}
    whole, predictions = terms(regularizer, batch)
    ramped = []
    for term, value in whole.items():
        ratios = [float(found[term].detach() / value.detach()) for found in at.values()]
        trains_network = any(bool(g.any()) for g in gradients(value, predictions))
        assert ratios == pytest.approx([0, 0.25, 1, 1] if trains_network else [1, 1, 1, 1])
        ramped.append(trains_network)
    assert sum(ramped) == 1


@pytest.mark.parametrize("name", REGULARIZERS)
def test_there_is_no_ramp_unless_asked_for_but_in_consistency(name: str) -> None:
    assert build(name).ramp == (0.25 if name == "consistency" else 0)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_ramp_beyond_the_training_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=r"`ramp` of \w+ should be a share of the training in \[0, 1\]; found 2"
    ):
        REGULARIZERS[name](ramp=2)
