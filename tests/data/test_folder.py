from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from jtr_lightning.data.codings import Levels, Scaled
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import OneLabel
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)
from jtr_lightning.testing import DataModuleContract
from tests.data.training import data_from_docstring, train_and_predict

HEIGHT, WIDTH = 10, 14
NUMBER = 30
TASKS: dict[str, Task] = {
    "segmentation": Segmentation(4),
    "depth": Depth(),
    "normals": Normals(),
    "albedo": DenseRegression(3),
    "room": Classification(["kitchen", "office"]),
    "pitch": Regression(unit="deg"),
}


def save(path: Path, array: np.ndarray) -> None:
    """Writes an array in the form that the file's ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, array)
    elif path.suffix == ".tiff" or array.dtype == np.uint16:
        assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)
    else:
        Image.fromarray(array).save(path)


def values(kind: str, i: int) -> np.ndarray:
    rng = np.random.default_rng([i, len(kind)])
    if kind == "segmentation":
        return rng.choice(np.array([0, 1, 2, 3, 255], np.uint8), (HEIGHT, WIDTH))
    if kind == "depth":
        return rng.choice(np.array([0, 500, 4200], np.uint16), (HEIGHT, WIDTH))
    if kind == "normals":
        vectors = rng.normal(size=(HEIGHT, WIDTH, 3))
        return np.rint(127.5 * (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) + 1)).astype(
            np.uint8
        )
    return rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def write(
    root: Path, kinds: tuple[str, ...] = ("images", "segmentation", "depth", "normals", "albedo")
) -> Path:
    """Every image has most labels; every third lacks the depth and every fifth the room."""
    for i in range(NUMBER):
        for kind in kinds:
            if kind != "depth" or i % 3:
                save(root / kind / f"{i:03d}.png", values(kind, i))
    rows = [f"{i:03d},{'' if i % 5 == 0 else ('kitchen', 'office')[i % 2]},{i / 2}" for i in range(NUMBER)]
    (root / "labels.csv").write_text("\n".join(["id,room,pitch", *rows]))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("with space"))


def folder(root: Path, *tasks: str, **changes: Any) -> FolderDataModule:
    chosen = {name: TASKS[name] for name in tasks or TASKS}
    changes.setdefault("scales", {"depth": 0.001} if "depth" in chosen else None)
    return FolderDataModule(root, chosen, **changes)


def everything(data: FolderDataModule) -> list[str]:
    return sorted(name for split in ("train", "val", "test") for name in data.source(split).names())


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
    with pytest.warns(
        UserWarning, match=r"1 of 31 files in '.*normals' have no image and are left out, the first 'extra'"
    ):
        folder(tmp_path, "normals").source("train")
    for file in list((tmp_path / "normals").glob("0*.png")):
        file.rename(file.with_name(f"normal_{file.name}"))
    with pytest.raises(
        DataError, match=r"should be named like their images; found none that is, for example 'extra'"
    ):
        folder(tmp_path, "normals").source("train")


# Values


def test_a_depth_of_whole_steps_needs_a_scale(root: Path) -> None:
    data = folder(root, "depth", scales=None)
    with pytest.raises(
        DataError, match=r"depth/\d+\.png' should come with the size of one step.*uint16.*`scales`"
    ):
        [data.dataset("train")[i] for i in range(3)]


def test_an_8_bit_depth_with_a_scale(tmp_path: Path) -> None:
    write(tmp_path, ("images",))
    for i in range(NUMBER):
        save(tmp_path / "depth" / f"{i:03d}.png", np.full((HEIGHT, WIDTH), 100 + i, np.uint8))
    dataset = folder(tmp_path, "depth", scales={"depth": 0.05}).dataset("train")
    assert dataset[0].labels["depth"].unique().tolist() == pytest.approx(
        [5 + int(dataset.source.name(0)) / 20]
    )


def test_nan_in_depth_is_an_error_unless_it_is_said_to_be_invalid(tmp_path: Path) -> None:
    write(tmp_path, ("images",))
    metres = np.full((HEIGHT, WIDTH), 2.5, np.float32)
    metres[3] = np.nan
    for i in range(NUMBER):
        save(tmp_path / "depth" / f"{i:03d}.npy", metres)
    with pytest.raises(
        DataError, match=r"depth/\d+\.npy' should hold finite values; found NaN or infinity at 14 of 140"
    ):
        folder(tmp_path, "depth", scales=None).dataset("train")[0]
    label = folder(tmp_path, "depth", scales=None, nan_is_invalid=True).dataset("train")[0].labels["depth"]
    assert TASKS["depth"].valid(label[None]).sum() == 9 * WIDTH


def test_scales_and_codings_of_single_tasks(root: Path) -> None:
    data = folder(root, "albedo", scales={"albedo": 2.0})
    assert data.dataset("train")[0].labels["albedo"].max() > 400
    data = folder(root, "albedo", codings={"albedo": Levels(0, 10, 3)})
    assert 9 < data.dataset("train")[0].labels["albedo"].max() <= 10
    data = folder(root, "depth", scales=None, codings={"depth": Scaled(0.001, invalid=4200)})
    assert data.dataset("train")[0].labels["depth"].nan_to_num(0).max() <= 0.5
    with pytest.raises(
        ConfigError, match=r"`scales` should name tasks of the data; found 'deep', did you mean 'depth'"
    ):
        folder(root, "depth", scales={"deep": 1.0})
    with pytest.raises(ConfigError, match=r"`codings` should name tasks of the data; found 'x'"):
        folder(root, "depth", codings={"x": Levels()})
    with pytest.raises(
        ConfigError, match=r"Either `scales` or `codings` should have the task 'depth'; found both"
    ):
        folder(root, "depth", codings={"depth": Levels()})


def test_archives_of_several_arrays(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for i in range(3):
        np.savez(
            tmp_path / "frames" / f"{i}.npz",
            rgb=np.full((4, 6, 3), 10 * i, np.uint8),
            z=np.full((4, 6), i + 1.0),
            ids=np.full((4, 6), i % 2),
        )
    tasks = {"depth": Depth(), "segmentation": Segmentation(2)}
    places: dict[str, Any] = {"image_folder": "frames", "folders": dict.fromkeys(tasks, "frames")}
    keys = {"image": "rgb", "depth": "z", "segmentation": "ids"}
    dataset = FolderDataModule(tmp_path, tasks, keys=keys, test_share=0, val_share=0, **places).dataset(
        "train"
    )
    for i in range(3):
        sample = dataset[i]
        assert sample.image.unique().tolist() == pytest.approx([10 * i / 255])
        assert sample.labels["depth"].unique().tolist() == [i + 1]
        assert sample.labels["segmentation"].unique().tolist() == [i % 2]
    assert dataset.source.stored_dtype(0, "segmentation") == "int64"
    with pytest.raises(
        DataError, match=r"0\.npz' should hold one array; found \['ids', 'rgb', 'z'\]. .*`keys`"
    ):
        FolderDataModule(tmp_path, tasks, test_share=0, val_share=0, **places).dataset("train")[0]
    with pytest.raises(ConfigError, match=r"`keys` should name tasks of the data; found 'deep'"):
        FolderDataModule(tmp_path, tasks, keys={"deep": "z"})


def test_grey_depth_saved_as_rgb(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", values("images", i))
        save(tmp_path / "depth" / f"{i}.png", np.full((HEIGHT, WIDTH, 3), 150, np.uint8))
    dataset = folder(tmp_path, "depth", scales={"depth": 0.02}).dataset("train")
    assert dataset[0].labels["depth"].unique().tolist() == [3]


def test_wrong_content_is_told_by_name(tmp_path: Path) -> None:
    write(tmp_path, ("images", "segmentation"))
    for i in range(NUMBER):
        save(tmp_path / "segmentation" / f"{i:03d}.png", np.full((HEIGHT, WIDTH), 9, np.uint8))
    with pytest.raises(DataError, match=r"\d{3}.*segmentation.*class ids 0\.\.3.*found ids from 9 to 9"):
        folder(tmp_path, "segmentation").dataset("train")[0]
    for i in range(NUMBER):
        save(tmp_path / "segmentation" / f"{i:03d}.png", np.zeros((HEIGHT, WIDTH + 1), np.uint8))
    with pytest.raises(DataError, match=r"Sample '\d+', segmentation .*size of its image, 10x14.*\[10, 15\]"):
        folder(tmp_path, "segmentation").dataset("train")[0]
    for i in range(NUMBER):
        (tmp_path / "segmentation" / f"{i:03d}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"segmentation/\d+\.png' should hold a picture; found an empty file"):
        folder(tmp_path, "segmentation").dataset("train")[0]


# Tables


def test_splits_are_listed(tmp_path: Path) -> None:
    write(tmp_path, ("images", "normals"))
    (tmp_path / "splits.csv").write_text("id,split\r003,train\r001,val\r002,train\r000,test\r")
    data = folder(tmp_path, "normals")
    found = {split: list(data.source(split).names()) for split in ("train", "val", "test")}
    assert found == {"train": ["002", "003"], "val": ["001"], "test": ["000"]}
    (tmp_path / "elsewhere.csv").write_text("id,split\n004,train\n")
    data = folder(tmp_path, "normals", splits_file=tmp_path / "elsewhere.csv")
    assert list(data.source("train").names()) == ["004"]
    with pytest.raises(
        DataError, match=r"split 'val' should have at least one of the 30 images.*by '.*elsewhere\.csv'"
    ):
        data.source("val")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,split\n001,training\n", r"should say train, val or test; found 'training' in line 2"),
        (
            "id,split\n001.png,train\n",
            r"names without ending; found '001\.png' in line 2 where an image is '000'",
        ),
        ("id,split\n001,train\n001,val\n", r"list each image once; found '001' again in line 3"),
        ("name,split\n", r"should have the columns \['id', 'split'\]"),
    ],
)
def test_a_wrong_list_of_splits_is_told(root: Path, tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "splits.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        folder(root, "normals", splits_file=tmp_path / "splits.csv").source("train")


def test_drawn_splits_are_disjoint_complete_and_stay_when_images_are_added(tmp_path: Path) -> None:
    pixel = np.zeros((1, 1, 3), np.uint8)
    for i in range(400):
        save(tmp_path / "images" / f"{i}.bmp", pixel)

    def drawn() -> dict[str, set[str]]:
        data = folder(tmp_path, "normals", folders={"normals": "images"}, val_share=0.2, test_share=0.1)
        return {split: set(data.source(split).names()) for split in ("train", "val", "test")}

    before = drawn()
    assert len(set.union(*before.values())) == sum(map(len, before.values())) == 400
    assert 60 < len(before["val"]) < 100
    assert 20 < len(before["test"]) < 60
    for i in range(400, 450):
        save(tmp_path / "images" / f"{i}.bmp", pixel)
    after = drawn()
    assert all(before[split] <= after[split] for split in before)


def test_few_images_still_fill_every_split(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / "images" / f"{i}.png", values("images", i))
        save(tmp_path / "normals" / f"{i}.png", values("normals", i))
    data = folder(tmp_path, "normals")
    assert [len(data.source(split)) for split in ("train", "val", "test")] == [1, 1, 1]
    with pytest.raises(
        DataError, match=r"split 'val' should have at least one of the 3 images.*by their share"
    ):
        folder(tmp_path, "normals", val_share=0).source("val")
    with pytest.raises(ConfigError, match=r"`val_share` and `test_share`.*found 0\.6 and 0\.6"):
        folder(tmp_path, "normals", val_share=0.6, test_share=0.6)


def test_an_availability_file_hides_labels_in_every_split(tmp_path: Path) -> None:
    write(tmp_path, ("images", "normals", "depth"))
    rows = [f"{i:03d},{i % 2},1,{int(i < 15)}" for i in range(NUMBER)]
    (tmp_path / "availability.csv").write_text("\n".join(["id,normals,depth,room", *rows]))
    for split in ("train", "val", "test"):
        dataset = folder(tmp_path, "depth", "normals", "room").dataset(split)
        expected = [[i % 3 > 0, i % 2 == 1, i % 5 > 0 and i < 15] for i in map(int, dataset.source.names())]
        assert dataset.available.tolist() == expected
    (tmp_path / "availability.csv").write_text("id,normals\n000,1\n")
    with pytest.raises(
        DataError, match=r"availability\.csv' should have a row for each of the dataset's 30 samples"
    ):
        folder(tmp_path, "normals").source("train")


def test_a_table_of_labels_for_other_images_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("id,room\n000.png,office\n")
    with pytest.raises(
        DataError,
        match=r"l\.csv' should be those of the images.*for example '000\.png' where an image is '000'",
    ):
        folder(root, "room", labels_file=tmp_path / "l.csv").source("train")


# Use


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
