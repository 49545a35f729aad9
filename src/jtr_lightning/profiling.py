"""Where the time of a training step goes, and how much arithmetic and memory it takes."""

from __future__ import annotations

import re
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Protocol, cast

import lightning as L
import torch
from torch.utils.flop_counter import FlopCounterMode

from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule

STAGES = ("data", "forward", "regularizer", "backward", "optimizer")
"""Parts of a step. ``data``: waiting for a batch and moving it; ``forward``: the network's passes, over the
regularizer's views, too, and the supervised losses; ``regularizer``: its views and terms, without those passes."""

MATRIX_PEAK = {
    r"B200": 2250e12,
    r"H100 80GB HBM3|H200|GH200 480GB": 989e12,
    r"H100 NVL|H200 NVL": 835e12,
    r"H100 PCIe": 756e12,
    r"A100-(SXM4|PCIE)-\d+GB|A100 80GB PCIe": 312e12,
    r"A40": 149.7e12,
    r"A30": 165e12,
    r"A10": 125e12,
    r"L40S": 362e12,
    r"L40": 181e12,
    r"L4": 121e12,
    r"RTX 4090": 165e12,
    r"RTX 3090": 71e12,
}
"""FLOP per second of dense bfloat16 matrix products with float32 sums, by a pattern of a device's whole name, without
"NVIDIA" and "GeForce": a laptop's RTX 4090 is another device, and so is a part of an A100. From NVIDIA's data sheets
(half of what they give "with sparsity") and papers on the architectures."""


def matrix_peak(device: str) -> float | None:
    """A device's bfloat16 matrix peak.

    Args:
        device: Its name, as the driver tells it.

    Returns:
        FLOP per second; None for an unknown device.
    """
    model = re.sub(r"^NVIDIA |GeForce ", "", device)
    return next((peak for pattern, peak in MATRIX_PEAK.items() if re.fullmatch(pattern, model)), None)


def peak_memory(device: torch.device) -> int:
    """Bytes that were taken at most.

    Args:
        device: What is trained on.

    Returns:
        For a CUDA device, what tensors took of its memory; else what this process took.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if (status := Path("/proc/self/status")).is_file():
        # Linux hands the largest size of the process that started this one on to `ru_maxrss`.
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)
        if found:
            return int(found.group(1)) * 1024
    # macOS counts bytes, others kilobytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Mark(Protocol):
    """A moment on a device."""

    def until(self, other: Any) -> float:
        """Seconds from this moment to another; waits for the device."""


@dataclass
class HostMark:
    """A moment on the host, which is the device's where work is done at once."""

    moment: float = field(default_factory=time.perf_counter)

    def until(self, other: HostMark) -> float:
        """Seconds to another moment."""
        return other.moment - self.moment


class CudaMark:
    """A moment in the order of a CUDA device's work: nothing waits when it is made."""

    def __init__(self) -> None:
        self.event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self.event.record()

    def until(self, other: CudaMark) -> float:
        """Seconds to another moment."""
        other.event.synchronize()
        return float(self.event.elapsed_time(other.event)) / 1000


@dataclass
class StepCost:
    """What a step costs on one device.

    Attributes:
        seconds: Median over the steps, from the end of one to the end of the next.
        shares: Each of ``STAGES``' share of all steps' time; they sum to 1.
        peak_memory: Bytes: of a CUDA device's memory what tensors took at most; else what the process took at most.
        flops: Of matrix products and convolutions in one step, forward and backward; 2 per multiplication and addition.
        batch_size: Samples per step and device.
        devices: Number of devices, each with a batch of its own.
        device: The device's name.
        peak_flops: The device's matrix peak, FLOP per second; None where it is unknown.
    """

    seconds: float
    shares: dict[str, float]
    peak_memory: int
    flops: int
    batch_size: int
    devices: int
    device: str
    peak_flops: float | None = None

    @property
    def share_of_peak(self) -> float | None:
        """Share of the device's matrix peak in [0, 1]; None where that is unknown."""
        return None if self.peak_flops is None else self.flops / self.seconds / self.peak_flops

    def to_dict(self) -> dict[str, Any]:
        """All numbers in plain values."""
        rates = {
            "steps_per_second": 1 / self.seconds,
            "samples_per_second": self.batch_size * self.devices / self.seconds,
            "flops_per_second": self.flops / self.seconds,
            "share_of_peak": self.share_of_peak,
        }
        return {**asdict(self), **rates}


