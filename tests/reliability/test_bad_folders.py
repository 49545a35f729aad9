"""What is wrong about the files of a dataset together."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jtr_lightning.data.cityscapes import CityscapesDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.errors import DataError
from tests.data.taskonomy_files import write_tree
from tests.reliability.damages import ANY_FILE, within
from tests.reliability.forms import BUILDING, FORMS, IDS, TASKONOMY, write_folder

SAMPLE = 1
PNG = FORMS["folder png"].parts
PLAIN = ("000", "001", "002", "003")


def test_a_damaged_camera_is_refused_by_name(written: Callable[[str], Path], tmp_path: Path) -> None:
    root = tmp_path / "city"
    shutil.copytree(written("cityscapes"), root)
    data = CityscapesDataModule(root, depth="metres", classes=19)
    dataset = data.dataset("train")
    (path,) = [p for p in root.rglob("*_camera.json") if dataset.source.name(SAMPLE) in p.name]
    for content in ("", "{", "[]", json.dumps({"extrinsic": {"baseline": 0}, "intrinsic": {"fx": 1}})):
        path.write_text(content)
        with pytest.raises(DataError, match=r"_camera\.json' should hold"):
            dataset[SAMPLE]


def test_two_files_of_one_id_are_refused(tmp_path: Path) -> None:
    write_folder(tmp_path, PNG, PLAIN)
    shutil.copy(tmp_path / "images/001.png", tmp_path / "images/001.jpg")
    with pytest.raises(DataError, match=r"one file for each id; found .*001\.(png|jpg)'"):
        FORMS["folder png"].make(tmp_path).source("train")


def names_of(root: Path) -> list[str]:
    with within(20):
        return list(FORMS["folder png"].make(root).source("train").names())


def test_a_link_that_leads_back_adds_no_samples_and_does_not_hang(tmp_path: Path) -> None:
    write_folder(tmp_path, PNG, PLAIN)
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    (tmp_path / "images" / "self").symlink_to("self")
    assert names_of(tmp_path) == list(PLAIN)


def test_links_that_lead_to_each_other_are_gone_once_round(tmp_path: Path) -> None:
    write_folder(tmp_path, PNG, ("a/one", "b/two"))
    (tmp_path / "images/a/x").symlink_to(tmp_path / "images/b")
    (tmp_path / "images/b/y").symlink_to(tmp_path / "images/a")
    # Of each file its own name, and that by the one link that leads there from elsewhere.
    assert names_of(tmp_path) == ["a/one", "a/x/two", "b/two", "b/y/one"]


def test_a_link_whose_target_leads_back_out_of_it_is_not_gone_again(tmp_path: Path) -> None:
    write_folder(tmp_path / "here", PNG, PLAIN)
    (tmp_path / "there/deep").mkdir(parents=True)
    shutil.copy(tmp_path / "here/images/000.png", tmp_path / "there/deep/z.png")
    (tmp_path / "there/deep/up").symlink_to(tmp_path / "there")
    (tmp_path / "here/images/link").symlink_to(tmp_path / "there/deep")
    assert names_of(tmp_path / "here") == [*PLAIN, "link/z"]


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_folder_that_may_not_be_entered_is_named(written: Callable[[str], Path]) -> None:
    root, user = written("folder png"), os.geteuid()
    inside = root / "images" / Path(IDS[0]).parent
    inside.chmod(0)
    try:
        if user == 0:
            os.seteuid(65534)  # nothing is closed to root
        with pytest.raises(DataError, match=r"folders that can be read; found: .*Permission denied.*räu me"):
            names_of(root)
    finally:
        os.seteuid(user)
        inside.chmod(0o755)


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "there", PNG)
    (tmp_path / "here").mkdir()
    for kind in ("images", "segmentation", "depth", "normals"):
        (tmp_path / "here" / kind).symlink_to(tmp_path / "there" / kind)
    assert len(FORMS["folder png"].make(tmp_path / "here").source("train")) == 4


def test_a_tree_with_links_in_circles_is_indexed(tmp_path: Path) -> None:
    write_tree(tmp_path, buildings=[BUILDING], domains=("rgb", *TASKONOMY))
    (tmp_path / BUILDING / "loop").symlink_to(tmp_path)
    (tmp_path / "circle").symlink_to("circle")
    assert len(FORMS["taskonomy"].make(tmp_path).source("train")) == 4


def test_numbers_with_a_gap_are_refused(tmp_path: Path) -> None:
    FORMS["nyuv2 npy"].write(tmp_path)
    (tmp_path / "train/image/2.npy").unlink()
    with pytest.raises(DataError, match=r"no 2\.npy"):
        NYUv2DataModule(tmp_path).dataset("train")


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_without_anything_is_refused(form: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found"):
        FORMS[form].make(tmp_path / "empty").dataset("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="found"):
        FORMS[form].make(tmp_path / "empty").dataset("train")


def test_skipped_files_are_counted_over_the_workers(damaged: Any, caplog: pytest.LogCaptureFixture) -> None:
    _, data, path = damaged("nyuv2 npy", "depth", ANY_FILE["empty"])
    data.num_workers = 2
    list(data.train_dataloader())
    assert "Unreadable files skipped in epoch 0 of split 'train': 1" in caplog.text
    assert str(path) in caplog.text
