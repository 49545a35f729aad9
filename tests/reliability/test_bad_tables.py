"""Damaged tables: labels of whole images, lists of splits, and which labels may be used."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.packed import PackedDataModule
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.errors import DataError, UserError
from jtr_lightning.scenarios import SplitFile
from jtr_lightning.tasks import Classification, Depth, Regression, Task
from tests.reliability.damages import ANY_FILE, Damage, remove, replace, unreadable, within
from tests.reliability.forms import BUILDING, FORMS, IDS, SIZE

AS_WRITTEN: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table that a data module reads.

    Attributes:
        form: The dataset that it belongs to.
        name: Its file.
        lines: What is in it; ``AS_WRITTEN`` for what the form has there.
        make: The data module, of a folder with the table.
    """

    form: str
    name: str
    lines: tuple[str, ...]
    make: Callable[[Path], PartialLabelDataModule]


def own(root: Path, **of_images: Task) -> PartialLabelDataModule:
    tasks = {"depth": Depth(), **of_images}
    return FolderDataModule(root, tasks, scales={"depth": 0.001}, val_share=0.0, test_share=0.0)


def packed(root: Path) -> PartialLabelDataModule:
    return PackedDataModule(root / "packed", ["depth"])


TABLES = {
    "labels.csv": Table(
        "folder png",
        "labels.csv",
        ("id,room,pitch", *(f"{name},office,0.5" for name in IDS)),
        lambda root: own(root, room=Classification(["kitchen", "office"]), pitch=Regression()),
    ),
    "splits.csv": Table("folder png", "splits.csv", ("id,split", *(f"{name},train" for name in IDS)), own),
    "availability.csv": Table(
        "folder png",
        "availability.csv",
        ("id,depth", *(f"{name},1" for name in IDS)),
        own,
    ),
    "image_labels.csv": Table(
        "taskonomy",
        "image_labels.csv",
        ("building,point,view,room", *(f"{BUILDING},0,{view},1" for view in (1, 12))),
        lambda root: TaskonomyDataModule(root, {"room": Classification(2)}, train_buildings=[BUILDING]),
    ),
    "train_val_test_x.csv": Table(
        "taskonomy",
        "train_val_test_x.csv",
        ("id,train,val,test", f"{BUILDING},1,0,0"),
        lambda root: TaskonomyDataModule(root, ["normal"]),
    ),
    "a split": Table(
        "nyuv2 npy",
        "labels split.csv",
        ("id,depth", *(f"{i},1" for i in range(4))),
        lambda root: NYUv2DataModule(root, ["depth"], scenario=SplitFile(str(root / "labels split.csv"))),
    ),
    "packed.json": Table("packed", "packed/packed.json", AS_WRITTEN, packed),
    "labels of packed": Table("packed", "packed/train/labels.csv", AS_WRITTEN, packed),
    "domains of packed": Table("packed", "packed/train/domains.npy", AS_WRITTEN, packed),
    "a list of frames": Table(
        "nyuv2 with pairs",
        "depth only/train_files.txt",
        AS_WRITTEN,
        lambda root: NYUv2DataModule(
            root / "labelled",
            extra_root=root / "depth only",
            extra_list=root / "depth only/train_files.txt",
            size=SIZE,
        ),
    ),
}
TEXT: dict[str, Damage] = {
    "UTF-16": replace(lambda content: content.decode().encode("utf-16")),
    "a huge cell": replace(lambda content: content + b'"' + b"x" * 200_000 + b'",1,1,1\n'),
    "a huge header": replace(lambda content: b"y" * 200_000 + b"," + content),
    "a cell too many": replace(lambda content: content + b"x,1,1,1,1,1,1\n"),
    "a quote without end": replace(lambda content: content + b'"x,1\n'),
    "a doubled column": replace(lambda content: content.split(b",")[0] + b"," + content),
    "the first row twice": replace(lambda content: content + content.splitlines(keepends=True)[1]),
    "no header": replace(lambda content: b"".join(content.splitlines(keepends=True)[1:])),
    "bytes of no text": replace(lambda content: content + b"\xff\xfe\0"),
}
NO_TABLE = ("a cell too many", "a doubled column", "the first row twice", "no header", "cut to a half")
"""What is no damage to a list of one path in each line; one that is cut between two lines is a shorter list."""
ARRAY = "domains of packed"
"""What is no text."""
NEEDED = ("a split", "a list of frames", "packed.json", "labels of packed", ARRAY)
"""Tables that were asked for; others need not be there."""
CASES = [
    (table, name)
    for table in TABLES
    for name in (*ANY_FILE, *TEXT)
    if not (table == "a list of frames" and name in NO_TABLE)
    and not (table == ARRAY and name in TEXT)
    and not (name == "gone" and table not in NEEDED)
]


