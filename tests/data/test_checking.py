"""What checking a dataset finds, on tiny data with known content."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jtr_lightning.data.checking import check, spaced
from jtr_lightning.data.cityscapes import CityscapesDataModule
from jtr_lightning.data.codings import ClassIds
from jtr_lightning.data.contact_sheet import Part, choose, contact_sheet
from jtr_lightning.data.doubts import doubts, expected
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import DenseRegression, Depth, Normals, Regression, Segmentation, Task
from tests.data.nyuv2_forms import make_forms
from tests.data.taskonomy_files import write_tree
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
    assert any("'train/0', segmentation: the label is valid nowhere" in note for note in facts.notes)
    assert any("2 different sizes" in note for note in facts.notes)


def test_an_empty_split_is_a_problem_but_for_testing(tiny: TinyDataModule) -> None:
    for split in ("val", "test"):
        for path in (tiny.root / split / "image").iterdir():
            path.unlink()
    report = check(tiny, progress=False)
    assert len(report["val"].problems) == 1
    assert report["test"].problems == []
    assert len(report["test"].notes) == 1


def test_a_folder_of_no_known_layout_is_told_once(tmp_path: Path) -> None:
    report = check(NYUv2DataModule(tmp_path), progress=False)
    (problem,) = report["train"].problems
    assert "should hold NYU-v2" in problem
    assert [*report["val"].problems, *report["test"].problems, *report["test"].notes] == []
    # A note on the test split is no reason to keep quiet about a problem.
    report = check(NYUv2DataModule(tmp_path), ("test", "train"), progress=False)
    assert (report["test"].notes, report["train"].problems) == ([problem], [problem])


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
    assert doubts(Depth(), torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool)) == []


def one_task(root: Path, task: Task, labels: list[np.ndarray], **changes: Any) -> FolderDataModule:
    """Images of 4x6 pixels, and labels of one task, all for training."""
    for folder in ("images", "label"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for i, label in enumerate(labels):
        Image.fromarray(np.full((4, 6, 3), 99, np.uint8)).save(root / f"images/{i}.png")
        np.save(root / f"label/{i}.npy", label)
    return FolderDataModule(root, {"label": task}, val_share=0, test_share=0, **changes)


def problems(data: FolderDataModule) -> list[str]:
    return check(data, ("train",), progress=False)["train"].problems


def notes(data: FolderDataModule) -> list[str]:
    return check(data, ("train",), progress=False)["train"].notes


def full(value: float, dtype: type = np.float32) -> np.ndarray:
    return np.full((4, 6), value, dtype)


def test_the_type_is_that_on_disk(tmp_path: Path) -> None:
    labels = [full(1, np.uint8), full(1, np.float64), full(1, np.uint8)]
    facts = check(one_task(tmp_path, Segmentation(2), labels), ("train",), progress=False)["train"]
    assert facts.labels["label"].dtypes == {"uint8": 2, "float64": 1}
    assert facts.dtypes == {"uint8": 3}


def test_normals_in_another_coding_are_wrong(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 6, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    found = problems(one_task(tmp_path, Normals(), [vectors, (vectors + 1) / 2, np.zeros((4, 6, 3))]))
    assert len(found) == 2
    assert "(n + 1) / 2" in found[0]
    where = f"Sample '2', label (file '{tmp_path / 'label/2.npy'}'): "
    assert found[1].startswith(f"{where}a normal map should have a normal somewhere")


def test_depths_out_of_their_range_are_wrong(tmp_path: Path) -> None:
    far = full(2)
    far[0, :2] = 65.535
    data = one_task(tmp_path, Depth(expected_range=(0, 10)), [full(2), far, full(2000)])
    found = problems(data)
    assert len(found) == 2
    where = f"Sample '1', label (file '{tmp_path / 'label/1.npy'}'): "
    assert found[0].startswith(f"{where}a depth should be from 0 to 10 m; found 2 of 24 values from 65.54")
    assert "found 24 of 24 values from 2000 to 2000" in found[1]


def test_a_median_in_another_unit_is_wrong_once_for_all(tmp_path: Path) -> None:
    task = Depth(expected_median=(0.2, 15))
    assert problems(one_task(tmp_path / "right", task, [full(2), full(40), full(3)])) == []
    found = problems(one_task(tmp_path / "wrong", task, [full(32), full(40), full(3)]))
    assert len(found) == 1
    assert "Task 'label': the median of a depth should mostly be from 0.2 to 15 m; found 32" in found[0]
    assert "`depth_scale` of TaskonomyDataModule, 0.00012207" in found[0]


def test_a_depth_that_the_task_codes_with_other_statistics_is_noted(tmp_path: Path) -> None:
    metres = np.linspace(1, 4, 24, dtype=np.float32).reshape(4, 6)
    assert notes(one_task(tmp_path / "metres", Depth(), [metres])) == []
    (note,) = notes(one_task(tmp_path / "mm", Depth(), [1000 * metres]))
    assert "Task 'label': its values have mean 2500" in note
    assert "Give the task `mean` and `std`" in note


def test_expectations_are_ranges() -> None:
    with pytest.raises(ConfigError, match="`expected_median` should be a smaller and a larger value"):
        Depth(expected_median=(3, 1))


class TestMasksOfBlackAndWhite:
    mask = np.where(np.arange(6) < 3, 0, 255).astype(np.uint8)[None].repeat(4, 0)

    def test_are_wrong_with_a_remedy_that_works(self, tmp_path: Path) -> None:
        task = Segmentation(["floor", "door"])
        (problem,) = problems(one_task(tmp_path, task, [self.mask, self.mask]))
        assert "found 0 and 255 alone" in problem
        assert "no pixel is of class 'door'" in problem
        mended = one_task(tmp_path, task, [self.mask], codings={"label": ClassIds(ids=[0, 255])})
        facts = check(mended, ("train",), progress=False)["train"]
        assert facts.problems == []
        assert facts.labels["label"].classes is not None
        assert facts.labels["label"].classes.tolist() == [24, 24]

    def test_a_void_border_beside_both_classes_is_right(self, tmp_path: Path) -> None:
        both = self.mask.copy()
        both[0, 0] = 1
        assert problems(one_task(tmp_path / "a", Segmentation(2), [both, self.mask])) == []
        assert problems(one_task(tmp_path / "b", Segmentation(3), [self.mask])) == []


def test_an_empty_array_is_wrong_and_skipped_in_training(tmp_path: Path) -> None:
    labels = [full(1, np.uint8), np.zeros((0, 6), np.uint8), full(0, np.uint8)]
    data = one_task(tmp_path, Segmentation(2), labels, on_error="skip")
    (problem,) = problems(data)
    assert "label/1.npy' should hold values; found an empty array of the shape [0, 6]" in problem
    dataset = data.dataset("train")
    assert [bool(dataset[i].available) for i in range(3)] == [True, False, True]
    np.save(tmp_path / "images_1.npy", np.zeros((4, 0, 3), np.uint8))
    (tmp_path / "images/1.png").unlink()
    (tmp_path / "images_1.npy").rename(tmp_path / "images/1.npy")
    data = FolderDataModule(tmp_path, data.tasks, val_share=0, test_share=0, on_error="skip")
    assert len(problems(data)) == 2
    assert len(data.dataset("train")[1].skipped) == 1


def test_a_label_of_another_size_is_told_once(tmp_path: Path) -> None:
    (problem,) = problems(one_task(tmp_path, Depth(expected_range=(0, 1)), [np.full((2, 3), 9.0)]))
    assert "size of 4x6 pixels; found 2x3" in problem


def test_parts_that_are_missing_are_noted(tmp_path: Path) -> None:
    (tmp_path / "availability.csv").write_text("id,label\n0,1\n1,0\n2,0\n")
    (note,) = notes(one_task(tmp_path, Segmentation(2), [np.eye(4, 6)] * 3))
    assert note == "Task 'label': 2 of 3 labels may not be used, by the table of available labels."


class TestFilesOfNoSample:
    """Files that belong to no image are told, in whatever form the dataset is."""

    def test_of_arrays(self, tmp_path: Path) -> None:
        root = make_forms(tmp_path, "nyuv2") / "nyuv2"
        (root / "train/label/3.npy").rename(root / "train/label/003.npy")
        (root / "train/depth/99.npy").write_bytes(b"")
        np.save(root / "train/image/notes.npy", np.zeros(3))
        found = problems(NYUv2DataModule(root))
        for folder, number, first in (("image", 6, "notes"), ("label", 5, "003"), ("depth", 6, "99")):
            (sentence,) = (s for s in found if str(root / "train" / folder) in s)
            assert sentence.startswith(f"1 of {number} files in")
            assert f"the first '{first}.npy'" in sentence
        assert len(found) == 3
        assert check(NYUv2DataModule(root), ("val",), progress=False)["val"].problems == []

    def test_of_cities(self, tmp_path: Path) -> None:
        root = make_forms(tmp_path, "cityscapes") / "cityscapes"
        image = next((root / "leftImg8bit/train").rglob("*.png"))
        image.unlink()
        found = problems(CityscapesDataModule(root))
        sample = image.name.removesuffix("_leftImg8bit.png")
        assert len(found) == 2
        assert f"{sample}_gtFine_labelIds.png'" in found[0]
        assert f"{sample}_disparity.png'" in found[1]
        assert all("1 of 5 files in" in sentence for sentence in found)

    def test_of_views(self, tmp_path: Path) -> None:
        """A note: of some published buildings there are labels without images."""
        write_tree(tmp_path, domains=("rgb", "normal", "reshading"), views=((0, 0), (1, 0)))
        (tmp_path / "beach/rgb/point_1_view_0_domain_rgb.png").unlink()
        (tmp_path / "cauthron/normal/point_01_view_0_domain_normal.png").touch()
        report = check(TaskonomyDataModule(tmp_path, ["normal"]), progress=False)
        (note,) = report["train"].notes
        assert note.startswith(f"2 files of 'normal' in '{tmp_path}' belong to no sample")
        assert "the first 'beach/normal/point_1_view_0_domain_normal.png'" in note
        assert all(report[split].notes == [] for split in ("val", "test")), "told once"

    def test_of_folders(self, tmp_path: Path) -> None:
        data = one_task(tmp_path, Segmentation(2), [np.eye(4, 6)] * 3)
        (tmp_path / "label/2.npy").rename(tmp_path / "label/two.npy")
        (tmp_path / "splits.csv").write_text("id,split\n0,train\n1,val\n")
        facts = check(data, ("train", "val"), progress=False)["train"]
        (problem,), (note,) = facts.problems, facts.notes
        assert f"1 of 3 files in '{tmp_path / 'label'}'" in problem
        assert "the first 'two.npy'" in problem
        assert note.startswith("1 of 3 images are in no split")


def test_an_id_out_of_range_is_told_as_it_is_on_disk(tmp_path: Path) -> None:
    coding = {"label": ClassIds(first=1, void=255)}
    labels = [full(i, np.uint8) for i in (0, 1, 3, 4, 255)]
    (problem,) = problems(one_task(tmp_path, Segmentation(3), labels, codings=coding))
    assert problem.startswith(f"Sample '3', label: The file '{tmp_path / 'label/3.npy'}' should hold")
    assert "class ids from 1 to 3, or smaller ones for 'no class'; found 4 at 24 of 24 pixels" in problem


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
        sheet = contact_sheet([Part("train", source, on_disk, [0, 1])], tiny.tasks)
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
        assert np.ptp(missing, axis=-1).max() < 20  # 'no label' in black
        assert np.ptp(unreadable, axis=-1).max() > 100  # 'unreadable' in red

    def test_every_part_is_drawn_above_the_legends(self, tiny: TinyDataModule) -> None:
        parts = [
            Part(split, source := tiny.source(split), source.on_disk(tuple(tiny.tasks)), [0])
            for split in ("train", "val")
        ]
        sheet = np.asarray(contact_sheet(parts, tiny.tasks))
        alone = np.asarray(contact_sheet(parts[:1], tiny.tasks))
        row = 150 + 26
        assert len(sheet) == len(alone) + row
        image = np.asarray(Image.fromarray(np.load(tiny.root / "val/image/0.npy")).resize((200, 150), 0))
        np.testing.assert_array_equal(sheet[26 + row : 26 + row + 150, 8:208], image)
        legends = sheet[26 + 2 * row :]
        np.testing.assert_array_equal(legends, alone[26 + row :])
        for colour in tiny.tasks["segmentation"].palette:
            assert (legends == colour).all(-1).sum() >= 13 * 13
        turbo = Depth().render(torch.linspace(0.01, 7.99, 9).view(1, 1, 1, 9))[0, :, 0].T.numpy()
        assert all((np.abs(legends.astype(int) - colour).max(-1) < 6).any() for colour in turbo)


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Segmentation(3), "0 to 2"),
        (Depth(), "above 0 m"),
        (Depth(unit="", expected_range=(0, 1)), "0 to 1"),
        (Normals(), "length 1"),
        (DenseRegression(low=-1, unit="lx"), "-1 to 1 lx"),
        (Regression(unit="deg"), ""),
    ],
)
def test_the_table_of_values_says_which_ones_a_task_expects(task: Task, text: str) -> None:
    assert expected(task) == text
