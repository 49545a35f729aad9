"""Rooms on disk: codings, splits, and that a dataset is written whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from jtr_lightning.data.rooms import writing
from jtr_lightning.data.rooms.layouts import (
    TaskonomyLayout,
    encode_curvature,
    encode_depth,
    encode_normal,
    encode_reshading,
)
from jtr_lightning.data.rooms.rendering import render
from jtr_lightning.data.rooms.scene import CLASS_NAMES, ROOM_TYPES, Scene
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.errors import ConfigError, DataError

SMALL = RoomsSpec(train=6, val=2, test=2, height=24, width=32)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read(folder: Path, room: writing.Room, domain: str) -> np.ndarray:
    image = cv2.imread(
        str(folder / room.building / domain / f"point_{room.point}_view_0_domain_{domain}.png"), -1
    )
    return image[..., ::-1] if image.ndim == 3 else image


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rooms(tmp_path_factory.mktemp("with a space") / "rooms", SMALL, workers=1, progress=False)


def test_files_hold_what_was_rendered(small: Path) -> None:
    room = list(SMALL.rooms())[4]
    labels = render(Scene.random(0, room.scene), 24, 32)
    hole = np.isnan(labels["depth_zbuffer"])
    assert (read(small, room, "rgb") == labels["image"]).all()
    assert (read(small, room, "segment_semantic") == labels["segmentation"] + 1).all()
    depth = read(small, room, "depth_zbuffer")
    assert depth.dtype == np.uint16
    assert ((depth == 65535) == hole).all()
    np.testing.assert_allclose(depth[~hole] / 512, labels["depth_zbuffer"][~hole], atol=0.5 / 512 + 1e-6)
    normal = read(small, room, "normal")
    np.testing.assert_allclose(normal[~hole] / 127.5 - 1, labels["normal"][~hole], atol=0.5 / 127.5 + 1e-6)
    for domain in ("edge_texture", "edge_occlusion", "keypoints2d"):
        coded = read(small, room, domain)
        assert coded.dtype == np.uint16
        np.testing.assert_allclose(coded / 65535, labels[domain], atol=0.6 / 65535)


def test_codings_mark_what_is_undefined() -> None:
    nan = np.nan
    assert encode_depth(np.array([[1.0, nan, 500.0]])).tolist() == [[512, 65535, 65534]]
    assert encode_normal(np.array([[[0.0, 0, -1], [nan] * 3]])).tolist() == [[[128, 128, 0], [128, 128, 128]]]
    curvature = encode_curvature(np.array([[[0.0, 0], [1 / 0.06, -1 / 0.03], [99, -99], [nan, nan]]]))
    assert curvature.tolist() == [[[127, 127, 0], [190, 0, 0], [254, 0, 0], [0, 0, 0]]]
    assert encode_reshading(np.array([[1.0, 0.0, nan]]))[..., 0].tolist() == [[255, 14, 13]]


def test_every_domain_of_the_coding_is_written_for_every_room(small: Path) -> None:
    files = contents(small)
    for room in SMALL.rooms():
        for domain in TaskonomyLayout.coding:
            assert f"{room.building}/{domain}/point_{room.point}_view_0_domain_{domain}.png" in files
    assert len(files) == 10 * len(TaskonomyLayout.coding) + 3


def test_splits_are_disjoint_in_buildings_and_scenes(small: Path) -> None:
    rows = list(csv.DictReader((small / "train_val_test_rooms.csv").read_text().splitlines()))
    assert {row["id"] for row in rows} == {p.name for p in small.iterdir() if p.is_dir()}
    assert all(int(row["train"]) + int(row["val"]) + int(row["test"]) == 1 for row in rows)
    rooms = list(RoomsSpec(train=60, val=30, test=30).rooms())
    assert len({room.scene for room in rooms}) == 120
    assert len({(room.building, room.point) for room in rooms}) == 120
    for split in ("train", "val", "test"):
        mine = {room.building for room in rooms if room.split == split}
        assert len(mine) > 1
        assert not mine & {room.building for room in rooms if room.split != split}


def test_a_larger_set_begins_with_the_smaller_one() -> None:
    few, many = (RoomsSpec(train=train, val=5, test=5).rooms() for train in (10, 500))
    assert set(few) <= set(many)


def test_image_labels_are_those_of_the_scenes(small: Path) -> None:
    rows = list(csv.DictReader((small / "image_labels.csv").read_text().splitlines()))
    assert len(rows) == 10
    for row, room in zip(rows, SMALL.rooms(), strict=True):
        scene = Scene.random(0, room.scene)
        assert (row["building"], int(row["point"]), int(row["view"])) == (room.building, room.point, 0)
        assert row["room_type"] == ROOM_TYPES[scene.room_type]
        assert float(row["camera_pitch"]) == pytest.approx(np.degrees(np.arcsin(-scene.axes[2, 2])), abs=1e-3)


def test_info_says_how_it_was_made(small: Path) -> None:
    info = json.loads((small / "rooms.json").read_text())
    assert info["version"] == writing.VERSION
    assert (info["train"], info["val"], info["test"], info["height"], info["width"], info["seed"]) == (
        6,
        2,
        2,
        24,
        32,
        0,
    )
    assert info["classes"] == list(CLASS_NAMES)
    assert info["room_types"] == list(ROOM_TYPES)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_bytes_do_not_depend_on_the_workers(small: Path, tmp_path: Path, start_method: str) -> None:
    other = make_rooms(tmp_path / "other", SMALL, workers=2, progress=False, start_method=start_method)
    assert contents(other) == contents(small)


def test_finished_rooms_need_no_lock(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may stand in a folder that cannot be written."""
    monkeypatch.setattr("filelock.FileLock", None)
    assert make_rooms(small, SMALL) == small


