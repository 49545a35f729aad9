"""Rooms in every layout go through the loader of that layout and come out as they were rendered."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.cityscapes import CityscapesDataModule
from jtr_lightning.data.cityscapes_official import CLASSES_19
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.nyuv2_mat import CLASSES_13
from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.cityscapes_layouts import ENLARGED, STAND_INS
from jtr_lightning.data.rooms.rendering import render
from jtr_lightning.data.rooms.scene import CLASS_NAMES, ROOM_TYPES, Scene
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.tasks import Classification, Depth, Normals, Regression, Segmentation

HEIGHT, WIDTH = 24, 32


def _folder(root: Path) -> PartialLabelDataModule:
    tasks = {
        "segmentation": Segmentation(list(CLASS_NAMES)),
        "depth": Depth(),
        "normals": Normals(),
        "room_type": Classification(list(ROOM_TYPES)),
        "camera_pitch": Regression(unit="deg"),
    }
    return FolderDataModule(root, tasks, scales={"depth": 0.001})


@pytest.fixture(scope="module")
def room() -> dict[str, Any]:
    """The first training room."""
    return render(Scene.random(7, 0), HEIGHT, WIDTH)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def written(name: str) -> Path:
        layout = LAYOUTS[name]()
        numbers = {"train": 2, "val": 1, "test": 1}
        placed = {split: number for split, number in numbers.items() if split in layout.splits}
        spec = RoomsSpec(**{"val": 0, "test": 0, **placed}, height=HEIGHT, width=WIDTH, seed=7)
        return make_rooms(tmp_path / name, spec, layout, workers=1, progress=False)

    return written


def test_names_are_the_layouts_own() -> None:
    assert {name: layout.name for name, layout in LAYOUTS.items()} == {name: name for name in LAYOUTS}
    assert {"taskonomy", "nyuv2", "cityscapes", "folder"} <= set(LAYOUTS)


@pytest.mark.parametrize(
    ("layout", "make", "depth_step"),
    [
        ("nyuv2", NYUv2DataModule, 1e-6),
        ("nyuv2_mat", NYUv2DataModule, 1e-6),
        ("folder", _folder, 0.0006),
        ("cityscapes", lambda root: CityscapesDataModule(root, classes=19, depth="metres"), 0.01),
    ],
)
def test_images_and_depths_survive(
    write: Any, room: dict[str, Any], layout: str, make: Any, depth_step: float
) -> None:
    sample = make(write(layout)).dataset("train")[0]
    assert torch.allclose(sample.image * 255, torch.tensor(room["image"]).permute(2, 0, 1).float(), atol=0.01)
    size = ENLARGED if layout == "cityscapes" else 1.0
    expected = torch.tensor(np.nan_to_num(room["depth_zbuffer"]))
    depth = sample.labels["depth"][0] / size
    assert torch.equal(depth > 0, expected > 0)
    assert torch.allclose(depth, expected, atol=depth_step)


def test_classes_survive_by_name(write: Any, room: dict[str, Any]) -> None:
    ids = room["segmentation"]
    nyu = NYUv2DataModule(write("nyuv2")).dataset("train")[0].labels["segmentation"]
    city = CityscapesDataModule(write("cityscapes"), classes=19).dataset("train")[0].labels["segmentation"]
    for room_class, name in enumerate(CLASS_NAMES):
        here = torch.from_numpy(ids == room_class)
        if here.any():
            expected = {"cabinet": "furniture", "lamp": "objects", "vase": "objects"}.get(name, name)
            assert {CLASSES_13[i] for i in nyu[here].tolist()} == {expected}
            assert {CLASSES_19[i] for i in city[here].tolist()} == {STAND_INS[name]}


@pytest.mark.parametrize(
    ("layout", "make", "degrees"), [("nyuv2", NYUv2DataModule, 0.1), ("folder", _folder, 0.6)]
)
def test_normals_survive(write: Any, room: dict[str, Any], layout: str, make: Any, degrees: float) -> None:
    normals = make(write(layout)).dataset("train")[0].labels["normals"].permute(1, 2, 0).numpy()
    known = np.isfinite(room["normal"]).all(-1)
    assert np.array_equal((normals != 0).any(-1), known)
    cosine = (normals[known] * room["normal"][known]).sum(-1)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < degrees


def test_the_folder_layout_has_splits_and_image_level_labels(write: Any, room: dict[str, Any]) -> None:
    data = _folder(write("folder"))
    assert [len(data.dataset(split)) for split in ("train", "val", "test")] == [2, 1, 1]  # type: ignore[arg-type]
    labels = data.dataset("train")[0].labels
    assert int(labels["room_type"]) == room["room_type"]
    assert float(labels["camera_pitch"]) == pytest.approx(room["camera_pitch"], abs=1e-3)


def test_the_same_rooms_give_the_same_bytes(write: Any, tmp_path: Path) -> None:
    first = {p.name: p.read_bytes() for p in write("cityscapes").rglob("*.png")}
    spec = RoomsSpec(2, 1, 1, HEIGHT, WIDTH, 7)
    again = make_rooms(tmp_path / "again", spec, LAYOUTS["cityscapes"](), workers=2, progress=False)
    assert {p.name: p.read_bytes() for p in again.rglob("*.png")} == first
