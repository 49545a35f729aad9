"""NYU-v2 in each of its forms, written by Rooms or by hand with known values."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.nyuv2_depth_only import find_depth_only
from jtr_lightning.data.nyuv2_mat import (
    BORDER_CROP,
    CLASSES_13,
    CLASSES_40,
    FROM_40_TO_13,
    MAT_NAME,
    read_class_table,
    read_split,
)
from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import FractionLabels, OneLabel, SplitFile
from jtr_lightning.splits import write_split
from jtr_lightning.testing import DataModuleContract

SIZE = (24, 32)

real_files = pytest.mark.skipif(
    "JTR_TEST_DATA" not in os.environ, reason="JTR_TEST_DATA does not name a folder with the real files"
)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms in every form of NYU-v2, by the form's name."""
    root = tmp_path_factory.mktemp("nyu")
    for name in ("nyuv2", "nyuv2_mat", "nyuv2_h5", "nyuv2_sync"):
        layout = LAYOUTS[name]()
        val = 3 if "val" in layout.splits else 0
        spec = RoomsSpec(train=5, val=val, test=0, height=SIZE[0], width=SIZE[1])
        make_rooms(root / name, spec, layout, workers=1, progress=False)
    return root


class TestNpyContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: NYUv2DataModule(rooms / "nyuv2", **{"batch_size": 2, **changes})


class TestMatContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: NYUv2DataModule(rooms / "nyuv2_mat", **{"batch_size": 2, **changes})


class TestExtraFramesContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: NYUv2DataModule(
            rooms / "nyuv2", extra_root=rooms / "nyuv2_h5", **{"batch_size": 2, "size": SIZE, **changes}
        )


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


def write_mat(root: Path, frames: int = 5, size: tuple[int, int] = (480, 640)) -> None:
    """Frame i (from 0) has red value i, label 1 + i but 0 in one corner, and depth 1 + i metres, raw with a hole."""
    height, width = size
    with h5py.File(root / MAT_NAME, "w") as file:
        numbers = np.arange(frames)[:, None, None]
        images = np.zeros((frames, 3, width, height), np.uint8)
        images[:, 0] = numbers
        # The column number in blue tells whether the axes are turned the right way.
        images[:, 2] = np.arange(width)[:, None] % 256
        labels = np.broadcast_to(1 + numbers, (frames, width, height)).astype(np.uint16)
        labels[:, :50, :50] = 0
        depths = np.broadcast_to(1.0 + numbers, (frames, width, height)).astype(np.float32)
        raw = depths.copy()
        raw[:, 300:320, 200:210] = 0
        for key, array in (("images", images), ("labels", labels), ("depths", depths), ("rawDepths", raw)):
            file[key] = array
    split = {"trainNdxs": [[1], [3], [4]], "testNdxs": [[2], [5]]}
    savemat(root / "splits.mat", {k: np.array(v, np.uint16) for k, v in split.items()})
    classes = np.ones((1, 894), np.uint8)
    classes[0, :5] = [40, 1, 22, 2, 3]
    savemat(root / "classMapping40.mat", {"mapClass": classes})


@pytest.fixture(scope="module")
def mat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mat")
    write_mat(root)
    return root


