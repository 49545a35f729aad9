"""Partial labels on two processes (CPU, gloo): nothing hangs, and the result is that of one process."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jtr_lightning.balancing import Balancing
from jtr_lightning.batch import Batch
from jtr_lightning.data.base import Split
from jtr_lightning.data.sampler import EpochSampler, SampleKey
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.base import Network
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.scenarios import BoolArray
from tests.toy import Given, ToyDataModule, ToyNetwork, ToySource

pytestmark = pytest.mark.slow
TASKS = ["segmentation", "depth"]


class Noisy(Regularizer):
    """Pulls predictions to its own parameter along a random direction that it records."""

    def make_layers(self, tasks: Any, feature_channels: Any) -> None:
        self.level = nn.Parameter(torch.tensor(0.1))
        self.draw = torch.zeros(())

    def sample_views(self, batch: Any) -> tuple[View, ...]:
        return (View(batch), View(batch, grad=False))

    def forward(self, predictions: Any, batches: Any, features: Any, progress: float) -> dict[str, Tensor]:
        self.draw = torch.rand(())
        distance = (predictions[1]["depth"] - self.level * predictions[2]["depth"]).square().mean()
        return {"noisy": distance * (1 + 0 * self.draw)}


class Recorder(L.Callback):
    """Writes what each rank ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_before_optimizer_step(
        self, trainer: L.Trainer, module: PartialLabelModule, optimizer: Any
    ) -> None:
        gradients = {name: p.grad.clone() for name, p in module.named_parameters()}
        torch.save(gradients, self.folder / f"gradients_{trainer.global_rank}.pt")

    def on_train_end(self, trainer: L.Trainer, module: PartialLabelModule) -> None:
        torch.save(module.state_dict(), self.folder / f"state_{trainer.global_rank}.pt")
        self._write_metrics(trainer)
        if isinstance(module.regularizer, Noisy):
            torch.save(module.regularizer.draw, self.folder / f"draw_{trainer.global_rank}.pt")

    def on_test_end(self, trainer: L.Trainer, module: PartialLabelModule) -> None:
        self._write_metrics(trainer)

    def _write_metrics(self, trainer: L.Trainer) -> None:
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        (self.folder / f"metrics_{trainer.global_rank}.json").write_text(json.dumps(found))


def run(
    folder: Path,
    data: ToyDataModule,
    ranks: int,
    regularizer: Regularizer | None = None,
    test: bool = False,
    more_callbacks: Sequence[L.Callback] = (),
    balancing: Balancing | None = None,
    network: Network | None = None,
    **trainer_arguments: Any,
) -> Path:
    folder.mkdir()
    L.seed_everything(3, verbose=False)
    module = PartialLabelModule(data.tasks, network or ToyNetwork(), regularizer, balancing)
    strategy = "ddp_fork" if ranks > 1 else "auto"
    trainer = L.Trainer(
        **{"accelerator": "cpu", "strategy": strategy, "limit_val_batches": 0, **trainer_arguments},
        devices=ranks,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Recorder(folder), *more_callbacks],
        default_root_dir=folder,
    )
    if test:
        trainer.test(module, data, verbose=False)
    else:
        trainer.fit(module, data)
    return folder


def metrics_of(folder: Path, rank: int = 0) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / f"metrics_{rank}.json").read_text())
    return found


def load(path: Path) -> Any:
    return torch.load(path, map_location="cpu", weights_only=True)


# The order of a training epoch is drawn, so a rank's labels are fixed by giving all samples of one kind.
ONE_TASK_EACH = Given([[1, 0], [0, 1]] * 2)


def test_ranks_with_labels_of_different_tasks_train_together(tmp_path: Path) -> None:
    data = ToyDataModule(4, tasks=TASKS, scenario=ONE_TASK_EACH, batch_size=1)
    run(tmp_path / "two", data, ranks=2, regularizer=Noisy())
    first, second = (load(tmp_path / "two" / f"state_{rank}.pt") for rank in (0, 1))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
    draws = [load(tmp_path / "two" / f"draw_{rank}.pt") for rank in (0, 1)]
    assert draws[0] != draws[1]


class EachRankItsSamples(EpochSampler):
    """Gives a rank every second sample, so that a test knows which rank sees which labels."""

    def __iter__(self) -> Iterator[SampleKey]:
        return ((self.epoch, index) for index in range(self.rank, len(self.dataset), self.num_replicas))


class SeparatedData(ToyDataModule):
    """Rank 0 gets the samples 0, 2, 4 ..., rank 1 the others."""

    def sampler(self, dataset: Any, training: bool, rank: int, world_size: int) -> EpochSampler:
        return EachRankItsSamples(dataset, training, self.seed, rank, world_size)


