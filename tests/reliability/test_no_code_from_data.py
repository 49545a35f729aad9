"""Files are data: nothing that is planted in one is run, and each refusal is told in one sentence.

That the pages of a run escape what they show is tested in ``tests/callbacks/test_report.py``.
"""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jtr_lightning.callbacks.checkpoint_files import WholeCheckpointIO, newest_whole_checkpoint
from jtr_lightning.checkpoint import DESCRIPTION, read_checkpoint
from jtr_lightning.cli.main import main
from jtr_lightning.data.files import read_npy, read_npz
from jtr_lightning.data.folder import FolderDataModule
from jtr_lightning.data.nyuv2 import NYUv2DataModule
from jtr_lightning.data.nyuv2_depth_only import find_depth_only
from jtr_lightning.data.packed import PackedDataModule
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.errors import ConfigError, DataError, UserError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.encoders import read_weights
from jtr_lightning.prediction.files import as_path
from jtr_lightning.scenarios import SplitFile
from jtr_lightning.splits import read_split
from jtr_lightning.tasks import Depth, Segmentation
from tests.data.taskonomy_files import write_tree
from tests.reliability.forms import FORMS
from tests.reliability.trainings import QUIET, TinyData
from tests.tiny import ToyNetwork


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "code was run"


def test_what_is_planted_would_work(mark: Path) -> None:
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()


