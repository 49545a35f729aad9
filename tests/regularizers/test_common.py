"""What every regularizer keeps to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.errors import ConfigError
from jtr_lightning.regularizers import JTR, MTPSL, ConsistencyRegularization, DirectMap, PerceptualMap
from jtr_lightning.regularizers.base import Regularizer
from tests.regularizers.pair_cases import AVAILABILITY, batch_of, gradients, predictions_of, tasks

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