@pytest.mark.parametrize(("table", "name"), CASES, ids=[" | ".join(case) for case in CASES])
def test_a_damaged_table_is_refused_by_name(table: str, name: str, written: Callable[[str], Path]) -> None:
    of, damage = TABLES[table], {**ANY_FILE, **TEXT}[name]
    root, user = written(of.form), os.geteuid()
    path = root / of.name
    before = path.read_bytes() if path.exists() else None
    if of.lines:
        path.write_text("\n".join(of.lines) + "\n", encoding="utf-8")
    of.make(root).dataset("train")
    try:
        damage(path)
        if damage is unreadable and user == 0:
            os.seteuid(65534)  # nothing is unreadable for root
        with within(20), pytest.raises(DataError) as error:
            of.make(root).dataset("train")
        assert str(path) in str(error.value)
    finally:
        os.seteuid(user)
        remove(path)
        if before is not None:
            path.write_bytes(before)


CELLS: dict[str, Damage] = {
    "another word": replace(lambda content: content.replace(b",1\n", b",yes\n", 1)),
    "another number": replace(lambda content: content.replace(b",1\n", b",2\n", 1)),
    "no value": replace(lambda content: content.replace(b",1\n", b",\n", 1)),
    "a row less": replace(lambda content: content[: content.rindex(b"\n", 0, -1) + 1]),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_wrong_cell_of_packed_labels_is_refused(name: str, open_folder: Path) -> None:
    FORMS["packed"].write(open_folder)
    CELLS[name](open_folder / "packed/train/labels.csv")
    with pytest.raises(DataError, match=r"packed/train/(labels\.csv|domains\.npy)'"):
        packed(open_folder).dataset("train")


DEPTH = {"class_path": "jtr_lightning.tasks.dense.Depth", "init_args": {}}
DESCRIPTIONS: dict[str, dict[str, Any]] = {
    "a list of splits": {"splits": []},
    "a number as folder": {"splits": {"train": 1}},
    "a list of tasks": {"tasks": []},
    "a number as task": {"tasks": {"depth": 1}},
    "an empty task": {"tasks": {"depth": {}}},
    "a number as class": {"tasks": {"depth": {**DEPTH, "class_path": 1}}},
    "a list of arguments": {"tasks": {"depth": {**DEPTH, "init_args": []}}},
    "another argument": {"tasks": {"depth": {**DEPTH, "init_args": {"bogus": 1}}}},
    "a network as task": {
        "tasks": {"depth": {**DEPTH, "class_path": "jtr_lightning.networks.segnet.SegNet"}}
    },
    "a list of versions": {"version": [1]},
    "no version": {"version": None},
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_a_wrong_description_of_packed_data_is_refused(name: str, open_folder: Path) -> None:
    FORMS["packed"].write(open_folder)
    path = open_folder / "packed/packed.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **DESCRIPTIONS[name]}))
    with pytest.raises(UserError, match="pack"):
        packed(open_folder).dataset("train")


@pytest.mark.parametrize("name", [*ANY_FILE, "a block of zeros"])
def test_a_damaged_published_split_is_refused_by_name(name: str, written: Callable[[str], Path]) -> None:
    path = written("nyuv2 npy") / "split.pth"
    torch.save({"labels_weights": torch.ones(4, 3)}, path)
    data = NYUv2DataModule(written("nyuv2 npy"), scenario=SplitFile(str(path)))
    assert data.dataset("train").available.all()
    user = os.geteuid()
    damage = ANY_FILE.get(name) or replace(
        lambda content: content.replace(torch.ones(12).numpy().tobytes(), bytes(48))
    )
    try:
        damage(path)
        if damage is unreadable and user == 0:
            os.seteuid(65534)
        with within(20), pytest.raises(UserError, match=r"split\.pth'"):
            data.dataset("train")
    finally:
        os.seteuid(user)
        remove(path)
