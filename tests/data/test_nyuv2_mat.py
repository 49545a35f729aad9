"""NYU-v2 as its published MATLAB files, written by Rooms or by hand with known values."""

import os
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.nyuv2_mat import (
    CLASSES_13,
    CLASSES_40,
    FROM_40_TO_13,
    MAT_NAME,
    read_class_table,
    read_split,
)
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import FractionLabels, OneLabel, SplitFile
from jtr_lightning.tasks import Segmentation
from jtr_lightning.testing import DataModuleContract
from tests.data.nyuv2_forms import SIZE, make_forms

real_files = pytest.mark.skipif(
    "JTR_TEST_DATA" not in os.environ, reason="JTR_TEST_DATA does not name a folder with the real files"
)


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms in both forms that are labelled, by the form's name."""
    return make_forms(tmp_path_factory.mktemp("nyu"), "nyuv2", "nyuv2_mat")


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


class TestMatContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: NYUv2DataModule(rooms / "nyuv2_mat", **{"batch_size": 2, **changes})


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

    def test_the_unlabelled_id_on_disk_is_no_class(self, mat: Path) -> None:
        task = Segmentation(list(CLASSES_13), ignore_index=0)
        with pytest.raises(ConfigError, match=r"left out with the file 'nyu.*found 0, which is class 'bed'"):
            NYUv2DataModule(mat, {"segmentation": task}).dataset("train")

    def test_the_class_mapping_is_needed_for_segmentation_alone(self, mat: Path, tmp_path: Path) -> None:
        mapping = tmp_path / "none.mat"
        NYUv2DataModule(mat, ["depth", "normals"], class_mapping=mapping).dataset("train")[0]
        with pytest.raises(DataError, match=r"needs the file 'none\.mat' with the class of each label name"):
            NYUv2DataModule(mat, ["segmentation"], class_mapping=mapping).dataset("train")

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
