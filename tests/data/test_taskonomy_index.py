import os
import time
from pathlib import Path

import numpy as np
import pytest

from jtr_lightning.data import taskonomy_index, taskonomy_scan
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.data.taskonomy_index import TreeIndex, open_tree
from jtr_lightning.data.taskonomy_layouts import ViewFolder
from jtr_lightning.errors import DataError
from tests.data.taskonomy_files import LAYOUTS, write_tree, write_view
from tests.reliability.damages import within

NAMES = [
    f"{building}/point_{view}"
    for building in ("allen_ville", "beach", "cauthron")
    for view in ("0_view_1", "0_view_12", "7_view_0", "1006_view_3")
]


def names(index: TreeIndex) -> list[str]:
    return [index.name(i) for i in range(len(index))]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every tree is large enough to be remembered, and the user's cache folder is a scratch one."""
    monkeypatch.setattr(taskonomy_index, "REMEMBER_FROM", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def age(root: Path) -> None:
    """Makes a tree look as if it had last changed an hour ago."""
    then = time.time() - 3600
    for folder, _, _ in os.walk(root):
        os.utime(folder, (then, then))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_samples_and_files(tmp_path: Path, layout: str) -> None:
    root = write_tree(tmp_path / "with space", layout, domains=("rgb", "depth_zbuffer", "segment_semantic"))
    index = open_tree(root)
    assert index.layout.name == layout
    assert names(index) == NAMES
    assert index.domains == ["depth_zbuffer", "rgb", "segment_semantic"]
    for i in range(len(index)):
        for domain in index.domains:
            path = index.path(i, domain)
            assert path.is_file()
            assert path.parent == root / LAYOUTS[layout].format(
                building=names(index)[i].split("/")[0], domain=domain
            )
            assert path.name.startswith(names(index)[i].split("/")[1] + "_domain_")


def test_one_building_alone_is_a_tree(tmp_path: Path) -> None:
    index = open_tree(write_tree(tmp_path, buildings=("beach",)) / "beach")
    assert index.layout.name == "one building"
    assert names(index) == NAMES[4:8]
    assert index.path(0, "segment_semantic").is_file()


@pytest.mark.parametrize(
    ("layout", "left_out"),
    [
        ("unpacked archives", ["dover/rgb"]),
        ("domains first", ["rgb/allen_ville", "rgb/beach"]),
        ("omnidata", ["rgb/taskonomy/allen_ville", "rgb/taskonomy/beach"]),
    ],
)
def test_buildings_that_are_laid_out_in_another_way_are_told(
    tmp_path: Path, layout: str, left_out: list[str]
) -> None:
    write_tree(tmp_path, layout, ("allen_ville", "beach"), domains=("rgb", "normal"))
    options = {"tasks": ["normal"], "train_buildings": ["beach", "dover"]}
    assert not open_tree(tmp_path).elsewhere
    write_tree(tmp_path, "buildings first", ("dover",), domains=("rgb", "normal"))
    assert list(open_tree(tmp_path).elsewhere) == left_out
    remarks = TaskonomyDataModule(tmp_path, **options).source("train").remarks()  # type: ignore[arg-type]
    (remark,) = [remark for remark in remarks if "are not laid out as the others" in remark]
    assert remark.startswith(f"{len(left_out)} folders of images")
    assert f"the first '{left_out[0]}'" in remark


def test_missing_files_are_missing_labels_and_views_without_image_no_samples(tmp_path: Path) -> None:
    root = write_tree(tmp_path, domains=("rgb", "normal"))
    index = open_tree(root)
    index.path(2, "normal").unlink()
    index.path(5, "rgb").unlink()
    write_view(root / "beach" / "keypoints3d", "beach", 7, 0, "keypoints3d")
    write_view(root / "no_images" / "normal", "no_images", 7, 0, "normal")
    again = open_tree(root)
    assert names(again) == NAMES[:5] + NAMES[6:]
    assert again.has("normal").tolist() == [i != 2 for i in range(11)]
    assert [names(again)[i] for i in np.flatnonzero(again.has("keypoints3d"))] == ["beach/point_7_view_0"]
    assert not again.has("reshading").any()
    assert again.strays == (
        ("beach", "normal", 1, "beach/normal/point_0_view_12_domain_normal.png"),
        ("no_images", "normal", 1, "no_images/normal/point_7_view_0_domain_normal.png"),
    )
    assert [found.building for found in again.without(["beach"]).strays] == ["no_images"]
    with pytest.raises(
        DataError, match=r"sample 'allen_ville/point_7_view_0'.* should have a file of 'normal'; found none"
    ):
        again.path(2, "normal")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    root = write_tree(tmp_path, domains=("rgb",))
    for name in (
        "point_1_view_1_domain_rgb.png.part",
        "point_01_view_1_domain_rgb.png",
        "notes.txt",
        "1.png",
        "point_1_view_1_rgb.png",
    ):
        (root / "beach" / "rgb" / name).touch()
    (root / ".hidden" / "rgb").mkdir(parents=True)
    (root / "beach" / "point_info").mkdir()
    (root / "beach" / "point_info" / "point_0_view_1_domain_point_info.json").touch()
    index = open_tree(root)
    assert names(index) == NAMES
    assert index.domains == ["rgb"]
    assert index.strays == (("beach", "rgb", 3, "beach/rgb/1.png"),)


def test_names_without_the_domain(tmp_path: Path) -> None:
    root = write_tree(tmp_path, "domains first", domains=("rgb", "normal"))
    for path in list(root.rglob("*.png")):
        path.rename(path.with_name(path.name.split("_domain")[0] + ".png"))
    index = open_tree(root)
    assert names(index) == NAMES
    assert index.path(5, "normal") == root / "normal/beach/point_0_view_12.png"
    assert index.path(5, "normal").is_file()
    (root / "normal/beach/point_0_view_12_domain_normal.png").touch()
    with pytest.raises(
        DataError, match=r"found 'point_0_view_12\.png' and 'point_0_view_12_domain_normal\.png'"
    ):
        open_tree(root)


def test_two_files_of_one_view_are_refused(tmp_path: Path) -> None:
    root = write_tree(tmp_path, domains=("rgb", "normal"))
    (root / "beach" / "normal" / "point_7_view_0_domain_normal.jpg").touch()
    with pytest.raises(
        DataError,
        match=r"beach/normal' should have one file .*point_7_view_0_domain_normal\.jpg' and 'point_7",
    ):
        open_tree(root)


def test_void_segmentations_are_no_labels_but_small_ones_are(tmp_path: Path) -> None:
    root = write_tree(tmp_path, domains=("rgb", "segment_semantic", "normal"), buildings=("beach",))
    first, second = (open_tree(root).path(i, "segment_semantic") for i in (0, 1))
    first.write_bytes(b"")
    import cv2

    assert cv2.imwrite(str(second), np.zeros((4, 4), np.uint8))
    assert second.stat().st_size < 100
    open_tree(root).path(2, "normal").write_bytes(b"")
    index = open_tree(root)
    assert index.has("segment_semantic").tolist() == [False, True, True, True]
    assert index.has("normal").all(), "only where the authors do so"


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"should be in a folder; found none at '.*nowhere'"):
        open_tree(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"in 'rgb', .*'BUILDING/rgb', 'rgb/BUILDING'.*; found no folder"):
        open_tree(tmp_path)
    write_tree(tmp_path, domains=("normal",))
    with pytest.raises(DataError, match=r"found the folders \['allen_ville', 'beach', 'cauthron'\] without"):
        open_tree(tmp_path)


