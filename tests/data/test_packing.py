import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.packed import PackedDataModule
from jtr_lightning.data.packing import _narrow, pack
from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import HalfLabels, OneLabel, RandomLabels, SplitFile
from jtr_lightning.tasks import DenseRegression, Depth, Regression, Segmentation, Task
from jtr_lightning.testing import DataModuleContract
from tests.data.tiny import NUMBER, TinyDataModule, write_tiny
from tests.data.training import train_and_predict

SIZE = (16, 20)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def packed(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "tiny"
    pack(TinyDataModule(tiny, size=SIZE), folder, progress=False)
    return folder


class TestPackedContract(DataModuleContract):
    @pytest.fixture
    def make(self, packed: Path) -> Callable[..., PartialLabelDataModule]:
        return lambda **changes: PackedDataModule(packed, **changes)


def batches(data: PartialLabelDataModule) -> list[Any]:
    found = []
    for split in ("train", "val", "test"):
        data.datasets[split] = data.dataset(split)
        found += list(data._loader(split))
    return found


def assert_same(data: PartialLabelDataModule, packed: PartialLabelDataModule) -> None:
    pairs = list(zip(batches(data), batches(packed), strict=True))
    assert pairs
    for a, b in pairs:
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.available, b.available)
        assert torch.equal(a.index, b.index)
        assert torch.equal(a.domain, b.domain)
        for name, label in a.labels.items():
            assert label.dtype == b.labels[name].dtype
            assert torch.equal(label.nan_to_num(-7), b.labels[name].nan_to_num(-7))
            assert torch.equal(label.isnan(), b.labels[name].isnan())


class TestItIsTheSameData:
    @pytest.mark.parametrize("scenario", [RandomLabels(), OneLabel()])
    def test_bit_for_bit(self, tiny: Path, packed: Path, scenario: Any) -> None:
        common = {"scenario": scenario, "seed": 3, "batch_size": 2, "augmentation": Augmentation()}
        before = TinyDataModule(tiny, size=SIZE, **common)
        after = PackedDataModule(packed, **common)
        assert {n: t.describe() for n, t in before.tasks.items()} == {
            n: t.describe() for n, t in after.tasks.items()
        }
        assert (
            before.dataset("train").source.names()[1] == after.dataset("train").source.names()[1] == "train/1"
        )
        assert_same(before, after)

    @pytest.mark.parametrize(("layout", "size"), [("nyuv2_mat", (20, 28)), ("taskonomy", None)])
    def test_of_real_layouts(self, tmp_path: Path, layout: str, size: Any) -> None:
        spec = RoomsSpec(train=5, val=2, test=2 if layout == "taskonomy" else 0, height=24, width=32)
        root = make_rooms(tmp_path / "rooms", spec, LAYOUTS[layout](), workers=1, progress=False)
        kind = TaskonomyDataModule if layout == "taskonomy" else NYUv2DataModule
        done = pack(kind(root, size=size), tmp_path / "packed", workers=2, progress=False)
        assert done.samples["train"] == 5
        assert done.bytes == sum(p.stat().st_size for p in (tmp_path / "packed").rglob("*/*/*.npy"))
        common = {"scenario": HalfLabels(), "augmentation": Augmentation(), "batch_size": 2}
        assert_same(kind(root, size=size, **common), PackedDataModule(tmp_path / "packed", **common))
        # NYU-v2 tests on its validation images, which are packed once.
        assert (tmp_path / "packed/test").exists() == (layout == "taskonomy")

    def test_missing_labels_stay_missing_and_the_scenario_plays_no_part(
        self, tiny: Path, tmp_path: Path
    ) -> None:
        pack(TinyDataModule(tiny, scenario=OneLabel()), tmp_path / "packed", progress=False)
        data = PackedDataModule(tmp_path / "packed", tasks=["depth", "pitch"])
        expected = [[i != 1, True] for i in range(NUMBER["train"])]
        assert data.dataset("train").available.tolist() == expected
        assert (tmp_path / "packed/train/labels.csv").read_text().splitlines()[:3] == [
            "id,segmentation,depth,normals,pitch",
            "train/0,1,1,1,1",
            "train/1,1,0,1,1",
        ]

    def test_another_size_can_be_asked_for_and_trained_with(self, packed: Path, tmp_path: Path) -> None:
        data = PackedDataModule(packed, size=(8, 12), batch_size=3)
        predictions = train_and_predict(data, tmp_path)
        assert predictions[0]["depth"].shape[-2:] == (8, 12)


def test_whole_numbers_become_narrow_and_keep_their_values() -> None:
    for values, dtype in (
        ([-1, 12], np.int8),
        ([0, 255], np.uint8),
        ([-1, 255], np.int16),
        ([0, 70000], np.int32),
    ):
        narrow = _narrow(np.array(values, np.int64))
        assert narrow.dtype == dtype
        assert narrow.tolist() == values
    assert _narrow(np.ones(2, np.float32)).dtype == np.float32


