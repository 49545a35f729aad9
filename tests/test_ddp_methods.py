"""Every method on two processes (CPU, gloo): its step is that of one process with both batches."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch import distributed as dist

from jtr_lightning.aggregation import GradientAggregation
from jtr_lightning.batch import Batch
from jtr_lightning.networks.base import Network
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.networks.single_task import SingleTask
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.regularizers.photometric import Photometric
from jtr_lightning.regularizers.views import Geometry, ViewMaker
from jtr_lightning.tasks import dense
from tests.regularizers.helpers import noise_of_the_values
from tests.test_ddp import load, run
from tests.toy import Given, ToyDataModule, ToyNetwork

pytestmark = pytest.mark.slow
TASKS = ["segmentation", "depth", "normals"]
LABELLED = Given([[1, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 0]])
SMALL: dict[str, Any] = {"widths": (4, 6), "depths": (1, 1)}


class ViewsOfTheSample(ViewMaker):
    """Crops that follow from the sample's number, so that a sample has the same one whatever batch it is in."""

    def __init__(self) -> None:
        super().__init__(photometric=Photometric(operations=0))

    def draw(self, batch: Batch) -> Geometry:
        share = (batch.index * 0.37 + 0.1).frac().to(batch.image.dtype)
        zoom = 1 + share / 2
        room = 1 - 1 / zoom
        return Geometry(zoom, room * share, room * (1 - share), mirrored=batch.index % 2 == 0)


REGULARIZERS: dict[str, Callable[[], Regularizer]] = {
    "jtr": lambda: JTR(view_maker=ViewsOfTheSample(), **SMALL),
    "jtr_of_one_view": lambda: JTR(views=1, stack_scale=0.5, **SMALL),
    "consistency": lambda: ConsistencyRegularization(ramp=0, views=ViewsOfTheSample()),
    "mtpsl": lambda: MTPSL(views=ViewsOfTheSample(), **SMALL),
    "direct_map": lambda: DirectMap(**SMALL),
    "perceptual_map": lambda: PerceptualMap(**SMALL),
}


@pytest.fixture(autouse=True)
def draws_of_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws that follow from what is drawn about; forked processes have them as well."""
    monkeypatch.setattr(dense, "gumbel_noise", noise_of_the_values)


def gradients(
    folder: Path,
    ranks: int,
    tasks: list[str] = TASKS,
    network: Callable[[], Network] = ToyNetwork,
    **parts: Any,
) -> list[dict[str, Tensor]]:
    """Each rank's gradients of the step whose batch, over all ranks, is the same four samples."""
    torch.manual_seed(0)  # a network has some of its weights before it is built
    scenario = Given([row[: len(tasks)] for row in LABELLED.rows])
    data = ToyDataModule(4, tasks=tasks, scenario=scenario, batch_size=4 // ranks)
    run(folder, data, ranks, network=network(), precision="64-true", **parts)
    return [load(folder / f"gradients_{rank}.pt") for rank in range(ranks)]


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-6) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=rtol, atol=1e-9 * largest)


@pytest.mark.parametrize("name", REGULARIZERS)
def test_a_regularizers_gradients_are_those_of_the_joined_batch(name: str, tmp_path: Path) -> None:
    (plain,) = gradients(tmp_path / "plain", 1)
    (expected,) = gradients(tmp_path / "one", 1, regularizer=REGULARIZERS[name]())
    # The method reaches the network, and its own parameters.
    assert any((expected[key] - plain[key]).abs().max() > 1e-6 for key in plain)
    own = [key for key in expected if key.startswith("regularizer")]
    assert all(expected[key].any() for key in own if "__to__" not in key)
    assert not own or any(expected[key].any() for key in own)
    for found in gradients(tmp_path / "two", 2, regularizer=REGULARIZERS[name]()):
        assert_same(found, expected)


def single_task() -> Network:
    return SingleTask(ToyNetwork())


