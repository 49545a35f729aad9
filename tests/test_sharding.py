"""Weights spread over two CPU processes: gradients are those of one process with both batches."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch import Tensor
from torch import distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from jtr_lightning.aggregation import GradientAggregation
from jtr_lightning.balancing import UncertaintyWeighting
from jtr_lightning.batch import Batch, join
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.sharding import shard
from jtr_lightning.tasks import dense
from tests.regularizers.helpers import four_tasks, noise_of_the_values, random_batch
from tests.steps import SMALL, step
from tests.test_ddp_methods import ViewsOfTheSample
from tests.toy import Given, ToyDataModule, ToyNetwork

RANKS = 2
LABELLED = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [1, 1, 0, 0]], dtype=torch.bool)


def toy_module() -> PartialLabelModule:
    torch.manual_seed(0)
    jtr = JTR(view_maker=ViewsOfTheSample(), **SMALL)
    module = PartialLabelModule(four_tasks(), ToyNetwork(), jtr).double()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    return module


def batches() -> list[Batch]:
    """One for each rank, with labels of other tasks."""
    torch.manual_seed(1)
    parts = [random_batch(four_tasks(), labelled, (16, 12)) for labelled in LABELLED.chunk(RANKS)]
    for rank, part in enumerate(parts):
        part.index += rank * len(part)
    return [part._map(lambda t: t.double() if t.is_floating_point() else t) for part in parts]


def train_one_rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    dense.gumbel_noise = noise_of_the_values
    address = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=RANKS)
    module = shard(toy_module(), init_device_mesh("cpu", (RANKS,)))
    assert all(isinstance(p, DTensor) for p in module.parameters())
    _, gradients = step(module, batches()[rank])
    torch.optim.SGD(module.parameters(), lr=1e-3).step()
    found = {
        "gradients": {name: gradient.full_tensor() for name, gradient in gradients.items()},  # type: ignore[attr-defined]
        "weights": {name: p.full_tensor() for name, p in module.named_parameters()},  # type: ignore[attr-defined]
    }
    with torch.no_grad():
        batch = batches()[rank]
        found["diagnosed"] = module.regularizer.diagnose(module(batch.image), batch)  # type: ignore[union-attr]
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
def test_gradients_and_a_step_are_those_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.multiprocessing.spawn(train_one_rank, (free_port(), str(tmp_path)), nprocs=RANKS)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    monkeypatch.setattr(dense, "gumbel_noise", noise_of_the_values)
    module = toy_module()
    _, expected = step(module, join(batches()))
    assert all(gradient.any() for name, gradient in expected.items() if "bias" not in name)
    assert_same(found["gradients"], expected)
    torch.optim.SGD(module.parameters(), lr=1e-3).step()
    assert_same(found["weights"], {name: p.detach() for name, p in module.named_parameters()})
    assert set(found["diagnosed"]) == {f"jtr/separation/{name}" for name in four_tasks()}


# Under Lightning's strategy


class Sharded(PartialLabelModule):
    """What a user writes, as docs/multi_device.md says."""

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            shard(self, self.device_mesh["data_parallel"])


class WholeGradients(L.Callback):
    """Brings the gradients of the first step together and writes them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        sharded = isinstance(trainer.strategy, ModelParallelStrategy)
        assert all(isinstance(p, DTensor) == sharded for p in module.parameters())

    def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, optimizer: Any) -> None:
        gradients = {name: p.grad for name, p in module.named_parameters()}
        whole = {n: g.full_tensor() if isinstance(g, DTensor) else g for n, g in gradients.items()}
        if trainer.is_global_zero:
            torch.save(whole, self.folder / f"{trainer.world_size}.pt")


def fit_sharded(folder: Path, ranks: int) -> None:
    """One step with 4 samples, of one process or of several."""
    dense.gumbel_noise = noise_of_the_values
    L.seed_everything(3, verbose=False)
    scenario = Given([[1, 0], [1, 0], [0, 1], [1, 1]])
    data = ToyDataModule(4, tasks=["segmentation", "depth"], scenario=scenario, batch_size=4 // ranks)
    module = Sharded(data.tasks, ToyNetwork(), JTR(view_maker=ViewsOfTheSample(), **SMALL))
    strategy = ModelParallelStrategy(data_parallel_size=ranks, tensor_parallel_size=1)
    trainer = L.Trainer(
        accelerator="cpu",
        devices=ranks,
        strategy=strategy if ranks > 1 else "auto",
        max_epochs=1,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[WholeGradients(folder)],
    )
    trainer.fit(module, data)
    assert trainer.global_step == 1


def fit_one_rank(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    # As torchrun would have it.
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    fit_sharded(Path(folder), RANKS)


@pytest.mark.slow
def test_lightnings_strategy_gives_the_gradients_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.multiprocessing.spawn(fit_one_rank, (free_port(), str(tmp_path)), nprocs=RANKS)
    monkeypatch.setattr(dense, "gumbel_noise", noise_of_the_values)
    fit_sharded(tmp_path, 1)
    found, expected = (torch.load(tmp_path / f"{ranks}.pt", weights_only=True) for ranks in (RANKS, 1))
    assert_same(found, expected, rtol=1e-4, atol=1e-5)  # Lightning takes no float64 there


def assert_same(
    found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-6, atol: float = 1e-9
) -> None:
    """The tolerance ``atol`` is a share of the largest value of all."""
    assert found.keys() == expected.keys()
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=rtol, atol=atol * largest)


def test_parts_that_would_be_trained_apart_are_refused() -> None:
    mesh = SimpleNamespace()
    for regularizer, balancing in (
        (MTPSL(**SMALL), None),
        (None, UncertaintyWeighting()),
    ):
        module = PartialLabelModule(four_tasks(), ToyNetwork(), regularizer, balancing)
        with pytest.raises(ConfigError, match="Train it with DDP"):
            shard(module, mesh)  # type: ignore[arg-type]


class WithMoreWeights(JTR):
    def make_layers(self, tasks: Any, feature_channels: Any) -> None:
        super().make_layers(tasks, feature_channels)
        self.more = torch.nn.Linear(2, 2)


def test_weights_beside_the_auto_encoder_are_refused() -> None:
    module = PartialLabelModule(four_tasks(), ToyNetwork(), WithMoreWeights(**SMALL))
    with pytest.raises(
        ConfigError, match=r"WithMoreWeights, which has weights beside the auto-encoder\. Train it w"
    ):
        shard(module, SimpleNamespace())  # type: ignore[arg-type]


def test_aggregated_gradients_are_refused() -> None:
    pytest.importorskip("torchjd")
    module = PartialLabelModule(four_tasks(), ToyNetwork(), None, GradientAggregation("UPGrad"))
    with pytest.raises(ConfigError, match="found GradientAggregation"):
        shard(module, SimpleNamespace())  # type: ignore[arg-type]


def test_the_first_fsdp_is_refused() -> None:
    module = toy_module()
    module._trainer = SimpleNamespace(strategy=FSDPStrategy())  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="found 'fsdp'"):
        module.setup("fit")
