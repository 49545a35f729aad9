"""What checking a dataset finds, on tiny data with known content."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jtr_lightning.data.checking import check, doubts, spaced
from jtr_lightning.data.contact_sheet import choose, contact_sheet
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.tasks import Depth, Normals
from tests.data.tiny import TinyDataModule, write_tiny


@pytest.fixture
def tiny(tmp_path: Path) -> TinyDataModule:
    return TinyDataModule(write_tiny(tmp_path))


def test_facts_are_those_of_the_files(tiny: TinyDataModule) -> None:
    facts = check(tiny, progress=False)["train"]
    arrays = {
        kind: [np.load(path) for path in sorted((tiny.root / "train" / kind).iterdir())]
        for kind in ("image", "segmentation", "depth")
    }
    assert facts.read == len(arrays["image"])
    assert facts.images == {(24, 32, 3): 7}
    assert facts.problems == []
    depth, classes = facts.labels["depth"], facts.labels["segmentation"]
    values = np.concatenate([a[a > 0] for a in arrays["depth"]])
    assert (depth.number, depth.values) == (6, len(values))
    assert depth.mean == pytest.approx(values.mean(dtype=float), rel=1e-5)
    assert depth.std == pytest.approx(values.std(dtype=float), rel=1e-4)
    assert (depth.low, depth.high) == (values.min(), values.max())
    ids = np.concatenate([a.ravel() for a in arrays["segmentation"]])
    assert classes.classes is not None
    assert classes.classes.tolist() == np.bincount(ids[ids >= 0], minlength=len(classes.classes)).tolist()
    assert classes.invalid == (ids < 0).sum()
    assert classes.places == ids.size


def test_the_joint_table_counts_combinations(tiny: TinyDataModule) -> None:
    rows = check(tiny, progress=False)["train"].joint_table()
    without_depth = tuple(task != "depth" for task in tiny.tasks)
    assert rows == [((True,) * len(tiny.tasks), 6), (without_depth, 1)]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_wrong_file_is_named_and_the_rest_is_read(tiny: TinyDataModule, workers: int) -> None:
    train = tiny.root / "train"
    np.save(train / "segmentation/2.npy", np.full((24, 32), 99))
    np.save(train / "depth/3.npy", np.full((24, 32, 1), -1, np.float32))
    np.save(train / "normals/4.npy", np.full((24, 32, 3), 5, np.float32))
    np.save(train / "depth/5.npy", np.ones((20, 32, 1), np.float32))
    (train / "image/6.npy").write_bytes(b"")
    report = check(tiny, workers=workers, progress=False)
    problems = report["train"].problems
    for name, words in (
        ("train/2", "class ids"),
        ("train/3", "negative"),
        ("train/4", "length 1"),
        ("train/5", "24x32 pixels; found 20x32"),
        ("6.npy", "NumPy"),
    ):
        assert [p for p in problems if name in p and words in p], (name, problems)
    assert len(problems) == 5
    assert report["train"].labels["segmentation"].number == 6
    assert report["val"].problems == []


def test_a_label_that_is_valid_nowhere_and_sizes_that_differ_are_noted(tiny: TinyDataModule) -> None:
    np.save(tiny.root / "train/segmentation/0.npy", np.full((24, 32), -1))
    np.save(tiny.root / "train/image/6.npy", np.zeros((12, 16, 3), np.uint8))
    for kind, channels in (("segmentation", ()), ("depth", (1,)), ("normals", (3,))):
        dtype = np.int64 if kind == "segmentation" else np.float32
        array = np.zeros((12, 16, *channels), dtype)
        array[..., -1:] = 1
        np.save(tiny.root / f"train/{kind}/6.npy", array)
    facts = check(tiny, ("train",), progress=False)["train"]
    assert facts.problems == []
    assert any("'train/0', task 'segmentation': the label is valid nowhere" in note for note in facts.notes)
    assert any("2 different sizes" in note for note in facts.notes)


def test_an_empty_split_is_a_problem_but_for_testing(tiny: TinyDataModule) -> None:
    for split in ("val", "test"):
        for path in (tiny.root / split / "image").iterdir():
            path.unlink()
    report = check(tiny, progress=False)
    assert len(report["val"].problems) == 1
    assert report["test"].problems == []
    assert len(report["test"].notes) == 1


def test_a_task_without_any_label_is_a_problem(tiny: TinyDataModule) -> None:
    for path in (tiny.root / "train/depth").iterdir():
        path.unlink()
    assert check(tiny, ("train",), progress=False)["train"].problems == [
        "No sample of the split 'train' has a label of task 'depth'."
    ]


def test_two_splits_of_the_same_files_are_read_once(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for kind, shape in (
            ("image", (4, 6, 3)),
            ("label", (4, 6)),
            ("depth", (4, 6, 1)),
            ("normal", (4, 6, 3)),
        ):
            (tmp_path / split / kind).mkdir(parents=True)
            np.save(tmp_path / split / kind / "0.npy", np.zeros(shape, np.float32))
    report = check(NYUv2DataModule(tmp_path), progress=False)
    assert report["test"].same_as == "val"
    assert report["test"].read == 0
    assert report["val"].same_as is None  # as many samples as train, but other files


def test_a_limit_reads_evenly_spaced_samples(tiny: TinyDataModule) -> None:
    assert spaced(10, 4) == [0, 2, 5, 7]
    assert spaced(3, 5) == [0, 1, 2]
    facts = check(tiny, ("train",), limit=3, progress=False)["train"]
    assert facts.read == 3
    assert len(facts.on_disk) == 7


def test_a_kind_of_task_can_have_doubts_of_its_own() -> None:
    class Mirror(Depth):
        """A task whose values are never above 1."""

    @doubts.register
    def _(task: Mirror, target: torch.Tensor, valid: torch.Tensor) -> list[str]:
        return ["too high"] if target[valid].max() > 1 else []

    target = torch.full((1, 2, 2), 3.0)
    assert doubts(Mirror(), target, target > 0) == ["too high"]
    assert doubts(Depth(), target, target > 0) == []
    assert doubts(Normals(), torch.zeros(3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)) == []


class TestContactSheet:
    def test_rows_show_every_combination_of_labels(self) -> None:
        on_disk = np.ones((50, 2), dtype=bool)
        on_disk[20:23, 0] = False
        on_disk[41, 1] = False
        chosen = choose(on_disk, 6)
        assert len(set(chosen)) == len(chosen) <= 6
        assert chosen == sorted(chosen)
        assert 41 in chosen
        assert {20, 21, 22} & set(chosen)
        assert len(choose(np.ones((50, 2), dtype=bool), 5)) == 5
        assert choose(np.ones((2, 2), dtype=bool), 5) == [0, 1]

    def test_cells_hold_image_labels_and_what_is_missing(self, tiny: TinyDataModule) -> None:
        (tiny.root / "train/normals/0.npy").write_bytes(b"")
        source = tiny.source("train")
        on_disk = source.on_disk(tuple(tiny.tasks))
        sheet = contact_sheet(source, tiny.tasks, on_disk, [0, 1])
        assert sheet.mode == "RGB"
        width, height = 200, 150
        left = {name: 8 + 208 * column for column, name in enumerate(("image", *tiny.tasks))}

        def cell(name: str, row: int) -> np.ndarray:
            top = 26 + row * (height + 26)
            box = (left[name], top, left[name] + width, top + height)
            return np.asarray(sheet.crop(box)).astype(int)

        image = np.asarray(
            Image.fromarray(np.load(tiny.root / "train/image/0.npy")).resize((width, height), 0)
        )
        assert np.array_equal(cell("image", 0), image)
        labelled, missing, unreadable = cell("depth", 0), cell("depth", 1), cell("normals", 0)
        assert missing.mean() > 230  # paper with a light hatch
        assert labelled.mean() < 200
        assert np.ptp(missing, axis=-1).max() == 0  # 'no label' in black
        assert np.ptp(unreadable, axis=-1).max() > 100  # 'unreadable' in red
