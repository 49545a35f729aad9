"""Packs a dataset once, for ``PackedDataModule`` to read fast."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from jtr_lightning.data.base import PartialLabelDataModule, PartialLabelDataset, Split
from jtr_lightning.data.checking import SPLITS, same_samples, unchanged
from jtr_lightning.data.loader import use_one_thread
from jtr_lightning.data.mixing import JoinedSource
from jtr_lightning.data.packed import (
    DOMAINS_FILE,
    INFO_FILE,
    LABELS_FILE,
    VERSION,
    image_path,
    label_path,
)
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.splits import write_split

_WHOLE = (np.int8, np.uint8, np.int16, np.int32)


@dataclass
class Packed:
    """What was packed.

    Attributes:
        samples: Samples of each split.
        bytes: Size of all files.
        skipped: What could not be read, one sentence each.
        without: Splits that the dataset does not have, and why.
    """

    samples: dict[Split, int] = field(default_factory=dict)
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)
    without: dict[Split, str] = field(default_factory=dict)


def pack(data: PartialLabelDataModule, folder: Path, workers: int = 0, progress: bool = True) -> Packed:
    """Reads a dataset once, and writes what was read.

    All labels on disk are packed, whatever the scenario says. Everything is written to a hidden folder beside the one
    wanted, which is renamed when it is whole.

    Args:
        data: The dataset; its ``size`` is that of the packed images. With ``on_error='skip'`` an unreadable label
            counts as missing, and a sample with an unreadable image stays as unreadable as it is.
        folder: The folder to make; new or empty.
        workers: Processes that read and write.
        progress: Show a progress bar on a terminal.

    Returns:
        What was packed.

    Raises:
        ConfigError: The folder is in use, or has no room, or the dataset cannot be packed.
        DataError: A file of the dataset cannot be read.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"Parameter `out` should be a new or an empty folder; found '{folder}' with content. Choose another."
        )
    unfinished = folder.parent / f".{folder.name}.unfinished-{uuid4().hex}"
    try:
        done = _write(data, unfinished, workers, progress)
        unfinished.replace(folder)
        return done
    except OSError as error:
        raise ConfigError(
            f"Parameter `out` should be a folder that can be written; found '{folder}': {error.strerror or error}."
        ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _write(data: PartialLabelDataModule, folder: Path, workers: int, progress: bool) -> Packed:
    from tqdm import tqdm

    done = Packed()
    places: dict[Split, Split] = {}
    sources: dict[Split, SampleSource] = {}
    for split in SPLITS:
        try:
            source = _source(data, split)
        except DataError as error:
            if split != "test":  # a dataset without a test split can be trained on
                raise
            done.without[split] = str(error)
            continue
        same = next((other for other in sources if same_samples(sources[other], source)), None)
        places[split] = split if same is None else places[same]
        sources[split], done.samples[split] = source, len(source)
    for split in dict.fromkeys(places.values()):
        writer = _Writer(sources[split], data, folder / split)
        loader: Any = DataLoader(
            writer,
            batch_size=None,
            num_workers=workers,
            collate_fn=unchanged,
            worker_init_fn=use_one_thread,
        )
        bar = tqdm(loader, desc=f"Packing {split}", unit="sample", disable=None if progress else True)
        rows: list[NDArray[np.bool_]] = []
        for written, size, skipped in bar:
            if not rows:
                _check_room(folder, size * len(writer))
            rows.append(written)
            done.bytes += size
            done.skipped += skipped
        write_split(folder / split / LABELS_FILE, writer.source.names(), tuple(data.tasks), np.stack(rows))
        np.save(folder / split / DOMAINS_FILE, writer.source.domains())
    info = {
        "version": VERSION,
        "from": type(data).__name__,
        "size": data.size,
        "tasks": {name: task.describe() for name, task in data.tasks.items()},
        "splits": places,
    }
    (folder / INFO_FILE).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")
    return done


def _source(data: PartialLabelDataModule, split: Split) -> SampleSource:
    source = data.source(split)
    if not len(source):
        raise DataError(f"The split '{split}' should have at least one sample; found none in '{data.root}'.")
    if isinstance(source, JoinedSource):
        raise ConfigError(
            "A dataset to pack should have one set of training samples; found depth-only frames, too, whose mixing "
            "ratio would be lost. Leave `extra_root` out."
        )
    return source


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise ConfigError(
            f"The disk of '{folder.parent}' should have room for the packed samples, about {wanted / 1e9:.1f} GB; "
            f"found {free / 1e9:.1f} GB. Choose another place, a smaller `size` or fewer `tasks`."
        )


class _Writer(Dataset[tuple[NDArray[np.bool_], int, list[str]]]):
    """Writes samples when they are asked for, and gives which labels were written, the bytes, and what failed."""

    def __init__(self, source: SampleSource, data: PartialLabelDataModule, folder: Path) -> None:
        self.source = source
        self.folder = folder
        on_disk = source.on_disk(tuple(data.tasks))
        self.dataset = PartialLabelDataset(source, data.tasks, on_disk, data.size, on_error=data.on_error)
        (folder / "images").mkdir(parents=True)
        for name in data.tasks:
            (folder / "labels" / name).mkdir(parents=True)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[NDArray[np.bool_], int, list[str]]:
        skipped: list[str] = []
        read = self.dataset.read(index, skipped)
        labels: Mapping[str, Array] = {} if read is None else read[1]
        files = {label_path(self.folder, index, name): _narrow(array) for name, array in labels.items()}
        if read is not None:
            files[image_path(self.folder, index)] = read[0]
        for path, array in files.items():
            np.save(path, array)
        written = np.array([name in labels for name in self.dataset.tasks], dtype=bool)
        return written, sum(path.stat().st_size for path in files), skipped


def _narrow(array: Array) -> Array:
    """Whole numbers in as few bytes as they need; all else as it is."""
    if array.dtype.kind not in "iu":
        return np.ascontiguousarray(array)
    low, high = array.min(), array.max()
    fits = (t for t in _WHOLE if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return np.ascontiguousarray(array, dtype=next(fits, array.dtype))
