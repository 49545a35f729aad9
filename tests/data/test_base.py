"""The data module, its datasets and its loader, on small files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import get_worker_info

from jtr_lightning.batch import Batch
from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.base import PartialLabelDataset
from jtr_lightning.data.dataset import collate
from jtr_lightning.data.sampler import EpochSampler
from jtr_lightning.data.source import Array
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import OneLabel
from jtr_lightning.tasks import DenseRegression, Depth, Regression, Segmentation, Task
from jtr_lightning.testing import DataModuleContract
from tests.data.tiny import HEIGHT, NUMBER, WIDTH, TinyDataModule, TinySource, write_tiny

Make = Callable[..., TinyDataModule]


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def make(files: Path) -> Make:
    return lambda **changes: TinyDataModule(files, **{"batch_size": 2, **changes})


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Files that a test may damage."""
    return write_tiny(tmp_path)


class TestContract(DataModuleContract):
    @pytest.fixture
    def make(self, files: Path) -> Make:
        return lambda **changes: TinyDataModule(files, **{"batch_size": 2, **changes})


class TestContractResized(DataModuleContract):
    @pytest.fixture
    def make(self, files: Path) -> Make:
        return lambda **changes: TinyDataModule(files, **{"batch_size": 2, "size": (18, 20), **changes})


# Parameters


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "`batch_size` should be at least 1; found 0"),
        ({"num_workers": -1}, "`num_workers` should be at least 0; found -1"),
        ({"seed": -1}, "`seed` should be at least 0; found -1"),
        ({"size": (0, 8)}, r"`size` should be a height and a width in pixels; found \(0, 8\)"),
        ({"size": (8,)}, r"`size` should be a height and a width in pixels; found \(8,\)"),
        ({"size": "64"}, r"`size` should be a height and a width in pixels; found '64'"),
        ({"size": (64.7, 80.2)}, r"`size` should be a height and a width in pixels; found \(64\.7, 80\.2\)"),
        ({"batch_size": "8"}, "`batch_size` should be a whole number; found '8'"),
        ({"num_workers": 1.5}, "`num_workers` should be a whole number; found 1.5"),
        ({"seed": 2**64}, "`seed` should be at most 9223372036854775807; found 18446744073709551616"),
        ({"scenario": "OneLabel"}, r"`scenario` should be an object such as OneLabel\(\); found 'OneLabel'"),
        ({"scenario": OneLabel}, r"`scenario` should be an object such as OneLabel\(\); found <class"),
        (
            {"augmentation": Augmentation},
            r"`augmentation` should be an object such as Augmentation\(\); found <",
        ),
        ({"tasks": "depth"}, r"`tasks` should be a list of names; found 'depth'\. Give \['depth'\]"),
        ({"tasks": ["depth", "depth"]}, "`tasks` should name each task once; found 'depth' twice"),
        (
            {"tasks": {"depth": Depth}},
            r"`tasks\['depth'\]` should be an object such as Depth\(\); found <class",
        ),
        ({"size": 256}, r"`size` should be a height and a width in pixels; found 256"),
        ({"on_error": "ignore"}, "`on_error` should be 'raise' or 'skip'; found 'ignore'"),
        ({"tasks": ["dept"]}, "found 'dept', did you mean 'depth'?"),
        ({"tasks": []}, "at least one task; found none"),
    ],
)
def test_a_parameter_out_of_range_is_refused(make: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**changes)


def test_an_empty_split_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "train" / "image").mkdir(parents=True)
    with pytest.raises(
        DataError, match=f"split 'train' should have at least one sample; found none in '{tmp_path}'"
    ):
        TinyDataModule(tmp_path).setup("fit")


class _WrongShape(TinySource):
    def on_disk(self, tasks: Sequence[str]) -> Array:
        return super().on_disk(tasks)[:, :1]


def test_a_source_whose_availability_has_another_shape_is_refused(
    files: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyDataModule, "source", lambda self, split: _WrongShape(files, split))
    with pytest.raises(ConfigError, match=r"on_disk\(\) should give bool \[7, 4\].*found bool \[7, 1\]"):
        make().dataset("train")


