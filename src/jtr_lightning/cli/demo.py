"""``jtr demo``: JTR on generated rooms, in a few minutes on two CPU cores."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import cast

import torch
from PIL import Image

import jtr_lightning
from jtr_lightning.batch import Batch, join
from jtr_lightning.callbacks.panels import panels
from jtr_lightning.cli.parser import Parser
from jtr_lightning.console import console, program
from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.dataset import collate
from jtr_lightning.errors import ConfigError
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.profiling import peak_memory
from jtr_lightning.run_folder import CHECKPOINTS

CONFIG = Path("experiments") / "rooms" / "demo.yaml"
RESULTS = Path("experiments") / "rooms" / "results"
BASELINE = "demo_supervised.json"
"""The metrics of the same config without a regularizer, beside the config in ``results``."""
PICTURE = "panels.png"


def run(arguments: list[str]) -> None:
    """Trains, tests, prints a table and draws a picture.

    Args:
        arguments: ``--config`` and any option of ``jtr fit``.

    Raises:
        UserError: The config is not found, or an option does not fit.
    """
    parser = Parser(
        prog="jtr demo",
        description="Train on generated rooms for a few minutes, then print the metrics and draw predictions.",
        epilog="Any option of 'jtr fit' may follow, such as --trainer.max_epochs 10.",
    )
    parser.add_argument("--config", type=Path, help=f"the config file; by default {CONFIG} of the repository")
    given, changes = parser.parse_known_args(arguments)
    config = given.config or _find_config()
    start = time.monotonic()
    _say(_INTRODUCTION)
    fitted = command_line(["fit", "--config", str(config), *_against(config), *changes])
    if fitted.folder is None:  # fast_dev_run keeps nothing that could be tested
        return
    best = fitted.folder / CHECKPOINTS / "best.ckpt"
    testing = f"{program()} test --ckpt_path {shlex.quote(str(best))}"
    _say(f"\nNow the best checkpoint, on rooms that were never seen ({testing}):\n")
    tested = command_line(["test", "--ckpt_path", str(best)])
    _say(_verdict(tested, changed=bool(changes)))
    picture = fitted.folder / PICTURE
    draw(cast(PartialLabelModule, tested.model), tested.datamodule).save(picture)
    seconds, memory = time.monotonic() - start, peak_memory(torch.device("cpu")) / 2**30
    _say(f"Picture of labels and predictions: {picture}")
    _say(f"{seconds:.0f} seconds in all, and at most {memory:.1f} GiB of memory.")


_INTRODUCTION = """
JTR demo. Rooms are generated (at the first time), and each training image keeps the label of only one task: one has
a segmentation, another depth, another normals. One network learns all three tasks. Joint-Task Regularization (JTR)
teaches it through the labels that are missing: an auto-encoder of all tasks together says what fits together.
"""


def _find_config() -> Path:
    repository = Path(jtr_lightning.__file__).parents[2]
    for folder in (Path(), repository):
        if (folder / CONFIG).is_file():
            return folder / CONFIG
    raise ConfigError(
        f"The demo should be started in a clone of the repository, which holds '{CONFIG}'; found none in "
        f"'{Path.cwd()}'. Go there, or give --config."
    )


def _against(config: Path) -> list[str]:
    """Options that compare with supervised training, if its metrics are there."""
    file = (config.parent / RESULTS.name / BASELINE).absolute()
    if not file.is_file():
        return []
    return [
        "--model.baseline=Baseline",
        "--model.baseline.name=supervised MTL",
        f"--model.baseline.file={file}",
    ]


def _verdict(tested: CommandLine, changed: bool) -> str:
    """What the delta means, above or below 0."""
    change = tested.metrics.get("test/delta")
    if change is None:
        return "There is no baseline to compare with for these tasks."
    text = f"Delta against supervised MTL, trained likewise without JTR: {change:+.1f} %, one seed of each. "
    if changed:
        return text + "Your options changed the training but not the baseline's: the two do not compare."
    text += "No gain: a" if change <= 0 else "A"
    return text + (
        " few minutes and one seed are too little to judge JTR by: its published gains come from trainings of 80,000 "
        f"steps. {RESULTS} has longer runs with fewer labels and several seeds."
    )


def draw(module: PartialLabelModule, data: PartialLabelDataModule, number: int = 3) -> Image.Image:
    """Draws training samples with the labels they had, and test samples.

    Args:
        module: Makes the predictions.
        data: Prepared data.
        number: Samples of each of the two splits.

    Returns:
        The picture.
    """
    data.augmentation = None
    data.setup("test")
    train, test = data.dataset("train"), data.datasets["test"]
    # One sample for each task that has a label.
    chosen = [int(index) for index in dict.fromkeys(train.available.argmax(0).tolist())][:number]
    pictures = [(train, index, "train") for index in chosen]
    pictures += [(test, index, "test") for index in range(min(number, len(test)))]
    batch: Batch = join([collate([dataset[index]]) for dataset, index, _ in pictures])
    module.eval().cpu()
    with torch.inference_mode():
        predictions = module(batch.image)
    names = [f"{split} {dataset.source.name(index)}" for dataset, index, split in pictures]
    return panels(
        batch, predictions, module.tasks, names, "Training samples, each with one label, and test samples"
    )


def _say(text: str) -> None:
    console().print(text, markup=False, soft_wrap=True)
