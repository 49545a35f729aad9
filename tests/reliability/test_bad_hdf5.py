"""Damages of files that hold many frames, or a frame and its label: the authors' NYU-v2 file, and depth-only frames."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.nyuv2_mat import MAT_NAME
from jtr_lightning.errors import DataError
from tests.reliability.checks import check_refused_and_skipped
from tests.reliability.damages import ANY_FILE, remove, unreadable, within
from tests.reliability.forms import FORMS, rooms
from tests.reliability.test_bad_values import in_hdf5

FILES = (MAT_NAME, "splits.mat", "classMapping40.mat")
SAMPLE = 1
"""The second training frame is the second of the file."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mat") / "the authors' fiłes"
    rooms("nyuv2_mat")(root)
    return root


@pytest.fixture
def mat(whole: Path, open_folder: Path) -> Path:
    return shutil.copytree(whole, open_folder / "mat")


@pytest.mark.parametrize("name", ANY_FILE)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_refused_by_name_before_the_training(mat: Path, file: str, name: str) -> None:
    user = os.geteuid()
    damage = ANY_FILE[name]
    try:
        damage(mat / file)
        if damage is unreadable and user == 0:
            os.seteuid(65534)  # nothing is unreadable for root
        with within(20), pytest.raises(DataError, match=file if name != "gone" else "mat"):
            NYUv2DataModule(mat, layout="mat").dataset("train")
    finally:
        os.seteuid(user)
        remove(mat / file)


MATLAB = {
    "text": "abc",
    "cells": np.array(["a", 1], dtype=object),
    "nothing": np.zeros((0, 0)),
    "NaN": np.array([[np.nan, 1.0]]),
    "numbers out of range": np.array([[0, 9999]]),
}


@pytest.mark.parametrize("content", MATLAB)
@pytest.mark.parametrize(("file", "key"), [("splits.mat", "trainNdxs"), ("classMapping40.mat", "mapClass")])
def test_other_values_are_refused_by_name(mat: Path, file: str, key: str, content: str) -> None:
    savemat(mat / file, {key: MATLAB[content]})
    with pytest.raises(DataError, match=file):
        NYUv2DataModule(mat).dataset("train")


def of_frame(number: int, value: float) -> Callable[[np.ndarray], np.ndarray]:
    """Puts a value into a frame."""

    def change(frames: np.ndarray) -> np.ndarray:
        frames[number, 2, 3] = value
        return frames

    return change


FRAME: dict[str, tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = {
    **{f"depth {v}": ("depth", "depths", of_frame(1, v)) for v in (np.nan, np.inf, -1.0)},
    "label 895": ("segmentation", "labels", of_frame(1, 895)),
    "label -1": ("segmentation", "labels", lambda a: of_frame(1, -1)(a.astype(np.int32))),
}


@pytest.mark.parametrize("name", FRAME)
def test_one_frame_with_impossible_values_is_refused_or_skipped(mat: Path, name: str) -> None:
    part, key, change = FRAME[name]
    in_hdf5(key, change)(mat / MAT_NAME)
    both = [NYUv2DataModule(mat, ["segmentation", "depth"], on_error=how) for how in ("raise", "skip")]
    for data in both:
        data.datasets["train"] = data.dataset("train")
    check_refused_and_skipped(*both, mat / MAT_NAME, part, SAMPLE)


ARRAYS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
    "images of floats": ("images", lambda a: a / np.float32(255)),
    "labels of floats": ("labels", lambda a: a.astype(np.float32)),
    "depths of whole numbers": ("depths", lambda a: a.astype(np.int32)),
    "images of text": ("images", lambda a: np.full(a.shape, b"a")),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_another_kind_are_refused(mat: Path, name: str) -> None:
    key, change = ARRAYS[name]
    in_hdf5(key, change)(mat / MAT_NAME)
    data = NYUv2DataModule(mat, ["segmentation", "depth"])
    with pytest.raises(DataError, match=rf"{MAT_NAME}' should hold .* values|should hold real numbers"):
        data.dataset("train")[SAMPLE]


def elsewhere(file: h5py.File, other: Path) -> None:
    with h5py.File(other, "w") as there:
        there["labels"] = file["labels"][()]
    del file["labels"]
    file["labels"] = h5py.ExternalLink(str(other), "/labels")


def test_a_link_to_another_file_is_not_followed(mat: Path, tmp_path: Path) -> None:
    with h5py.File(mat / MAT_NAME, "r+") as file:
        elsewhere(file, tmp_path / "secret.h5")
    with pytest.raises(DataError, match="found a link to another file, which is not followed"):
        NYUv2DataModule(mat).dataset("train")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_depth_of_one_extra_frame_is_refused_or_skipped(
    damaged: Callable[..., tuple], value: float
) -> None:
    def put(depth: np.ndarray) -> np.ndarray:
        depth[2, 3] = value
        return depth

    form = FORMS["nyuv2 with h5"]
    check_refused_and_skipped(*damaged("nyuv2 with h5", "depth", in_hdf5("depth", put)), "depth", form.sample)
