"""Tables beside a user's own files: splits, availability, labels of images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import SplitFile
from tests.data.folder_files import NUMBER, folder, save, values, write


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("with space"))


def test_images_in_no_split_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, ("images", "normals"))
    (tmp_path / "splits.csv").write_text("id,split\n001,train\n002,val\n")
    with caplog.at_level("INFO"):
        dataset = folder(tmp_path, "normals").dataset("train")
    (remark,) = dataset.source.remarks()
    assert remark.startswith("28 of 30 images are in no split of '")
    assert remark.endswith("splits.csv' and are not used, the first '000'.")
    assert remark in caplog.text


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


def test_rows_of_labels_for_images_that_are_not_there_are_told(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_text("id,room\n000,office\n001.png,office\n9,kitchen\n")
    (told,) = folder(root, "room", labels_file=path).source("train").problems()
    assert told.startswith(
        f"2 of 3 rows of '{path}' belong to no image and are not read, the first '001.png'."
    )


def test_the_rows_of_a_published_split_are_not_given_to_files_in_the_order_of_text(tmp_path: Path) -> None:
    for i in range(12):
        save(tmp_path / "images" / f"{i}.png", values("images", i))
        save(tmp_path / "normals" / f"{i}.png", values("normals", i))
    path = tmp_path / "onelabel.pth"
    torch.save({"labels_weights": torch.ones(12, 3)}, path)
    message = r"row i to i\.npy.*; found '10' in place of '2'"
    with pytest.raises(DataError, match=message):
        folder(tmp_path, "normals", val_share=0, test_share=0, scenario=SplitFile(path)).dataset("train")
    with pytest.raises(DataError, match=message):
        folder(tmp_path, "normals", availability_file=path).source("train")
