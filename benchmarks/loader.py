"""Samples per second and core of the training loader, against a plain reader of the same files.

    python benchmarks/loader.py --dataset nyuv2

writes some files in the dataset's layout to a temporary folder (``loader_data``) and reads them in one process with one
thread, batches of 4:

* plain: what published code does, see ``loader_plain``: three crops and three changes of colour per sample, on float32
  tensors.
* ours: the data module with ``Augmentation``. One crop, one flip, one change of colour, in 8 bits by OpenCV; a
  regularizer makes its further views on the device. Labels that are not available are not read.
* packed: the same from what ``jtr data pack`` has made of the files.

Each round runs all of them one after the other, so that a busy machine disturbs them alike; the ratio is the median
over the rounds of each round's own ratio. Times are the process's.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import loader_data
import loader_plain
import torch
from torch.utils.data import DataLoader

from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.cityscapes import CityscapesDataModule
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.nyuv2_depth_only import find_depth_only
from jtr_lightning.data.packed import PackedDataModule
from jtr_lightning.data.packing import pack
from jtr_lightning.data.source import SampleSource
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.scenarios import FullLabels, OneLabel, RandomLabels
from jtr_lightning.tasks import Depth, Normals, Segmentation, Task

Make = Callable[..., PartialLabelDataModule]


@dataclass(frozen=True)
class Case:
    """How a dataset is written and read.

    Attributes:
        write: Writes so many training samples to a folder.
        plain: The plain reader.
        ours: Makes the data module.
        size: Height and width of the training images.
        samples: Training samples by default.
    """

    write: Callable[[Path, int], None]
    plain: type[loader_plain.PlainReader]
    ours: Make
    size: tuple[int, int]
    samples: int


SCENARIOS = {"all labels": FullLabels(), "randomlabels": RandomLabels(), "onelabel": OneLabel()}
KINDS = [f"{kind}, {labels}" for kind in ("ours", "packed") for labels in SCENARIOS]


def taskonomy(root: Path, **options: object) -> TaskonomyDataModule:
    """Taskonomy as ``loader_data`` writes it, a building for each split."""
    lists = {f"{split}_buildings": [split] for split in ("train", "val", "test")}
    return TaskonomyDataModule(root, **lists, **options)


class DepthOnlyFrames(PartialLabelDataModule):
    """The frames that ``extra_root`` joins to NYU-v2, alone."""

    def known_tasks(self) -> dict[str, Task]:
        return {"depth": Depth()}

    def source(self, split: Split) -> SampleSource:
        del split
        return find_depth_only(self.root)


def folder(root: Path, **options: object) -> FolderDataModule:
    """Plain folders with the tasks of NYU-v2."""
    tasks = {"segmentation": Segmentation(13), "depth": Depth(), "normals": Normals()}
    return FolderDataModule(root, tasks, scales={"depth": 0.001}, **options)


CASES = {
    "nyuv2": Case(loader_data.nyuv2_npy, loader_plain.Nyuv2Npy, NYUv2DataModule, (288, 384), 32),
    "nyuv2_mat": Case(loader_data.nyuv2_mat, loader_plain.Nyuv2Mat, NYUv2DataModule, (288, 384), 16),
    "nyuv2_h5": Case(loader_data.nyuv2_h5, loader_plain.Nyuv2H5, DepthOnlyFrames, (288, 384), 16),
    "cityscapes_npy": Case(
        loader_data.cityscapes_npy, loader_plain.CityscapesNpy, CityscapesDataModule, (128, 256), 64
    ),
    "cityscapes": Case(loader_data.cityscapes, loader_plain.Cityscapes, CityscapesDataModule, (128, 256), 8),
    "taskonomy": Case(loader_data.taskonomy, loader_plain.Taskonomy, taskonomy, (256, 256), 16),
    "folder": Case(loader_data.folder, loader_plain.Folder, folder, (288, 384), 32),
}


def loader_of(data: PartialLabelDataModule) -> Iterable[object]:
    """The training loader."""
    data.datasets["train"] = data.dataset("train")
    return data.train_dataloader()


def seconds(loader: Iterable[object]) -> float:
    """Processor time of one epoch: other work on the machine counts less than by the clock."""
    start = time.process_time()
    for _ in loader:
        pass
    return time.process_time() - start


def loaders_of(case: Case, root: Path, packed: Path) -> dict[str, Iterable[object]]:
    """Every loader by name, the plain one first."""
    common = {"size": case.size, "batch_size": 4, "augmentation": Augmentation()}
    data = case.ours(root, size=case.size)
    pack(data, packed, progress=False)
    # Nothing of a single task can be hidden.
    scenarios = {name: s for name, s in SCENARIOS.items() if len(data.tasks) > 1 or name == "all labels"}
    return {
        "plain": DataLoader(case.plain(root, case.size), batch_size=4, shuffle=True),
        **{
            f"ours, {name}": loader_of(case.ours(root, scenario=s, **common)) for name, s in scenarios.items()
        },
        **{
            f"packed, {name}": loader_of(PackedDataModule(packed, scenario=s, **common))
            for name, s in scenarios.items()
        },
    }


def main() -> None:
    """Prints the table: medians over the rounds, their range in brackets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", nargs="+", choices=CASES, default=list(CASES), help="all by default")
    parser.add_argument(
        "--samples", type=int, help="samples in an epoch; by default as fits the size of the files"
    )
    parser.add_argument("--rounds", type=int, default=9, help="epochs of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    random.seed(0)
    print(as_row(["dataset", "plain, ms", *KINDS]), as_row("-" * (2 + len(KINDS))), sep="\n")
    for name in options.dataset:
        case = CASES[name]
        samples = options.samples or case.samples
        with tempfile.TemporaryDirectory() as place:
            case.write(Path(place) / "files", samples)
            loaders = loaders_of(case, Path(place) / "files", Path(place) / "packed")
            print(row_of(name, measured(loaders, options.rounds), samples), flush=True)


def measured(loaders: dict[str, Iterable[object]], rounds: int) -> dict[str, list[float]]:
    """Processor time of each loader in each round."""
    for loader in loaders.values():
        seconds(loader)  # files into the page cache, imports, first use
    times: dict[str, list[float]] = {name: [] for name in loaders}
    for done in range(rounds):
        for name, loader in loaders.items():
            times[name].append(seconds(loader))
        print(f"\rround {done + 1} of {rounds}", end="\r", file=sys.stderr)
    return times


def row_of(dataset: str, times: dict[str, list[float]], samples: int) -> str:
    """Milliseconds per sample of the plain reader, and the ratio of each other loader."""
    plain = times.pop("plain")
    cells = [dataset, f"{1000 * statistics.median(plain) / samples:.1f}"]
    for kind in KINDS:
        if kind not in times:
            cells.append("")
            continue
        ratios = [slow / fast for slow, fast in zip(plain, times[kind], strict=True)]
        cells.append(f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    return as_row(cells)


def as_row(cells: Iterable[str]) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