class Seen(L.Callback):
    """Notes which tasks each rank was given labels of, and writes them with what JTR ends with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seen: set[str] = set()

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Batch, batch_idx: int) -> None:
        self.seen |= {name for name in batch.tasks if bool(batch.labelled(name).any())}

    def on_train_end(self, trainer: L.Trainer, module: Any) -> None:
        found = {"tasks": sorted(self.seen), "draw": float(torch.rand(()))}
        (self.folder / f"seen_{trainer.global_rank}.json").write_text(json.dumps(found))


def test_jtr_trains_where_no_two_ranks_have_a_task_in_common(tmp_path: Path) -> None:
    """Plain DDP, which finds no unused parameters and is told to look for none: it would fail at the second step."""
    data = SeparatedData(8, tasks=TASKS, scenario=Given([[1, 0], [0, 1]] * 4), batch_size=1)
    jtr = JTR(widths=(4, 6), depths=(1, 1))
    folder = run(tmp_path / "two", data, 2, jtr, more_callbacks=[Seen(tmp_path / "two")])
    seen = [json.loads((folder / f"seen_{rank}.json").read_text()) for rank in (0, 1)]
    assert [found["tasks"] for found in seen] == [["segmentation"], ["depth"]]
    assert seen[0]["draw"] != seen[1]["draw"]
    first, second = (load(folder / f"state_{rank}.pt") for rank in (0, 1))
    assert any(name.startswith("regularizer.autoencoder") for name in first)
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)


def test_what_is_logged_of_a_task_is_of_its_own_samples_whatever_each_rank_sees(tmp_path: Path) -> None:
    """Each rank sees one task, in a single step, so that one process can do the same with both samples at once."""
    scenario = Given([[1, 0], [0, 1]])
    two = SeparatedData(2, tasks=TASKS, scenario=scenario, batch_size=1)
    one = SeparatedData(2, tasks=TASKS, scenario=scenario, batch_size=2)
    expected = metrics_of(run(tmp_path / "one", one, 1, limit_val_batches=1.0))
    folder = run(tmp_path / "two", two, 2, limit_val_batches=1.0, more_callbacks=[Seen(tmp_path / "two")])
    seen = [json.loads((folder / f"seen_{rank}.json").read_text())["tasks"] for rank in (0, 1)]
    assert seen == [["segmentation"], ["depth"]]
    per_task = {f"train/{name}/loss" for name in TASKS}
    assert per_task < expected.keys()
    assert (
        abs(expected["train/segmentation/loss"] - expected["train/depth/loss"]) > 0.1
    )  # so they are told apart
    for rank in (0, 1):
        found = metrics_of(folder, rank)
        assert found.keys() == expected.keys()
        # The others, such as train/loss, are those of the rank's own step.
        shared = {key for key in expected if key in per_task or key.startswith("val/")}
        assert {k: found[k] for k in shared} == pytest.approx({k: expected[k] for k in shared}, rel=1e-5)


class OneTaskOnDisk(ToySource):
    """Even samples have a label of the first task, odd ones of the second; all have one of edges, valid in odd ones."""

    def on_disk(self, tasks: Sequence[str]) -> BoolArray:
        has = np.arange(self.number)[:, None] % 2 == np.arange(len(tasks))
        has[:, tasks.index("edges")] = True
        return has

    def read_label(self, index: int, task: str) -> Array:
        label = super().read_label(index, task)
        return np.full_like(label, np.nan) if task == "edges" and index % 2 == 0 else label


class SparseData(SeparatedData):
    def source(self, split: Split) -> SampleSource:
        return OneTaskOnDisk(self.number)


def test_metrics_of_ranks_with_labels_of_different_tasks_are_those_of_one_rank(tmp_path: Path) -> None:
    tasks = [*TASKS, "normals", "edges"]
    expected = metrics_of(run(tmp_path / "one", SparseData(6, tasks=tasks, batch_size=2), 1, test=True))
    folder = run(tmp_path / "two", SparseData(6, tasks=tasks, batch_size=2), 2, test=True)
    assert {key.split("/")[1] for key in expected} == {*TASKS, "edges", "score"}
    for rank in (0, 1):
        assert metrics_of(folder, rank) == pytest.approx(expected, rel=1e-6)


def test_the_gradients_are_those_of_the_joined_batch(tmp_path: Path) -> None:
    scenario = Given([[1, 0], [1, 0], [0, 1], [1, 1]])
    two = ToyDataModule(4, tasks=TASKS, scenario=scenario, batch_size=2)
    one = ToyDataModule(4, tasks=TASKS, scenario=scenario, batch_size=4)
    expected = load(run(tmp_path / "one", one, 1, precision="64-true") / "gradients_0.pt")
    found = load(run(tmp_path / "two", two, 2, precision="64-true") / "gradients_1.pt")
    assert expected.keys() == found.keys()
    for name in expected:
        assert expected[name].abs().max() > 0
        torch.testing.assert_close(found[name], expected[name], rtol=1e-6, atol=1e-12)


def test_metrics_of_an_odd_number_of_samples_are_those_of_one_rank(tmp_path: Path) -> None:
    data = ToyDataModule(7, tasks=TASKS, batch_size=2)
    expected = metrics_of(run(tmp_path / "one", data, 1, test=True))
    data = ToyDataModule(7, tasks=TASKS, batch_size=2)
    folder = run(tmp_path / "two", data, 2, test=True)
    assert "test/segmentation/miou" in expected
    for rank in (0, 1):
        assert metrics_of(folder, rank) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("ranks", [1, 2])
def test_accumulated_batches_give_the_gradient_of_the_joined_batch(ranks: int, tmp_path: Path) -> None:
    scenario = Given([[1, 0], [1, 0], [0, 1], [1, 1]])
    whole = ToyDataModule(4, tasks=TASKS, scenario=scenario, batch_size=4)
    parts = ToyDataModule(4, tasks=TASKS, scenario=scenario, batch_size=4 // (2 * ranks))
    expected = load(run(tmp_path / "one", whole, 1, precision="64-true") / "gradients_0.pt")
    found = run(tmp_path / "parts", parts, ranks, precision="64-true", accumulate_grad_batches=2)
    for rank in range(ranks):
        gradients = load(found / f"gradients_{rank}.pt")
        assert gradients.keys() == expected.keys()
        for name, gradient in gradients.items():
            assert expected[name].abs().max() > 0
            torch.testing.assert_close(gradient, expected[name], rtol=1e-6, atol=1e-12)
