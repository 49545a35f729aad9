"""The one LightningDataModule for partial labels; a dataset is a subclass that gives a source of samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from jtr_lightning.batch import Batch
from jtr_lightning.data.augmentation import Augmentation, Augmented
from jtr_lightning.data.sampler import EpochSampler, SampleKey, sample_seed
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import ConfigError, DataError, did_you_mean
from jtr_lightning.scenarios import FullLabels, SampleTable, Scenario
from jtr_lightning.tasks import Task

Split = Literal["train", "val", "test"]


@dataclass
class Sample:
    """One sample of a batch: a ``Batch`` without its first dimension."""

    image: Tensor
    labels: dict[str, Tensor]
    available: Tensor
    domain: int
    index: int


class PartialLabelDataset(Dataset[Sample]):
    """A source of samples seen through an availability mask.

    A hidden label is never read: the task's blank target stands in its place from the start.

    Args:
        source: Where images and labels come from.
        tasks: Task name to task, in order.
        available: bool ``[N, K]``.
        size: Height and width to resize to, or None to keep each image's own.
        augmentation: What to do to the training images, or None.
        seed: Seed of the augmentation.
    """

    def __init__(
        self,
        source: SampleSource,
        tasks: Mapping[str, Task],
        available: NDArray[np.bool_],
        size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        if available.shape != (len(source), len(tasks)):
            raise ConfigError(
                f"Parameter `available` should have the shape {[len(source), len(tasks)]}, samples by tasks; found "
                f"{list(available.shape)}."
            )
        self.source = source
        self.tasks = dict(tasks)
        self.available = available
        self.domain = source.domains()
        self.size = size
        self.augmentation = augmentation
        self.seed = seed

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        """One sample in one epoch; a plain number means epoch 0."""
        key = (0, key) if isinstance(key, int) else key
        index = key[1]
        available = self.available[index]
        arrays = {
            name: self.source.read_label(index, name)
            for name, has_label in zip(self.tasks, available, strict=True)
            if has_label
        }
        image = self.source.read_image(index)
        dense = {name: array for name, array in arrays.items() if self.tasks[name].dense}
        self._check_sizes(index, image, dense)
        moved = self._move(image, dense, sample_seed(self.seed, key))
        height, width = moved.image.shape[:2]
        labels = {
            name: self._target(index, name, moved, arrays) if has_label else task.blank(height, width)
            for (name, task), has_label in zip(self.tasks.items(), available, strict=True)
        }
        return Sample(
            image=torch.from_numpy(np.ascontiguousarray(moved.image)).permute(2, 0, 1).float().div_(255),
            labels=labels,
            available=torch.from_numpy(available.copy()),
            domain=int(self.domain[index]),
            index=index,
        )

    def _check_sizes(self, index: int, image: Array, dense: Mapping[str, Array]) -> None:
        for name, array in dense.items():
            if array.shape[:2] != image.shape[:2]:
                raise DataError(
                    f"A label should have the size of its image; sample '{self.source.name(index)}' has an image of "
                    f"{image.shape[0]}x{image.shape[1]} pixels and a label of task '{name}' of "
                    f"{array.shape[0]}x{array.shape[1]}. Mend or remove the label's file."
                )

    def _move(self, image: Array, dense: Mapping[str, Array], seed: int) -> Augmented:
        if self.size is not None and image.shape[:2] != self.size:
            image, dense = resize(image, dense, self.size)
        if self.augmentation is None:
            return Augmented(image, dict(dense))
        return self.augmentation(image, dense, seed)

    def _target(self, index: int, name: str, moved: Augmented, arrays: Mapping[str, Array]) -> Tensor:
        task = self.tasks[name]
        try:
            target = task.to_target(moved.labels[name] if task.dense else arrays[name])
        except DataError as error:
            raise DataError(f"Sample '{self.source.name(index)}', task '{name}': {error}") from error
        target = target.unsqueeze(0)
        if moved.zoom != 1.0:
            target = task.zoomed(target, torch.tensor([moved.zoom]))
        if moved.mirrored:
            target = task.mirrored(target)
        return target[0]


def resize(image: Array, dense: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, dict[str, Array]]:
    """Resizes an image (by area or bilinear) and its labels (nearest) to height and width."""
    import cv2

    height, width = size
    shrinks = height * width < image.shape[0] * image.shape[1]
    resized = cv2.resize(
        image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    labels = {
        name: cv2.resize(array, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        for name, array in dense.items()
    }
    return resized, labels


def collate(samples: list[Sample]) -> Batch:
    """Stacks samples into a batch.

    Raises:
        DataError: The images differ in size.
    """
    sizes = {tuple(s.image.shape[1:]) for s in samples}
    if len(sizes) > 1:
        raise DataError(
            f"The images of a batch should have one size; found {sorted(sizes)}. Give the data module `size: [height, "
            "width]`, or a batch size of 1."
        )
    return Batch(
        image=torch.stack([s.image for s in samples]),
        labels={name: torch.stack([s.labels[name] for s in samples]) for name in samples[0].labels},
        available=torch.stack([s.available for s in samples]),
        domain=torch.tensor([s.domain for s in samples]),
        index=torch.tensor([s.index for s in samples]),
    )


class PartialLabelDataModule(L.LightningDataModule, ABC):
    """Images with labels for some of the tasks.

    A subclass gives ``known_tasks`` and ``source``, and ``prepare_data`` where there is something to prepare.

    Args:
        root: The dataset's folder.
        tasks: The tasks to train: names of ``known_tasks``, or names with tasks of your own (whose labels the source
            must be able to read). None takes ``default_tasks``.
        scenario: Which training labels may be used. Validation and test labels are never hidden.
        seed: Seed of the scenario, the order and the augmentation.
        batch_size: Samples per batch and device.
        num_workers: Loader processes.
        size: Height and width to resize to; None keeps each image's own.
        augmentation: What to do to training images; None for nothing.

    Raises:
        ConfigError: A parameter does not fit.
    """

    default_tasks: tuple[str, ...] = ()

    def __init__(
        self,
        root: str | Path,
        tasks: list[str] | dict[str, Task] | None = None,
        scenario: Scenario | None = None,
        seed: int = 0,
        batch_size: int = 8,
        num_workers: int = 0,
        size: tuple[int, int] | None = None,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ConfigError(f"Parameter `batch_size` should be at least 1; found {batch_size}.")
        self.root = Path(root).expanduser()
        self.tasks = self._choose_tasks(tasks)
        self.scenario = FullLabels() if scenario is None else scenario
        self.seed = seed
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.size = None if size is None else (int(size[0]), int(size[1]))
        self.augmentation = augmentation
        self.datasets: dict[Split, PartialLabelDataset] = {}

    @abstractmethod
    def known_tasks(self) -> dict[str, Task]:
        """Every task that the dataset has labels for, by name."""

    @abstractmethod
    def source(self, split: Split) -> SampleSource:
        """The samples of a split; called once for each split that is used.

        Raises:
            DataError: The folder is missing or holds no sample of the split.
        """

    def _choose_tasks(self, tasks: list[str] | dict[str, Task] | None) -> dict[str, Task]:
        if isinstance(tasks, dict):
            chosen = dict(tasks)
        else:
            known = self.known_tasks()
            names = tasks if tasks is not None else self.default_tasks or tuple(known)
            for name in names:
                if name not in known:
                    raise ConfigError(
                        f"Parameter `tasks` should name tasks of {type(self).__name__}; found '{name}', "
                        f"{did_you_mean(name, known)}"
                    )
            chosen = {name: known[name] for name in names}
        if not chosen:
            raise ConfigError("Parameter `tasks` should have at least one task; found none.")
        return chosen

    def setup(self, stage: str) -> None:
        """Opens the splits that a stage needs."""
        splits: dict[str, tuple[Split, ...]] = {
            "fit": ("train", "val"),
            "validate": ("val",),
            "test": ("test",),
            "predict": ("test",),
        }
        for split in splits[stage]:
            if split not in self.datasets:
                self.datasets[split] = self.dataset(split)

    def dataset(self, split: Split) -> PartialLabelDataset:
        """The dataset of a split, with the scenario's mask for training.

        Raises:
            DataError: The split has no sample.
            ConfigError: The scenario leaves a task without a label.
        """
        source = self.source(split)
        if not len(source):
            raise DataError(
                f"The split '{split}' should have at least one sample; found none in '{self.root}'."
            )
        training = split == "train"
        names = tuple(self.tasks)
        table = SampleTable(source.names(), names, source.on_disk(names), source.domains())
        return PartialLabelDataset(
            source=source,
            tasks=self.tasks,
            available=self.scenario.availability(table, self.seed) if training else table.on_disk,
            size=self.size,
            augmentation=self.augmentation if training else None,
            seed=self.seed,
        )

    def train_dataloader(self) -> DataLoader[Sample]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Sample]:
        return self._loader("test")

    def sampler(
        self, dataset: PartialLabelDataset, training: bool, rank: int, world_size: int
    ) -> EpochSampler:
        """The order of a split's samples; a subclass may draw them in another way.

        Args:
            dataset: The split.
            training: Whether it is for training, so shuffled.
            rank: This process.
            world_size: Number of processes.

        Returns:
            A sampler of ``(epoch, index)``.
        """
        return EpochSampler(dataset, training, self.seed, rank, world_size)

    def _loader(self, split: Split) -> DataLoader[Sample]:
        dataset = self.datasets[split]
        training = split == "train"
        trainer = self.trainer
        sampler = self.sampler(
            dataset,
            training,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            # A last batch of one sample has no batch statistics; every sample comes in some epoch, since the order
            # is drawn anew.
            drop_last=training and len(sampler) >= self.batch_size,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Checks each batch once, before it leaves for the device."""
        if isinstance(batch, Batch):
            batch.validate(self.tasks)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
