"""NYU-v2 as arrays, with and without its further frames, written by Rooms or by hand with known values."""

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from jtr_lightning.data.checking import check
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.nyuv2_depth_only import find_depth_only
from jtr_lightning.data.nyuv2_mat import (
    BORDER_CROP,
    MAT_NAME,
)
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import OneLabel, SplitFile
from jtr_lightning.splits import write_split
from jtr_lightning.tasks import Segmentation
from jtr_lightning.testing import DataModuleContract
from tests.data.nyuv2_forms import SIZE, make_forms

real_files = pytest.mark.skipif(
    "JTR_TEST_DATA" not in os.environ, reason="JTR_TEST_DATA does not name a folder with the real files"
)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms in three forms, by the form's name."""
    return make_forms(tmp_path_factory.mktemp("nyu"), "nyuv2", "nyuv2_h5", "nyuv2_sync")


class TestNpyContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: NYUv2DataModule(rooms / "nyuv2", **{"batch_size": 2, **changes})


def write_npy(root: Path, dtype: Any = np.float64, number: int = 3) -> None:
    """Known values: label 12 but -1 in one corner, depth 2 but 0 there, normals (0, 0, -1) but 0 there."""
    for split in ("train", "val"):
        for i in range(number):
            image = np.full((4, 6, 3), [0.0, 0.5, 1.0], dtype)
            label = np.full((4, 6), 12, dtype)
            depth = np.full((4, 6, 1), 2, dtype)
            normal = np.tile(np.array([0, 0, -1], dtype), (4, 6, 1))
            label[0, 0], depth[0, 0], normal[0, 0] = -1, 0, 0
            for kind, array in (("image", image), ("label", label), ("depth", depth), ("normal", normal)):
                path = root / split / kind / f"{i}.npy"
                path.parent.mkdir(parents=True, exist_ok=True)
                np.save(path, array)