def test_single_task_training_is_that_of_the_joined_batch(tmp_path: Path) -> None:
    """With ranks of which one has no sample for some of the networks."""
    (expected,) = gradients(tmp_path / "one", 1, network=single_task)
    assert all(gradient.any() for gradient in expected.values())
    for found in gradients(tmp_path / "two", 2, network=single_task):
        assert_same(found, expected)


# Batch statistics over the ranks


class SumOverRanks(torch.autograd.Function):
    """A sum over the ranks whose gradient is one, too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        summed = values.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return SumOverRanks.forward(ctx, gradient)


class JoinedBatchNorm(nn.BatchNorm2d):
    """What torch's SyncBatchNorm computes, which runs on GPUs alone: statistics of all ranks' samples."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the name it has in torch
        ranks = dist.get_world_size()
        mean = SumOverRanks.apply(input.mean((0, 2, 3), keepdim=True)) / ranks
        square = SumOverRanks.apply(input.square().mean((0, 2, 3), keepdim=True)) / ranks
        scale = self.weight.view_as(mean[0:1]) / (square - mean.square() + self.eps).sqrt()
        return (input - mean) * scale + self.bias.view_as(mean[0:1])


class JoinedSegNet(SegNet):
    """SegNet whose batch statistics are of all ranks' samples."""

    def make_layers(self, tasks: Any) -> None:
        super().make_layers(tasks)
        for module in self.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = JoinedBatchNorm


def small_segnet() -> Network:
    return SegNet(**SMALL)


def joined_segnet() -> Network:
    return JoinedSegNet(**SMALL)


@pytest.mark.parametrize("name", ["supervised", "jtr"])
def test_with_joined_batch_statistics_a_network_that_mixes_samples_trains_alike(
    name: str, tmp_path: Path
) -> None:
    """Also those of the further views, whose forward passes every rank makes in the same order."""
    regularizer = REGULARIZERS.get(name, lambda: None)
    (expected,) = gradients(tmp_path / "one", 1, regularizer=regularizer(), network=small_segnet)
    apart = gradients(tmp_path / "apart", 2, regularizer=regularizer(), network=small_segnet)
    with pytest.raises(AssertionError, match="not close"):
        assert_same(apart[0], expected)
    for found in gradients(tmp_path / "two", 2, regularizer=regularizer(), network=joined_segnet):
        assert_same(found, expected)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_with_sync_batchnorm_two_gpus_train_as_one(tmp_path: Path) -> None:
    gpus = {"accelerator": "gpu", "network": small_segnet}
    (expected,) = gradients(tmp_path / "one", 1, **gpus)
    for found in gradients(tmp_path / "two", 2, strategy="ddp_spawn", sync_batchnorm=True, **gpus):
        assert_same(found, expected, rtol=1e-5)


# Aggregated gradients


@pytest.mark.parametrize(("aggregator", "tasks"), [("UPGrad", TASKS), ("PCGrad", TASKS[:2])])
def test_aggregated_gradients_are_those_of_the_joined_batch(
    aggregator: str, tasks: list[str], tmp_path: Path
) -> None:
    pytest.importorskip("torchjd")
    (summed,) = gradients(tmp_path / "sum", 1, tasks)
    (expected,) = gradients(tmp_path / "one", 1, tasks, balancing=GradientAggregation(aggregator))
    assert any((expected[key] - summed[key]).abs().max() > 1e-6 for key in summed)
    for found in gradients(tmp_path / "two", 2, tasks, balancing=GradientAggregation(aggregator)):
        assert_same(found, expected, rtol=1e-5)


def test_ranks_step_alike_with_an_aggregator_that_draws(tmp_path: Path) -> None:
    """As PCGrad draws the order of its projections; the weights of Random are nothing but drawn."""
    pytest.importorskip("torchjd")
    first, second = gradients(tmp_path / "two", 2, balancing=GradientAggregation("Random"))
    assert_same(first, second, rtol=0)
