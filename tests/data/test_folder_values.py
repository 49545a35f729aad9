"""How the values of a user's own files are read: scales, codings, archives, wrong content."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jtr_lightning.data.codings import Coding, Levels, Scaled, coding_for
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.source import Array
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.tasks import (
    DenseRegression,
    Depth,
    Segmentation,
)
from tests.data.folder_files import HEIGHT, NUMBER, TASKS, WIDTH, folder, save, values, write


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("with space"))


def test_a_depth_of_whole_steps_needs_a_scale(root: Path) -> None:
    data = folder(root, "depth", scales=None)
    with pytest.raises(
        DataError, match=r"depth/\d+\.png' should come with the size of one step.*uint16.*`scales`"
    ):
        [data.dataset("train")[i] for i in range(3)]


@pytest.mark.parametrize("parameter", ["folders", "keys", "scales", "codings"])
def test_what_differs_by_task_is_given_by_the_tasks_names(root: Path, parameter: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"`{parameter}` should give a value for each task by its name; found"
    ):
        folder(root, "depth", **{parameter: 0.001})


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


class Range(Depth):
    """Depth of a sensor whose files are in millimetres, with 4200 for none."""


class Halved(Scaled):
    def decode(self, raw: Array, path: Path) -> Array:
        return super().decode(raw, path) / 2


class HalvedRange(Range):
    pass


@coding_for.register
def _(task: Range) -> Coding:
    return Scaled(0.001, invalid=4200, hole=task.blank_value)


@coding_for.register
def _(task: HalvedRange) -> Coding:
    return Halved(0.001, hole=task.blank_value)


def test_levels_are_those_of_the_task_unless_they_are_given(tmp_path: Path) -> None:
    write(tmp_path, ("images",))
    for i in range(NUMBER):
        degrees = np.resize(np.array([0, 90, 180, 360], np.int32), (HEIGHT, WIDTH))
        save(tmp_path / "hue" / f"{i:03d}.npy", degrees)
    tasks = {"hue": DenseRegression(high=360)}
    for coding, expected in (
        (Levels(maximum=360), [0, 90, 180, 360]),
        (Levels(0, 1, maximum=360), [0, 0.25, 0.5, 1]),
    ):
        data = FolderDataModule(tmp_path, dict(tasks), codings={"hue": coding})
        assert data.dataset("train")[0].labels["hue"].unique().tolist() == pytest.approx(expected)


def test_a_kind_of_task_of_ones_own_keeps_the_coding_registered_for_it(root: Path) -> None:
    def found(task: Depth, **changes: Any) -> list[float]:
        data = FolderDataModule(root, {"depth": task}, **changes)
        return data.dataset("train")[0].labels["depth"].unique().tolist()

    assert found(Range()) == pytest.approx([0, 0.5])
    assert found(Range(), scales={"depth": 0.01}) == pytest.approx([0, 5])
    assert found(HalvedRange()) == pytest.approx([0, 0.25, 2.1])


@pytest.mark.parametrize("ending", ["png", "tiff", "bmp"])
def test_a_mask_of_single_bits_is_a_class_or_a_level(tmp_path: Path, ending: str) -> None:
    write(tmp_path, ("images",))
    mask = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 3 == 0
    (tmp_path / "mask").mkdir()
    for i in range(NUMBER):
        Image.fromarray(mask).save(tmp_path / "mask" / f"{i:03d}.{ending}")
    for task in (Segmentation(2), DenseRegression()):
        label = FolderDataModule(tmp_path, {"mask": task}).dataset("train")[0].labels["mask"]
        assert np.array_equal(label.reshape(HEIGHT, WIDTH), mask)


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
