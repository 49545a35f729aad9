"""Writes the checkpoint of this version that later versions must still load. Run from the repository's root::

    PYTHONPATH=. python tests/assets/make_checkpoint.py

It trains a few steps on data made of numbers and writes ``checkpoint_<major>.<minor>.ckpt``, and what the model
predicts for one image in ``checkpoint_<major>.<minor>.json``. Both are committed once for each released version and
never written again: a change that cannot load them is what the test is there to find.
"""

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L
import torch
from torch import Tensor

from jtr_lightning import __version__
from jtr_lightning.balancing import DynamicWeightAverage
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.scenarios import OneLabel
from tests.tiny import TinyData

FOLDER = Path(__file__).parent


def image() -> Tensor:
    """The image that is predicted, ``[1, 3, 8, 10]``."""
    return torch.linspace(0, 1, 3 * 8 * 10).view(1, 3, 8, 10)


def module(data: TinyData) -> PartialLabelModule:
    """A little of everything that a checkpoint describes."""
    return PartialLabelModule(
        data.tasks,
        SegNet(widths=(4,), depths=(1,)),
        JTR(widths=(4,), depths=(1,)),
        DynamicWeightAverage(),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1),
    )


def data() -> TinyData:
    return TinyData(
        tasks=["segmentation", "depth", "normals", "room", "pitch"], number=8, scenario=OneLabel()
    )


def trainer(folder: Path, epochs: int) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Resume(folder)],
    )


def main() -> None:
    name = f"checkpoint_{'.'.join(__version__.split('.')[:2])}"
    L.seed_everything(0, verbose=False)
    source = data()
    with TemporaryDirectory() as folder:
        trainer(Path(folder), 2).fit(module(source), source)
        (FOLDER / f"{name}.ckpt").write_bytes((Path(folder) / "last.ckpt").read_bytes())
    loaded = PartialLabelModule.load_from_checkpoint(FOLDER / f"{name}.ckpt")
    with torch.no_grad():
        predictions = {task: values.flatten().tolist() for task, values in loaded(image()).items()}
    rounded = {task: [round(value, 6) for value in values] for task, values in predictions.items()}
    (FOLDER / f"{name}.json").write_text(json.dumps(rounded) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
