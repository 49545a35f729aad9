"""Which buildings and points of Taskonomy are trained on, validated and tested."""

from pathlib import Path

import pytest

from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.errors import ConfigError, DataError
from tests.data.taskonomy_files import BUILDINGS, names, write_tree, write_view


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three buildings in the layout of the dataset; the second view of the first has no depth."""
    root = write_tree(tmp_path_factory.mktemp("taskonomy"))
    (root / "allen_ville" / "depth_zbuffer" / "point_0_view_12_domain_depth_zbuffer.png").unlink()
    return root


def test_an_official_split_file_with_cr_only(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "train_val_test_tiny.csv"
    path.write_bytes(
        b"id,train,val,test\rallen_ville,1,0,0\rbeach,0,1,0\rcauthron,0,0,1\rnot_on_disk,1,0,0\r"
    )
    data = TaskonomyDataModule(tree, split_file=path)
    for split, building in zip(("train", "val", "test"), BUILDINGS, strict=True):
        assert {name.split("/")[0] for name in names(data, split)} == {building}
        assert len(names(data, split)) == 4


def test_a_split_file_in_the_root_is_found_and_two_are_not_chosen_from(tmp_path: Path) -> None:
    root = write_tree(tmp_path, domains=("rgb", "normal"), views=((0, 0),))
    (root / "train_val_test_tiny.csv").write_text("id,train,val,test\nbeach,1,0,0\ncauthron,0,1,1\n")
    data = TaskonomyDataModule(root, ["normal"])
    assert names(data, "train") == ["beach/point_0_view_0"]
    assert names(data, "val") == names(data, "test") == ["cauthron/point_0_view_0"]
    (root / "train_val_test_full.csv").write_text("id,train,val,test\nbeach,1,0,0\n")
    with pytest.raises(
        DataError, match=r"should hold one split file.*'train_val_test_full\.csv', 'train_val_test_tiny\.csv'"
    ):
        TaskonomyDataModule(root, ["normal"]).source("train")


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_building_that_is_trained_on_and_tested_is_warned_of(
    tree: Path, tmp_path: Path, split: str
) -> None:
    path = tmp_path / "s.csv"
    flags = "1,1,0" if split == "val" else "1,0,1"
    path.write_text(f"id,train,val,test\nallen_ville,{flags}\nbeach,1,0,0\n")
    data = TaskonomyDataModule(tree, split_file=path)
    with pytest.warns(UserWarning, match=rf"'.*s\.csv' 1 are in '{split}', too, the first 'allen_ville'"):
        assert len(names(data, "train")) == 8
    assert len(names(data, split)) == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,train,val\nbeach,1,0\n", r"should have the columns \['id', 'train', 'val', 'test'\]"),
        ("id,train,val,test\nbeach,yes,0,0\n", r"flags of 0 or 1; found 'yes' for 'beach' in line 2"),
        (
            "id,train,val,test\nnowhere,1,0,0\n",
            r"The split 'train' should have .*found 1 buildings for it.*first 'allen_ville'",
        ),
    ],
)
def test_a_wrong_split_file_is_told(tree: Path, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "s.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        TaskonomyDataModule(tree, split_file=path).source("train")


def test_lists_of_buildings(tree: Path) -> None:
    data = TaskonomyDataModule(tree, train_buildings=["beach", "cauthron"], val_buildings=["allen_ville"])
    assert {name.split("/")[0] for name in names(data, "train")} == {"beach", "cauthron"}
    with pytest.raises(
        DataError, match=r"The split 'test' should have at least one sample; found 0 buildings"
    ):
        data.source("test")
    with pytest.raises(ConfigError, match=r"Either `split_file` or lists of buildings.*found both"):
        TaskonomyDataModule(tree, train_buildings=["beach"], split_file="x.csv")


def test_without_any_list_whole_buildings_are_shared_out(tmp_path: Path) -> None:
    buildings = [f"b{i:02d}" for i in range(20)]
    write_tree(tmp_path, buildings=buildings, domains=("rgb", "normal"), views=((0, 0), (1, 1)))
    data = TaskonomyDataModule(tmp_path, ["normal"], val_share=0.1, test_share=0.25)
    found = {split: {name.split("/")[0] for name in names(data, split)} for split in ("train", "val", "test")}
    assert found == {"train": set(buildings[:13]), "val": set(buildings[13:15]), "test": set(buildings[15:])}
    with pytest.raises(ConfigError, match=r"`val_share` and `test_share`.*found 0\.5 and 0\.5"):
        TaskonomyDataModule(tmp_path, ["normal"], val_share=0.5, test_share=0.5)


def test_one_building_is_shared_out_by_points_and_warned_of(tmp_path: Path) -> None:
    views = tuple((point, view) for point in range(10) for view in range(3))
    write_tree(tmp_path, buildings=("beach",), domains=("rgb", "normal"), views=views)
    data = TaskonomyDataModule(tmp_path, ["normal"], val_share=0.2, test_share=0.1)
    with pytest.warns(
        UserWarning, match=r"has 1 building\(s\) and no split file, so points of the same building"
    ):
        found = {split: names(data, split) for split in ("train", "val", "test")}
    points = {split: {name.rpartition("_view")[0] for name in some} for split, some in found.items()}
    assert [len(points[split]) for split in ("train", "val", "test")] == [7, 2, 1]
    assert not points["train"] & points["val"]
    assert not (points["train"] | points["val"]) & points["test"]
    assert sum(len(some) for some in found.values()) == 30


def test_too_few_points_to_be_split(tmp_path: Path) -> None:
    write_tree(tmp_path, buildings=("beach",), domains=("rgb",), views=((0, 0), (1, 0)))
    data = TaskonomyDataModule(tmp_path, ["normal"])
    with (
        pytest.warns(UserWarning, match="1 building"),
        pytest.raises(DataError, match=r"at least 3 points to be split; found 2"),
    ):
        data.source("val")


def test_buildings_can_be_skipped(tree: Path) -> None:
    data = TaskonomyDataModule(tree, skip_buildings=["beach"], train_buildings=["beach", "cauthron"])
    assert {name.split("/")[0] for name in names(data, "train")} == {"cauthron"}
    data = TaskonomyDataModule(tree, skip_buildings=["beach", "baech"], train_buildings=["cauthron"])
    assert (
        data.source("train").remarks()[0]
        == f"1 of the 2 buildings of `skip_buildings` are not in '{tree}', the first 'baech'."
    )
    with pytest.raises(DataError, match=r"found only those of `skip_buildings`"):
        TaskonomyDataModule(tree, skip_buildings=list(BUILDINGS)).source("train")


def test_a_changed_tree_is_seen_by_a_new_data_module(tmp_path: Path) -> None:
    root = write_tree(tmp_path, domains=("rgb", "normal"), views=((0, 0),))
    data = TaskonomyDataModule(root, ["normal"], train_buildings=["beach"])
    data.prepare_data()
    write_view(root / "beach" / "rgb", "beach", 9, 9, "rgb")
    assert len(names(data, "train")) == 1
    assert len(names(TaskonomyDataModule(root, ["normal"], train_buildings=["beach"]), "train")) == 2