def test_what_is_there_is_not_made_again(small: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    assert make_rooms(small, SMALL, workers=1, progress=False) == small
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*")} == before


class Failing(TaskonomyLayout):
    """Breaks at the third room."""

    def write_room(self, folder, room, labels) -> None:  # type: ignore[no-untyped-def]
        if room.point == 3:
            raise RuntimeError("stopped on purpose")
        super().write_room(folder, room, labels)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_leaves_nothing_behind(tmp_path: Path, workers: int) -> None:
    with pytest.raises(RuntimeError, match="stopped on purpose"):
        make_rooms(tmp_path / "rooms", SMALL, Failing(), workers=workers, progress=False)
    assert [p.name for p in tmp_path.iterdir()] == [".rooms.lock"]
    assert len(contents(make_rooms(tmp_path / "rooms", SMALL, workers=1, progress=False))) > 90


KILLED = """
import sys
from pathlib import Path
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
if __name__ == "__main__":
    make_rooms(Path(sys.argv[1]), RoomsSpec(100000, 2, 2, height=24, width=32), workers=2, progress=False)
"""


def written_rooms(parent: Path) -> int:
    return len(list(parent.glob(".rooms.unfinished-*/*/rgb/*.png")))


def test_a_killed_generation_ends_its_workers_and_is_not_taken_for_whole(tmp_path: Path, small: Path) -> None:
    target = tmp_path / "rooms"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(target)])
    deadline = time.monotonic() + 60
    while not written_rooms(tmp_path):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    before = -1
    while (now := written_rooms(tmp_path)) != before:  # the workers notice and stop
        assert time.monotonic() < deadline
        before = now
        time.sleep(0.5)
    make_rooms(target, SMALL, workers=1, progress=False)
    assert contents(target) == contents(small)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["rooms"]


def test_processes_that_want_the_same_rooms_share_one_generation(tmp_path: Path, small: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from jtr_lightning.data.rooms.writing import *; "
        "make_rooms(Path(sys.argv[1]), RoomsSpec(6, 2, 2, 24, 32), workers=1, progress=False)"
    )
    target = tmp_path / "rooms"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(target)]) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert contents(target) == contents(small)


def test_other_rooms_in_the_folder_are_refused(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"found height 24 instead of 48.*Choose another folder"):
        make_rooms(small, RoomsSpec(6, 2, 2, height=48, width=32), workers=1)
    version = writing.VERSION
    monkeypatch.setattr(writing, "VERSION", 99)
    with pytest.raises(DataError, match=rf"found version {version} instead of 99\. .*remove this one"):
        make_rooms(small, SMALL, workers=1)


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match=r"without a readable rooms\.json"):
        make_rooms(tmp_path, SMALL, workers=1)
    assert (tmp_path / "thesis.tex").read_text() == "precious"


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "rooms").mkdir()
    make_rooms(tmp_path / "rooms", RoomsSpec(1, 1, 1, 16, 16), workers=1, progress=False)
    assert (tmp_path / "rooms" / "rooms.json").exists()
    assert (tmp_path / "rooms").stat().st_mode & 0o055 == 0o055


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"should be written to '.*file/rooms'"):
        make_rooms(tmp_path / "file" / "rooms", SMALL, workers=1)


def test_folder_names_tell_specs_apart() -> None:
    specs = [RoomsSpec(), RoomsSpec(seed=1), RoomsSpec(height=64), RoomsSpec(train=10), RoomsSpec(val=10)]
    assert len({spec.folder_name for spec in specs}) == len(specs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": -1}, "`train` of Rooms should be from 0 to"),
        ({"height": 4}, "`height` of Rooms should be from 8 to 4096; found 4"),
        ({"train": 0, "val": 0, "test": 0}, "at least one room"),
    ],
)
def test_impossible_specs_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RoomsSpec(**arguments)
