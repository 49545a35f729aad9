"""Files that are whole and hold values that cannot be, or that mark a pixel without a value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from jtr_lightning.data.base import PartialLabelDataModule
from tests.reliability.checks import check_refused_and_skipped
from tests.reliability.forms import FORMS, load, save

# Values that cannot be


def put(value: float, dtype: Any = None) -> Callable[[Path], None]:
    """Puts a value into one pixel, (2, 3)."""

    def damage(path: Path) -> None:
        array = load(path)
        array = array.astype(dtype or array.dtype)
        array[2, 3] = value
        save(path, array)

    return damage


def channels(number: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        array = load(path)
        grey = array if array.ndim == 2 else array[..., 0]
        planes = [grey, grey // 2, grey // 3][:number]
        save(path, grey if number == 1 else np.stack(planes, -1))

    return damage


def in_hdf5(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    """Changes an array in a file of HDF5."""

    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            array = change(file[key][()])
            del file[key]
            file[key] = array

    return damage


REFUSED: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    **{
        f"{form}: class id {value}": (form, part, put(value))
        for form, part in (
            ("taskonomy", "segment_semantic"),
            ("rooms", "segmentation"),
            ("nyuv2 npy", "segmentation"),
            ("cityscapes npy", "segmentation"),
            ("cityscapes", "segmentation"),
            ("folder png", "segmentation"),
            ("folder npy", "segmentation"),
            ("folder mixed", "segmentation"),
        )
        for value in (99, 200)
    },
    **{
        f"{form}: class id {value}": (form, "segmentation", put(value, np.float32))
        for form in ("nyuv2 npy", "cityscapes npy", "folder npy")
        for value in (0.5, -7, np.nan, np.inf)
    },
    **{
        f"{form}: image with {value}": (form, "image", put(value, np.float32))
        for form in ("nyuv2 npy", "cityscapes npy", "folder npy")
        for value in (np.nan, np.inf, 300, -40)
    },
    **{
        f"{form}: depth {value}": (form, "depth", put(value, np.float32))
        for form in ("nyuv2 npy", "cityscapes npy", "folder npy", "folder mixed")
        for value in (np.nan, np.inf, -np.inf)
    },
    **{
        f"{form}: depth in colours": (form, part, channels(3))
        for form, part in (
            ("taskonomy", "depth_zbuffer"),
            ("rooms", "depth"),
            ("folder png", "depth"),
            ("cityscapes", "depth"),
        )
    },
    **{
        f"{form}: classes in colours": (form, part, channels(3))
        for form, part in (
            ("taskonomy", "segment_semantic"),
            ("rooms", "segmentation"),
            ("cityscapes", "segmentation"),
        )
    },
    **{
        f"{form}: grey normals": (form, part, channels(1))
        for form, part in (
            ("taskonomy", "normal"),
            ("rooms", "normals"),
            ("folder png", "normals"),
            ("folder npy", "normals"),
            ("nyuv2 npy", "normals"),
            ("folder mixed", "normals"),
        )
    },
    **{
        f"nyuv2 with h5: {name}": ("nyuv2 with h5", "image", in_hdf5("rgb", change))
        for name, change in {
            "an image of floats": lambda rgb: rgb / np.float32(255),
            "a grey image": lambda rgb: rgb[0],
            "an image of one line": lambda rgb: rgb[:, :1, 0],
        }.items()
    },
    **{
        f"nyuv2 with pairs: depth of {name}": ("nyuv2 with pairs", "depth", change)
        for name, change in {
            "8 bits": lambda path: save(path, (load(path) >> 8).astype(np.uint8)),
            "colours": channels(3),
        }.items()
    },
    "cityscapes: depth of 8 bits": (
        "cityscapes",
        "depth",
        lambda p: save(p, (load(p) >> 8).astype(np.uint8)),
    ),
    "cityscapes: classes of 16 bits": (
        "cityscapes",
        "segmentation",
        lambda p: save(p, load(p).astype(np.uint16)),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_impossible_values_are_refused_by_name_or_skipped(damaged: Any, name: str) -> None:
    form, part, how = REFUSED[name]
    check_refused_and_skipped(*damaged(form, part, how), part, FORMS[form].sample)


INVALID: dict[str, tuple[str, str, Callable[[Path], None]]] = {
    **{
        f"{form}: normal of length 0": (form, part, put(0 if "npy" in form else 128))
        for form, part in (
            ("taskonomy", "normal"),
            ("rooms", "normals"),
            ("nyuv2 npy", "normals"),
            ("folder png", "normals"),
            ("folder npy", "normals"),
        )
    },
    **{
        f"{form}: normal of {value}": (form, "normals", put(value, np.float32))
        for form in ("nyuv2 npy", "folder npy")
        for value in (np.nan, np.inf, 50)
    },
    **{
        f"{form}: negative depth": (form, "depth", put(-1, np.float32))
        for form in ("nyuv2 npy", "folder npy")
    },
    "folder png: no depth": ("folder png", "depth", put(0)),
    "cityscapes: no depth": ("cityscapes", "depth", put(0)),
    "cityscapes npy: negative depth": ("cityscapes npy", "depth", put(-1, np.float32)),
}


@pytest.mark.parametrize("name", INVALID)
def test_a_value_that_marks_no_value_makes_its_pixel_invalid_and_no_other(damaged: Any, name: str) -> None:
    form, part, how = INVALID[name]

    def valid(data: PartialLabelDataModule) -> np.ndarray:
        label = data.datasets["train"][FORMS[form].sample].labels[part]
        return data.tasks[part].valid(label[None])[0, 0].numpy().copy()

    data, _, path = damaged(form, part, lambda path: None)
    before = valid(data)
    how(path)
    after = valid(data)
    assert not after[2, 3]
    before[2, 3] = False
    assert np.array_equal(before, after)