class TestMat:
    def test_split_is_one_based_and_axes_are_turned(self, mat: Path) -> None:
        data = NYUv2DataModule(mat, crop_border=False)
        train, val = data.dataset("train"), data.dataset("val")
        assert list(train.source.names()) == ["0001", "0003", "0004"]
        assert list(val.source.names()) == ["0002", "0005"]
        image = train.source.read_image(1)
        assert image.shape == (480, 640, 3)
        assert (image[..., 0] == 2).all()  # frame 3 is row 2
        assert (image[100, :, 2] == np.arange(640) % 256).all()

    def test_classes(self, mat: Path) -> None:
        for classes, expected in ((40, [39, 21, 1]), (13, [6, 2, 4])):
            data = NYUv2DataModule(mat, classes=classes, crop_border=False, tasks=["segmentation"])  # type: ignore[arg-type]
            dataset = data.dataset("train")
            for index, value in enumerate(expected):
                label = dataset[index].labels["segmentation"]
                assert label.unique().tolist() == [-1, value]
                assert (label[:50, :50] == -1).all()

    def test_border_crop(self, mat: Path) -> None:
        sample = NYUv2DataModule(mat).dataset("train")[0]
        assert sample.image.shape[1:] == (427, 565)
        columns = (sample.image[2, 0] * 255).round().int()
        assert columns[:3].tolist() == [43, 44, 45]
        # The corner of 50x50 pixels without a class keeps 5 rows and 7 columns.
        assert (sample.labels["segmentation"] == -1).sum() == (50 - 45) * (50 - 43)

    def test_depth_and_normals(self, mat: Path) -> None:
        filled = NYUv2DataModule(mat, tasks=["depth", "normals"]).dataset("train")[1]
        assert (filled.labels["depth"] == 3).all()
        normals = filled.labels["normals"]
        assert torch.allclose(
            normals, torch.tensor([0.0, 0.0, -1.0]).view(3, 1, 1).expand_as(normals), atol=1e-4
        )
        raw = NYUv2DataModule(mat, tasks=["depth", "normals"], depth_source="raw", crop_border=False)
        labels = raw.dataset("train")[1].labels
        hole = torch.zeros(480, 640, dtype=torch.bool)
        hole[200:210, 300:320] = True
        assert torch.equal(labels["depth"][0] == 0, hole)
        assert (labels["normals"][:, hole] == 0).all()
        assert (labels["normals"] != 0).any(0).float().mean() > 0.99

    def test_nothing_but_the_frame_is_read(self, mat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        read: list[tuple[str, Any]] = []
        getitem = h5py.Dataset.__getitem__

        def noting(self: Any, key: Any, *rest: Any) -> Any:
            read.append((self.name, key))
            return getitem(self, key, *rest)

        monkeypatch.setattr(h5py.Dataset, "__getitem__", noting)
        NYUv2DataModule(mat, scenario=OneLabel()).dataset("train")[0]
        assert read
        assert all(key == 0 for _, key in read)  # the integer of one frame, never a slice
        assert len([name for name, _ in read if name != "/images"]) == 1  # hidden labels are not read

    def test_a_pickled_source_carries_no_open_file(self, mat: Path) -> None:
        source = NYUv2DataModule(mat).source("train")
        before = source.read_image(0)
        assert np.array_equal(pickle.loads(pickle.dumps(source)).read_image(0), before)

    def test_a_fork_opens_its_own_file(self, mat: Path) -> None:
        data = NYUv2DataModule(mat, num_workers=2, batch_size=1, size=SIZE, tasks=["depth"])
        data.setup("validate")
        data.datasets["val"].source.read_image(0)  # this process has the file open before it forks
        depths = [float(batch.labels["depth"].mean()) for batch in data.val_dataloader()]
        assert depths == [2, 5]

    def test_a_handle_that_came_by_a_fork_is_not_used(self, mat: Path) -> None:
        source = NYUv2DataModule(mat).source("train")
        source.read_image(0)
        file = source.file  # type: ignore[attr-defined]
        inherited, file._process = file._file, -1  # as if another process had opened it
        source.read_image(0)
        assert file._file is not inherited
        assert not inherited  # closed

    def test_files_can_be_elsewhere(self, mat: Path, tmp_path: Path) -> None:
        for name in ("splits.mat", "classMapping40.mat"):
            (tmp_path / name).write_bytes((mat / name).read_bytes())
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / MAT_NAME).symlink_to(mat / MAT_NAME)
        with pytest.raises(DataError, match=r"splits\.mat.*no file"):
            NYUv2DataModule(tmp_path / "data").dataset("train")
        data = NYUv2DataModule(
            tmp_path / "data", splits=tmp_path / "splits.mat", class_mapping=tmp_path / "classMapping40.mat"
        )
        assert len(data.dataset("train")) == 3

    def test_a_truncated_file_is_named(self, mat: Path, tmp_path: Path) -> None:
        for name in ("splits.mat", "classMapping40.mat"):
            (tmp_path / name).write_bytes((mat / name).read_bytes())
        (tmp_path / MAT_NAME).write_bytes((mat / MAT_NAME).read_bytes()[:5000])
        with pytest.raises(DataError, match=f"{MAT_NAME}' should be a whole HDF5 file"):
            NYUv2DataModule(tmp_path).dataset("train")

    def test_another_file_is_named(self, mat: Path, tmp_path: Path) -> None:
        with h5py.File(tmp_path / MAT_NAME, "w") as file:
            file["images"] = np.zeros((2, 4, 5))
        with pytest.raises(DataError, match="should hold a dataset 'labels'"):
            NYUv2DataModule(tmp_path).dataset("train")
        with h5py.File(tmp_path / MAT_NAME, "a") as file:
            file["labels"] = file["depths"] = np.zeros((2, 4, 5))
        with pytest.raises(DataError, match=r"images \[N, 3, 640, 480\]"):
            NYUv2DataModule(tmp_path).dataset("train")

    def test_without_h5py(self, mat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "h5py", None)
        with pytest.raises(ConfigError, match=r"pip install 'jtr-lightning\[h5py\]'"):
            NYUv2DataModule(mat).dataset("train")

    def test_published_rows_are_refused(self, mat: Path, tmp_path: Path) -> None:
        torch.save({"labels_weights": torch.ones(3, 3)}, tmp_path / "a.pth")
        with pytest.raises(ConfigError, match=r"preprocessed \.npy layout alone"):
            NYUv2DataModule(mat, scenario=SplitFile(tmp_path / "a.pth")).dataset("train")

    def test_wrong_meta_files(self, tmp_path: Path) -> None:
        savemat(
            tmp_path / "a.mat", {"trainNdxs": np.array([[0], [3]], np.uint16), "mapClass": np.ones((1, 9))}
        )
        with pytest.raises(DataError, match="frame numbers from 1 to 5; found 0 to 3"):
            read_split(tmp_path / "a.mat", True, 5)
        with pytest.raises(DataError, match="'testNdxs' with the official split; found no such variable"):
            read_split(tmp_path / "a.mat", False, 5)
        with pytest.raises(DataError, match="894 numbers from 1 to 40; found 9"):
            read_class_table(tmp_path / "a.mat", 40)
        (tmp_path / "b.mat").write_bytes(b"nothing")
        with pytest.raises(DataError, match="should be a whole MATLAB 5 file"):
            read_split(tmp_path / "b.mat", True, 5)


