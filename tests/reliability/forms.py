"""Small datasets in every form that a loader reads, to be damaged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.cityscapes import CityscapesDataModule
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.packed import PackedDataModule
from jtr_lightning.data.packing import pack
from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.datamodule import RoomsDataModule
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.tasks import Depth, Normals, Segmentation
from tests.data.taskonomy_files import write_tree

SIZE = (12, 16)
BUILDING = "bü ch 数 1"
"""A building's name with spaces and Unicode."""
IDS = tuple(f"räu me/bild 数 {i}" for i in range(4))
"""Names of a user's own files, likewise."""


@dataclass(frozen=True)
class Form:
    """A form in which a dataset may lie on the disk.

    Attributes:
        write: Fills a folder.
        make: The data module of a folder.
        parts: The image, and the tasks that have a file for each sample, with the ending of their files.
        sample: The training sample that is damaged.
    """

    write: Callable[[Path], Any]
    make: Callable[..., PartialLabelDataModule]
    parts: Mapping[str, str]
    sample: int = 1


def rooms(name: str, test: int = 0, val: int = 2) -> Callable[[Path], Any]:
    layout = LAYOUTS[name]()
    spec = RoomsSpec(train=4, val=val, test=test, height=SIZE[0], width=SIZE[1])
    return lambda root: make_rooms(root, spec, layout, workers=1, progress=False)


def write_folder(root: Path, suffixes: Mapping[str, str], ids: tuple[str, ...] = IDS) -> None:
    """A user's own data: steps of 1/1000 m in pixel files but TIFF, metres in others."""
    for i, name in enumerate(ids):
        rng = np.random.default_rng(i)
        normals = rng.normal(size=(*SIZE, 3))
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        depth = rng.integers(400, 9000, SIZE, dtype=np.uint16)
        arrays: dict[str, np.ndarray] = {
            "image": rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8),
            "segmentation": rng.integers(0, 4, SIZE, dtype=np.uint8),
            "depth": depth if suffixes["depth"] == ".png" else depth / np.float32(1000),
            "normals": np.rint(127.5 * (normals + 1)).astype(np.uint8),
        }
        if suffixes["normals"] != ".png":
            arrays["normals"] = normals.astype(np.float32)
        for part, array in arrays.items():
            save(root / ("images" if part == "image" else part) / f"{name}{suffixes[part]}", array)


def folder(**suffixes: str) -> Form:
    tasks = {"segmentation": Segmentation(4), "depth": Depth(), "normals": Normals()}
    scales = {"depth": 0.001} if suffixes["depth"] == ".png" else None
    return Form(
        write=lambda root: write_folder(root, suffixes),
        make=lambda root, **more: FolderDataModule(
            root, tasks, scales=scales, val_share=0.0, test_share=0.0, **more
        ),
        parts=suffixes,
    )


def all_of(suffix: str, *tasks: str) -> dict[str, str]:
    return dict.fromkeys(("image", *tasks), suffix)


def with_extra(layout: str) -> Form:
    """NYU-v2 as arrays, and behind its four training frames those with depth alone."""

    def write(root: Path) -> None:
        rooms("nyuv2")(root / "labelled")
        rooms(layout, val=0)(root / "depth only")

    return Form(
        write,
        lambda root, **more: NYUv2DataModule(
            root / "labelled", extra_root=root / "depth only", size=SIZE, **more
        ),
        # An image and its depth are one file of this kind.
        {"image": ".h5"} if layout == "nyuv2_h5" else {"image": ".jpg", "depth": ".png"},
        sample=4 + 1,
    )


def write_packed(root: Path) -> None:
    rooms("nyuv2")(root / "before")
    pack(NYUv2DataModule(root / "before"), root / "packed", progress=False)


TASKONOMY = ("segment_semantic", "depth_zbuffer", "normal", "reshading")
NYUV2 = ("segmentation", "depth", "normals")
FORMS = {
    "taskonomy": Form(
        lambda root: write_tree(root, buildings=[BUILDING], domains=("rgb", *TASKONOMY)),
        lambda root, **more: TaskonomyDataModule(root, list(TASKONOMY), train_buildings=[BUILDING], **more),
        all_of(".png", *TASKONOMY),
    ),
    "rooms": Form(
        rooms("taskonomy", test=2),
        lambda root, **more: RoomsDataModule(
            root, size=SIZE, num_train=4, num_val=2, num_test=2, make_workers=1, **more
        ),
        all_of(".png", *NYUV2),
    ),
    "nyuv2 npy": Form(rooms("nyuv2"), NYUv2DataModule, all_of(".npy", *NYUV2)),
    "nyuv2 with h5": with_extra("nyuv2_h5"),
    "nyuv2 with pairs": with_extra("nyuv2_sync"),
    "cityscapes npy": Form(
        rooms("cityscapes_npy"), CityscapesDataModule, all_of(".npy", "segmentation", "depth")
    ),
    "cityscapes": Form(
        rooms("cityscapes", test=2), CityscapesDataModule, all_of(".png", "segmentation", "depth")
    ),
    "packed": Form(
        write_packed, lambda root, **more: PackedDataModule(root / "packed", **more), all_of(".npy", *NYUV2)
    ),
    "folder png": folder(image=".png", segmentation=".png", depth=".png", normals=".png"),
    "folder npy": folder(image=".npy", segmentation=".npy", depth=".npy", normals=".npy"),
    "folder mixed": folder(image=".jpg", segmentation=".tif", depth=".tif", normals=".npz"),
}


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, array)
    else:
        # Not imwrite, which takes no Unicode everywhere.
        done, content = cv2.imencode(path.suffix, array[..., ::-1] if array.ndim == 3 else array)
        assert done
        path.write_bytes(content.tobytes())


def load(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return arrays["arr_0"]
    array = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert array is not None
    return array[..., ::-1] if array.ndim == 3 else array
