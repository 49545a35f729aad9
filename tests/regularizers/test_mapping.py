import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from tests.regularizers.pair_cases import (
    AVAILABILITY,
    NONE,
    assert_same_with_gradients,
    batch_of,
    gradients,
    predictions_of,
    tasks,
)

NAMES = list(tasks())


def build(kind: type[DirectMap] | type[PerceptualMap]) -> DirectMap | PerceptualMap:
    regularizer = kind(weight=2.0, map_weight=0.5, widths=(4, 6), depths=(1, 1))
    regularizer.build(tasks(), [8])
    return regularizer.double()


def slow(
    regularizer: DirectMap | PerceptualMap, prediction: dict[str, Tensor], batch: Batch
) -> tuple[Tensor, Tensor]:
    """One sample and one pair at a time, with a copy of the networks for the frozen term."""
    frozen = copy.deepcopy(regularizer.maps).requires_grad_(False)
    model, maps = [], []
    for source in NAMES:
        for target in NAMES:
            if source == target:
                continue
            key, task = f"{source}__to__{target}", tasks()[target]
            both = batch.labelled(source) & batch.labelled(target)
            for b in range(len(batch)):
                label = batch.labels[target][b : b + 1]
                code = tasks()[source].encode_prediction(prediction[source][b : b + 1])
                unpaired = bool(batch.labelled(target)[b] & ~batch.labelled(source)[b])
                if unpaired:
                    mapped = task.activate(frozen[key](code))
                    if isinstance(regularizer, DirectMap):
                        model.append(task.loss(mapped, label))
                    else:
                        valid = task.valid(label)
                        one = torch.where(valid, task.encode_prediction(mapped), 0.0)
                        other = torch.where(valid, task.encode_target(label).double(), 0.0)
                        back = frozen[f"{target}__to__{source}"].encoder
                        similarity = F.cosine_similarity(back(one)[0], back(other)[0], dim=1)
                        model.append(1 - similarity.flatten(1).mean(1))
                if both[b]:
                    code = tasks()[source].encode_target(batch.labels[source][b : b + 1]).double()
                elif both.any() or not unpaired:
                    continue
                maps.append(task.loss(task.activate(regularizer.maps[key](code.detach())), label))
    mean = [
        torch.cat(part).mean() if part else torch.zeros((), dtype=torch.float64) for part in (model, maps)
    ]
    return 2.0 * mean[0], 0.5 * mean[1]


@pytest.mark.parametrize("kind", [DirectMap, PerceptualMap])
@pytest.mark.parametrize("rows", AVAILABILITY.values(), ids=AVAILABILITY.keys())
def test_terms_and_gradients_are_those_of_the_slow_version(kind, rows: list[list[int]]) -> None:
    regularizer, batch, prediction = build(kind), batch_of(rows), predictions_of(len(rows))
    found = regularizer([prediction], [batch], [[]], 0.5)
    model, maps = slow(regularizer, prediction, batch)
    tensors = [*prediction.values(), *regularizer.parameters()]
    if model.requires_grad:
        assert_same_with_gradients(found[kind.term], model, tensors)
    else:
        assert found[kind.term] == 0
    assert_same_with_gradients(found[f"{kind.term}_training"], maps, tensors)


@pytest.mark.parametrize("kind", [DirectMap, PerceptualMap])
def test_the_first_term_trains_the_network_and_the_second_the_maps(kind) -> None:
    regularizer, prediction = build(kind), predictions_of(4)
    found = regularizer([prediction], [batch_of(AVAILABILITY["one label"])], [[]], 0.5)
    of_network = gradients(found[kind.term], [*prediction.values(), *regularizer.parameters()])
    assert all(g.any() for g in of_network[:3])
    assert not any(g.any() for g in of_network[3:])
    of_maps = gradients(found[f"{kind.term}_training"], [*prediction.values(), *regularizer.parameters()])
    assert not any(g.any() for g in of_maps[:3])
    assert any(g.any() for g in of_maps[3:])


@pytest.mark.parametrize("kind", [DirectMap, PerceptualMap])
def test_without_any_label_both_terms_are_0_with_a_path(kind) -> None:
    regularizer = build(kind)
    found = regularizer([predictions_of(4)], [batch_of(NONE)], [[]], 0.5)
    total = sum(found.values())
    assert total == 0
    total.backward()
    assert all(p.grad is not None for p in regularizer.parameters())


def test_a_pair_that_met_common_labels_is_no_longer_trained_on_predictions() -> None:
    regularizer, prediction = build(DirectMap), predictions_of(4)
    regularizer([prediction], [batch_of(AVAILABILITY["all"])], [[]], 0.0)
    found = regularizer([prediction], [batch_of(AVAILABILITY["one label"])], [[]], 0.0)
    assert found["direct_map_training"] == 0
    assert found["direct_map"] > 0
