"""Long trainings: neither the training nor its loader workers grow, and the test notices those that do."""

import gc
import mmap
import multiprocessing
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import pytest

from jtr_lightning.callbacks.guard import NonFiniteGuard
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.base import Split
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.scenarios import OneLabel
from tests.reliability.memory import MB, NEEDS_PROC, private_memory, resident
from tests.tiny import TinyData, TinySource, ToyNetwork

STEPS, WARM_UP = 2000, 500
MOST_GROWTH = 1.0
"""MB per 1,000 steps."""
LEAK = 10_000
"""Bytes in each step, ten times as much as is allowed."""


class Meter(L.Callback):
    """Measures every 50 steps: this process and its children, the loader workers."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.memory: list[float] = []
        self.memory_of_workers: list[float] = []
        self.open_files: list[int] = []
        self.threads: list[int] = []
        self.processes: list[int] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step % 50:
            return
        gc.collect()
        workers = multiprocessing.active_children()
        self.steps.append(trainer.global_step)
        self.memory.append(resident() / MB)
        # Of a worker, what it shares with this process is counted here.
        self.memory_of_workers.append(max((private_memory(w.pid) for w in workers), default=0) / MB)
        self.open_files.append(len(list(Path("/proc/self/fd").iterdir())))
        self.threads.append(threading.active_count())
        self.processes.append(len(workers))

    def growth(self, memory: Sequence[float], warm_up: int) -> float:
        """MB per 1,000 steps: the median of the slopes between all pairs; one step of an allocator makes no trend."""
        warm = np.array(self.steps) > warm_up
        x, y = np.array(self.steps)[warm], np.array(memory)[warm]
        first, second = np.triu_indices(len(x), 1)
        return float(1000 * np.median((y[second] - y[first]) / (x[second] - x[first])))


def leak() -> mmap.mmap:
    """Memory of its own: what an earlier test has freed cannot serve it, so that the process grows by it."""
    held = mmap.mmap(-1, LEAK, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    held.write(os.urandom(LEAK))
    return held


class Leaking(L.Callback):
    """Keeps what each step leaves."""

    def __init__(self) -> None:
        self.kept: list[mmap.mmap] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.kept.append(leak())


class LeakingSource(TinySource):
    """Keeps something of every image, as a cache without a bound does."""

    kept: ClassVar[list[mmap.mmap]] = []

    def read_image(self, index: int) -> Array:
        self.kept.append(leak())
        return super().read_image(index)


class LeakingData(TinyData):
    def source(self, split: Split) -> SampleSource:
        return LeakingSource(50, 0, "")


def train(
    folder: Path, workers: int, *callbacks: L.Callback, steps: int = STEPS, kind: type[TinyData] = TinyData
) -> Meter:
    data = kind(
        tasks=["segmentation", "depth", "normals"],
        number=50,
        scenario=OneLabel(),
        augmentation=Augmentation(),
        num_workers=workers,
    )
    module = PartialLabelModule(data.tasks, ToyNetwork(), JTR(widths=(4, 4), depths=(1, 1)))
    meter = Meter()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        check_val_every_n_epoch=10,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[meter, Resume(folder), NonFiniteGuard(), *callbacks],
    )
    trainer.fit(module, data)
    assert trainer.global_step == steps
    return meter


@pytest.mark.slow
@NEEDS_PROC
@pytest.mark.parametrize("workers", [0, 2])
def test_two_thousand_steps_grow_nothing(workers: int, tmp_path: Path) -> None:
    meter = train(tmp_path, workers)
    for memory in (meter.memory, meter.memory_of_workers):
        assert meter.growth(memory, WARM_UP) < MOST_GROWTH, memory
    for counts in (meter.open_files, meter.threads, meter.processes):
        # Validation has workers of its own from its first run on.
        later = [count for step, count in zip(meter.steps, counts, strict=True) if step > WARM_UP]
        assert max(later) == min(later), counts


@pytest.mark.slow
@NEEDS_PROC
def test_a_leak_of_ten_kilobytes_in_each_step_is_noticed(tmp_path: Path) -> None:
    meter = train(tmp_path, 0, Leaking(), steps=1000)
    assert meter.growth(meter.memory, WARM_UP) > MOST_GROWTH


@pytest.mark.slow
@NEEDS_PROC
def test_a_leak_in_the_workers_is_noticed(tmp_path: Path) -> None:
    meter = train(tmp_path, 2, steps=1000, kind=LeakingData)
    assert meter.growth(meter.memory_of_workers, WARM_UP) > MOST_GROWTH
