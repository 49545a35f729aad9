# ruff: noqa: S101, S301  tests assert, and unpickle what they pickled
"""Tests that every data module should pass."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from itertools import count

import numpy as np
import pytest
import torch

from jtr_lightning.batch import Batch
from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.base import PartialLabelDataModule, PartialLabelDataset, Split
from jtr_lightning.data.dataset import Sample, collate
from jtr_lightning.data.sampler import EpochSampler
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import ConfigError
from jtr_lightning.scenarios import RandomLabels
from jtr_lightning.testing.comparing import same

Make = Callable[..., PartialLabelDataModule]


class DataModuleContract:
    """What every ``PartialLabelDataModule`` must do. A subclass gives the fixture ``make``.

    Attributes:
        splits: The splits that the data module has.
        several_tasks: Set it to False for data with a single task, of which no scenario can hide a part.
    """

    splits: tuple[Split, ...] = ("train", "val", "test")
    several_tasks: bool = True

    @pytest.fixture
    def make(self) -> Make:
        """A function that makes the data module anew over the same small data.

        It takes ``batch_size``, ``num_workers``, ``seed``, ``scenario``, ``augmentation`` and ``tasks`` by keyword and
        hands them to the data module. The data should have at least 3 and at most some tens of samples per split,
        of equal image size (or a ``size`` given), and prepare_data() should have been called where that is needed.
        """
        raise NotImplementedError(
            f"{type(self).__name__} should define a fixture `make` that returns a function "
            "(**changes) -> PartialLabelDataModule."
        )

    def datasets(self, data: PartialLabelDataModule) -> dict[Split, PartialLabelDataset]:
        """The dataset of every split."""
        return {split: data.dataset(split) for split in self.splits}

    def test_every_sample_is_what_its_tasks_take(self, make: Make) -> None:
        data = make()
        for dataset in self.datasets(data).values():
            labelled = np.zeros(len(data.tasks), dtype=int)
            for sample in _all(dataset):
                batch = _alone(sample).validate(data.tasks)
                assert batch.image.dtype == torch.float32
                assert 0 <= batch.image.min() <= batch.image.max() <= 1
                for k, (name, task) in enumerate(data.tasks.items()):
                    has_pixels = bool(task.valid(batch.labels[name]).any())
                    labelled[k] += has_pixels
                    assert bool(sample.available[k]) or not has_pixels
            assert labelled.any(), "not one sample of the split has a valid label"

    def test_images_have_content(self, make: Make) -> None:
        for dataset in self.datasets(make()).values():
            images = [sample.image for sample in _all(dataset)]
            assert max(float(image.std()) for image in images) > 0.01
            # A file of 8-bit values that was read as if they were in [0, 1], or the reverse.
            assert max(float(image.max()) for image in images) > 0.02

    def test_names_tell_samples_apart(self, make: Make) -> None:
        for dataset in self.datasets(make()).values():
            names = list(dataset.source.names())
            assert len(set(names)) == len(names) == len(dataset)

    def test_evaluation_hides_nothing_that_is_on_disk(self, make: Make) -> None:
        data = make()
        for split in set(self.splits) - {"train"}:
            dataset = data.dataset(split)
            assert np.array_equal(dataset.available, dataset.source.on_disk(tuple(data.tasks)))

    def test_hidden_labels_are_blank_and_never_read(self, make: Make) -> None:
        data = make(scenario=self._scenario(), augmentation=Augmentation())
        dataset = data.dataset("train")
        spy = _Spy(dataset.source)
        dataset.source = spy
        hidden = 0
        for sample in _all(dataset):
            height, width = sample.image.shape[1:]
            for k, (name, task) in enumerate(data.tasks.items()):
                read = (sample.index, name) in spy.labels_read
                assert read == bool(sample.available[k]) == bool(dataset.available[sample.index, k])
                if not sample.available[k]:
                    hidden += 1
                    assert same(sample.labels[name], task.blank(height, width))
        assert hidden or not self.several_tasks

    def test_availability_depends_on_the_seed_alone(self, make: Make) -> None:
        first, again, *others = (
            make(scenario=self._scenario(), seed=seed).dataset("train").available
            for seed in (1, 1, *range(2, 8))
        )
        assert np.array_equal(first, again)
        # One other seed may draw the same for a few samples by chance.
        assert not self.several_tasks or not all(np.array_equal(first, other) for other in others)

    def test_the_task_order_is_the_users(self, make: Make) -> None:
        names = list(make().tasks)[::-1]
        data = make(tasks=names)
        assert list(data.tasks) == names
        assert list(data.dataset("train")[0].labels) == names

    def test_an_unknown_task_is_refused(self, make: Make) -> None:
        with pytest.raises(ConfigError, match="no such task as this"):
            make(tasks=["no such task as this"])

    @pytest.mark.parametrize("workers", [0, 2])
    def test_an_epoch_of_evaluation_has_each_sample_once_and_in_order(self, make: Make, workers: int) -> None:
        number = len(make().dataset(self.splits[-1]))
        size = next(size for size in count(2) if number % size)  # so that the last batch is not full
        data = make(num_workers=workers, batch_size=size)
        data.datasets["val"] = data.dataset(self.splits[-1])
        batches = list(data.val_dataloader())
        assert torch.cat([batch.index for batch in batches]).tolist() == list(range(number))
        assert [len(batch) for batch in batches] == [size] * (number // size) + [number % size]

    def test_batches_do_not_depend_on_the_number_of_workers(self, make: Make) -> None:
        epochs = [[self._training_epoch(make, workers, epoch) for epoch in (0, 1)] for workers in (0, 2)]
        for none, two in zip(*epochs, strict=True):
            assert len(none) == len(two) > 0
            assert all(_same_batch(a, b) for a, b in zip(none, two, strict=True))
        assert not all(_same_batch(a, b) for a, b in zip(*epochs[0], strict=True)), "epochs repeat"

    def test_ranks_share_the_samples(self, make: Make) -> None:
        data = make()
        for training, split in ((True, "train"), (False, self.splits[-1])):
            dataset = data.dataset(split)  # type: ignore[arg-type]
            # Ranks that draw apart may by chance fit together in one epoch.
            for epoch in range(3):
                (alone,) = _indices(data, dataset, training, epoch, world_size=1)
                first, second = _indices(data, dataset, training, epoch, world_size=2)
                assert len(first) == len(second)
                labelled = [index for index in first + second if index >= 0]
                assert set(labelled) == set(alone)
                if training:
                    assert len(labelled) <= len(alone) + 1, "more were repeated than even the ranks out"
                else:
                    assert sorted(labelled) == list(range(len(dataset)))

    def test_a_dataset_can_be_sent_to_a_worker(self, make: Make) -> None:
        for dataset in self.datasets(make(augmentation=Augmentation())).values():
            before = dataset[0]
            after = pickle.loads(pickle.dumps(dataset))[0]
            assert _same_batch(_alone(before), _alone(after))

    def _scenario(self) -> RandomLabels | None:
        return RandomLabels() if self.several_tasks else None

    def _training_epoch(self, make: Make, workers: int, epoch: int) -> list[Batch]:
        data = make(num_workers=workers, batch_size=2, augmentation=Augmentation(), scenario=self._scenario())
        data.datasets["train"] = data.dataset("train")
        loader = data.train_dataloader()
        assert isinstance(loader.sampler, EpochSampler)
        loader.sampler.set_epoch(epoch)
        return list(loader)


class _Spy(SampleSource):
    """Notes which labels are read."""

    def __init__(self, source: SampleSource) -> None:
        self._source = source
        self.labels_read: set[tuple[int, str]] = set()

    def __len__(self) -> int:
        return len(self._source)

    def name(self, index: int) -> str:
        return self._source.name(index)

    def on_disk(self, tasks: Sequence[str]) -> Array:
        return self._source.on_disk(tasks)

    def read_image(self, index: int) -> Array:
        return self._source.read_image(index)

    def read_label(self, index: int, task: str) -> Array:
        self.labels_read.add((index, task))
        return self._source.read_label(index, task)


def _indices(
    data: PartialLabelDataModule, dataset: PartialLabelDataset, training: bool, epoch: int, world_size: int
) -> list[list[int]]:
    """The numbers that each rank is given in an epoch."""
    given = []
    for rank in range(world_size):
        sampler = data.sampler(dataset, training, rank, world_size)
        sampler.set_epoch(epoch)
        given.append([index for _, index in sampler])
    return given


def _all(dataset: PartialLabelDataset) -> list[Sample]:
    return [dataset[i] for i in range(len(dataset))]


def _alone(sample: Sample) -> Batch:
    return collate([sample])


def _same_batch(a: Batch, b: Batch) -> bool:
    fields = ((a.image, b.image), (a.available, b.available), (a.domain, b.domain), (a.index, b.index))
    labels = ((a.labels[name], b.labels[name]) for name in a.labels)
    return a.tasks == b.tasks and all(same(x, y) for x, y in (*fields, *labels))