def as_pickle(content: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def as_torch(content: Any, path: Path) -> None:
    torch.save(content, path)


def as_old_torch(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_npy(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.array([content], dtype=object), allow_pickle=True)


def as_npz(content: Any, path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, array=np.array([content], dtype=object))


def as_npz_member(content: Any, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("array.npy", pickle.dumps(content))


def as_header_of_npy(content: Any, path: Path) -> None:
    """An expression in place of the dict that describes the array."""
    header = f"__import__('os').mkdir({str(content.mark)!r})".encode().ljust(118) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


CHECKPOINTS: dict[str, Callable[[Any, Path], None]] = {
    "pickle": as_pickle,
    "torch": as_torch,
    "old torch": as_old_torch,
}
READERS: dict[str, Callable[[Path], Any]] = {
    "read_checkpoint": read_checkpoint,
    "load_from_checkpoint": PartialLabelModule.load_from_checkpoint,
    "encoder weights": read_weights,
    "published split": lambda path: read_split(path.rename(path.with_suffix(".pth")), ["a"], ["depth"]),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", CHECKPOINTS)
@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_in_a_checkpoint_is_not_run(
    writer: str, reader: str, inside: bool, mark: Path, tmp_path: Path
) -> None:
    path = tmp_path / "last.ckpt"
    evil = Evil(mark)
    CHECKPOINTS[writer]({"state_dict": {"w": evil}, DESCRIPTION: {}} if inside else evil, path)
    with pytest.raises(UserError, match=r"(never unpickled|pickles can run code)") as error:
        READERS[reader](path)
    assert str(path.with_suffix("")) in str(error.value)
    assert not mark.exists()


def test_neither_resuming_nor_a_trainer_runs_a_pickle(
    mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoints" / "last.ckpt"
    path.parent.mkdir()
    as_torch({"state_dict": Evil(mark)}, path)
    assert newest_whole_checkpoint(path.parent) is None
    with pytest.raises(ConfigError, match="of plain tensors and values; found: UnpicklingError"):
        WholeCheckpointIO().load_checkpoint(path, weights_only=None)
    for command in ("fit", "validate", "test", "predict"):
        arguments = ["--data=TinyData", "--model.network=ToyNetwork", *QUIET[:1]]
        assert main([command, *arguments, "--ckpt_path", str(path)]) == 1
    assert capsys.readouterr().err.count("never unpickled") == 4
    assert not mark.exists()


@pytest.mark.parametrize("writer", [as_npy, as_npz, as_npz_member, as_pickle, as_header_of_npy])
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_a_pickle_in_an_array_is_not_run(
    writer: Callable[[Any, Path], None], suffix: str, mark: Path, tmp_path: Path
) -> None:
    path = tmp_path / f"0{suffix}"
    writer(Evil(mark), path)
    with pytest.raises(DataError, match=r"should (be|hold)"):
        (read_npy if suffix == ".npy" else read_npz)(path)
    if suffix == ".npy":
        with pytest.raises(DataError, match=r"should (be|hold)"):
            read_npy(path, mmap=True)
    assert not mark.exists()


def test_a_planted_label_is_refused_in_a_dataset(mark: Path, tmp_path: Path) -> None:
    for kind in ("image", "label"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    np.save(tmp_path / "train/image/0.npy", np.zeros((4, 4, 3), np.uint8))
    as_npy(Evil(mark), tmp_path / "train/label/0.npy")
    data = NYUv2DataModule(tmp_path, tasks=["segmentation"])
    with pytest.raises(
        DataError, match=r"label/0\.npy' should hold numbers; found an array of Python objects"
    ):
        data.dataset("train")[0]
    assert not mark.exists()


# Config files


YAML = {
    "apply": "!!python/object/apply:os.mkdir ['{mark}']",
    "new": "!!python/object/new:os.mkdir ['{mark}']",
    "name": "!!python/name:os.mkdir",
    "module": "!!python/module:os",
}


@pytest.mark.parametrize("tag", YAML)
@pytest.mark.parametrize("command", [["fit", "--config"], ["data", "check", "--config"]])
def test_a_tag_in_yaml_is_not_run(
    tag: str, command: list[str], mark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"data:\n  class_path: TinyData\n  init_args:\n    root: {YAML[tag].format(mark=mark)}\n")
    assert main([*command, str(path)]) in (1, 2)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert not mark.exists()


@pytest.mark.parametrize("class_path", ["os.mkdir", "subprocess.Popen", "builtins.eval", "pathlib.Path"])
@pytest.mark.parametrize("place", ["data", "data.scenario", "model", "model.network"])
def test_a_config_makes_no_class_of_another_kind(
    class_path: str, place: str, mark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["fit", "--data=TinyData", "--model.network=ToyNetwork", *QUIET]
    assert main([*base, f"--{place}={class_path}"]) in (1, 2)
    assert not mark.exists()


@pytest.mark.parametrize(
    "class_path",
    [
        "os.mkdir",
        "pathlib.Path",
        "builtins.eval",
        "jtr_lightning.__main__.main",
        "jtr_lightning.nowhere.Thing",
    ],
)
def test_a_checkpoint_makes_no_class_of_another_kind(class_path: str, mark: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    module = PartialLabelModule({"depth": Depth()}, ToyNetwork())
    description = module.describe()
    description["init_args"]["network"] = {"class_path": class_path, "init_args": {"path": str(mark)}}
    torch.save({DESCRIPTION: description, "state_dict": module.state_dict()}, path)
    with pytest.raises(ConfigError, match=r"(not imported here|no class derived from)"):
        PartialLabelModule.load_from_checkpoint(path)
    assert not mark.exists()


def test_a_checkpoint_imports_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: Path) -> None:
    (tmp_path / "evil_module.py").write_text(f"import os\nos.mkdir({str(mark)!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "a.ckpt"
    torch.save({DESCRIPTION: {"class_path": "evil_module.Thing", "init_args": {}}, "state_dict": {}}, path)
    with pytest.raises(ConfigError, match="which is not imported here"):
        PartialLabelModule.load_from_checkpoint(path)
    assert not mark.exists()


# Paths that lead out of the root


OUTSIDE = ("../secret", "..", "/etc/passwd", "a/../../secret")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_list_of_splits_cannot_leave_the_root(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for kind in ("images", "segmentation"):
        (root / kind).mkdir(parents=True)
        np.save(root / kind / "0.npy", np.zeros((4, 4, 3) if kind == "images" else (4, 4), np.uint8))
        np.save(tmp_path / "secret.npy", np.zeros((4, 4, 3), np.uint8))
    (root / "splits.csv").write_text(f"id,split\n0,train\n{name},train\n")
    with pytest.raises(DataError, match=name.replace(".", r"\.")):
        FolderDataModule(root, {"segmentation": Segmentation(3)}).dataset("train")


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_list_of_buildings_cannot_leave_the_tree(name: str, tmp_path: Path) -> None:
    root = write_tree(tmp_path / "root", buildings=["beach"], domains=("rgb", "normal"))
    write_tree(tmp_path, buildings=["secret"], domains=("rgb", "normal"))
    (tmp_path / "split.csv").write_text(f"id,train,val,test\n{name},1,0,0\n")
    data = TaskonomyDataModule(root, ["normal"], split_file=tmp_path / "split.csv")
    with pytest.raises(DataError, match="none of which is in"):
        data.dataset("train")


@pytest.mark.parametrize("name", ["../secret/rgb_0.jpg", "/../secret/rgb_0.jpg", "a/../../secret/rgb_0.jpg"])
def test_a_list_of_frames_cannot_leave_the_root(name: str, tmp_path: Path) -> None:
    for folder in ("root/a", "secret"):
        (tmp_path / folder).mkdir(parents=True)
        for file in ("rgb_0.jpg", "sync_depth_0.png"):
            (tmp_path / folder / file).write_bytes(b"x")
    (tmp_path / "list.txt").write_text(f"/a/rgb_0.jpg /a/sync_depth_0.png 1\n{name} x 1\n")
    with pytest.raises(DataError, match="which leads out of it"):
        find_depth_only(tmp_path / "root", list_file=tmp_path / "list.txt")


@pytest.mark.parametrize("name", [*OUTSIDE, "a/b", ".", "", "a\0"])
@pytest.mark.parametrize("place", ["splits", "tasks"])
def test_a_packed_dataset_cannot_leave_its_folder(place: str, name: str, tmp_path: Path) -> None:
    FORMS["packed"].write(tmp_path)
    path = tmp_path / "packed/packed.json"
    info = json.loads(path.read_text())
    info[place] = {"train": name} if place == "splits" else {name: info["tasks"]["depth"]}
    path.write_text(json.dumps(info))
    with pytest.raises(
        DataError, match=rf"packed\.json' should have .*found something else under \['{place}'\]"
    ):
        PackedDataModule(path.parent).dataset("train")


def test_a_label_split_names_samples_and_opens_no_file(tmp_path: Path) -> None:
    rows = "".join(f"{name},1,1,1\n" for name in OUTSIDE)
    (tmp_path / "split.csv").write_text(f"id,segmentation,depth,normals\n{rows}")
    with pytest.raises(DataError, match=r"none for 'building/sample_0'"):
        TinyData(scenario=SplitFile(tmp_path / "split.csv")).dataset("train")


@pytest.mark.parametrize("name", [*OUTSIDE, "..\\..\\x", "a/./../b", "", "c:/x", "..."])
def test_a_prediction_is_written_below_its_folder(name: str, tmp_path: Path) -> None:
    written = (tmp_path / as_path(name)).resolve()
    assert written.is_relative_to(tmp_path.resolve())
    assert written != tmp_path.resolve()


# Damaged, rather than evil


def test_no_damage_of_a_checkpoint_gets_through_as_another_error(tmp_path: Path) -> None:
    whole = tmp_path / "whole.ckpt"
    module = PartialLabelModule({"depth": Depth()}, ToyNetwork())
    torch.save({DESCRIPTION: module.describe(), "state_dict": module.state_dict()}, whole)
    read_checkpoint(whole)
    content = whole.read_bytes()
    old = io.BytesIO()
    torch.save({DESCRIPTION: 1}, old, _use_new_zipfile_serialization=False)
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.ckpt"
    for data in (content, old.getvalue()):
        for cut in rng.integers(0, len(data) - 1, 40):
            path.write_bytes(data[:cut])
            with pytest.raises(ConfigError, match=r"damaged\.ckpt' should be a checkpoint"):
                read_checkpoint(path)
        for _ in range(40):
            flipped = bytearray(data)
            for place in rng.integers(0, len(data), 20):
                flipped[place] ^= int(rng.integers(1, 256))
            path.write_bytes(flipped)
            try:
                weights = read_checkpoint(path)["state_dict"]
            except ConfigError as error:
                assert "damaged.ckpt" in str(error)  # noqa: PT017  what is flipped may also be padding
            else:
                assert data is content, "the form without checksums has no weights here"
                assert all(torch.equal(weights[name], value) for name, value in module.state_dict().items())