class StepProfiler(L.Callback):
    """Measures a training's steps: first some that do not count, then those that do, then one whose FLOPs are counted.

    Args:
        warm_up: Steps that do not count, at least 1.
        steps: Steps that do, at least 1.
        peak_flops: The device's matrix peak, FLOP per second; None for what is known of it (``MATRIX_PEAK``).

    Attributes:
        cost: The result, once the training has ended; None if it ended early.
    """

    def __init__(self, warm_up: int = 5, steps: int = 20, peak_flops: float | None = None) -> None:
        self.warm_up = warm_up
        self.steps = steps
        self.peak_flops = peak_flops
        self.cost: StepCost | None = None
        self._spans: dict[str, list[tuple[Mark, Mark]]] = {stage: [] for stage in STAGES}
        self._ends: list[Mark] = []
        self._done = 0
        self._counter: FlopCounterMode | None = None
        self._make_mark: Callable[[], Mark] = HostMark
        self._last: Mark
        self._sample_views: Callable[..., Any]

    @property
    def total(self) -> int:
        """Number of steps that the training must have."""
        return self.warm_up + self.steps + 1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Puts the clock around the regularizer's parts."""
        if trainer.strategy.root_device.type == "cuda":
            self._make_mark = CudaMark
        regularizer = cast(PartialLabelModule, pl_module).regularizer
        if regularizer is not None:
            self._sample_views = regularizer.sample_views
            regularizer.sample_views = self._timed_views  # type: ignore[method-assign]
            regularizer.register_forward_pre_hook(lambda *_: self._mark("forward"))
            regularizer.register_forward_hook(lambda *_: self._mark("regularizer"))

    def _timed_views(self, batch: Batch) -> Any:
        self._mark("forward")
        views = self._sample_views(batch)
        self._mark("regularizer")
        return views

    def _mark(self, stage: str) -> None:
        """Ends a stretch of a stage here."""
        now = self._make_mark()
        if self.warm_up <= self._done < self.warm_up + self.steps:
            self._spans[stage].append((self._last, now))
        self._last = now

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Ends the wait for data."""
        if self._done == 0:
            self._last = self._make_mark()
        self._mark("data")
        if self._done == self.total - 1:
            # Operations inside a compiled graph could not be counted.
            torch.compiler.set_stance("force_eager")
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()  # type: ignore[no-untyped-call]

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: torch.Tensor
    ) -> None:
        """Ends the forward pass."""
        self._mark("forward")

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Ends the backward pass."""
        self._mark("backward")

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Ends the step."""
        self._mark("optimizer")
        if self.warm_up - 1 <= self._done < self.warm_up + self.steps:
            self._ends.append(self._last)
        self._done += 1
        if self._done == self.warm_up and self._make_mark is CudaMark:
            torch.cuda.reset_peak_memory_stats(trainer.strategy.root_device)
        if self._done == self.warm_up + self.steps:
            self._memory = peak_memory(trainer.strategy.root_device)
        if self._counter is not None:
            self._stop_counting()
            self._finish(trainer, len(batch))

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leaves no counter behind."""
        if self._counter is not None:
            self._stop_counting()

    def _stop_counting(self) -> None:
        counter, self._counter = cast(FlopCounterMode, self._counter), None
        counter.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        torch.compiler.set_stance("default")
        self._flops = counter.get_total_flops()

    def _finish(self, trainer: L.Trainer, batch_size: int) -> None:
        times = {stage: sum(start.until(end) for start, end in spans) for stage, spans in self._spans.items()}
        whole = sum(times.values())
        seconds = [start.until(end) for start, end in zip(self._ends, self._ends[1:], strict=False)]
        name = _name(trainer.strategy.root_device)
        self.cost = StepCost(
            seconds=median(seconds),
            shares={stage: spent / whole for stage, spent in times.items()},
            peak_memory=self._memory,
            flops=self._flops,
            batch_size=batch_size,
            devices=trainer.world_size,
            device=name,
            peak_flops=self.peak_flops or matrix_peak(name),
        )


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
