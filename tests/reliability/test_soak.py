"""Long trainings and large indexes: nothing grows, and workers share what they can."""

import gc
import multiprocessing
import os
import threading
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
from numpy.typing import NDArray

from jtr_lightning.callbacks.guard import NonFiniteGuard
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.base import Split
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.scenarios import OneLabel
from tests.tiny import TinyData, ToyNetwork

STEPS, WARM_UP = 2000, 500
MOST_GROWTH = 1.0
"""MB per 1,000 steps."""
MB = 2**20


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Meter(L.Callback):
    """Measures every 50 steps."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.memory: list[float] = []
        self.open_files: list[int] = []
        self.threads: list[int] = []
        self.processes: list[int] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step % 50:
            return
        gc.collect()
        self.steps.append(trainer.global_step)
        self.memory.append(resident() / MB)
        self.open_files.append(len(list(Path("/proc/self/fd").iterdir())))
        self.threads.append(threading.active_count())
        self.processes.append(len(multiprocessing.active_children()))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory from Linux's /proc")
@pytest.mark.parametrize("workers", [0, 2])
def test_two_thousand_steps_grow_nothing(workers: int, tmp_path: Path) -> None:
    data = TinyData(
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
        max_steps=STEPS,
        check_val_every_n_epoch=10,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[meter, Resume(tmp_path), NonFiniteGuard()],
    )
    trainer.fit(module, data)
    assert trainer.global_step == STEPS
    warm = np.array(meter.steps) > WARM_UP
    # The median of the slopes between all pairs: one step of an allocator does not make a trend.
    x, y = np.array(meter.steps)[warm], np.array(meter.memory)[warm]
    first, second = np.triu_indices(len(x), 1)
    slope = 1000 * np.median((y[second] - y[first]) / (x[second] - x[first]))
    assert slope < MOST_GROWTH, f"{slope:.2f} MB per 1,000 steps"
    for counts in (meter.open_files, meter.threads, meter.processes):
        # Validation has workers of its own from its first run on.
        later = np.array(counts)[warm]
        assert later.max() == later.min(), counts


class Million(SampleSource):
    """A million samples whose index is an array, as those of the datasets are."""

    def __init__(self, number: int) -> None:
        self.place = np.arange(number, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.place)

    def name(self, index: int) -> str:
        return f"sample_{self.place[index]}"

    def on_disk(self, tasks: Any) -> NDArray[np.bool_]:
        return np.ones((len(self), len(tasks)), dtype=bool)

    def read_image(self, index: int) -> Array:
        return np.full((8, 8, 3), self.place[index] % 256, np.uint8)

    def read_label(self, index: int, task: str) -> Array:
        # Every sample says how much memory of its own the process that read it has.
        return np.full((8, 8), private_memory() / MB + 1, np.float32)


def private_memory() -> int:
    """Bytes that this process shares with no other."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private"))


class MillionData(TinyData):
    def source(self, split: Split) -> SampleSource:
        return Million(1_000_000 if split == "train" else 4)


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="reads the memory from Linux's /proc"
)
def test_a_million_samples_start_at_once_and_are_shared_by_the_workers() -> None:
    gc.collect()
    before, start = resident(), time.process_time()
    data = MillionData(tasks=["depth"], num_workers=2, batch_size=4)
    data.setup("fit")
    batches = iter(data.train_dataloader())
    batch = next(batches)
    seconds = time.process_time() - start
    grown = (resident() - before) / MB
    assert seconds < 20, "a fraction of a second where nobody else is at work"
    # Index, availability and domains are 8 + 1 + 8 bytes; torch's sampler makes the order a list of Python's numbers.
    assert grown < 200, f"{grown:.0f} MB"
    private = max(float(depth) for depth in batch.labels["depth"][:, 0, 0, 0]) - 1
    index = 17 * 1_000_000 / MB
    del batches
    small = TinyPrivate(tasks=["depth"], num_workers=2, batch_size=4)
    small.setup("fit")
    alone = float(next(iter(small.train_dataloader())).labels["depth"].max()) - 1
    assert private - alone < index, (
        f"a worker has {private - alone:.0f} MB more of its own than with four samples"
    )


class TinyPrivate(TinyData):
    def source(self, split: Split) -> SampleSource:
        return Million(4)


@pytest.mark.slow
def test_an_index_of_a_hundred_thousand_files_takes_seconds_and_megabytes(tmp_path: Path) -> None:
    """Ten files in each folder would be a million labels; empty ones, since an index reads no file."""
    views = [f"point_{point}_view_{view}" for point in range(2500) for view in range(4)]
    for building in ("a", "b"):
        for domain in ("rgb", "depth_zbuffer", "normal", "reshading", "edge_texture"):
            folder = tmp_path / building / domain
            folder.mkdir(parents=True)
            for view in views:
                os.close(os.open(folder / f"{view}_domain_{domain}.png", os.O_CREAT | os.O_WRONLY))
    gc.collect()
    before, start = resident(), time.process_time()
    data = TaskonomyDataModule(tmp_path, ["depth_zbuffer", "normal"], train_buildings=["a", "b"])
    dataset = data.dataset("train")
    assert len(dataset) == 20_000
    assert time.process_time() - start < 60
    assert (resident() - before) / MB < 100
