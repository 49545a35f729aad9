"""A checkpoint of each released version loads, predicts the same, and its training goes on."""

import json
from pathlib import Path

import pytest
import torch

from jtr_lightning import __version__
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.jtr import JTR
from tests.assets.make_checkpoint import FOLDER, data, image, module, trainer

CHECKPOINTS = sorted(FOLDER.glob("*.ckpt"))


def test_there_is_one_of_this_version() -> None:
    major, minor, *_ = __version__.split(".")
    path = FOLDER / f"checkpoint_{major}.{minor}.ckpt"
    assert path in CHECKPOINTS
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize("path", CHECKPOINTS, ids=[path.stem for path in CHECKPOINTS])
def test_it_predicts_what_it_did(path: Path) -> None:
    loaded = PartialLabelModule.load_from_checkpoint(path)
    assert isinstance(loaded.regularizer, JTR)
    with torch.no_grad():
        predictions = loaded(image())
    expected = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert predictions.keys() == expected.keys()
    for name, values in expected.items():
        # Rounded to six digits, and summed in another order by another release of torch.
        torch.testing.assert_close(predictions[name].flatten(), torch.tensor(values), rtol=1e-4, atol=1e-5)


# With the lowest version of Lightning that is allowed, the file is of a newer one.
@pytest.mark.filterwarnings("ignore:The loaded checkpoint was produced with Lightning")
@pytest.mark.parametrize("path", CHECKPOINTS, ids=[path.stem for path in CHECKPOINTS])
def test_its_training_goes_on(path: Path, tmp_path: Path) -> None:
    source = data()
    steps = torch.load(path, weights_only=True)["global_step"]
    going_on = trainer(tmp_path, 3)
    going_on.fit(module(source), source, ckpt_path=str(path))
    assert going_on.current_epoch == 3
    assert going_on.global_step == steps * 3 // 2
