"""Damaged pictures in a folder to be predicted: refused by name, or left out and listed."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from jtr_lightning.errors import DataError
from jtr_lightning.prediction import Predictor, predict_folder
from jtr_lightning.prediction.folder import find_images
from tests.pointwise import point_module
from tests.reliability.damages import ANY_FILE, OF_KIND, remove, unreadable, within
from tests.reliability.forms import SIZE, save

SUFFIXES = (".png", ".jpg", ".tif", ".npy", ".npz")
NO_PICTURE = ("gone", "a folder")
"""What is no picture in a folder any more, rather than a damaged one."""
NAMES = ("räu me/a 数", "b", "c")


CASES = [
    (suffix, name) for suffix in SUFFIXES for name in (*ANY_FILE, *OF_KIND[suffix]) if name not in NO_PICTURE
]


@pytest.mark.parametrize(("suffix", "name"), CASES, ids=[" | ".join(case) for case in CASES])
def test_a_damaged_picture_is_refused_by_name_or_skipped(suffix: str, name: str, open_folder: Path) -> None:
    images = open_folder / "images"
    for i, stem in enumerate(NAMES):
        pixels = np.random.default_rng(i).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        save(images / f"{stem}{suffix}", pixels)
    path, user = images / f"{NAMES[0]}{suffix}", os.geteuid()
    damage = {**ANY_FILE, **OF_KIND[suffix]}[name]
    predictor = Predictor(point_module())
    try:
        damage(path)
        if damage is unreadable and user == 0:
            os.seteuid(65534)  # nothing is unreadable for root
        with within(60), pytest.raises(DataError) as error:
            predict_folder(predictor, images, open_folder / "a")
        assert str(path) in str(error.value)
        with within(60):
            summary = predict_folder(predictor, images, open_folder / "b", on_error="skip")
    finally:
        os.seteuid(user)
        remove(path)
    assert [told for told in summary.skipped if str(path) not in told] == []
    assert (len(summary.skipped), summary.written) == (1, 2)
    kept = json.loads((open_folder / "b/prediction.json").read_text())
    assert kept["skipped"] == list(summary.skipped)


def test_links_in_circles_are_gone_once_round(tmp_path: Path) -> None:
    images = tmp_path / "images"
    for name in ("a/one", "b/two"):
        save(images / f"{name}.png", np.zeros((*SIZE, 3), np.uint8))
    (images / "a/x").symlink_to(images / "b")
    (images / "b/y").symlink_to(images / "a")
    (images / "up").symlink_to(images)
    with within(20):
        found = list(find_images(images))
    assert [name.as_posix() for name in found] == ["a/one", "a/x/two", "b/two", "b/y/one"]