@pytest.mark.parametrize("available", [np.ones((7, 2), bool), np.ones((6, 3), bool), np.ones((7, 3))])
def test_a_mask_of_another_shape_or_type_is_refused(files: Path, available: Array) -> None:
    tasks = dict(list(TinyDataModule(files).tasks.items())[:3])
    with pytest.raises(ConfigError, match=r"`available` should be bool \[7, 3\]"):
        PartialLabelDataset(TinySource(files, "train"), tasks, available)


def test_a_sample_that_does_not_exist_is_an_index_error(make: Make) -> None:
    dataset = make().dataset("train")
    for key in (7, -1, (0, 7), (0, -8)):
        with pytest.raises(IndexError, match=r"samples 0\.\.6"):
            dataset[key]
    assert len(list(dataset)) == 7  # a plain loop ends


# Samples


def test_a_label_that_is_not_on_disk_is_blank(make: Make) -> None:
    sample = make().dataset("val")[1]
    assert sample.available.tolist() == [True, False, True, True]
    assert not sample.labels["depth"].any()


def test_an_image_alone_is_asked_for_by_a_negative_number(make: Make) -> None:
    dataset = make().dataset("val")
    alone, whole = dataset[(0, -1 - 3)], dataset[3]
    assert alone.index == 3
    assert torch.equal(alone.image, whole.image)
    assert not alone.available.any()
    assert all(
        torch.equal(alone.labels[name].nan_to_num(-9.0), task.blank(HEIGHT, WIDTH).nan_to_num(-9.0))
        for name, task in dataset.tasks.items()
    )


def test_resizing_takes_the_nearest_label_of_any_type(files: Path) -> None:
    data = TinyDataModule(files, size=(12, 16))
    sample = data.dataset("train")[0]
    assert sample.image.shape == (3, 12, 16)
    ids = np.load(files / "train" / "segmentation" / "0.npy")
    assert ids.dtype == np.int64
    half = ids.reshape(12, 2, 16, 2).transpose(0, 2, 1, 3).reshape(12, 16, 4)
    assert (half == sample.labels["segmentation"].numpy()[..., None]).any(-1).all()


class _ReadOnly(TinySource):
    def read_label(self, index: int, task: str) -> Array:
        label = super().read_label(index, task)
        label.flags.writeable = False
        return label


def test_labels_may_come_from_memory_that_must_not_be_written(files: Path, make: Make) -> None:
    tasks = make().tasks
    source = _ReadOnly(files, "train")
    dataset = PartialLabelDataset(source, tasks, source.on_disk(tuple(tasks)))
    before = source.read_label(0, "depth")[..., 0].copy()
    dataset[0].labels["depth"].zero_()
    assert np.array_equal(dataset[0].labels["depth"][0].numpy(), before)


def test_images_of_several_sizes_do_not_make_a_batch(make: Make) -> None:
    first, second = make().dataset("train")[0], make(size=(8, 8)).dataset("train")[1]
    with pytest.raises(DataError, match=r"should have one size.*`size:"):
        collate([first, second])


def test_every_sample_of_an_epoch_is_augmented_anew_in_persistent_workers(make: Make) -> None:
    """Forked workers of albumentations share one state, and would repeat it in every epoch."""

    def run() -> list[list[torch.Tensor]]:
        data = make(num_workers=2, batch_size=1, augmentation=Augmentation())
        data.datasets["train"] = data.dataset("train")
        loader = data.train_dataloader()
        assert loader.persistent_workers
        epochs = []
        for epoch in range(3):
            loader.sampler.set_epoch(epoch)
            images = {int(batch.index): batch.image for batch in loader}
            epochs.append([images[i] for i in range(NUMBER["train"])])
        return epochs

    first, again = run(), run()
    for i in range(NUMBER["train"]):
        drawn = [epoch[i] for epoch in first]
        assert sum(not torch.equal(drawn[0], other) for other in drawn[1:]) >= 1
        assert all(torch.equal(a[i], b[i]) for a, b in zip(first, again, strict=True))


class _Constant(TinySource):
    def read_image(self, index: int) -> Array:
        return super().read_image(0)


def test_workers_draw_different_augmentations_for_equal_images(
    files: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyDataModule, "source", lambda self, split: _Constant(files, split))
    data = make(num_workers=2, batch_size=1, augmentation=Augmentation(scales=[1.2, 1.5]))
    data.datasets["train"] = data.dataset("train")
    images = [batch.image for batch in data.train_dataloader()]
    different = sum(not torch.equal(a, b) for k, a in enumerate(images) for b in images[:k])
    assert different == len(images) * (len(images) - 1) // 2


