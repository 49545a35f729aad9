"""Damaged datasets: every loader times every damage gives an error with the file's name, or a skip that is counted."""

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.cityscapes import CityscapesDataModule
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.datamodule import RoomsDataModule
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.errors import DataError
from jtr_lightning.tasks import Depth, Normals, Segmentation
from tests.data.taskonomy_files import write_tree

SIZE = (12, 16)
SAMPLE = 1
"""The damaged sample."""


@dataclass(frozen=True)
class Form:
    """A form in which a dataset may lie on the disk.

    Attributes:
        write: Fills a folder.
        make: The data module of a folder.
        tasks: Its tasks that have a file for each sample.
    """

    write: Callable[[Path], Any]
    make: Callable[..., PartialLabelDataModule]
    tasks: tuple[str, ...]


def rooms(name: str, test: int = 0) -> Callable[[Path], Any]:
    layout = LAYOUTS[name]()
    spec = RoomsSpec(train=4, val=2, test=test, height=SIZE[0], width=SIZE[1])
    return lambda root: make_rooms(root, spec, layout, workers=1, progress=False)


def write_folder(root: Path, suffix: str) -> None:
    for i in range(4):
        rng = np.random.default_rng(i)
        normals = rng.normal(size=(*SIZE, 3))
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        arrays: dict[str, np.ndarray] = {
            "images": rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8),
            "segmentation": rng.integers(0, 4, SIZE, dtype=np.uint8),
            "depth": rng.integers(400, 9000, SIZE, dtype=np.uint16),
            "normals": np.rint(127.5 * (normals + 1)).astype(np.uint8),
        }
        if suffix == ".npy":
            arrays |= {"depth": arrays["depth"] / np.float32(1000), "normals": normals.astype(np.float32)}
        for kind, array in arrays.items():
            save(root / kind / f"{i:03d}{suffix}", array)


def folder(suffix: str) -> Form:
    tasks = {"segmentation": Segmentation(4), "depth": Depth(), "normals": Normals()}
    scales = {"depth": 0.001} if suffix == ".png" else None
    return Form(
        write=lambda root: write_folder(root, suffix),
        make=lambda root, **more: FolderDataModule(
            root, tasks, scales=scales, val_share=0.0, test_share=0.0, **more
        ),
        tasks=tuple(tasks),
    )


TASKONOMY = ("segment_semantic", "depth_zbuffer", "normal", "reshading")
FORMS = {
    "taskonomy": Form(
        lambda root: write_tree(root, buildings=["beach"], domains=("rgb", *TASKONOMY)),
        lambda root, **more: TaskonomyDataModule(root, list(TASKONOMY), train_buildings=["beach"], **more),
        TASKONOMY,
    ),
    "rooms": Form(
        rooms("taskonomy", test=2),
        lambda root, **more: RoomsDataModule(
            root, size=SIZE, num_train=4, num_val=2, num_test=2, make_workers=1, **more
        ),
        ("segmentation", "depth", "normals"),
    ),
    "nyuv2 npy": Form(rooms("nyuv2"), NYUv2DataModule, ("segmentation", "depth", "normals")),
    "cityscapes npy": Form(rooms("cityscapes_npy"), CityscapesDataModule, ("segmentation", "depth")),
    "cityscapes": Form(rooms("cityscapes", test=2), CityscapesDataModule, ("segmentation", "depth")),
    "folder png": folder(".png"),
    "folder npy": folder(".npy"),
}


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, array)
    else:
        assert cv2.imwrite(str(path), array[..., ::-1] if array.ndim == 3 else array)


def load(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.load(path)
    array = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert array is not None
    return array[..., ::-1] if array.ndim == 3 else array


# Damages of any file


def replace(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content(path.read_bytes())) and None


def by_link(target: str) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target.format(name=path.name))

    return damage


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def unreadable(path: Path) -> None:
    path.chmod(0)


def larger(path: Path) -> None:
    array = load(path)
    save(path, np.concatenate([array, array[:1]]))


def four_dimensional(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros((*SIZE, 3, 2), np.float32))


def of_text(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.full(SIZE, "a"))


def of_objects(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.full(SIZE, None), allow_pickle=True)


def complex_numbers(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(SIZE, np.complex64))


