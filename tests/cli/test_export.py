"""``jtr export``: from a checkpoint to a checked file beside its run."""

import json
from pathlib import Path

import pytest
import torch

from jtr_lightning.cli.export import _report
from jtr_lightning.cli.main import main
from jtr_lightning.export import Exported, load_network
from jtr_lightning.export.formats import Sizes
from jtr_lightning.module import PartialLabelModule
from tests.checkpoints import save_checkpoint
from tests.tiny import Agreement, ToyNetwork, tiny_tasks


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint in a run folder."""
    run = tmp_path / "runs" / "toy" / "0"
    (run / "checkpoints").mkdir(parents=True)
    (run / "config.yaml").touch()
    module = PartialLabelModule(tiny_tasks(), ToyNetwork(), Agreement())
    module.image_size = (8, 10)
    return save_checkpoint(module, run / "checkpoints" / "best.ckpt")


def test_the_file_goes_into_the_run_folder(checkpoint: Path, capsys) -> None:
    assert main(["export", "--format", "safetensors", "--ckpt_path", str(checkpoint)]) == 0
    path = checkpoint.parents[1] / "export" / "safetensors" / "model.safetensors"
    image = torch.rand(2, 3, 9, 7)
    expected = PartialLabelModule.load_from_checkpoint(checkpoint)(image)
    found = load_network(path)(image)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert json.loads(path.with_suffix(".json").read_text())["input"]["resize"] == [8, 10]
    out = capsys.readouterr().out
    assert f"Model: {path}" in out
    assert "batch: any, height: any, width: any" in out
    assert "differs from the module by at most 0 (" in out


def test_a_checkpoint_without_a_run_has_the_file_beside_it(checkpoint: Path, tmp_path: Path) -> None:
    alone = checkpoint.rename(tmp_path / "alone.ckpt")
    assert main(["export", "--format", "safetensors", "--ckpt_path", str(alone), "--size", "12", "14"]) == 0
    found = json.loads((tmp_path / "export" / "safetensors" / "model.json").read_text())
    assert found["checked"]["shapes"][0] == [1, 3, 12, 14]


def test_why_a_model_takes_few_sizes_is_kept_out_of_the_terminal(capsys) -> None:
    sizes = Sizes("any", "above 32", "above 32")
    _report(Exported(Path("m.pt2"), Path("m.json"), sizes, {"depth": 0.0}, "Guard failed: 1 + s0 != 3"))
    out = capsys.readouterr().out
    assert "height: above 32" in out
    assert "`why_not_any_size` in m.json has the reason." in out
    assert "Guard" not in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "tflite"], "Argument --format: invalid choice: 'tflite'"),
        ([], "The following arguments are required: --format"),
        (["--format", "onnx", "--size", "12"], "Argument --size: expected 2 arguments"),
        (["--format", "onnx", "--out", "model.pt"], "A file of the format 'onnx' should end in .onnx; found"),
        (["--format", "safetensors", "--size", "0", "4"], "Parameter `size` should be a height and a width"),
    ],
)
def test_a_mistake_is_one_sentence(checkpoint: Path, capsys, options: list[str], message: str) -> None:
    assert main(["export", "--ckpt_path", str(checkpoint), *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert error.count("\n") == 1
    assert not (checkpoint.parents[1] / "export").exists()