class TestMistakes:
    def test_a_folder_in_use(self, tiny: Path, packed: Path) -> None:
        with pytest.raises(ConfigError, match="should be a new or an empty folder; found"):
            pack(TinyDataModule(tiny), packed, progress=False)

    def test_an_unreadable_file_is_named_and_leaves_nothing_behind(self, tiny: Path, tmp_path: Path) -> None:
        root = shutil.copytree(tiny, tmp_path / "tiny")
        (root / "val/depth/2.npy").write_bytes(b"")
        with pytest.raises(DataError, match=r"Sample 'val/2', depth: .*2\.npy"):
            pack(TinyDataModule(root), tmp_path / "out" / "packed", progress=False)
        assert list((tmp_path / "out").iterdir()) == []

    def test_skipping_counts_a_label_as_missing_and_tells(self, tiny: Path, tmp_path: Path) -> None:
        root = shutil.copytree(tiny, tmp_path / "tiny")
        (root / "val/depth/2.npy").write_bytes(b"")
        (root / "val/image/3.npy").write_bytes(b"")
        done = pack(TinyDataModule(root, on_error="skip"), tmp_path / "packed", progress=False)
        assert [message.split(":")[0] for message in done.skipped] == [
            "Sample 'val/2', depth",
            "Sample 'val/3', image",
        ]
        val = PackedDataModule(tmp_path / "packed", on_error="skip").dataset("val")
        assert val.available.tolist()[2:4] == [[True, False, True, True], [False] * 4]
        assert "Sample 'val/3', image" in val[3].skipped[0]
        with pytest.raises(DataError, match=r"Sample 'val/3', image: .*3\.npy"):
            PackedDataModule(tmp_path / "packed").dataset("val")[3]

    def test_a_disk_without_room(self, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(
            ConfigError, match=r"should have room for the packed samples, about 0\.0 GB; found"
        ):
            pack(TinyDataModule(tiny), tmp_path / "packed", progress=False)
        assert list(tmp_path.iterdir()) == []

    def test_depth_only_frames(self, tmp_path: Path) -> None:
        spec = RoomsSpec(train=2, val=1, test=0, height=24, width=32)
        root = make_rooms(tmp_path / "nyu", spec, LAYOUTS["nyuv2"](), workers=1, progress=False)
        extra = make_rooms(tmp_path / "extra", spec, LAYOUTS["nyuv2_sync"](), workers=1, progress=False)
        data = NYUv2DataModule(root, extra_root=extra, size=(24, 32))
        with pytest.raises(ConfigError, match="Leave `extra_root` out"):
            pack(data, tmp_path / "packed", progress=False)

    @pytest.mark.parametrize("content", [None, "{}", "[]", "no json", "[" * 100_000])
    def test_another_folder(self, tmp_path: Path, content: str | None) -> None:
        if content is not None:
            (tmp_path / "packed.json").write_text(content)
        with pytest.raises(DataError, match="Make it with `jtr data pack`"):
            PackedDataModule(tmp_path)

    def test_another_form(self, tmp_path: Path) -> None:
        (tmp_path / "packed.json").write_text('{"version": 99}')
        with pytest.raises(DataError, match=r"found the form 99\. Pack it again"):
            PackedDataModule(tmp_path)

    def test_a_task_of_ones_own_is_imported_or_given(self, packed: Path, tmp_path: Path) -> None:
        root = shutil.copytree(packed, tmp_path / "packed")
        info = json.loads((root / "packed.json").read_text())
        info["tasks"]["pitch"]["class_path"] = "nowhere.Pitch"
        (root / "packed.json").write_text(json.dumps(info))
        with pytest.raises(ConfigError, match=r"nowhere\.Pitch.*for task 'pitch'.*give the tasks as `tasks`"):
            PackedDataModule(root)
        tasks: dict[str, Task] = {"pitch": Regression(), "depth": Depth()}
        assert list(PackedDataModule(root, tasks).dataset("train")[0].labels) == ["pitch", "depth"]

    def test_a_task_that_takes_the_packed_holes_for_values(self, packed: Path) -> None:
        with pytest.raises(ConfigError, match="which hold 0; found DenseRegression"):
            PackedDataModule(packed, {"depth": DenseRegression()})

    def test_published_rows_fit_numbered_samples_alone(self, packed: Path, tmp_path: Path) -> None:
        rows = torch.ones(NUMBER["train"], 2)
        torch.save({"labels_weights": rows}, tmp_path / "split.pth")
        scenario = SplitFile(tmp_path / "split.pth")
        with pytest.raises(ConfigError, match="packed TinyDataModule"):
            PackedDataModule(packed, ["segmentation", "depth"], scenario=scenario).dataset("train")
        spec = RoomsSpec(train=NUMBER["train"], val=1, test=0, height=24, width=32)
        root = make_rooms(tmp_path / "nyu", spec, LAYOUTS["nyuv2"](), workers=1, progress=False)
        pack(NYUv2DataModule(root), tmp_path / "packed", progress=False)
        data = PackedDataModule(tmp_path / "packed", ["segmentation", "depth"], scenario=scenario)
        assert data.dataset("train").available.all()

    def test_a_split_that_was_not_packed(self, tmp_path: Path) -> None:
        class WithoutTest(TinyDataModule):
            def source(self, split: Any) -> Any:
                if split == "test":
                    raise DataError("There is none.")
                return super().source(split)

        done = pack(WithoutTest(write_tiny(tmp_path / "tiny")), tmp_path / "packed", progress=False)
        assert done.without == {"test": "There is none."}
        with pytest.raises(DataError, match=r"'test' should be packed in .* found \['train', 'val'\] alone"):
            PackedDataModule(tmp_path / "packed").dataset("test")

    def test_unused_tasks_are_unknown(self, packed: Path) -> None:
        tasks: dict[str, Task] = {"albedo": Segmentation(3), "depth": Depth()}
        with pytest.raises(ConfigError, match="leaves none for task 'albedo'"):
            PackedDataModule(packed, tasks).dataset("train")