def test_find_gives_the_numbers_of_views(tmp_path: Path) -> None:
    index = open_tree(write_tree(tmp_path, domains=("rgb",)))
    views = [
        ("cauthron", 1006, 3),
        ("allen_ville", 0, 1),
        ("beach", 7, 1),
        ("nobody", 0, 1),
        ("beach", 7, 0),
        ("beach", 9999, 0),
    ]
    assert index.find(views).tolist() == [11, 0, -1, -1, 6, -1]
    assert index.find([]).tolist() == []


def test_without_leaves_buildings_out(tmp_path: Path) -> None:
    index = open_tree(write_tree(tmp_path, domains=("rgb",))).without(["beach"])
    assert names(index) == NAMES[:4] + NAMES[8:]
    assert index.buildings == ("allen_ville", "cauthron")
    assert index.path(5, "rgb").is_file()


def count_scans(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    scanned: list[Path] = []
    files = taskonomy_scan._files

    def spy(root: Path, folder: ViewFolder, without_void: bool):
        scanned.append(root / folder.path)
        return files(root, folder, without_void)

    monkeypatch.setattr(taskonomy_scan, "_files", spy)
    return scanned


def test_a_remembered_index_is_used_until_the_tree_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "tree", domains=("rgb", "normal"))
    stray = write_view(root / "beach" / "normal", "beach", 99, 0, "normal")
    age(root)
    scanned = count_scans(monkeypatch)
    first = open_tree(root)
    assert len(scanned) == 6
    second = open_tree(root)
    assert len(scanned) == 6
    assert names(second) == names(first) == NAMES
    np.testing.assert_array_equal(second.present, first.present)
    assert second.strays == first.strays == (("beach", "normal", 1, str(stray.relative_to(root))),)
    assert second.path(3, "normal") == first.path(3, "normal")
    write_view(root / "beach" / "rgb", "beach", 8, 8, "rgb")
    assert "beach/point_8_view_8" in names(open_tree(root))
    age(root)
    open_tree(root)
    before = len(scanned)
    open_tree(root)
    assert len(scanned) == before
    (root / "beach" / "rgb" / "point_8_view_8_domain_rgb.png").unlink()
    assert names(open_tree(root)) == NAMES
    write_tree(root, buildings=("new",), domains=("rgb",))
    assert len(open_tree(root)) == 16