@real_files
class TestRealMetaFiles:
    @pytest.fixture
    def folder(self) -> Path:
        return Path(os.environ["JTR_TEST_DATA"]) / "nyuv2_meta"

    def test_split(self, folder: Path) -> None:
        train, test = (read_split(folder / "splits.mat", training, 1449) for training in (True, False))
        assert (len(train), len(test)) == (795, 654)
        assert train[:7].tolist() == [3, 4, 5, 6, 7, 8, 10]
        assert sorted([*train, *test]) == list(range(1, 1450))

    def test_classes_written_out_here_are_the_published_ones(self, folder: Path) -> None:
        published = loadmat(folder / "class13Mapping.mat")["classMapping13"][0, 0]
        assert published["labels13"].ravel().tolist() == list(FROM_40_TO_13)
        assert [str(name[0]) for name in published["classNames"].ravel()] == list(CLASSES_13)
        names = loadmat(folder / "classMapping40.mat")["className"].ravel()
        assert [str(name[0]) for name in names] == list(CLASSES_40)

    def test_names_of_objects_reach_their_classes(self, folder: Path) -> None:
        names = [str(n[0]) for n in loadmat(folder / "classMapping40.mat")["allClassName"].ravel()]
        for classes, expected in (
            (13, {"wall": "wall", "bed": "bed", "pillow": "objects"}),
            (40, {"wall": "wall"}),
        ):
            table = read_class_table(folder / "classMapping40.mat", classes)
            class_names = CLASSES_13 if classes == 13 else CLASSES_40
            assert table[0] == -1
            assert {name: class_names[table[1 + names.index(name)]] for name in expected} == expected


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

    def test_the_scenario_is_that_of_the_labelled_samples_alone(self, rooms: Path, tmp_path: Path) -> None:
        alone = NYUv2DataModule(rooms / "nyuv2", scenario=OneLabel(), seed=3).dataset("train").available
        joined = self.make(rooms, scenario=OneLabel(), seed=3).dataset("train").available
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

    def test_wrong_frames_are_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="found none"):
            find_depth_only(tmp_path)
        (tmp_path / "scene").mkdir()
        (tmp_path / "scene/rgb_00001.jpg").touch()  # without its depth file it is no frame
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


@pytest.mark.parametrize("form", ["nyuv2", "nyuv2_mat"])
def test_both_forms_show_the_same_rooms(rooms: Path, form: str) -> None:
    """The loaders of both forms agree about the very same rooms, but for normals, which one of them computes."""
    data: PartialLabelDataModule = NYUv2DataModule(rooms / form, scenario=FractionLabels(1.0))
    reference = NYUv2DataModule(rooms / "nyuv2")
    for split in ("train", "val"):
        for a, b in zip(data.dataset(split), reference.dataset(split), strict=True):  # type: ignore[arg-type, call-overload]
            assert torch.allclose(a.image, b.image, atol=1e-6)
            assert torch.equal(a.labels["segmentation"], b.labels["segmentation"])
            assert torch.equal(a.labels["depth"], b.labels["depth"])
