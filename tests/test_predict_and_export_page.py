"""Every command and every piece of code on the page about prediction and export runs, in its order."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jtr_lightning.cli.main import main
from jtr_lightning.export import FORMATS
from jtr_lightning.module import PartialLabelModule
from tests.checkpoints import save_checkpoint
from tests.tiny import ToyNetwork, tiny_tasks

PAGE = Path(__file__).parents[1] / "docs" / "predict_and_export.md"


@pytest.mark.slow
@pytest.mark.skipif(
    any(find_spec(package) is None for package in FORMATS["onnx"].packages),
    reason="the export extra is missing",
)
@pytest.mark.filterwarnings("ignore")  # of torch's exporters themselves
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "photo.jpg")
    module = PartialLabelModule(tiny_tasks(), ToyNetwork())
    module.image_size = (48, 64)
    save_checkpoint(module, tmp_path / "best.ckpt")
    blocks = re.findall(r"```(\w+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert [kind for kind, _ in blocks].count("python") == 4
    values: dict[str, object] = {}
    for kind, code in blocks:
        if kind == "python":
            exec(code, values)
            continue
        for line in code.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "jtr"
            assert main(arguments) == 0, line
    assert values["depth"].shape == (1, 120, 160)
    assert values["predictions"]["depth"].shape == (1, 1, 120, 160)
    assert (tmp_path / "predictions" / "raw" / "depth" / "photo.npy").is_file()
    assert (tmp_path / "exported" / "model.json").is_file()
