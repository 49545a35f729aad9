"""Large indexes: they start at once, and loader workers share them."""

import gc
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jtr_lightning.data import folder, taskonomy
from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.folder_source import Files, FolderSource
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.data.taskonomy import TaskonomyDataModule, TaskonomySource
from jtr_lightning.data.taskonomy_domains import known_domains
from jtr_lightning.data.taskonomy_index import TreeIndex
from jtr_lightning.data.taskonomy_layouts import LAYOUTS
from jtr_lightning.tasks import Depth
from tests.reliability.memory import MB, NEEDS_PROC, private_memory, resident
from tests.tiny import TinyData

NUMBER = 1_000_000
BATCHES = 12
LOOKS = 300
"""Samples that a worker looks up, here and there in the index, for each that it reads."""
MOST_OWN = 8
"""MB that a worker may have of its own for the sake of the index, a fraction of any index of a million."""


class Looking(SampleSource):
    """Looks up many samples for each one, and says how much memory of its own the process has by then."""

    def read_image(self, index: int) -> Array:
        for other in np.random.default_rng(index).integers(0, len(self), LOOKS):
            assert str(self.file_of(int(other))).endswith(".png")
            assert str(self.file_of(int(other), "depth")).endswith(".png")
            assert self.name(int(other))
        return np.zeros((8, 8, 3), np.uint8)

    def read_label(self, index: int, task: str) -> Array:
        return np.full((8, 8), private_memory() / MB + 1, np.float32)


class LookingFolder(Looking, FolderSource):
    """A user's own folders."""


class LookingTree(Looking, TaskonomySource):
    """Taskonomy's folders."""


class LookingList(Looking):
    """What must not be: a list of texts."""

    def __init__(self, number: int) -> None:
        self.ids = [f"scene/frame_{i:07d}" for i in range(number)]

    def __len__(self) -> int:
        return len(self.ids)

    def name(self, index: int) -> str:
        return self.ids[index]

    def file_of(self, index: int, task: str | None = None) -> Path:
        return Path(f"{self.ids[index]}.png")

    def on_disk(self, tasks: Sequence[str]) -> Any:
        return np.ones((len(self), len(tasks)), dtype=bool)


def folder_source(number: int) -> SampleSource:
    ids = [f"scene_{i // 1000}/frame_{i:07d}" for i in range(number)]
    files = Files(Path("images"), (".png",), np.zeros(number, np.int8))
    return LookingFolder(ids, files, {"depth": files}, {}, {}, {"depth": np.ones(number, bool)})


def tree_source(number: int) -> SampleSource:
    columns = (("depth_zbuffer", "_domain_depth_zbuffer.png"), ("rgb", "_domain_rgb.png"))
    index = TreeIndex(
        root=Path("tree"),
        layout=LAYOUTS[2],
        buildings=("a", "b"),
        columns=columns,
        building=(np.arange(number) // (number // 2)).astype(np.int32),
        point=np.arange(number, dtype=np.int32),
        view=np.zeros(number, np.int32),
        present=np.full(number, 3, np.uint64),
    )
    return LookingTree(index, {"depth": known_domains()["depth_zbuffer"]})


SOURCES = {"folders": folder_source, "tree": tree_source, "list": LookingList}


class Data(TinyData):
    kind, number = "folders", NUMBER

    def source(self, split: Split) -> SampleSource:
        return SOURCES[self.kind](self.number if split == "train" else 4)


def memory_of_workers(kind: str, number: int) -> float:
    """The most that a worker has of its own after many samples, in MB."""
    data = Data(tasks=["depth"], num_workers=2, batch_size=4)
    data.kind, data.number = kind, number
    data.setup("fit")
    most = 0.0
    for step, batch in enumerate(data.train_dataloader()):
        most = max(most, float(batch.labels["depth"].max()) - 1)
        if step == BATCHES:
            break
    return most


@NEEDS_PROC
@pytest.mark.parametrize("kind", SOURCES)
def test_workers_share_the_index_of_a_million_samples(kind: str) -> None:
    gc.collect()
    # With few samples all else is the same.
    grown = memory_of_workers(kind, NUMBER) - memory_of_workers(kind, 4 * BATCHES + 4)
    if kind == "list":
        assert grown > MOST_OWN, "the test would notice an index that every look copies"
    else:
        assert grown < MOST_OWN, f"a worker has {grown:.0f} MB more of its own than with few samples"


def folder_data(monkeypatch: pytest.MonkeyPatch) -> PartialLabelDataModule:
    """A million files in a user's own folders, without the disk."""
    monkeypatch.setattr(
        folder, "files_by_id", lambda *_: {f"scene_{i // 1000}/frame_{i:07d}": ".png" for i in range(NUMBER)}
    )
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    return FolderDataModule("data", {"depth": Depth()}, scales={"depth": 0.001}, num_workers=2)


def tree_data(monkeypatch: pytest.MonkeyPatch) -> PartialLabelDataModule:
    """A tree of a million views whose index is remembered."""
    source = tree_source(NUMBER)
    assert isinstance(source, LookingTree)
    monkeypatch.setattr(taskonomy, "open_tree", lambda *_, **__: source.index)
    return TaskonomyDataModule("data", ["depth_zbuffer"], train_buildings=["a", "b"])


@NEEDS_PROC
@pytest.mark.parametrize("made", [folder_data, tree_data])
def test_a_million_samples_start_at_once(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(monkeypatch)
    gc.collect()
    before, start = resident(), time.process_time()
    dataset = data.dataset("train")
    assert len(dataset) > NUMBER // 2
    assert time.process_time() - start < 60, "some seconds where nobody else is at work"
    gc.collect()
    grown = (resident() - before) / MB
    assert grown < 250, f"{grown:.0f} MB"


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
