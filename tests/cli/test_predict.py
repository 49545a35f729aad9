"""``jtr predict --images``: from a checkpoint and a folder to files, and every mistake in one sentence."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jtr_lightning.cli import predict as predict_cli
from jtr_lightning.cli.main import main
from jtr_lightning.lightning_cli import command_line
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.prediction import predictor as predictor_module
from tests.checkpoints import save_checkpoint
from tests.pointwise import point_module


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """Options for two pictures of 6x8 pixels and a checkpoint whose training resized images to 3x4."""
    (tmp_path / "images").mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{i}.png")
    module = point_module()
    module.image_size = (3, 4)
    checkpoint = save_checkpoint(module, tmp_path / "last.ckpt")
    folders = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    return ["predict", *folders, "--ckpt_path", str(checkpoint), "--device", "cpu"]


def depth(tmp_path: Path, name: str = "0") -> np.ndarray:
    return np.load(tmp_path / "out" / "raw" / "depth" / f"{name}.npy")


def test_the_files_are_what_the_module_predicts(given, tmp_path, capsys) -> None:
    assert main(given) == 0
    module = PartialLabelModule.load_from_checkpoint(given[6])
    assert module.image_size == (3, 4)
    expected = module.predict(Image.open(tmp_path / "images" / "0.png"))
    assert depth(tmp_path) == pytest.approx(expected["depth"][0].numpy())
    found = capsys.readouterr()
    assert f"Predictions of 2 images are in {tmp_path / 'out'}" in found.out
    assert "2/2" in found.err


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--size", "own"], {"size": None}),
        (["--size", "5", "7"], {"size": [5, 7]}),
        (["--tile", "4"], {"tile": [4, 4]}),
        (["--tile", "4", "5", "--overlap", "0.5", "--flip"], {"tile": [4, 5], "overlap": 0.5, "flip": True}),
    ],
)
def test_options_reach_the_predictor(given, tmp_path, options, kept) -> None:
    assert main([*given, *options, "--no_pictures", "--raw", "png"]) == 0
    found = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert {name: found[name] for name in kept} == kept
    assert not (tmp_path / "out" / "pictures").exists()
    assert (tmp_path / "out" / "raw" / "depth" / "1.json").is_file()


def test_half_precision_is_what_the_network_computes_in(given, tmp_path, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(
        predictor_module,
        "as_batch",
        lambda *_: seen.append(torch.is_autocast_enabled("cpu")) or torch.rand(2, 3, 3, 4),
    )
    assert main([*given, "--precision", "bf16"]) == 0
    assert seen == [True]


def test_skipped_pictures_are_told_and_the_way_to_skip_them_leads_there(given, tmp_path, capsys) -> None:
    (tmp_path / "images" / "broken.png").write_bytes(b"no picture")
    assert main(given) == 1
    error = capsys.readouterr().err
    assert "broken.png' should be a whole picture" in error
    remedy = error.rpartition(" Or give ")[2].strip().removesuffix(".")
    assert main([*given, *remedy.split()]) == 0
    out = capsys.readouterr().out
    assert "1 unreadable image skipped. The first: The file" in out
    assert "Predictions of 2 images are in" in out


def test_files_of_other_kinds_are_counted(given, tmp_path, capsys) -> None:
    (tmp_path / "images" / "a.gif").touch()
    assert main([*given, "--no_pictures"]) == 0
    assert "1 file of another kind passed over (.gif)." in capsys.readouterr().out
    for name in ("b.GIF", "c.txt", "README"):
        (tmp_path / "images" / name).touch()
    assert main([*given, "--no_pictures", "--overwrite"]) == 0
    assert "4 files of other kinds passed over (.gif, .txt, README)." in capsys.readouterr().out
    found = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert found["passed_over"] == {".gif": 2, ".txt": 1, "README": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--size", "big"],
            "Option --size should be 'trained', 'own', or a height and a width; found 'big'.",
        ),
        (
            ["--tile", "1", "2", "3"],
            "Option --tile should be one number, or a height and a width; found 3 numbers.",
        ),
        (["--device", "cpuu"], "Option --device should be a device of this machine; found 'cpuu'"),
        (["--flipp", "1"], "jtr predict --images has no option '--flipp'; did you mean '--flip'"),
        (["--batch_size", "many"], "Argument --batch_size: invalid int value: 'many'"),
        (["--ckpt_path", "nowhere.ckpt"], "The checkpoint should be a file; found none at 'nowhere.ckpt'."),
        (["--import", "no_such_module"], "Option --import should name a Python module that can be imported"),
    ],
)
def test_a_mistake_is_one_sentence(given, tmp_path, capsys, options, message: str) -> None:
    assert main([*given, *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_too_little_memory_is_one_sentence(given, capsys, monkeypatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(predict_cli, "predict_folder", fail)
    assert main(given) == 1
    assert "Give a smaller --batch_size than 8, or a --tile." in capsys.readouterr().err


def test_a_module_of_the_users_own_is_imported_on_request(given, tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "own_tasks.py").write_text(
        "from jtr_lightning.tasks import Depth\nclass Range(Depth):\n    'Depth of a laser.'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    from own_tasks import Range  # type: ignore[import-not-found]

    checkpoint = save_checkpoint(point_module(tasks={"depth": Range()}), tmp_path / "own.ckpt")
    monkeypatch.delitem(sys.modules, "own_tasks")
    assert main([*given, "--ckpt_path", str(checkpoint)]) == 1
    assert "`jtr predict --images` import what --import names" in capsys.readouterr().err
    assert main([*given, "--ckpt_path", str(checkpoint), "--import", "own_tasks"]) == 0
    assert depth(tmp_path).shape == (6, 8)


def test_without_images_lightning_predicts(monkeypatch, capsys) -> None:
    calls: list[list[str]] = []
    monkeypatch.setattr(command_line, "run", calls.append)
    assert main(["predict", "--ckpt_path", "a.ckpt", "--data", "X"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["predict", "--help"]) == 0
    assert calls == [["predict", "--ckpt_path", "a.ckpt", "--data", "X"], ["predict", "--help"]]
    assert "jtr predict --images --help" in capsys.readouterr().out


def test_help_with_images_needs_nothing_else(capsys) -> None:
    assert main(["predict", "--images", "--help"]) == 0
    assert "usage: jtr predict --images DIR --ckpt_path FILE --out DIR" in capsys.readouterr().out
