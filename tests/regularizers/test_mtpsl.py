from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from jtr_lightning.batch import Batch, join
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.tasks import Classification, Depth, Normals
from tests.regularizers.pair_cases import (
    AVAILABILITY,
    NONE,
    assert_same_with_gradients,
    batch_of,
    code,
    label_code,
    predictions_of,
    tasks,
)
from tests.toy import ToyDataModule, ToyNetwork

CHANNELS = 5


@pytest.fixture(autouse=True)
def _same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws that depend on the prediction alone, so that two ways of computing see the same ones."""
    monkeypatch.setattr("jtr_lightning.tasks.dense.gumbel_noise", lambda like: torch.sin(37 * like.detach()))


@pytest.fixture
def mtpsl() -> MTPSL:
    regularizer = MTPSL(widths=(6, 8), depths=(1, 2))
    regularizer.build(tasks(), [4, CHANNELS])
    regularizer.double()
    with torch.no_grad():
        for parameter in regularizer.mapping.film():
            parameter += 0.3 * torch.randn_like(parameter)
    return regularizer


def slow(mtpsl: MTPSL, predictions: dict[str, Tensor], batch: Batch, feature: Tensor) -> Tensor:
    """The equations of the paper, one sample and one pair at a time."""
    names = list(tasks())
    total = torch.zeros((), dtype=torch.float64)
    for b in range(len(batch)):
        has = [bool(batch.available[b, k]) for k in range(len(names))]
        for s, source in enumerate(names):
            for t, target in enumerate(names):
                if s == t or not has[t] or (has[s] and not all(has)):
                    continue
                pair = s * (len(names) - 1) + t - (t > s)
                prediction, label = predictions[source][b : b + 1], batch.labels[target][b : b + 1]
                first = mapped(mtpsl, s, code_prediction(source, prediction), pair)
                second = mapped(mtpsl, t, code_label(target, label), pair)
                projected = torch.einsum("oc,bchw->bohw", mtpsl.projection[:, :, 0, 0], feature[b : b + 1])
                f = where_the_latents_are(projected, batch.image.shape[-2:], len(mtpsl.widths)).detach()
                total = total + distance(first, second) + 0.5 * (distance(first, f) + distance(second, f))
    return mtpsl.weight * total / len(batch)


def where_the_latents_are(feature: Tensor, size: Sequence[int], stages: int) -> Tensor:
    """The mean of the feature over the pixels of each place, pixel by pixel."""
    for axis, length in zip((-2, -1), size, strict=True):
        stride = 1
        while stride * feature.shape[axis] < length:
            stride *= 2
        pixels = feature.repeat_interleave(stride, axis)
        places = pixels.split(2**stages, axis)[: math.ceil(length / 2**stages)]
        feature = torch.cat([place.mean(axis, keepdim=True) for place in places], axis)
    return feature


def code_prediction(name: str, prediction: Tensor) -> Tensor:
    if name == "segmentation":
        soft = (prediction + torch.sin(37 * prediction.detach())).softmax(1)
        one_hot = F.one_hot(soft.argmax(1), 3).movedim(-1, 1)
        return one_hot + soft - soft.detach()
    if name == "depth":
        positive = prediction.clamp(min=0)
        return positive / positive.max()
    return code(name, prediction)


def code_label(name: str, label: Tensor) -> Tensor:
    return label / label.max() if name == "depth" else label_code(name, label)


def mapped(mtpsl: MTPSL, task: int, code: Tensor, pair: int) -> Tensor:
    conv, norm, _ = mtpsl.mapping.stems[task]
    x = instance_norm(conv(code.double()), norm).relu()
    for stage in mtpsl.mapping.stages:
        for layer in stage:
            x = instance_norm(layer.conv(x), layer.norm)
            x = (layer.gamma[pair][:, None, None] * x + layer.beta[pair][:, None, None]).relu()
        x = F.max_pool2d(x, 2)
    return x


def instance_norm(x: Tensor, norm: torch.nn.Module) -> Tensor:
    mean, variance = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
    scaled = (x - mean) / (variance + norm.eps).sqrt()
    return norm.weight[:, None, None] * scaled + norm.bias[:, None, None]


def distance(first: Tensor, second: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(first, second, dim=1).mean()


def value(mtpsl: MTPSL, predictions: dict[str, Tensor], batch: Batch, feature: Tensor) -> Tensor:
    unused = [torch.zeros(1), feature]
    return mtpsl([{}, predictions], [batch, batch], [unused, unused], 0.5)["mtpsl"]


@pytest.mark.parametrize("rows", AVAILABILITY.values(), ids=AVAILABILITY.keys())
def test_loss_and_gradients_are_those_of_the_slow_version(mtpsl: MTPSL, rows: list[list[int]]) -> None:
    batch, predictions = batch_of(rows), predictions_of(len(rows))
    feature = torch.randn(len(rows), CHANNELS, 3, 5, dtype=torch.float64, requires_grad=True)
    assert_same_with_gradients(
        value(mtpsl, predictions, batch, feature),
        slow(mtpsl, predictions, batch, feature),
        [*predictions.values(), *mtpsl.parameters(), feature],
    )


@pytest.mark.parametrize(
    ("size", "stride"), [((64, 80), 32), ((80, 40), 16), ((40, 72), 8), ((24, 20), 4), ((9, 33), 1)]
)
@pytest.mark.parametrize("stages", [2, 3, 5])
def test_feature_and_latents_are_compared_at_the_same_places(
    size: tuple[int, int], stride: int, stages: int
) -> None:
    """Also where network and mapping network halve the image to different sizes, or the network pads it to more."""
    regularizer = MTPSL(widths=[1] * stages, depths=[1] * stages)
    regularizer.build({"depth": Depth(), "normals": Normals()}, [1])
    padded = [math.ceil(length / 32) * 32 // stride for length in size]
    feature = torch.randn(1, 1, *padded)
    latents = torch.zeros(1, 1, *(math.ceil(length / 2**stages) for length in size))
    found = regularizer._match(feature, latents, torch.zeros(1, 3, *size))
    assert found.shape == latents.shape
    torch.testing.assert_close(found, where_the_latents_are(feature, size, stages))


def test_without_any_label_it_is_0_with_a_path_to_every_parameter(mtpsl: MTPSL) -> None:
    loss = value(mtpsl, predictions_of(4), batch_of(NONE), torch.randn(4, CHANNELS, 2, 2).double())
    assert loss == 0
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in mtpsl.parameters())


def test_a_label_without_a_valid_place_teaches_nothing(mtpsl: MTPSL) -> None:
    batch, predictions = batch_of([[0, 1, 0, 0]] * 2), predictions_of(2)
    feature = torch.randn(2, CHANNELS, 2, 2, dtype=torch.float64)
    batch.labels["depth"][1] = 0.0
    found = value(mtpsl, predictions, batch, feature)
    found.backward()
    first = {name: values[:1] for name, values in predictions.items()}
    of_first = value(mtpsl, first, batch._map(lambda values: values[:1]), feature[:1])
    assert float(found.detach()) == pytest.approx(float(of_first.detach()) / 2)
    for name in ("segmentation", "normals"):
        gradient = predictions[name].grad
        assert gradient is not None
        assert gradient[0].any()
        assert not gradient[1].any()


def test_the_value_of_joined_batches_is_the_mean(mtpsl: MTPSL) -> None:
    batches = [batch_of(AVAILABILITY["random"], 1), batch_of(AVAILABILITY["one label"], 2)]
    predictions = [predictions_of(4, seed) for seed in (1, 2)]
    feature = torch.randn(8, CHANNELS, 2, 2, dtype=torch.float64)
    parts = [value(mtpsl, p, b, f) for p, b, f in zip(predictions, batches, feature.split(4), strict=True)]
    whole = {name: torch.cat([p[name] for p in predictions]) for name in predictions[0]}
    torch.testing.assert_close(value(mtpsl, whole, join(batches), feature), (parts[0] + parts[1]) / 2)


def test_a_feature_of_the_mapping_networks_width_is_not_projected() -> None:
    regularizer = MTPSL(widths=(6, 8), depths=(1, 1))
    regularizer.build(tasks(), [8])
    assert torch.equal(regularizer.projection[:, :, 0, 0], torch.eye(8))


def test_gamma_and_beta_have_a_learning_rate_of_their_own(mtpsl: MTPSL) -> None:
    rest, film = mtpsl.parameter_groups()
    assert film["lr"] == 1e-3
    assert "lr" not in rest
    assert {id(p) for p in film["params"]} | {id(p) for p in rest["params"]} == {
        id(p) for p in mtpsl.parameters()
    }
    assert len(film["params"]) == 6


class Rates(L.Callback):
    """Notes the learning rates that each epoch trains with."""

    def __init__(self) -> None:
        self.found: list[list[float]] = []

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.found.append([group["lr"] for group in trainer.optimizers[0].param_groups])


def rates(
    epochs: int,
    schedule: Callable[[Optimizer], LRScheduler] | None,
    path: str | None = None,
    **arguments: Any,
) -> list[list[float]]:
    """Learning rates of network, mapping network and FiLM in each epoch of a training."""
    data = ToyDataModule(2, tasks=["segmentation", "depth"], batch_size=2)
    mtpsl = MTPSL(widths=(2,), depths=(1,), **arguments)
    module = PartialLabelModule(data.tasks, ToyNetwork(2), mtpsl, lr_scheduler=schedule)
    callback = Rates()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, limit_val_batches=0, callbacks=[callback], **quiet
    )
    resumed = path is not None and Path(path).exists()
    trainer.fit(module, data, ckpt_path=path if resumed else None, weights_only=True)
    if path is not None:
        trainer.save_checkpoint(path)
    return callback.found


def test_the_schedules_are_the_published_ones_each_for_its_own_parameters() -> None:
    """StepLR(30, 0.5) from 1e-3 for gamma and beta beside StepLR(100, 0.5) from 1e-4 for all else."""
    found = rates(102, lambda optimizer: StepLR(optimizer, 100, 0.5))
    assert found[29] == pytest.approx([1e-4, 1e-4, 1e-3])
    assert found[30] == pytest.approx([1e-4, 1e-4, 5e-4])
    assert found[60] == pytest.approx([1e-4, 1e-4, 2.5e-4])
    assert found[99] == pytest.approx([1e-4, 1e-4, 1.25e-4])
    assert found[100] == pytest.approx([5e-5, 5e-5, 1.25e-4])


@pytest.mark.parametrize(
    "schedule",
    [
        None,
        lambda optimizer: CosineAnnealingLR(optimizer, 4),
        lambda optimizer: OneCycleLR(optimizer, 0.1, 4),
    ],
    ids=["none", "cosine", "one cycle"],
)
def test_the_schedule_of_film_is_its_own_beside_any_other(schedule: Any, tmp_path: Path) -> None:
    arguments = {"film_step_size": 2, "film_gamma": 0.1}
    assert [film for *_, film in rates(4, schedule, **arguments)] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    path = str(tmp_path / "half.ckpt")
    halves = rates(3, schedule, path, **arguments) + rates(4, schedule, path, **arguments)
    assert [film for *_, film in halves] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])


def test_without_a_step_size_film_follows_the_main_schedule() -> None:
    found = rates(3, lambda optimizer: StepLR(optimizer, 2, 0.5), film_step_size=None)
    assert found[2] == pytest.approx([5e-5, 5e-5, 5e-4])


def test_a_step_size_of_0_is_refused() -> None:
    with pytest.raises(ConfigError, match="`film_step_size` should be at least 1; found 0"):
        MTPSL(film_step_size=0)


def test_weights_start_as_published() -> None:
    """Xavier normal, zero biases, gamma 1 and beta 0."""
    regularizer = MTPSL(widths=(32, 32), depths=(1, 1))
    regularizer.build(tasks(), [32])
    convolutions = [m for m in regularizer.mapping.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == len(tasks()) + 2
    assert not any(bool(conv.bias.any()) for conv in convolutions)
    expected = [(2 / (9 * (conv.in_channels + conv.out_channels))) ** 0.5 for conv in convolutions]
    assert [conv.weight.std().item() for conv in convolutions] == pytest.approx(expected, rel=0.1)
    gamma, beta = regularizer.mapping.film()[:2]
    assert bool((gamma == 1).all())
    assert not beta.any()


def test_a_single_dense_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least two dense tasks.*found \['depth'\]"):
        MTPSL().build({"depth": Depth(), "room": Classification(2)}, [8])
