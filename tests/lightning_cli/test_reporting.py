"""What ``jtr fit`` and ``jtr test`` leave for people to look at."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from jtr_lightning.cli.main import main
from jtr_lightning.errors import ConfigError
from jtr_lightning.lightning_cli.command_line import command_line
from jtr_lightning.lightning_cli.reporting import RunTensorBoardLogger, write_out_logger
from jtr_lightning.reporting.wandb_logger import PartialLabelWandbLogger
from tests.tiny import TinyData, ToyNetwork

__all__ = ["TinyData", "ToyNetwork"]

ROOT = Path(__file__).parents[2]
BASE = [
    "--data=TinyData", "--model.network=ToyNetwork", "--trainer.accelerator=cpu", "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
]  # fmt: skip


pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


@pytest.mark.parametrize("form", [["--trainer.logger", "{}"], ["--trainer.logger={}"]])
def test_loggers_have_short_names(form: list[str]) -> None:
    def given(name: str) -> list[str]:
        return ["fit", *(part.format(name) for part in form)]

    path = f"{PartialLabelWandbLogger.__module__}.PartialLabelWandbLogger"
    assert write_out_logger(given("wandb")) == given(path)
    assert write_out_logger(given("true")) == given("true")
    assert write_out_logger(["fit", "--name", "wandb"]) == ["fit", "--name", "wandb"]
    assert write_out_logger(given("TensorBoardLogger")) == given("TensorBoardLogger")
    with pytest.raises(ConfigError, match=r"found 'tensorbord', did you mean 'tensorboard'\?"):
        write_out_logger(given("tensorbord"))


def test_fit_and_test_leave_one_page_with_both_results() -> None:
    folder = command_line(["fit", *BASE, "--panels.every_n_epochs=1", "--panels.val_samples=1"]).folder
    assert folder is not None
    page = (folder / "report.html").read_text()
    assert "Validation set" in page
    assert "Test set" not in page
    assert "class_path: tests.tiny.TinyData" in page
    assert [p.name for p in (folder / "panels").iterdir()] == ["epoch_0000.png"]
    command_line(["test", "--ckpt_path", str(folder / "checkpoints" / "best.ckpt")])
    assert "Test set" in (folder / "report.html").read_text()


def test_a_single_task_baseline_is_an_option_of_the_report() -> None:
    values = "{segmentation: 0.5, depth: 0.5, normals: 40}"
    single = [
        "--report.single_task=Baseline",
        "--report.single_task.name=STL",
        f"--report.single_task.values={values}",
    ]
    folder = command_line(["fit", *BASE, *single]).folder
    assert folder is not None
    (baseline,) = json.loads((folder / "facts.json").read_text())["baselines"]
    assert (baseline["role"], baseline["name"]) == ("single_task", "STL")


def test_wandb_gets_configuration_table_and_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[dict[str, Any]] = []
    monkeypatch.setattr(
        PartialLabelWandbLogger, "log_hyperparams", lambda self, params: configs.append(params)
    )
    folder = command_line(["fit", *BASE, "--trainer.logger=wandb", "--data.scenario=OneLabel"]).folder
    assert folder is not None
    assert configs[0]["data"]["init_args"]["scenario"]["class_path"].endswith("OneLabel")
    (files,) = folder.glob("wandb/offline-run-*/files")
    assert [p.parent.name for p in files.rglob("*.table.json")] == ["results"]
    assert len(list(files.rglob("panels*.png"))) == 1
    assert (folder / "metrics.csv").is_file()


def test_the_config_of_wandb_is_that_of_the_flag() -> None:
    (logger,) = yaml.safe_load((ROOT / "experiments" / "loggers" / "wandb.yaml").read_text())[
        "trainer"
    ].values()
    _, flag = write_out_logger(["fit", "--trainer.logger=wandb"])
    assert flag == f"--trainer.logger={logger['class_path']}"
    made = PartialLabelWandbLogger(**logger["init_args"])
    assert (made.name, made.log_best) == (PartialLabelWandbLogger().name, PartialLabelWandbLogger().log_best)


def test_tensorboard_writes_into_the_run_folder() -> None:
    folder = command_line(["fit", *BASE, "--trainer.logger", "tensorboard"]).folder
    assert folder is not None
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    elsewhere = RunTensorBoardLogger("mine")
    elsewhere.use_folder(folder)
    assert Path(elsewhere.log_dir) == Path("mine")


def test_pictures_can_be_switched_off_and_no_log_means_none() -> None:
    folder = command_line(["fit", *BASE, "--panels.every_n_epochs=0"]).folder
    assert folder is not None
    assert not (folder / "panels").exists()
    assert "No pictures were drawn" in (folder / "report.html").read_text()


def test_wrong_numbers_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", *BASE, "--panels.train_samples=-2"]) == 1
    error = capsys.readouterr().err
    assert "`train_samples` should be at least 0; found -2." in error
    assert "Traceback" not in error


def test_a_training_without_wandb_does_not_import_it() -> None:
    code = (
        "import sys; from tests.lightning_cli.test_reporting import BASE, command_line;"
        "command_line(['fit', *BASE]); print({'wandb', 'tensorboard'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=_environment()
    )
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
