"""What a damaged file does to an epoch: it ends it in one sentence, or is skipped and counted."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jtr_lightning.batch import Batch
from jtr_lightning.data.loader import SampleLoader
from jtr_lightning.data.source import Array
from jtr_lightning.errors import DataError
from tests.data.tiny import NUMBER, TinyDataModule, TinySource, write_tiny

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


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:150])


def other_size(path: Path) -> None:
    np.save(path, np.load(path)[:-2])


def id_out_of_range(path: Path) -> None:
    np.save(path, np.load(path) + 9)


def objects(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object))


def stop_workers(loader: SampleLoader) -> None:
    """Left to the garbage collector, workers of an epoch that failed take five seconds to be given up."""
    if loader._iterator is not None:
        loader._iterator._shutdown_workers()


DAMAGES = [
    (truncate, "depth", r"Sample 'train/3', depth: The file '.*3\.npy' should be a NumPy array"),
    (truncate, "image", r"Sample 'train/3', image: The file '.*3\.npy' should be a NumPy array"),
    (Path.unlink, "image", r"Sample 'train/3', image: .*No such file.*3\.npy"),
    (
        other_size,
        "normals",
        r"Sample 'train/3', normals: .*its image, 24x32 pixels; found the shape \[22, 32, 3\]",
    ),
    (
        id_out_of_range,
        "segmentation",
        r"Sample 'train/3', segmentation: .*class ids 0\.\.3.*found ids from 8 to 12",
    ),
    (objects, "depth", r"Sample 'train/3', depth: The file '.*3\.npy' should be a NumPy array"),
]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("damage", "kind", "message"), DAMAGES)
def test_a_damaged_file_ends_the_epoch_with_one_sentence(
    own: Path, damage: Callable[[Path], None], kind: str, message: str, workers: int
) -> None:
    data = TinyDataModule(own, num_workers=workers, batch_size=2)
    data.setup("fit")
    damage(own / "train" / kind / "3.npy")
    loader = data.train_dataloader()
    with pytest.raises(DataError, match=rf"^{message}") as caught:
        list(loader)
    stop_workers(loader)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("damage", "kind", "message"), DAMAGES)
def test_a_damaged_file_is_skipped_and_reported_at_the_end_of_each_epoch(
    own: Path,
    damage: Callable[[Path], None],
    kind: str,
    message: str,
    workers: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = TinyDataModule(own, num_workers=workers, batch_size=1, on_error="skip")
    data.setup("fit")
    damage(own / "train" / kind / "3.npy")
    loader = data.train_dataloader()
    for epoch in range(2):
        caplog.clear()
        loader.sampler.set_epoch(epoch)
        with caplog.at_level(logging.WARNING, logger="jtr_lightning"):
            iterator = iter(loader)
            batches = [next(iterator) for _ in range(NUMBER["train"])]
            assert not caplog.records
            assert next(iterator, None) is None
        (record,) = caplog.records
        head, line = record.getMessage().split("\n")
        assert head == f"Unreadable files skipped in epoch {epoch} of split 'train': 1"
        assert re.match(message, line.strip())
        by_index: dict[int, list[Batch]] = {}
        for batch in batches:
            by_index.setdefault(int(batch.index), []).append(batch)
        if kind == "image":
            assert 3 not in by_index
            assert sorted(int(b.available.sum()) for b in by_index[4]) == [0, 4]
        else:
            (sample,) = by_index[3]
            expected = [name != kind for name in sample.tasks]
            assert sample.available[0].tolist() == expected
            assert not data.tasks[kind].valid(sample.labels[kind]).any()
    stop_workers(loader)


def test_nothing_is_reported_when_nothing_was_skipped(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    data = make(on_error="skip")
    data.setup("fit")
    list(data.train_dataloader())
    assert not caplog.records


def test_an_epoch_that_is_cut_short_reports_what_it_skipped(
    own: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = TinyDataModule(own, batch_size=1, on_error="skip")
    data.setup("validate")
    truncate(own / "val" / "depth" / "0.npy")
    iterator = iter(data.val_dataloader())
    next(iterator)
    iterator.close()
    assert "skipped in epoch 0 of split 'val' (its first 1 of 5 batches): 1" in caplog.text
    assert "val/0', depth" in caplog.text


def test_a_folder_without_one_readable_image_is_an_error_even_when_skipping(own: Path) -> None:
    data = TinyDataModule(own, on_error="skip")
    data.setup("fit")
    for path in (own / "train" / "image").iterdir():
        truncate(path)
    with pytest.raises(
        DataError, match=r"one image in 7 should be readable.*from sample 'train/\d' on\. The first: Sample"
    ):
        list(data.train_dataloader())


class _FloatImages(TinySource):
    def read_image(self, index: int) -> Array:
        return super().read_image(index).astype(np.float32)


def test_an_image_of_another_type_is_refused_with_the_name_of_the_reader(
    files: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TinyDataModule, "source", lambda self, split: _FloatImages(files, split))
    with pytest.raises(
        DataError, match=r"RGB uint8 \[H, W, 3\]; found float32 \[24, 32, 3\] from _FloatImages"
    ):
        make().dataset("train")[0]