ANY_FILE: dict[str, Callable[[Path], None]] = {
    "empty": replace(lambda content: b""),
    "cut to a half": replace(lambda content: content[: len(content) // 2]),
    "cut by a byte in the header": replace(lambda content: content[:9]),
    "other content": replace(lambda content: b"<html>not found</html>" * 20),
    "zeros": replace(lambda content: bytes(len(content))),
    "gone": Path.unlink,
    "a folder": as_folder,
    "a dangling link": by_link("nowhere"),
    "a link to itself": by_link("{name}"),
    "unreadable": unreadable,
}
NPY_FILE = {
    "four dimensions": four_dimensional,
    "text": of_text,
    "objects": of_objects,
    "complex": complex_numbers,
}
CASES = [
    (form, part, name)
    for form, of in FORMS.items()
    for part in ("image", *of.tasks)
    for name in (*ANY_FILE, *(NPY_FILE if "npy" in form else ()), *(("larger",) if part != "image" else ()))
]


@pytest.fixture(scope="module")
def written() -> Iterator[Callable[[str], Path]]:
    """Each form, written when it is first asked for, in a folder that other users may enter."""
    # A name with spaces and Unicode, too.
    top = Path(tempfile.mkdtemp(prefix="bad däta 数据 "))
    top.chmod(0o755)
    done: dict[str, Path] = {}

    def write(form: str) -> Path:
        if form not in done:
            done[form] = top / form
            FORMS[form].write(done[form])
            for path in top.rglob("*"):
                path.chmod(path.stat().st_mode | stat.S_IRGRP | stat.S_IROTH | stat.S_IXOTH | stat.S_IXGRP)
        return done[form]

    yield write
    shutil.rmtree(top)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


Open = tuple[PartialLabelDataModule, PartialLabelDataModule, Path]


@pytest.fixture
def damaged(written: Callable[[str], Path]) -> Iterator[Callable[..., Open]]:
    """Opens a form twice, to raise and to skip, and damages a file of it, which is mended afterwards."""
    mend: list[tuple[Path, bytes]] = []
    user = os.geteuid()

    def damage(form: str, part: str, how: Callable[[Path], None]) -> Open:
        both = [FORMS[form].make(written(form), on_error=on_error) for on_error in ("raise", "skip")]
        for data in both:
            data.datasets["train"] = data.dataset("train")
        path = both[0].datasets["train"].source.file_of(SAMPLE, None if part == "image" else part)
        assert path is not None
        mend.append((path, path.read_bytes()))
        how(path)
        if how is unreadable and user == 0:
            os.seteuid(65534)  # nothing is unreadable for root
        return both[0], both[1], path

    yield damage
    os.seteuid(user)
    for path, content in mend:
        remove(path)
        path.write_bytes(content)
        path.chmod(0o644)


def check_refused_and_skipped(raising: Any, skipping: Any, path: Path, part: str) -> None:
    with pytest.raises(DataError) as error:
        raising.datasets["train"][SAMPLE]
    assert str(path) in str(error.value)
    assert raising.datasets["train"].source.name(SAMPLE) in str(error.value)
    dataset = skipping.datasets["train"]
    sample = dataset[SAMPLE]
    assert len(sample.skipped) == 1
    assert str(path) in sample.skipped[0]
    if part == "image":
        assert sample.index != SAMPLE
        assert not sample.available.any()
    else:
        expected = dataset.available[SAMPLE].copy()
        expected[list(skipping.tasks).index(part)] = False
        assert sample.available.tolist() == expected.tolist()
        assert not skipping.tasks[part].valid(sample.labels[part][None]).any()
    other = dataset[SAMPLE + 1]
    assert other.skipped == ()
    assert other.available.tolist() == dataset.available[SAMPLE + 1].tolist()


@pytest.mark.parametrize(("form", "part", "name"), CASES, ids=[" | ".join(case) for case in CASES])
def test_a_damaged_file_is_refused_by_name_or_skipped(damaged: Any, form: str, part: str, name: str) -> None:
    how = {**ANY_FILE, **NPY_FILE, "larger": larger}[name]
    check_refused_and_skipped(*damaged(form, part, how), part)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 200


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
        for form in ("nyuv2 npy", "cityscapes npy", "folder npy")
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
        )
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
    check_refused_and_skipped(*damaged(form, part, how), part)


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
        label = data.datasets["train"][SAMPLE].labels[part]
        return data.tasks[part].valid(label[None])[0, 0].numpy().copy()

    data, _, path = damaged(form, part, lambda path: None)
    before = valid(data)
    how(path)
    after = valid(data)
    assert not after[2, 3]
    before[2, 3] = False
    assert np.array_equal(before, after)


# What is wrong about the files together


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
    write_folder(tmp_path, ".png")
    shutil.copy(tmp_path / "images/001.png", tmp_path / "images/001.jpg")
    with pytest.raises(DataError, match=r"one file for each id; found .*001\.(png|jpg)'"):
        FORMS["folder png"].make(tmp_path).source("train")


def test_a_link_that_leads_back_adds_no_samples_and_does_not_hang(tmp_path: Path) -> None:
    write_folder(tmp_path, ".png")
    (tmp_path / "images" / "again").symlink_to(tmp_path / "images")
    (tmp_path / "images" / "up").symlink_to(tmp_path)
    names = list(FORMS["folder png"].make(tmp_path).source("train").names())
    assert names == [f"{i:03d}" for i in range(4)]


def test_a_link_to_a_folder_elsewhere_is_followed(tmp_path: Path) -> None:
    write_folder(tmp_path / "there", ".png")
    (tmp_path / "here").mkdir()
    for kind in ("images", "segmentation", "depth", "normals"):
        (tmp_path / "here" / kind).symlink_to(tmp_path / "there" / kind)
    assert len(FORMS["folder png"].make(tmp_path / "here").source("train")) == 4


def test_a_tree_with_links_in_circles_is_indexed(tmp_path: Path) -> None:
    write_tree(tmp_path, buildings=["beach"], domains=("rgb", *TASKONOMY))
    (tmp_path / "beach" / "loop").symlink_to(tmp_path)
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
    assert "Unreadable files skipped in this epoch: 1" in caplog.text
    assert str(path) in caplog.text
