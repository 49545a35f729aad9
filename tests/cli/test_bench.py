"""``jtr bench``: what it measures is what the training does, and where."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from jtr_lightning.batch import Batch
from jtr_lightning.cli.main import main
from jtr_lightning.profiling import STAGES, HostMark, StepCost, matrix_peak, peak_memory
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


class Seen(L.Callback):
    """Leaves a file behind."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        Path("seen").touch()


class Stops(L.Callback):
    """Ends the training behind its first step."""

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        trainer.should_stop = True


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


@pytest.mark.parametrize(
    "options",
    [
        ["--trainer.check_val_every_n_epoch", "10"],
        ["--trainer.check_val_every_n_epoch", "null", "--trainer.val_check_interval", "1000"],
        ["--trainer.max_time", "00:00:00:00"],
        ["--trainer.fast_dev_run", "true"],
    ],
    ids=lambda options: options[0],
)
def test_what_a_config_says_of_a_whole_training_does_not_matter(options: list[str]) -> None:
    assert bench(*options)["steps_per_second"] > 0


def test_callbacks_that_need_what_is_left_out_are_left_out_and_no_other() -> None:
    needy = ["LearningRateMonitor", "ModelCheckpoint", "DeviceStatsMonitor"]
    callbacks = [*({"class_path": name} for name in needy), {"class_path": f"{__name__}.Seen"}]
    stopping = {"class_path": "EarlyStopping", "init_args": {"monitor": "val/score", "mode": "max"}}
    bench("--trainer.callbacks", json.dumps([*callbacks, stopping]))
    assert Path("seen").exists()
    assert {path.name for path in Path().iterdir()} == {"seen", "bench.json"}


def test_a_title_stands_above_the_table_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    bench()
    printed = capsys.readouterr().out.splitlines()
    assert "One training step on 1 x cpu, precision 32-true" in printed


def test_the_table_tells_all(capsys: pytest.CaptureFixture[str]) -> None:
    bench("--model.regularizer", "Sleepy")
    printed = capsys.readouterr().out
    for part in ("steps per second", "samples per second", "peak memory", "TFLOP per step", *STAGES):
        assert part in printed
    assert re.search("share of the bf16 matrix peak .* peak of this device unknown", printed)
    assert not re.search(r"^ *Validation( after.*)?$", printed, re.M), "there are no results to show"


def test_memory_is_what_the_process_needs() -> None:
    assert 50 * 2**20 < bench()["peak_memory"] < 100 * 2**30


def test_memory_is_of_the_device_that_is_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU, too, which this training does not use."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 17 + device.index)
    assert peak_memory(torch.device("cpu")) > 50 * 2**20
    assert peak_memory(torch.device("cuda", 1)) == 18


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux alone hands it on")
def test_the_memory_of_a_process_is_not_that_of_the_one_that_started_it() -> None:
    held = torch.ones(2**28)  # 1 GiB
    code = "import torch; from jtr_lightning.profiling import peak_memory; print(peak_memory(torch.device('cpu')))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert held.sum() > 0
    assert int(told) < 2**30 < peak_memory(torch.device("cpu"))


@pytest.mark.parametrize(
    ("device", "tflops"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H100 NVL", 835),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A100 80GB PCIe", 312),
        ("NVIDIA L40", 181),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA RTX A1000", None),
        ("NVIDIA A10G", None),
        ("cpu", None),
    ],
)
def test_the_peak_is_known_of_these_devices_and_not_of_ones_like_them(
    device: str, tflops: float | None
) -> None:
    assert matrix_peak(device) == (None if tflops is None else pytest.approx(tflops * 1e12))


def test_the_share_of_the_peak_is_that_of_one_device() -> None:
    cost = StepCost(0.5, {}, 0, int(98.9e12), 4, 2, "NVIDIA H100 80GB HBM3", peak_flops=989e12)
    assert cost.share_of_peak == pytest.approx(0.2)
    assert cost.to_dict()["samples_per_second"] == 16
    assert StepCost(0.5, {}, 0, 1, 4, 2, "cpu").share_of_peak is None


def test_a_peak_may_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    found = bench("--peak-tflops", "0.5")
    assert found["share_of_peak"] == pytest.approx(found["flops"] / found["seconds"] / 0.5e12)
    assert f"{100 * found['share_of_peak']:.1f} % of 0.5 TFLOP per second" in capsys.readouterr().out


def test_marks_measure_time() -> None:
    start = HostMark()
    time.sleep(0.01)
    assert 0.01 <= start.until(HostMark()) < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "0"], "--steps should be at least 1; found 0"),
        (["--warm-up", "0"], "--warm-up should be at least 1; found 0"),
        (["--peak-tflops", "0"], "--peak-tflops should be above 0; found 0"),
        (
            ["--trainer.callbacks", json.dumps([{"class_path": f"{__name__}.Stops"}])],
            "should have 26 steps; found that it ended before",
        ),
        (["--json", "nowhere/a.json"], "found no folder 'nowhere'"),
        (["--json", "."], "--json should name a file; found a folder, '.'"),
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
