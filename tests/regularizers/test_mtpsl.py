import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.batch import Batch, join
from jtr_lightning.errors import ConfigError
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.tasks import Classification, Depth
from tests.regularizers.pair_cases import (
    AVAILABILITY,
    NONE,
    assert_same_with_gradients,
    batch_of,
    predictions_of,
    tasks,
)

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
        has = [bool(batch.available[b, k]) for k in range(3)]
        for s, source in enumerate(names):
            for t, target in enumerate(names):
                if s == t or not has[t] or (has[s] and not all(has)):
                    continue
                pair = s * 2 + t - (t > s)
                prediction, label = predictions[source][b : b + 1], batch.labels[target][b : b + 1]
                first = mapped(mtpsl, s, code_prediction(source, prediction), pair)
                second = mapped(mtpsl, t, code_label(target, label), pair)
                projected = torch.einsum("oc,bchw->bohw", mtpsl.projection[:, :, 0, 0], feature[b : b + 1])
                f = F.adaptive_avg_pool2d(projected, first.shape[-2:]).detach()
                total = total + distance(first, second) + 0.5 * (distance(first, f) + distance(second, f))
    return mtpsl.weight * total / len(batch)


def code_prediction(name: str, prediction: Tensor) -> Tensor:
    if name == "segmentation":
        soft = (prediction + torch.sin(37 * prediction.detach())).softmax(1)
        one_hot = F.one_hot(soft.argmax(1), 3).movedim(-1, 1)
        return one_hot + soft - soft.detach()
    if name == "depth":
        positive = prediction.clamp(min=0)
        return positive / positive.max()
    return (prediction + 1) / 2


def code_label(name: str, label: Tensor) -> Tensor:
    if name == "segmentation":
        return F.one_hot(label.clamp(min=0), 3).movedim(-1, 1) * (label >= 0).unsqueeze(1).double()
    return label / label.max() if name == "depth" else (label + 1) / 2


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


def test_without_any_label_it_is_0_with_a_path_to_every_parameter(mtpsl: MTPSL) -> None:
    loss = value(mtpsl, predictions_of(4), batch_of(NONE), torch.randn(4, CHANNELS, 2, 2).double())
    assert loss == 0
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in mtpsl.parameters())


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


def test_a_single_dense_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"at least two dense tasks.*found \['depth'\]"):
        MTPSL().build({"depth": Depth(), "room": Classification(2)}, [8])