def test_a_tree_that_changes_right_now_is_not_remembered(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "tree", domains=("rgb",))
    scanned = count_scans(monkeypatch)
    open_tree(root)
    open_tree(root)
    assert len(scanned) == 6
    assert not (root / ".jtr_index.npz").exists()


def test_placeholders_count_for_the_size_of_a_tree(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "tree", domains=("rgb", "segment_semantic"))
    for path in root.glob("*/segment_semantic/*.png"):
        path.write_bytes(b"")
    age(root)
    monkeypatch.setattr(taskonomy_index, "REMEMBER_FROM", 24)
    open_tree(root)
    assert (root / ".jtr_index.npz").exists()


def test_a_small_tree_leaves_nothing_behind(tmp_path: Path) -> None:
    root = write_tree(tmp_path / "tree", domains=("rgb",))
    age(root)
    before = sorted(root.rglob("*"))
    open_tree(root)
    assert sorted(root.rglob("*")) == before


def test_an_index_of_another_image_domain_or_a_damaged_one_is_not_taken(tmp_path: Path, cache: Path) -> None:
    root = write_tree(tmp_path / "tree", domains=("rgb", "normal"))
    open_tree(root).path(0, "normal").unlink()
    age(root)
    assert len(open_tree(root)) == 12
    assert len(open_tree(root, image_domain="normal")) == 11
    assert len(open_tree(root)) == 12
    (root / ".jtr_index.npz").write_bytes(b"PK\x03\x04 not an archive")
    assert len(open_tree(root)) == 12
    (root / ".jtr_index.npz").write_bytes(b"")
    assert len(open_tree(root)) == 12


