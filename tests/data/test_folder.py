"""Folders of a user's own data: which files are found, and what is told of those that are not."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import OneLabel
from jtr_lightning.tasks import (
    Normals,
    Regression,
)
from jtr_lightning.testing import DataModuleContract
from tests.data.folder_files import NUMBER, TASKS, everything, folder, save, values, write
from tests.data.training import data_from_docstring, train_and_predict


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("with space"))


class TestContract(DataModuleContract):
    @pytest.fixture
    def make(self, root: Path):
        def make(tasks: Any = None, **changes: Any) -> FolderDataModule:
            if tasks is not None and set(tasks) <= set(TASKS):
                tasks = {name: TASKS[name] for name in tasks}
            return FolderDataModule(
                root,
                TASKS if tasks is None else tasks,
                **{"batch_size": 2, "scales": {"depth": 0.001}, **changes},
            )

        return make


def test_the_values_of_every_kind_of_task(root: Path) -> None:
    dataset = folder(root).dataset("train")
    index = next(i for i in range(len(dataset)) if dataset.available[i].all())
    i = int(dataset.source.name(index))
    sample = dataset[index]
    np.testing.assert_allclose(sample.image.permute(1, 2, 0), values("images", i) / 255, atol=1e-6)
    ids = values("segmentation", i).astype(int)
    np.testing.assert_array_equal(sample.labels["segmentation"], np.where(ids == 255, -1, ids))
    np.testing.assert_allclose(sample.labels["depth"][0], values("depth", i) / 1000, rtol=1e-6)
    assert (
        TASKS["depth"].valid(sample.labels["depth"][None])[0, 0].numpy() == (values("depth", i) > 0)
    ).all()
    np.testing.assert_allclose(
        sample.labels["normals"].permute(1, 2, 0), values("normals", i) / 127.5 - 1, atol=0.01
    )
    np.testing.assert_allclose(sample.labels["albedo"].permute(1, 2, 0), values("albedo", i) / 255, atol=1e-6)
    assert int(sample.labels["room"]) == i % 2
    assert sample.labels["pitch"].tolist() == [i / 2]


def test_a_missing_file_or_cell_is_a_missing_label(root: Path) -> None:
    for split in ("train", "val", "test"):
        source = folder(root).source(split)
        expected = [[True, i % 3 > 0, True, True, i % 5 > 0, True] for i in map(int, source.names())]
        assert source.on_disk(tuple(TASKS)).tolist() == expected


@pytest.mark.parametrize("ending", [".png", ".PNG", ".tiff", ".npy", ".npz"])
def test_every_kind_of_file(tmp_path: Path, ending: str) -> None:
    for i in range(3):
        save(tmp_path / "images" / f"a.{i}{ending}", values("images", i))
        save(tmp_path / "depth" / f"a.{i}{ending}", values("depth", i))
        save(tmp_path / "segmentation" / f"a.{i}.png", values("segmentation", i))
    data = folder(tmp_path, "depth", "segmentation")
    assert everything(data) == ["a.0", "a.1", "a.2"]
    sample = data.dataset("train")[0]
    i = int(data.source("train").name(0)[2:])
    np.testing.assert_allclose(sample.image.permute(1, 2, 0), values("images", i) / 255, atol=1e-6)
    np.testing.assert_allclose(sample.labels["depth"][0], values("depth", i) / 1000, rtol=1e-6)


def test_folders_may_mix_kinds_and_hold_subfolders_and_other_things(tmp_path: Path) -> None:
    ids = ["a b/1", "a b/2", "c/d/1", "ü"]
    for i, name in enumerate(ids):
        save(tmp_path / "rgb" / f"{name}{('.png', '.npy', '.bmp', '.tiff')[i]}", values("images", i))
        save(tmp_path / "depth" / f"{name}{('.npz', '.png', '.tiff', '.npy')[i]}", values("depth", i))
    (tmp_path / "rgb" / "Thumbs.db").touch()
    (tmp_path / "rgb" / ".hidden.png").touch()
    data = folder(tmp_path, "depth", image_folder="rgb")
    assert everything(data) == ids
    for split in ("train", "val", "test"):
        dataset = data.dataset(split)
        for k in range(len(dataset)):
            i = ids.index(dataset.source.name(k))
            np.testing.assert_allclose(dataset[k].labels["depth"][0], values("depth", i) / 1000, rtol=1e-6)


@pytest.mark.parametrize("kind", ["images", "segmentation"])
def test_a_name_that_no_table_can_hold_is_refused(kind: str, tmp_path: Path) -> None:
    write(tmp_path, ("images", "segmentation"))
    name = os.fsdecode(b"caf\xe9.png")  # Latin-1, as old archives have it
    try:
        save(tmp_path / kind / name, values(kind, 0))
    except OSError:
        pytest.skip("the file system takes no such name")
    with pytest.raises(
        DataError, match=rf"should have names in UTF-8.*found b'.*/{kind}/caf\\xe9\.png'. Rename"
    ):
        folder(tmp_path, "segmentation").source("train")


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    write(tmp_path, ("images", "segmentation"))
    save(tmp_path / "segmentation" / "003.npy", values("segmentation", 3))
    with pytest.raises(
        DataError,
        match=r"labels of task 'segmentation' should be one file for each id.*003\.(png|npy)' and '.*003",
    ):
        folder(tmp_path, "segmentation").source("train")
    (tmp_path / "segmentation" / "003.npy").unlink()
    save(tmp_path / "images" / "007.jpg", values("images", 7))
    with pytest.raises(
        DataError, match=r"images should be one file for each id.*007\.(png|jpg)' and '.*007\.(png|jpg)'"
    ):
        folder(tmp_path, "segmentation").source("train")


def test_missing_folders_are_named_with_what_is_there(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images should be in the folder '.*images'; found no such folder"):
        folder(tmp_path, "depth").source("train")
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"images' should hold images \(png, jpg.*\); found none"):
        folder(tmp_path, "depth").source("train")
    data = FolderDataModule(root, {"normal": Normals()})
    with pytest.raises(
        DataError, match=r"task 'normal' should be in the folder.*'albedo', 'depth', 'normals'.*`folders`"
    ):
        data.source("train")
    assert (
        len(FolderDataModule(root, {"normal": Normals()}, folders={"normal": "normals"}).source("train")) > 10
    )
    with pytest.raises(
        DataError,
        match=r"image-level task 'age' should be in a column.*found the columns \['id', 'room', 'pitch'\]",
    ):
        FolderDataModule(root, {"age": Regression()}).source("train")
    write(tmp_path, ("images",))
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(
        DataError, match=r"image-level task 'room' should be in a column.*labels\.csv'; found no such file"
    ):
        folder(tmp_path, "room").source("train")


def test_images_alone_can_be_predicted(tmp_path: Path) -> None:
    write(tmp_path, ("images",))
    (tmp_path / "labels.csv").unlink()
    data = folder(tmp_path, val_share=0, test_share=1)
    data.setup("predict")
    assert len(data.datasets["test"]) == NUMBER
    assert not data.datasets["test"].available.any()


def test_labels_without_images_are_told(tmp_path: Path) -> None:
    write(tmp_path, ("images", "normals"))
    save(tmp_path / "normals" / "extra.png", values("normals", 0))
    message = r"1 of 31 files in '.*normals' belong to no sample and are not read, the first 'extra\.png'"
    with pytest.warns(UserWarning, match=message):
        folder(tmp_path, "normals").setup("fit")
    for file in list((tmp_path / "normals").glob("0*.png")):
        file.rename(file.with_name(f"normal_{file.name}"))
    with pytest.raises(
        DataError, match=r"should be named like their images; found none that is, for example 'extra'"
    ):
        folder(tmp_path, "normals").source("train")


def test_tasks_must_be_given(root: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"`tasks` of FolderDataModule should give a task for each name.*found \['depth'\]"
    ):
        FolderDataModule(root, ["depth"])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"`tasks` should have at least one task; found none"):
        FolderDataModule(root, {})


def test_partial_labels_train_and_predict(root: Path, tmp_path: Path) -> None:
    data = folder(root, batch_size=4, scenario=OneLabel())
    predictions = train_and_predict(data, tmp_path)
    assert sum(len(p["pitch"]) for p in predictions) == len(data.datasets["test"])


def test_the_config_of_the_docstring_works(root: Path) -> None:
    data = data_from_docstring(FolderDataModule, root=f"'{root}'", init_args="{classes: 4}")
    assert data.size == (256, 320)
    sample = data.dataset("train")[1]
    assert sample.image.shape == (3, 256, 320)
    assert list(sample.labels) == ["segmentation", "depth", "normals"]
    assert 0 < sample.labels["depth"].max() < 5