class _WorkerThreads(TinySource):
    def read_image(self, index: int) -> Array:
        import cv2

        assert get_worker_info() is not None
        return np.full((HEIGHT, WIDTH, 3), cv2.getNumThreads(), dtype=np.uint8)


def test_opencv_runs_one_thread_in_a_worker(files: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyDataModule, "source", lambda self, split: _WorkerThreads(files, split))
    data = make(num_workers=1)
    data.setup("validate")
    assert next(iter(data.val_dataloader())).image.mul(255).round().unique().tolist() == [1.0]


class Ranges(DenseRegression):
    """Distances, without a value where they are 0."""

    def valid(self, target: torch.Tensor) -> torch.Tensor:
        return target > 0


def test_a_task_that_takes_the_holes_of_the_labels_for_values_is_refused(files: Path) -> None:
    filled: tuple[dict[str, Task], ...] = (
        {"depth": DenseRegression()},
        {"normals": DenseRegression(3, low=-1)},
    )
    for tasks in filled:
        with pytest.raises(
            ConfigError,
            match=r"Tiny.* no value, which hold 0; found DenseRegression.*Take (Depth|Normals), or",
        ):
            TinyDataModule(files, tasks)
    fitting: dict[str, Task] = {"depth": Ranges(), "segmentation": Segmentation(9), "pitch": Regression()}
    assert list(TinyDataModule(files, fitting).tasks) == list(fitting)


def test_a_task_of_the_users_own_reads_its_files(own: Path) -> None:
    (own / "train" / "albedo").mkdir()
    for i in range(NUMBER["train"]):
        np.save(own / "train" / "albedo" / f"{i}.npy", np.full((HEIGHT, WIDTH, 3), i, np.float16))
    tasks = {"depth": Depth(), "albedo": DenseRegression(3), "segmentation": Segmentation(4)}
    data = TinyDataModule(own, tasks=tasks, scenario=OneLabel(), augmentation=Augmentation())
    dataset = data.dataset("train")
    labelled = [s for s in (dataset[i] for i in range(7)) if s.available[1]]
    assert labelled
    assert all(s.labels["albedo"].unique().tolist() == [s.index] for s in labelled)


# Several processes


class _Indices(L.LightningModule):
    """Notes what it is given; has batch statistics, which are exchanged in evaluation as well."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.layers(batch.image)
        rows = [[int(i), int(a.any())] for i, a in zip(batch.index, batch.available, strict=True)]
        np.save(self.folder / f"{self.global_rank}-{batch_idx}.npy", np.array(rows))


def test_two_processes_evaluate_every_sample_exactly_once(files: Path, tmp_path: Path) -> None:
    """5 samples in batches of 1: one process has a batch more than the other, and would wait for it for ever."""
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.validate(_Indices(tmp_path), TinyDataModule(files, batch_size=1), verbose=False)
    rows = {path.stem: np.load(path).tolist() for path in tmp_path.glob("*.npy")}
    assert sorted(rows) == ["0-0", "0-1", "0-2", "1-0", "1-1", "1-2"]
    labelled = [index for found in rows.values() for index, has_label in found if has_label]
    assert sorted(labelled) == list(range(NUMBER["val"]))


def test_a_training_set_smaller_than_a_batch_still_gives_one(make: Make) -> None:
    data = make(batch_size=50)
    data.setup("fit")
    assert [len(batch) for batch in data.train_dataloader()] == [NUMBER["train"]]


def test_a_last_training_batch_that_is_not_full_is_left_out_but_changes_with_the_epoch(make: Make) -> None:
    data = make(batch_size=3)
    data.setup("fit")
    loader = data.train_dataloader()
    assert isinstance(loader.sampler, EpochSampler)
    seen = set()
    for epoch in range(8):
        loader.sampler.set_epoch(epoch)
        batches = list(loader)
        assert [len(batch) for batch in batches] == [3, 3]
        seen |= {int(i) for batch in batches for i in batch.index}
    assert seen == set(range(NUMBER["train"]))
