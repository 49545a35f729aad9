"""The one LightningDataModule for partial labels; a dataset is a subclass that gives a source of samples."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import lightning as L
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn

from jtr_lightning.batch import Batch
from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.dataset import OnError, PartialLabelDataset, Sample, collate
from jtr_lightning.data.loader import SampleLoader, use_one_thread
from jtr_lightning.data.sampler import EpochSampler
from jtr_lightning.data.source import SampleSource
from jtr_lightning.errors import (
    ConfigError,
    DataError,
    check_kind,
    check_whole,
    did_you_mean,
    height_and_width,
)
from jtr_lightning.scenarios import BoolArray, FullLabels, SampleTable, Scenario
from jtr_lightning.tasks import Task

__all__ = ["PartialLabelDataModule", "PartialLabelDataset", "Sample", "Split", "collate"]

Split = Literal["train", "val", "test"]

_LARGEST = 2**63 - 1
"""What torch's generators take for a seed."""


class PartialLabelDataModule(L.LightningDataModule, ABC):
    """Images with labels for some of the tasks.

    A subclass gives ``known_tasks`` and ``source``, and where there is something to prepare ``prepare_data`` and
    ``require_data``.

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
        on_error: What to do about an unreadable file: ``raise`` an error, or ``skip`` it. A skipped label counts as
            missing, a skipped image is replaced by another without labels; every skipped file is reported at the end
            of the epoch.

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
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
        ):
            check_whole(name, value, least, _LARGEST)
        if scenario is not None:
            check_kind("scenario", scenario, Scenario, "OneLabel()")
        if augmentation is not None:
            check_kind("augmentation", augmentation, Augmentation, "Augmentation()")
        if on_error not in get_args(OnError):
            raise ConfigError(f"Parameter `on_error` should be 'raise' or 'skip'; found '{on_error}'.")
        self.root = Path(root).expanduser()
        self.tasks = self._choose_tasks(tasks)
        self.scenario = FullLabels() if scenario is None else scenario
        self.seed = seed
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.size = None if size is None else height_and_width("size", size)
        self.augmentation = augmentation
        self.on_error = on_error
        self.datasets: dict[Split, PartialLabelDataset] = {}

    @abstractmethod
    def known_tasks(self) -> dict[str, Task]:
        """Every task that the dataset has labels for, by name."""

    def require_data(self) -> None:
        """Refuses data that ``prepare_data`` has not made yet; called in its place where nothing may be written.

        Raises:
            DataError: They are not there.
        """

    @abstractmethod
    def source(self, split: Split) -> SampleSource:
        """The samples of a split; called once for each split that is used.

        Raises:
            DataError: The folder is missing or holds no sample of the split.
        """

    def usual_tasks(self) -> dict[str, Task]:
        """The tasks that the labels are made for: they have these tasks' values for 'invalid', whatever is trained.

        By default ``known_tasks``; a subclass whose source asks the tasks in use for theirs leaves them out.
        """
        return self.known_tasks()

    def _refuse_filled_holes(self, tasks: Mapping[str, Task]) -> None:
        """Refuses a task of another kind than its labels, where it would train on their holes as on values."""
        usual = self.usual_tasks()
        for name, task in tasks.items():
            known = usual.get(name)
            if known is None or not (known.dense and task.dense):
                continue
            hole = known.blank(1, 1)
            same_form = (tuple(hole.shape), hole.dtype) == (task.target_shape(1, 1), task.target_dtype)
            if same_form and hole.isfinite().all() and task.valid(hole[None]).any():
                raise ConfigError(
                    f"Task '{name}' of {type(self).__name__} should leave out the pixels where its labels have no "
                    f"value, which hold {hole.flatten()[0]:g}; found {type(task).__name__}, for which that is a value. "
                    f"Take {type(known).__name__}, or a task of your own whose `valid` is False there."
                )

    def _choose_tasks(self, tasks: list[str] | dict[str, Task] | None) -> dict[str, Task]:
        if isinstance(tasks, dict):
            chosen = dict(tasks)
            for name, task in chosen.items():
                check_kind(f"tasks[{name!r}]", task, Task, "Depth()")
            self._refuse_filled_holes(chosen)
        elif isinstance(tasks, str):
            raise ConfigError(
                f"Parameter `tasks` should be a list of names; found {tasks!r}. Give [{tasks!r}]."
            )
        else:
            known = self.known_tasks()
            names = tasks if tasks is not None else self.default_tasks or tuple(known)
            for position, name in enumerate(names):
                if name not in known:
                    raise ConfigError(
                        f"Parameter `tasks` should name tasks of {type(self).__name__}; found '{name}', "
                        f"{did_you_mean(name, known)}"
                    )
                if name in names[:position]:
                    raise ConfigError(f"Parameter `tasks` should name each task once; found '{name}' twice.")
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
        for problem in source.problems():
            rank_zero_warn(problem)
        training = split == "train"
        if training:
            for remark in source.remarks():
                rank_zero_info(remark)
        table = self._table(source)
        return PartialLabelDataset(
            source=source,
            tasks=self.tasks,
            available=self.availability(table) if training else table.on_disk,
            size=self.size,
            augmentation=self.augmentation if training else None,
            seed=self.seed,
            on_error=self.on_error,
            split=split,
        )

    def availability(self, table: SampleTable) -> BoolArray:
        """Which labels of the training set may be used; a subclass may draw its scenario for some samples alone.

        Args:
            table: The training set.

        Returns:
            bool ``[N, K]``.

        Raises:
            ConfigError: The scenario does not fit the set.
        """
        return self.scenario.availability(table, self.seed)

    def _table(self, source: SampleSource) -> SampleTable:
        names = tuple(self.tasks)
        on_disk = source.on_disk(names)
        if on_disk.dtype != np.bool_ or on_disk.shape != (len(source), len(names)):
            raise ConfigError(
                f"{type(source).__name__}.on_disk() should give bool {[len(source), len(names)]}, samples by tasks; "
                f"found {on_disk.dtype} {list(on_disk.shape)}."
            )
        return SampleTable(source.names(), names, on_disk, source.domains())

    def train_dataloader(self) -> SampleLoader:
        return self._loader("train")

    def val_dataloader(self) -> SampleLoader:
        return self._loader("val")

    def test_dataloader(self) -> SampleLoader:
        return self._loader("test")

    def predict_dataloader(self) -> SampleLoader:
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

    def _loader(self, split: Split) -> SampleLoader:
        dataset = self.datasets[split]
        training = split == "train"
        trainer = self.trainer
        sampler = self.sampler(
            dataset,
            training,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )
        return SampleLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            # A last batch of one sample has no batch statistics; every sample comes in some epoch, since the order
            # is drawn anew.
            drop_last=training and len(sampler) >= self.batch_size,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=use_one_thread,
            # torch draws a seed for its workers, which nothing here uses, at the start of each pass: from this and not
            # from the global state, which a resumed training, with its passes less, would then find changed.
            generator=torch.Generator().manual_seed(self.seed),
            persistent_workers=self.num_workers > 0,
        )

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Checks each batch once, before it leaves for the device."""
        if isinstance(batch, Batch):
            batch.validate(self.tasks)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)