PLANTED = {
    "a building outside": {"buildings": np.array(["../secret", "beach", "cauthron"])},
    "an unknown building": {"buildings": np.array(["nobody", "beach", "cauthron"])},
    "a file outside": {
        "columns": np.array([["normal", "_domain_x/../../x.png"], ["rgb", "_domain_rgb.png"]])
    },
    "an unknown domain": {"columns": np.array([["nothing", "_domain_x.png"], ["rgb", "_domain_rgb.png"]])},
    "columns of three": {"columns": np.array([["rgb", "x", "y"]])},
    "columns of one": {"columns": np.array(["rgb", "x"])},
    "too few columns": {"columns": np.array([["rgb", "_domain_rgb.png"]])},
    "numbers of no building": {"building": np.full(12, 3, np.int32)},
    "negative numbers": {"building": np.full(12, -1, np.int32)},
    "too few numbers": {"building": np.zeros(1, np.int32)},
    "fractions": {"point": np.full(12, 0.5)},
    "negative points": {"point": np.full(12, -1, np.int32)},
    "views in no order": {"view": np.arange(12, 0, -1, dtype=np.int32)},
    "a table of bits": {"present": np.ones((1, 12), np.uint64)},
    "bits of no column": {"present": np.full(12, 2**64 - 1, np.uint64)},
    "bits of another kind": {"present": np.ones(12, bool)},
    "no sample": {name: np.zeros(0, np.int32) for name in ("building", "point", "view")},
    "no bits": {"present": None},
    "a pickle": {"buildings": np.array([object()])},
}


@pytest.mark.parametrize("name", PLANTED)
def test_an_index_that_cannot_be_of_the_tree_is_made_anew(name: str, tmp_path: Path, cache: Path) -> None:
    root = write_tree(tmp_path / "tree", domains=("rgb", "normal"))
    write_tree(tmp_path, buildings=("secret",), domains=("rgb", "normal"))
    age(root)
    expected = open_tree(root)
    place = root / ".jtr_index.npz"
    with np.load(place) as known:
        content = {**known, **PLANTED[name]}
    np.savez(place, **{key: value for key, value in content.items() if value is not None})
    found = open_tree(root)
    assert names(found) == names(expected)
    for i in range(len(found)):
        for domain in ("rgb", "normal"):
            assert found.path(i, domain) == expected.path(i, domain)
    with np.load(place) as mended:
        assert mended["buildings"].tolist() == list(expected.buildings)


def test_no_damage_of_an_index_reaches_the_training(tmp_path: Path, cache: Path) -> None:
    root = write_tree(tmp_path / "tree", domains=("rgb", "normal"))
    age(root)
    expected = names(open_tree(root))
    place = root / ".jtr_index.npz"
    whole = place.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        for at in rng.integers(0, len(whole), 4):
            damaged[at] ^= int(rng.integers(1, 256))
        place.write_bytes(damaged)
        assert names(open_tree(root)) == expected
    place.unlink()
    os.mkfifo(place)
    with within(20):
        assert names(open_tree(root)) == expected


def test_an_index_of_a_tree_that_cannot_be_written_goes_to_the_users_cache(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_tree(tmp_path / "tree", domains=("rgb",))
    age(root)
    usual = Path.open

    def open_elsewhere(path: Path, mode: str = "r", *args, **kwargs):
        if "w" in mode and root in path.parents:
            raise PermissionError(13, "Permission denied")
        return usual(path, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_elsewhere)
    open_tree(root)
    assert not (root / ".jtr_index.npz").exists()
    assert len(list(cache.rglob("*.npz"))) == 1
    scanned = count_scans(monkeypatch)
    assert names(open_tree(root)) == NAMES
    assert not scanned


def test_an_index_is_small(tmp_path: Path) -> None:
    index = open_tree(write_tree(tmp_path, domains=("rgb", "normal")))
    held = sum(getattr(index, name).nbytes for name in ("building", "point", "view", "present"))
    assert held <= 20 * len(index)
