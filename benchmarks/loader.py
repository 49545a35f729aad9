"""Samples per second and core of the training loader, against a plain reader.

    python benchmarks/loader.py

Both read the same NYU-v2 files in the published layout (float32 ``.npy`` arrays of 288x384 pixels: image, classes,
depth, normals; written to a temporary folder here) in one process with one thread, batches of 4.

* plain: what published code does. The arrays become float32 tensors; of the image and its labels three random scale
  crops are made by tensor interpolation (the second and third of the first), and each is changed in colour by
  RandAugment (two operations of the paper's nine) with torchvision.
* ours: ``NYUv2DataModule`` with ``Augmentation``. One crop, one flip, one change of colour, in 8 bits by OpenCV; a
  regularizer makes its further views on the device. Labels that are not available are not read.

Each round runs all of them one after the other, so that a busy machine disturbs them alike; the ratio is the median
over the rounds of each round's own ratio.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as TF

from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.scenarios import FullLabels, OneLabel, RandomLabels, Scenario

HEIGHT, WIDTH = 288, 384
SCALES = (1.0, 1.2, 1.5)
BINS = 31


def write_files(root: Path, number: int) -> None:
    """Writes ``number`` samples of the published layout, smooth as real ones are."""
    for split, count in (("train", number), ("val", 1)):
        for folder in ("image", "label", "depth", "normal"):
            (root / split / folder).mkdir(parents=True)
        for i in range(count):
            rng = np.random.default_rng(i)
            noise = cv2.resize(rng.random((9, 12, 7), dtype=np.float32), (WIDTH, HEIGHT))
            normal = noise[..., 4:] - 0.5
            normal /= np.linalg.norm(normal, axis=-1, keepdims=True)
            arrays = {
                "image": noise[..., :3],
                "label": np.floor(noise[..., 3] * 13).clip(-1, 12),
                "depth": 1 + 5 * noise[..., 3:4],
                "normal": normal,
            }
            for folder, array in arrays.items():
                np.save(root / split / folder / f"{i}.npy", np.ascontiguousarray(array, dtype=np.float32))


class PlainReader(Dataset):
    """The plain way: float32 tensors, three crops, three times RandAugment."""

    def __init__(self, root: Path) -> None:
        self.root = root / "train"

    def __len__(self) -> int:
        return len(list((self.root / "image").iterdir()))

    def __getitem__(self, index: int) -> list[dict[str, Tensor]]:
        first = crop({name: self.read(name, index) for name in ("image", "label", "depth", "normal")})
        views = [first, crop(first), crop(first)]
        return [{**view, "image": rand_augment(view["image"])} for view in views]

    def read(self, name: str, index: int) -> Tensor:
        array = np.load(self.root / name / f"{index}.npy")
        array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
        return torch.from_numpy(np.ascontiguousarray(array)).float()


def crop(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """A part of relative size 1 / s resized back, depth divided by s."""
    scale = random.choice(SCALES)
    rows, columns = int(HEIGHT / scale), int(WIDTH / scale)
    top, left = random.randint(0, HEIGHT - rows), random.randint(0, WIDTH - columns)
    moved = {}
    for name, array in arrays.items():
        part = array[None, :, top : top + rows, left : left + columns]
        if name in ("label", "depth"):
            moved[name] = F.interpolate(part, (HEIGHT, WIDTH), mode="nearest")[0]
        else:
            moved[name] = F.interpolate(part, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)[0]
    moved["depth"] = moved["depth"] / scale
    return moved


def rand_augment(image: Tensor) -> Tensor:
    """Two of the paper's nine photometric operations, magnitudes from bins 0 to 5 of 31, on a uint8 tensor."""
    pixels = (image * 255).to(torch.uint8)
    for _ in range(2):
        magnitude = random.randint(0, 5) / (BINS - 1)
        factor = 1 + random.choice((-0.9, 0.9)) * magnitude
        operations = (
            lambda p: p,
            lambda p, f=factor: TF.adjust_brightness(p, f),
            lambda p, f=factor: TF.adjust_saturation(p, f),
            lambda p, f=factor: TF.adjust_contrast(p, f),
            lambda p, f=factor: TF.adjust_sharpness(p, f),
            lambda p, m=magnitude: TF.posterize(p, 8 - round(4 * m)),
            lambda p, m=magnitude: TF.solarize(p, 255 * (1 - m)),
            TF.autocontrast,
            TF.equalize,
        )
        pixels = random.choice(operations)(pixels)
    return pixels.float() / 255


def ours(root: Path, scenario: Scenario) -> Iterable[object]:
    """Our training loader."""
    data = NYUv2DataModule(root, scenario=scenario, batch_size=4, augmentation=Augmentation())
    data.datasets["train"] = data.dataset("train")
    return data.train_dataloader()


def seconds(loader: Iterable[object]) -> float:
    """Processor time of one epoch: other work on the machine counts less than by the clock."""
    start = time.process_time()
    for _ in loader:
        pass
    return time.process_time() - start


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=48, help="samples in an epoch")
    parser.add_argument("--rounds", type=int, default=9, help="epochs of each")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_files(root, options.samples)
        loaders = {
            "plain": DataLoader(PlainReader(root), batch_size=4, shuffle=True),
            "ours, all labels": ours(root, FullLabels()),
            "ours, randomlabels": ours(root, RandomLabels()),
            "ours, onelabel": ours(root, OneLabel()),
        }
        for loader in loaders.values():
            seconds(loader)  # files into the page cache, imports, first use
        times: dict[str, list[float]] = {name: [] for name in loaders}
        for done in range(options.rounds):
            for name, loader in loaders.items():
                times[name].append(seconds(loader))
            print(f"\rround {done + 1} of {options.rounds}", end="", file=sys.stderr)
        print(file=sys.stderr)
    report(times, options.samples)


def report(times: dict[str, list[float]], samples: int) -> None:
    """A line for each loader."""
    print(f"{'':20s}{'ms/sample':>12s}{'samples/s':>12s}{'ratio':>9s}   (range over the rounds)")
    for name, own in times.items():
        ratios = [plain / other for plain, other in zip(times["plain"], own, strict=True)]
        median = statistics.median(own) / samples
        print(
            f"{name:20s}{1000 * median:12.2f}{1 / median:12.0f}{statistics.median(ratios):8.1f}x   "
            f"({min(ratios):.1f} to {max(ratios):.1f})"
        )


if __name__ == "__main__":
    main()
