import copy

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from tests.regularizers.pair_cases import (
    AVAILABILITY,
    NONE,
    assert_same_with_gradients,
    batch_of,
    code,
    gradients,
    label_code,
    predictions_of,
    supervised_loss,
    tasks,
    valid,
)
from tests.toy import Given, ToyDataModule, ToyNetwork

NAMES = list(tasks())


def build(kind: type[DirectMap] | type[PerceptualMap]) -> DirectMap | PerceptualMap:
    regularizer = kind(weight=2.0, map_weight=0.5, widths=(4, 6), depths=(1, 1))
    regularizer.build(tasks(), [8])
    return regularizer.double()


def slow(
    regularizer: DirectMap | PerceptualMap, prediction: dict[str, Tensor], batch: Batch, known: bool
) -> tuple[Tensor, Tensor]:
    """One sample and one pair at a time, with a copy of the networks for the frozen term."""
    frozen = copy.deepcopy(regularizer.maps).requires_grad_(False)
    model = maps = torch.zeros((), dtype=torch.float64)
    for b in range(len(batch)):
        has = {name: bool(batch.labelled(name)[b]) for name in NAMES}
        for source in NAMES:
            for target in NAMES:
                if source == target or not has[target]:
                    continue
                key, task = f"{source}__to__{target}", tasks()[target]
                label = batch.labels[target][b : b + 1]
                given = code(source, prediction[source][b : b + 1])
                if has[source]:
                    given = label_code(source, batch.labels[source][b : b + 1])
                else:
                    mapped = task.activate(frozen[key](given))
                    if isinstance(regularizer, DirectMap):
                        distance = supervised_loss(target, mapped, label)
                    else:
                        one = torch.where(valid(target, label), code(target, mapped), 0.0)
                        other = torch.where(valid(target, label), label_code(target, label), 0.0)
                        back = frozen[f"{target}__to__{source}"].encoder
                        distance = 1 - F.cosine_similarity(back(one)[0], back(other)[0], dim=1).mean()
                    model = model + distance / sum(has.values())
                    if known and bool((batch.labelled(source) & batch.labelled(target)).any()):
                        continue
                own = task.activate(regularizer.maps[key](given.detach()))
                maps = maps + supervised_loss(target, own, label)
    return 2.0 * model / len(batch), 0.5 * maps / len(batch)


@pytest.mark.parametrize("known", [True, False], ids=["labels known", "labels unknown"])
@pytest.mark.parametrize("kind", [DirectMap, PerceptualMap])
@pytest.mark.parametrize("rows", AVAILABILITY.values(), ids=AVAILABILITY.keys())
def test_terms_and_gradients_are_those_of_the_slow_version(kind, rows: list[list[int]], known: bool) -> None:
    regularizer, batch, prediction = build(kind), batch_of(rows), predictions_of(len(rows))
    if known:  # the batch is the whole training set
        regularizer.start_training(batch.available)
    found = regularizer([prediction], [batch], [[]], 0.5)
    model, maps = slow(regularizer, prediction, batch, known)
    tensors = [*prediction.values(), *regularizer.parameters()]
    assert_same_with_gradients(found[kind.term], model, tensors)
    assert_same_with_gradients(found[f"{kind.term}_training"], maps, tensors)


@pytest.mark.parametrize("kind", [DirectMap, PerceptualMap])
def test_the_first_term_trains_the_network_and_the_second_the_maps(kind) -> None:
    regularizer, prediction = build(kind), predictions_of(4)
    found = regularizer([prediction], [batch_of(AVAILABILITY["one label"])], [[]], 0.5)
    of_network = gradients(found[kind.term], [*prediction.values(), *regularizer.parameters()])
    assert all(g.any() for g in of_network[: len(NAMES)])
    assert not any(g.any() for g in of_network[len(NAMES) :])
    of_maps = gradients(found[f"{kind.term}_training"], [*prediction.values(), *regularizer.parameters()])
    assert not any(g.any() for g in of_maps[: len(NAMES)])
    assert any(g.any() for g in of_maps[len(NAMES) :])


@pytest.mark.parametrize("kind", [DirectMap, PerceptualMap])
def test_a_label_without_a_valid_place_adds_nothing(kind) -> None:
    regularizer, prediction, batch = build(kind), predictions_of(2), batch_of([[0, 1, 0, 0]] * 2)
    batch.labels["depth"][:] = 0.0
    assert regularizer([prediction], [batch], [[]], 0.5)[kind.term] == 0


@pytest.mark.parametrize("kind", [DirectMap, PerceptualMap])
def test_without_any_label_both_terms_are_0_with_a_path(kind) -> None:
    regularizer = build(kind)
    found = regularizer([predictions_of(4)], [batch_of(NONE)], [[]], 0.5)
    total = sum(found.values())
    assert total == 0
    total.backward()
    assert all(p.grad is not None for p in regularizer.parameters())


def test_how_a_pair_is_trained_is_a_fact_about_the_training_set() -> None:
    """Not about the batches so far: those differ by rank and by order, and a checkpoint does not know them."""
    regularizer, prediction = build(DirectMap), predictions_of(4)
    alone, together = batch_of(AVAILABILITY["one label"]), batch_of(AVAILABILITY["all"])
    regularizer.start_training(torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]).bool())
    before = regularizer([prediction], [alone], [[]], 0.0)
    regularizer([prediction], [together], [[]], 0.0)
    after = regularizer([prediction], [alone], [[]], 0.0)
    assert after == before
    # Segmentation and depth have a common sample in the set, so these predictions train no map between them.
    trained = gradients(before["direct_map_training"], list(regularizer.maps.parameters()))
    names = [name for name, _ in regularizer.maps.named_parameters()]
    reached = {name.split(".")[0] for name, g in zip(names, trained, strict=True) if g.any()}
    assert reached == {
        f"{source}__to__{target}"
        for source in NAMES
        for target in NAMES
        if source != target and {source, target} != {"segmentation", "depth"}
    }


def test_the_trainer_tells_which_labels_there_are() -> None:
    told = []
    for rows in ([[1, 0], [0, 1], [1, 0], [0, 1]], [[1, 0], [1, 1], [1, 0], [0, 1]]):
        data = ToyDataModule(4, tasks=["segmentation", "depth"], scenario=Given(rows), batch_size=2)
        regularizer = DirectMap(widths=(4,), depths=(1,))
        module = PartialLabelModule(data.tasks, ToyNetwork(), regularizer)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        L.Trainer(accelerator="cpu", max_steps=1, limit_val_batches=0, **quiet).fit(module, data)
        told.append(len(regularizer._meeting))
    assert told == [0, 2]