class TestNpy:
    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_values_of_any_real_dtype(self, tmp_path: Path, dtype: Any) -> None:
        write_npy(tmp_path, dtype)
        sample = NYUv2DataModule(tmp_path).dataset("train")[1]
        assert torch.allclose(sample.image[:, 1, 1], torch.tensor([0.0, 0.5, 1.0]), atol=1 / 255)
        assert sample.image.dtype == torch.float32
        label, depth, normals = (sample.labels[t] for t in ("segmentation", "depth", "normals"))
        assert (label[0, 0], label[3, 5], label.dtype) == (-1, 12, torch.int64)
        assert (depth[0, 0, 0], depth[0, 3, 5], depth.dtype) == (0, 2, torch.float32)
        assert normals[:, 0, 0].tolist() == [0, 0, 0]
        assert normals[:, 3, 5].tolist() == [0, 0, -1]

    def test_integer_labels_and_images(self, tmp_path: Path) -> None:
        write_npy(tmp_path)
        np.save(tmp_path / "train/label/0.npy", np.full((4, 6), 3, np.int64))
        np.save(tmp_path / "train/image/0.npy", np.full((4, 6, 3), 51, np.uint8))
        sample = NYUv2DataModule(tmp_path, tasks=["segmentation", "depth"]).dataset("train")[0]
        assert (sample.labels["segmentation"] == 3).all()
        assert torch.allclose(sample.image, torch.tensor(0.2))

    def test_a_missing_file_is_a_missing_label(self, tmp_path: Path) -> None:
        write_npy(tmp_path)
        (tmp_path / "train/depth/2.npy").unlink()
        available = NYUv2DataModule(tmp_path).dataset("train").available
        assert available.tolist() == [[True] * 3, [True] * 3, [True, False, True]]

    def test_hidden_files_are_none_of_the_dataset(self, tmp_path: Path) -> None:
        write_npy(tmp_path)
        for path in list(tmp_path.rglob("*.npy")):
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")  # as macOS leaves them
        source = NYUv2DataModule(tmp_path).source("train")
        assert (len(source), list(source.problems())) == (3, [])

    def test_numbers_sort_as_numbers(self, tmp_path: Path) -> None:
        write_npy(tmp_path, number=12)
        np.save(tmp_path / "train/label/10.npy", np.full((4, 6), 5.0))
        dataset = NYUv2DataModule(tmp_path).dataset("train")
        assert list(dataset.source.names()) == [str(i) for i in range(12)]
        assert (dataset[10].labels["segmentation"] == 5).all()

    def test_validation_and_test_are_the_official_test_frames(self, tmp_path: Path) -> None:
        write_npy(tmp_path)
        np.save(tmp_path / "val/label/0.npy", np.full((4, 6), 1.0))
        data = NYUv2DataModule(tmp_path)
        for split in ("val", "test"):
            assert (data.dataset(split)[0].labels["segmentation"] == 1).all()  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("path", "array", "message"),
        [
            ("label/0.npy", np.full((4, 6), 2.5), "not whole numbers"),
            ("label/0.npy", np.full((4, 6), 13.0), r"class ids 0\.\.12.*13"),
            ("depth/0.npy", np.full((4, 6, 1), np.nan), "NaN or infinity at 24 of 24"),
            ("image/0.npy", np.full((4, 6, 3), 255.0), r"\[0, 1\].*from 255 to 255"),
            ("image/0.npy", np.zeros((3, 4, 6)), r"shape \[any, any, 3\]; found \[3, 4, 6\]"),
            ("normal/0.npy", np.zeros((4, 6)), r"shape \[any, any, 3\]; found \[4, 6\]"),
            ("depth/0.npy", np.full((5, 6, 1), 1.0), "size of its image"),
            ("depth/0.npy", np.full((4, 6, 1), 1500, np.uint16), "size of one step.*uint16.*floating-point"),
            ("label/0.npy", np.full((4, 6), 2**32 + 1), "class ids; found values from 4294967297"),
            ("normal/0.npy", np.full((4, 6, 3), 0.9), "unit vectors.*median length of 1.56.*Is it"),
        ],
    )
    def test_a_wrong_array_is_named(self, tmp_path: Path, path: str, array: Any, message: str) -> None:
        write_npy(tmp_path)
        np.save(tmp_path / "train" / path, array)
        with pytest.raises(DataError, match=message):
            NYUv2DataModule(tmp_path).dataset("train")[0]

    def test_python_objects_are_never_unpickled(self, tmp_path: Path) -> None:
        write_npy(tmp_path)
        np.save(tmp_path / "train/depth/0.npy", np.array([{}], dtype=object))
        with pytest.raises(DataError, match="Python objects"):
            NYUv2DataModule(tmp_path).dataset("train")[0]

    def test_a_gap_in_the_numbers_is_named(self, tmp_path: Path) -> None:
        write_npy(tmp_path)
        (tmp_path / "train/image/1.npy").unlink()
        with pytest.raises(DataError, match=r"no 1\.npy"):
            NYUv2DataModule(tmp_path).dataset("train")

    def test_a_published_split_needs_the_datasets_rows(self, tmp_path: Path) -> None:
        write_npy(tmp_path)
        torch.save({"labels_weights": torch.eye(3)}, tmp_path / "a.pth")
        data = NYUv2DataModule(tmp_path, scenario=SplitFile(tmp_path / "a.pth"))
        assert np.array_equal(data.dataset("train").available, np.eye(3, dtype=bool))
        torch.save({"labels_weights": torch.ones(5, 3)}, tmp_path / "b.pth")
        data = NYUv2DataModule(tmp_path, scenario=SplitFile(tmp_path / "b.pth"))
        with pytest.raises(DataError, match=r"3 samples.*5 rows"):
            data.dataset("train")

    def test_forty_classes_are_refused(self, tmp_path: Path) -> None:
        write_npy(tmp_path)
        with pytest.raises(ConfigError, match=f"{MAT_NAME}' for 40 classes"):
            NYUv2DataModule(tmp_path, classes=40).dataset("train")

    def test_a_task_of_other_classes_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=r"`classes`.*of its task 'segmentation', 40; found 13\. Give both"
        ):
            NYUv2DataModule(tmp_path, {"segmentation": Segmentation(40)})
        NYUv2DataModule(tmp_path, {"segmentation": Segmentation(40)}, classes=40)

    def test_a_folder_without_the_dataset(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="found neither"):
            NYUv2DataModule(tmp_path).dataset("train")
        with pytest.raises(DataError, match="no such folder"):
            NYUv2DataModule(tmp_path / "none").dataset("train")

    @real_files
    @pytest.mark.parametrize("scenario", ["onelabel", "randomlabels"])
    def test_real_published_splits(self, tmp_path: Path, scenario: str) -> None:
        images = tmp_path / "train/image"
        images.mkdir(parents=True)
        for i in range(795):
            (images / f"{i}.npy").touch()
        for kind in ("label", "depth", "normal"):
            (tmp_path / "train" / kind).symlink_to(images)
        path = Path(os.environ["JTR_TEST_DATA"]) / f"label_splits/nyuv2_settings/{scenario}.pth"
        available = NYUv2DataModule(tmp_path, scenario=SplitFile(path)).dataset("train").available
        expected = {"onelabel": [265, 265, 265], "randomlabels": [392, 408, 385]}
        assert available.sum(0).tolist() == expected[scenario]


class TestExtraFramesContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: NYUv2DataModule(
            rooms / "nyuv2", extra_root=rooms / "nyuv2_h5", **{"batch_size": 2, "size": SIZE, **changes}
        )


class TestExtraFrames:
    def make(self, rooms: Path, layout: str = "nyuv2_h5", **changes: Any) -> NYUv2DataModule:
        options = {"size": SIZE, "batch_size": 2, **changes}
        return NYUv2DataModule(rooms / "nyuv2", extra_root=rooms / layout, **options)

    @pytest.mark.parametrize(("layout", "tolerance"), [("nyuv2_h5", 0), ("nyuv2_sync", 0.0006)])
    def test_depth_alone_in_metres(self, rooms: Path, layout: str, tolerance: float) -> None:
        dataset = self.make(rooms, layout).dataset("train")
        assert len(dataset) == 10
        assert dataset.available[5:].tolist() == [[False, True, False]] * 5
        assert dataset.domain.tolist() == [0] * 5 + [1] * 5
        for i in range(5):  # the extra rooms are the labelled ones again
            labelled, extra = dataset[i], dataset[5 + i]
            difference = (labelled.labels["depth"] - extra.labels["depth"]).abs()
            assert difference.max() <= tolerance
            assert (labelled.image - extra.image).abs().mean() < 0.05
            assert (extra.labels["segmentation"] == -1).all()
            assert (extra.labels["normals"] == 0).all()

    @pytest.mark.parametrize("layout", ["nyuv2_h5", "nyuv2_sync"])
    def test_hidden_files_are_no_frames(self, rooms: Path, tmp_path: Path, layout: str) -> None:
        shutil.copytree(rooms / layout, tmp_path / "extra")
        frames = list(find_depth_only(tmp_path / "extra").names())
        for path in [path for path in (tmp_path / "extra").rglob("*") if path.is_file()]:
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
        assert list(find_depth_only(tmp_path / "extra").names()) == frames

    def test_the_scenario_is_that_of_the_labelled_samples_alone(self, rooms: Path, tmp_path: Path) -> None:
        alone = NYUv2DataModule(rooms / "nyuv2", scenario=OneLabel(), seed=3).dataset("train").available
        data = self.make(rooms, scenario=OneLabel(), seed=3)
        assert isinstance(data.scenario, OneLabel)  # as reports name it
        joined = data.dataset("train").available
        assert np.array_equal(joined[:5], alone)
        assert joined[5:].sum(0).tolist() == [0, 5, 0]
        names = [str(i) for i in range(5)]
        write_split(tmp_path / "s.csv", names, ("segmentation", "depth", "normals"), alone)
        again = self.make(rooms, scenario=SplitFile(tmp_path / "s.csv")).dataset("train").available
        assert np.array_equal(again, joined)

    def test_validation_has_no_extra_frames(self, rooms: Path) -> None:
        assert len(self.make(rooms).dataset("val")) == 3

    @pytest.mark.parametrize(("ratio", "extra"), [(0.5, 3), (1.0, 5), (0.2, 1), (7, 5)])
    def test_the_ratio_holds_in_each_epoch(self, rooms: Path, ratio: float, extra: int) -> None:
        data = self.make(rooms, extra_ratio=ratio, batch_size=1)
        if ratio > 1:
            with pytest.warns(
                UserWarning, match=r"`extra_ratio` asks for 35 .*; found 5 in .*a ratio of 1\."
            ):
                data.setup("fit")
        else:
            data.setup("fit")
        loader = data.train_dataloader()
        loader.sampler.set_epoch(2)  # type: ignore[attr-defined]
        domains = [int(batch.domain) for batch in loader]
        assert (domains.count(0), domains.count(1)) == (5, extra)

    def test_frames_are_cropped_like_the_labelled_ones(self, tmp_path: Path) -> None:
        (tmp_path / "scene").mkdir()
        with h5py.File(tmp_path / "scene/00001.h5", "w") as file:
            columns = np.broadcast_to(np.arange(640), (480, 640))
            file["rgb"] = np.stack([columns % 256] * 3).astype(np.uint8)
            file["depth"] = (columns / 100).astype(np.float32)
        source = find_depth_only(tmp_path)
        assert source.read_image(0).shape == (427, 565, 3)
        assert np.array_equal(source.read_label(0, "depth"), (columns / 100).astype(np.float32)[BORDER_CROP])

    def test_a_list_file_chooses(self, rooms: Path, tmp_path: Path) -> None:
        rows = (rooms / "nyuv2_sync/train_files.txt").read_text().splitlines()
        (tmp_path / "list.txt").write_text("\n".join([rows[3], rows[1], "/x/rgb_00001.jpg None 518.8579"]))
        source = find_depth_only(rooms / "nyuv2_sync", list_file=tmp_path / "list.txt")
        assert [Path(name).name for name in source.names()] == ["rgb_00003.jpg", "rgb_00001.jpg"]
        (tmp_path / "list.txt").write_text("/nowhere/rgb_00001.jpg /nowhere/sync_depth_00001.png 518.8579\n")
        with pytest.raises(DataError, match=r"2 of 2 not there, first 'nowhere/rgb_00001\.jpg'"):
            find_depth_only(rooms / "nyuv2_sync", list_file=tmp_path / "list.txt")

    def test_a_list_whose_depth_files_are_not_there_is_refused(self, rooms: Path, tmp_path: Path) -> None:
        shutil.copytree(rooms / "nyuv2_sync", tmp_path / "sync")
        list_file = tmp_path / "sync/train_files.txt"
        scene, _, name = list_file.read_text().split()[4].lstrip("/").rpartition("/")
        (tmp_path / "sync" / scene / name).unlink()
        with pytest.raises(DataError, match=rf"1 of 10 not there, first '{scene}/sync_depth_00001\.png'"):
            find_depth_only(tmp_path / "sync", list_file=list_file)

    @pytest.mark.parametrize("missing", ["rgb_00001.jpg", "sync_depth_00001.png"])
    def test_a_pair_of_which_one_file_is_missing_is_told(
        self, rooms: Path, tmp_path: Path, missing: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        shutil.copytree(rooms / "nyuv2_sync", tmp_path / "sync")
        (lost,) = (tmp_path / "sync").glob(f"*/{missing}")
        lost.unlink()
        part = "image" if missing.startswith("rgb") else "depth"
        message = rf"Sample '{lost.parent.name}/rgb_00001\.jpg', {part}: The file '.*/{missing}' should be there beside"

        def make(**changes: Any) -> NYUv2DataModule:
            extra = tmp_path / "sync"
            return NYUv2DataModule(rooms / "nyuv2", extra_root=extra, size=SIZE, batch_size=1, **changes)

        data = make()
        data.setup("fit")
        with pytest.raises(DataError, match=message):
            list(data.train_dataloader())
        data = make(on_error="skip")
        data.setup("fit")
        with caplog.at_level(logging.WARNING, logger="jtr_lightning"):
            batches = list(data.train_dataloader())
        assert [int(batch.domain) for batch in batches].count(1) == 5
        assert sum(int(batch.available.sum()) for batch in batches) == 5 * 3 + 4
        *_, record = caplog.records
        assert "Unreadable files skipped in epoch 0 of split 'train': 1" in record.getMessage()
        assert re.search(message, record.getMessage())
        problems = check(make(), ("train",))["train"].problems
        assert len(problems) == 1
        assert re.search(message, problems[0])

    def test_wrong_frames_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="found none"):
            find_depth_only(tmp_path)
        (tmp_path / "scene").mkdir()
        (tmp_path / "scene/rgb_00001.jpg").touch()  # a folder without one whole pair is of another layout
        with pytest.raises(DataError, match="found none"):
            find_depth_only(tmp_path)
        with h5py.File(tmp_path / "scene/1.h5", "w") as file:
            file["rgb"] = np.zeros((480, 640, 3), np.uint8)
        source = find_depth_only(tmp_path)
        with pytest.raises(DataError, match=r"shape \[3, any, any\]; found \[480, 640, 3\]"):
            source.read_image(0)
        with pytest.raises(DataError, match="should hold a dataset 'depth'; found \\['rgb'\\]"):
            source.read_label(0, "depth")

    def test_parameters_that_do_not_go_together(self, rooms: Path) -> None:
        with pytest.raises(ConfigError, match="`size` should be given"):
            self.make(rooms, size=None)
        with pytest.raises(ConfigError, match="`extra_ratio` should be above 0"):
            self.make(rooms, extra_ratio=0)
        with pytest.raises(ConfigError, match="should name 'depth'"):
            self.make(rooms, tasks=["segmentation"])
        with pytest.raises(ConfigError, match="`layout` should be one of"):
            NYUv2DataModule(rooms, layout="png")  # type: ignore[arg-type]
