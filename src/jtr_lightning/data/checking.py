"""Looks at every file of a dataset before any training, and tells what is there and what is wrong with it."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.doubts import LabelFacts, doubts, overall
from jtr_lightning.data.loader import use_one_thread
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import DataError
from jtr_lightning.tasks import Task

SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass
class SampleFacts:
    """What one sample's files hold.

    Attributes:
        image: Shape of the image, or None where it could not be read.
        dtype: Type in which the image is kept.
        labels: Facts by task, of the labels that could be read.
        problems: What is wrong, one sentence each.
        notes: What is unusual but can be trained on.
    """

    image: tuple[int, ...] | None = None
    dtype: str = ""
    labels: dict[str, LabelFacts] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class SplitFacts:
    """What a split holds.

    Attributes:
        source: The samples, or None where the split could not be opened.
        on_disk: Which labels exist, bool ``[N, K]``.
        read: How many samples were read.
        images: How many images have which shape.
        dtypes: How many images are kept in which type.
        labels: Facts by task.
        problems: What is wrong.
        notes: What is unusual but can be trained on.
        same_as: Another split that has the very same samples, and was read in this one's stead.
    """

    source: SampleSource | None
    on_disk: NDArray[np.bool_]
    read: int = 0
    images: Counter[tuple[int, ...]] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    labels: dict[str, LabelFacts] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    same_as: Split | None = None

    def joint_table(self) -> list[tuple[tuple[bool, ...], int]]:
        """Every combination of labels that occurs and how many samples have it, the most frequent first."""
        patterns = Counter(tuple(bool(value) for value in row) for row in self.on_disk)
        return patterns.most_common()


def check(
    data: PartialLabelDataModule,
    splits: Sequence[Split] = SPLITS,
    limit: int | None = None,
    workers: int = 0,
    progress: bool = True,
) -> dict[Split, SplitFacts]:
    """Reads the images and labels of a dataset.

    Args:
        data: The dataset; its scenario and its augmentation play no part.
        splits: Which splits.
        limit: Read at most this many samples of a split, evenly spaced; all by default.
        workers: Processes that read.
        progress: Show a progress bar.

    Returns:
        Facts by split.
    """
    report: dict[Split, SplitFacts] = {}
    told: set[str] = set()
    for split in splits:
        facts = _open(data, split, told)
        report[split] = facts
        if facts.source is None:
            continue
        facts.same_as = next((s for s, f in report.items() if s != split and _same(f, facts)), None)
        if facts.same_as is None:
            chosen = spaced(len(facts.source), limit)
            for sample in _read(facts, data, chosen, workers, progress, split):
                _take_in(facts, sample)
            _judge(facts, data)
    return report


def spaced(number: int, limit: int | None) -> list[int]:
    """At most ``limit`` of the numbers below ``number``, evenly spaced."""
    if limit is None or limit >= number:
        return list(range(number))
    return [i * number // limit for i in range(limit)]


def _open(data: PartialLabelDataModule, split: Split, told: set[str]) -> SplitFacts:
    """Opens a split; what was told of an earlier one is told once, since some is of all of them."""
    try:
        source = data.source(split)
        if not len(source):
            raise DataError(
                f"The split '{split}' should have at least one sample; found none in '{data.root}'."
            )
        on_disk = source.on_disk(tuple(data.tasks))
    except DataError as error:
        facts = SplitFacts(None, np.zeros((0, len(data.tasks)), dtype=bool))
        if str(error) not in told:
            # A dataset without a test split can be trained on; without the others it cannot.
            if split == "test":
                facts.notes.append(str(error))
            else:
                facts.problems.append(str(error))
                told.add(str(error))
        return facts
    facts = SplitFacts(source, on_disk)
    for found, sentences in ((facts.problems, source.problems()), (facts.notes, source.remarks())):
        found.extend(sentence for sentence in sentences if sentence not in told)
        told.update(sentences)
    for task, number in zip(data.tasks, on_disk.sum(0), strict=True):
        if not number:
            message = f"No sample of the split '{split}' has a label of task '{task}'."
            (facts.notes if split == "test" else facts.problems).append(message)
    return facts


def _same(a: SplitFacts, b: SplitFacts) -> bool:
    """Whether two splits read the very same files."""
    return a.source is not None and b.source is not None and same_samples(a.source, b.source)


def same_samples(a: SampleSource, b: SampleSource) -> bool:
    """Whether two sources read the very same samples."""
    return len(a) == len(b) and pickle.dumps(a) == pickle.dumps(b)


def _read(
    facts: SplitFacts,
    data: PartialLabelDataModule,
    chosen: list[int],
    workers: int,
    progress: bool,
    split: Split,
) -> Iterator[SampleFacts]:
    from tqdm import tqdm

    dataset = _Inspection(cast(SampleSource, facts.source), data.tasks, facts.on_disk, chosen)
    loader: Any = DataLoader(
        dataset,
        batch_size=None,
        num_workers=min(workers, len(chosen)),
        collate_fn=unchanged,
        worker_init_fn=use_one_thread,
    )
    # None: a bar on a terminal alone.
    return iter(tqdm(loader, desc=f"Checking {split}", unit="sample", disable=None if progress else True))


def unchanged(item: Any) -> Any:
    """What a loader collates single items with."""
    return item


class _Inspection(Dataset[SampleFacts]):
    """Facts of the chosen samples, for loader workers."""

    def __init__(
        self, source: SampleSource, tasks: dict[str, Task], on_disk: NDArray[np.bool_], chosen: list[int]
    ) -> None:
        self.source = source
        self.tasks = tasks
        self.on_disk = on_disk
        self.chosen = chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, position: int) -> SampleFacts:
        return inspect(self.source, self.chosen[position], self.tasks, self.on_disk[self.chosen[position]])


def inspect(
    source: SampleSource, index: int, tasks: dict[str, Task], on_disk: NDArray[np.bool_]
) -> SampleFacts:
    """Reads one sample.

    Args:
        source: The samples.
        index: Which one.
        tasks: Task name to task.
        on_disk: Which of its labels exist, bool ``[K]``.

    Returns:
        What its files hold; unreadable files are among the problems.
    """
    facts = SampleFacts()
    try:
        facts.image = source.read_image(index).shape
        facts.dtype = source.stored_dtype(index)
    except DataError as error:
        facts.problems.append(source.where(index, None, str(error)))
    for (name, task), exists in zip(tasks.items(), on_disk, strict=True):
        if not exists:
            continue
        try:
            label = source.read_label(index, name)
            if task.dense and facts.image is not None:
                _check_size(label, facts.image)
            target = task.to_target(label)
        except DataError as error:
            facts.problems.append(source.where(index, name, str(error)))
            continue
        valid = task.valid(target.unsqueeze(0))[0]
        facts.labels[name] = _label_facts(task, label, target, valid, source.stored_dtype(index, name))
        found = doubts(task, target, valid)
        facts.problems.extend(source.where(index, name, doubt) for doubt in found)
        if not found and not valid.any():
            facts.notes.append(source.where(index, name, "the label is valid nowhere."))
    return facts


def _check_size(label: Array, image: tuple[int, ...]) -> None:
    if label.shape[:2] != image[:2]:
        raise DataError(
            f"a label should have its image's size of {image[0]}x{image[1]} pixels; found "
            f"{'x'.join(map(str, label.shape[:2]))}."
        )


def _label_facts(task: Task, label: Array, target: Tensor, valid: Tensor, dtype: str) -> LabelFacts:
    places = valid.numel()
    # [1, H, W] selects among [C, H, W] and [H, W]; a lone value is selected by a lone flag.
    mask = valid.expand_as(target) if target.ndim >= valid.ndim else valid[0]
    values = target[mask].flatten().double()
    facts = LabelFacts(
        number=1,
        shapes=Counter([tuple(label.shape)]),
        dtypes=Counter([dtype]),
        places=places,
        invalid=places - int(valid.sum()),
        values=len(values),
    )
    if len(values):
        facts.low, facts.high = float(values.min()), float(values.max())
        facts.total, facts.squares = float(values.sum()), float(values.square().sum())
        if task.channels == 1:
            facts.medians = [float(values.median())]
    if task.target_dtype == torch.int64:
        facts.classes = torch.bincount(values.long(), minlength=task.channels).numpy()
        if target.ndim > 1 and label.size == target.numel():
            ids = label.reshape(target.shape)[~mask.numpy()]
            facts.void_ids = Counter(
                dict(zip(*(a.tolist() for a in np.unique(ids, return_counts=True)), strict=True))
            )
    return facts


def _take_in(facts: SplitFacts, sample: SampleFacts) -> None:
    facts.read += 1
    if sample.image is not None:
        facts.images[sample.image] += 1
        facts.dtypes[sample.dtype] += 1
    for name, label in sample.labels.items():
        facts.labels.setdefault(name, LabelFacts()).add(label)
    facts.problems.extend(sample.problems)
    facts.notes.extend(sample.notes)


def _judge(facts: SplitFacts, data: PartialLabelDataModule) -> None:
    """What can be said only when all has been read."""
    if len(facts.images) > 1 and data.size is None:
        facts.notes.append(
            f"The images have {len(facts.images)} different sizes; training needs `size: [height, width]`."
        )
    for name, label in facts.labels.items():
        task, where = data.tasks[name], f"Task '{name}': "
        wrong, notes = overall(task, label)
        facts.problems.extend(where + sentence for sentence in wrong)
        facts.notes.extend(where + sentence for sentence in notes)
