"""``jtr bench``: what it measures is what the training does, and where."""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from jtr_lightning.batch import Batch
from jtr_lightning.cli.main import main
from jtr_lightning.profiling import MATRIX_PEAK, STAGES, HostMark, StepCost
from jtr_lightning.regularizers.base import Regularizer, View
from tests.tiny import SIZE, TinyData, ToyNetwork

BASE = [
    *("--data", "TinyData", "--model.network", "ToyNetwork", "--trainer.accelerator", "cpu"),
    *("--trainer.enable_progress_bar", "false"),
]
SLOW = 0.05


class Sleepy(Regularizer):
    """Takes its time for views, the term and the backward pass.

    Args:
        views: Seconds for its views.
        term: Seconds for its term.
        backward: Seconds for the backward pass.
    """

    def __init__(self, views: float = 0.0, term: float = 0.0, backward: float = 0.0) -> None:
        super().__init__()
        self.seconds = (views, term, backward)
        self.level = nn.Parameter(torch.ones(()))

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        time.sleep(self.seconds[0])
        return (View(batch),)

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        time.sleep(self.seconds[1])
        term = self.level * predictions[1]["depth"].mean()
        if term.requires_grad:
            term.register_hook(lambda _: time.sleep(self.seconds[2]))
        return {"sleepy": term}


class SleepyNetwork(ToyNetwork):
    """Takes its time for the forward pass."""

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        time.sleep(SLOW)
        return super().forward(image)


class SleepyData(TinyData):
    """Takes its time for every batch."""

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        time.sleep(SLOW)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


class SleepyAdam(torch.optim.Adam):
    """Takes its time for every update."""

    def step(self, closure: Any = None) -> Any:
        loss = closure() if closure is not None else None
        time.sleep(SLOW)
        super().step()
        return loss


pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


def bench(*options: str) -> dict[str, Any]:
    assert main(["bench", *BASE, "--steps", "3", "--warm-up", "1", "--json", "bench.json", *options]) == 0
    found: dict[str, Any] = json.loads(Path("bench.json").read_text())
    return found


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("data", ["--data", "SleepyData"]),
        ("forward", ["--model.network", "SleepyNetwork"]),
        ("regularizer", ["--model.regularizer", "Sleepy", "--model.regularizer.views", "0.05"]),
        ("regularizer", ["--model.regularizer", "Sleepy", "--model.regularizer.term", "0.05"]),
        ("backward", ["--model.regularizer", "Sleepy", "--model.regularizer.backward", "0.05"]),
        ("optimizer", ["--model.optimizer", f"{__name__}.SleepyAdam", "--model.optimizer.lr", "0.001"]),
    ],
    ids=["data", "forward", "views", "term", "backward", "optimizer"],
)
def test_time_is_found_where_it_is_spent(stage: str, options: list[str]) -> None:
    found = bench(*options)
    assert list(found["shares"]) == list(STAGES)
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert max(found["shares"], key=found["shares"].get) == stage
    assert found["seconds"] >= SLOW
    assert found["steps_per_second"] == pytest.approx(1 / found["seconds"])
    assert found["samples_per_second"] == pytest.approx(2 / found["seconds"])


def test_flops_are_those_of_the_layers() -> None:
    """One 3x3 and 1x1 convolutions, forward and backward; the image takes no gradient."""
    found = bench()
    pixels, samples, width, outputs = SIZE[0] * SIZE[1], 2, 8, 3 + 1 + 3
    first, heads = 2 * 9 * 3 * width, 2 * width * outputs
    assert found["flops"] == samples * pixels * (2 * first + 3 * heads)
    assert found["flops_per_second"] == pytest.approx(found["flops"] / found["seconds"])


def test_a_compiled_network_is_counted_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_module = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module: compile_module(module, backend="eager"))
    assert bench("--model.compile", "true")["flops"] == bench()["flops"]


def test_nothing_is_left_behind() -> None:
    bench()
    assert [path.name for path in Path().iterdir()] == ["bench.json"]
    with FlopCounterMode(display=False) as counter:  # the counter of the last step is gone
        torch.ones(2, 2) @ torch.ones(2, 2)
    assert counter.get_total_flops() == 2 * 2 * 2 * 2


def test_the_table_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    bench("--model.regularizer", "Sleepy")
    printed = capsys.readouterr().out
    for part in ("steps per second", "samples per second", "peak memory", "TFLOP per step", *STAGES):
        assert part in printed
    assert "matrix peak" not in printed  # unknown of a CPU
    assert "Validation" not in printed


def test_memory_is_what_the_process_needs() -> None:
    assert 50 * 2**20 < bench()["peak_memory"] < 100 * 2**30


def test_the_share_of_peak_is_known_for_known_devices() -> None:
    cost = StepCost(0.5, {}, 0, int(98.9e12), 4, 2, "NVIDIA H100 80GB HBM3")
    assert cost.share_of_peak == pytest.approx(0.2)
    assert StepCost(0.5, {}, 0, 1, 4, 2, "NVIDIA H100 PCIe").share_of_peak == pytest.approx(2 / 756e12)
    assert StepCost(0.5, {}, 0, 1, 4, 2, "cpu").share_of_peak is None
    assert cost.to_dict()["samples_per_second"] == 16
    assert list(MATRIX_PEAK).index("L40S") < list(MATRIX_PEAK).index("L4")


def test_marks_measure_time() -> None:
    start = HostMark()
    time.sleep(0.01)
    assert 0.01 <= start.until(HostMark()) < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "--steps should be at least 1; found 0"),
        (["--warm-up", "0"], "--warm-up should be at least 1; found 0"),
        (["--json", "nowhere/a.json"], "found no folder 'nowhere'"),
        (["--data.scenario", "OneLable"], "OneLabel"),
    ],
)
def test_mistakes_are_told_in_one_sentence(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *BASE, *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_time_is_the_devices() -> None:
    found = bench("--trainer.accelerator", "gpu")
    assert found["device"] == torch.cuda.get_device_name()
    assert sum(found["shares"].values()) == pytest.approx(1)
    assert 0 < found["peak_memory"] < 2**30
