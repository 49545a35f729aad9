"""``jtr fit | validate | test | predict`` from the arguments to the run folder."""

import csv
import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml

from jtr_lightning.cli.main import main
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from jtr_lightning.module import PartialLabelModule
from tests.lightning_cli.tiny_trainings import ALL_TASKS, BASE, TRAINER, best
from tests.tiny import Agreement, Albedo, TinyData, ToyNetwork, tiny_tasks

pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A finished training of all tasks, for the tests that only read it."""
    options = ["--data.scenario", "OneLabel", "--model.regularizer", "Agreement", ALL_TASKS]
    runs = tmp_path_factory.mktemp("finished")
    return command_line(["fit", *BASE, *options, "--name", "all", "--runs", str(runs)])


def optimizer(done: CommandLine) -> torch.optim.Optimizer:
    return done.trainer.optimizers[0]


# What a run leaves behind


def test_short_names_choose_classes(trained: CommandLine) -> None:
    model = trained.model
    assert isinstance(model.network, ToyNetwork)
    assert isinstance(model.regularizer, Agreement)
    assert type(trained.datamodule).__name__ == "TinyData"
    assert type(trained.datamodule.scenario).__name__ == "OneLabel"


def test_the_tasks_of_the_data_are_the_models(trained: CommandLine) -> None:
    assert list(trained.model.tasks) == list(tiny_tasks())
    assert all(trained.model.tasks[name] is task for name, task in trained.datamodule.tasks.items())


def test_a_run_folder_has_everything(trained: CommandLine) -> None:
    assert trained.folder is not None
    assert (trained.folder.parent.name, trained.folder.name) == ("all", "0")
    found = {str(p.relative_to(trained.folder)) for p in trained.folder.rglob("*") if p.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/last.ckpt"}
    shown = {"facts.json", "report.html", "panels/epoch_0001.png"}
    assert found == {"config.yaml", "metrics.csv", "metrics.json", *checkpoints, *shown}


def test_metrics_json_has_the_best_epoch(trained: CommandLine) -> None:
    assert trained.folder is not None
    kept = json.loads((trained.folder / "metrics.json").read_text())
    with (trained.folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/score"]]
    scores = [float(row["val/score"]) for row in rows]
    assert len(scores) == 2
    assert kept["val/score"] == pytest.approx(max(scores))
    assert kept["best_epoch"] == scores.index(max(scores))
    assert kept["val/depth/abs_err"] == pytest.approx(float(rows[kept["best_epoch"]]["val/depth/abs_err"]))
    for name, task in tiny_tasks().items():
        assert f"val/{name}/{task.headline}" in kept


def test_a_run_never_writes_into_anothers_folder() -> None:
    first = command_line(["fit", *BASE, "--name", "same"])
    assert first.folder is not None
    before = {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    second = command_line(["fit", *BASE, "--name", "same", "--data.scenario", "OneLabel"])
    assert second.folder == Path("runs/same/1")
    assert {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()} == before


def test_a_run_is_named_like_its_config() -> None:
    Path("my_idea.yaml").write_text(yaml.safe_dump({"data": {"class_path": "TinyData"}}))
    done = command_line(["fit", "--config", "my_idea.yaml", "--model.network", "ToyNetwork", *TRAINER])
    assert done.folder == Path("runs/my_idea/0")


def test_the_saved_config_trains_the_same_again(trained: CommandLine) -> None:
    assert trained.folder is not None
    again = command_line(["fit", "--config", str(trained.folder / "config.yaml"), "--runs", "again"])
    assert again.metrics == trained.metrics


def test_fast_dev_run_leaves_nothing() -> None:
    done = command_line(["fit", *BASE, "--trainer.fast_dev_run", "true"])
    assert done.folder is None
    assert list(Path().iterdir()) == []


def test_a_logger_of_the_user_stands_beside_the_csv_log() -> None:
    logger = "{class_path: lightning.pytorch.loggers.CSVLogger, init_args: {save_dir: mine}}"
    done = command_line(["fit", *BASE, f"--trainer.logger={logger}"])
    assert done.folder is not None
    assert (done.folder / "metrics.csv").is_file()
    assert (done.folder / "config.yaml").is_file()
    assert list(Path("mine").rglob("metrics.csv"))


def test_checkpoints_of_the_user_replace_ours() -> None:
    own = "[{class_path: ModelCheckpoint, init_args: {dirpath: own, filename: mine}}]"
    done = command_line(["fit", *BASE, f"--trainer.callbacks={own}"])
    assert done.folder is not None
    assert not (done.folder / "checkpoints").exists()
    assert [p.name for p in Path("own").iterdir()] == ["mine.ckpt"]


# Checkpoints


def test_the_checkpoint_holds_nothing_but_plain_values(trained: CommandLine) -> None:
    checkpoint = torch.load(best(trained), weights_only=True)
    assert "hyper_parameters" not in checkpoint
    assert any(name.startswith("regularizer.") for name in checkpoint["state_dict"])


def test_all_ways_to_test_a_checkpoint_give_the_metrics_of_before_saving(trained: CommandLine) -> None:
    assert trained.folder is not None
    kept = json.loads((trained.folder / "metrics.json").read_text())
    validated = command_line(["validate", "--ckpt_path", best(trained)]).metrics
    assert validated == {key: value for key, value in kept.items() if key.startswith("val/")}

    alone = command_line(["test", "--ckpt_path", best(trained)]).metrics
    config = str(trained.folder / "config.yaml")
    configured = command_line(["test", "--config", config, "--ckpt_path", best(trained)]).metrics
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    data = TinyData(tasks=list(tiny_tasks()))
    (rebuilt,) = trainer.test(PartialLabelModule.load_from_checkpoint(best(trained)), data, verbose=False)
    assert alone == configured == rebuilt


def test_validation_of_another_checkpoint_leaves_the_best_epochs_numbers(trained: CommandLine) -> None:
    assert trained.folder is not None
    before = (trained.folder / "metrics.json").read_bytes()
    last = Path(best(trained)).with_name("last.ckpt")
    assert command_line(["validate", "--ckpt_path", str(last)]).metrics.keys() >= {"val/score"}
    assert (trained.folder / "metrics.json").read_bytes() == before


def test_test_adds_its_metrics_to_the_run(trained: CommandLine) -> None:
    done = command_line(["test", "--ckpt_path", best(trained)])
    assert trained.folder is not None
    kept = json.loads((trained.folder / "metrics.json").read_text())
    assert kept["val/score"] == trained.metrics["val/score"]
    assert {key: kept[key] for key in done.metrics} == done.metrics
    assert "test/depth/abs_err" in done.metrics
    assert done.folder == trained.folder
    assert not Path("runs").exists()


@pytest.mark.filterwarnings("ignore:`ModelCheckpoint.*could not find the monitored key")
@pytest.mark.parametrize("options", [["--trainer.max_epochs=0"], ["--trainer.limit_val_batches=0"]])
def test_without_a_validation_no_label_is_said_to_be_missing(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command_line(["fit", *BASE, *options])
    printed = capsys.readouterr().out
    assert "There was no validation" in printed
    assert "no label" not in printed


def test_what_was_measured_is_shown_where_the_runs_folder_is_of_somebody_else(
    trained: CommandLine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(folder: Path, values: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(folder))

    monkeypatch.setattr("jtr_lightning.lightning_cli.command_line.add_metrics", refuse)
    assert main(["test", "--ckpt_path", best(trained)]) == 1
    printed = capsys.readouterr()
    assert "miou" in printed.out
    assert "The run's folder should be writable, to keep the metrics above; found: Permission" in printed.err


def test_a_training_goes_on_from_a_checkpoint(trained: CommandLine) -> None:
    assert trained.folder is not None
    last = trained.folder / "checkpoints" / "last.ckpt"
    done = command_line(["fit", "--ckpt_path", str(last), "--trainer.max_epochs", "3", "--runs", "more"])
    assert done.folder == Path("more/all/0")
    assert done.trainer.current_epoch == 3
    assert done.trainer.global_step == trained.trainer.global_step * 3 // 2


# Tasks of a user's own


def test_a_task_of_your_own_by_yaml_alone() -> None:
    albedo = {"class_path": "DenseRegression", "init_args": {"channels": 3, "unit": "reflectance"}}
    tasks = {"depth": {"class_path": "Depth"}, "albedo": albedo}
    config = {"data": {"class_path": "TinyData", "init_args": {"tasks": tasks, "scenario": "OneLabel"}}}
    Path("own.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    fitted = command_line(["fit", "--config", "own.yaml", "--model.network", "ToyNetwork", *TRAINER])
    assert list(fitted.model.tasks) == ["depth", "albedo"]
    assert fitted.model.network.heads["albedo"].out_channels == 3
    assert fitted.datamodule.datasets["train"].available.sum(0).tolist() == [3, 3]
    assert set(command_line(["test", "--ckpt_path", best(fitted)]).metrics) > {
        "test/albedo/l1",
        "test/depth/abs_err",
    }


def test_a_task_of_your_own_by_subclassing() -> None:
    fitted = command_line(["fit", *BASE, "--data.tasks={albedo: {class_path: tests.tiny.Albedo}}"])
    assert isinstance(fitted.model.tasks["albedo"], Albedo)
    tested = command_line(["test", "--ckpt_path", best(fitted)])
    rebuilt = PartialLabelModule.load_from_checkpoint(best(fitted))
    assert isinstance(rebuilt.tasks["albedo"], Albedo)
    assert set(tested.metrics) == {"test/albedo/l1", "test/albedo/rmse", "test/score"}


def test_a_module_of_the_current_folder_is_found_from_a_config_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    Path("found_beside.py").write_text(
        "from tests.tiny import Agreement\n\n\nclass Mine(Agreement):\n    pass\n"
    )
    Path("configs").mkdir()
    config = {"model": {"init_args": {"regularizer": "found_beside.Mine"}}}
    Path("configs/mine.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(SystemExit) as leave:
        main(["fit", *BASE, "--config", "configs/mine.yaml", "--print_config"])
    assert leave.value.code == 0
    assert "found_beside.Mine" in capsys.readouterr().out
    del sys.modules["found_beside"]


# Optimizers: no argument of one class may reach another


def test_an_optimizer_has_its_own_defaults() -> None:
    done = command_line(["fit", *BASE, "--model.optimizer", "SGD", "--model.optimizer.lr", "0.1"])
    assert isinstance(optimizer(done), torch.optim.SGD)
    assert optimizer(done).defaults["weight_decay"] == 0
    assert optimizer(done).defaults["lr"] == 0.1


@pytest.mark.parametrize("how", ["file", "options", "short options"])
def test_another_optimizer_takes_nothing_of_the_first_along(how: str) -> None:
    adamw = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.5, "weight_decay": 0.2}}
    sgd = {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}}
    Path("a.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"optimizer": adamw}}}))
    Path("b.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"optimizer": sgd}}}))
    options = {
        "file": ["--config", "b.yaml"],
        "options": [
            "--model.init_args.optimizer=torch.optim.SGD",
            "--model.init_args.optimizer.init_args.momentum=0.9",
        ],
        "short options": ["--model.optimizer", "SGD", "--model.optimizer.momentum", "0.9"],
    }
    done = command_line(["fit", *BASE, "--config", "a.yaml", *options[how]])
    assert isinstance(optimizer(done), torch.optim.SGD)
    expected = torch.optim.SGD([torch.zeros(1)], momentum=0.9).defaults
    assert optimizer(done).defaults == expected


def test_a_scheduler_steps_once_per_epoch() -> None:
    scheduler = ["--model.lr_scheduler", "StepLR", "--model.lr_scheduler.step_size", "1"]
    done = command_line(["fit", *BASE, "--model.optimizer=Adam", "--model.optimizer.lr=0.1", *scheduler])
    assert optimizer(done).param_groups[0]["lr"] == pytest.approx(0.1 * 0.1**2)


# The process as a whole


def test_the_console_is_quiet_and_ends_with_the_metrics(tmp_path: Path) -> None:
    options = ["fit", "--data", "tests.tiny.TinyData", "--model.network", "tests.toy.ToyNetwork", *TRAINER]
    command = [sys.executable, "-m", "jtr_lightning", *options]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=tmp_path, env=_environment(root)
    )
    for noise in ("Tip", "lit", "warn", "num_workers", "TPU", "deprecated"):
        assert noise.lower() not in done.stderr.lower(), done.stderr
    lines = done.stdout.splitlines()
    assert (
        lines[0]
        == "Data: 6 training samples, labelled (FullLabels, seed 0): segmentation 6, depth 6, normals 6"
    )
    assert lines[1] == "Validation: 6 samples, labelled: segmentation 6, depth 6, normals 6"
    assert lines[2].startswith("Model: ToyNetwork of ")
    assert any("abs_err [m] ↓" in line for line in lines)
    assert lines[-1] == "Run folder: runs/run/0"


def _environment(root: Path) -> dict[str, Any]:
    import os

    return {**os.environ, "PYTHONPATH": str(root), "PYTHONIOENCODING": "utf-8"}


def test_the_config_can_be_printed_and_used(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", *BASE, "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["class_path"].endswith("TinyData")
    Path("printed.yaml").write_text(yaml.safe_dump(printed))
    assert command_line(["fit", "--config", "printed.yaml"]).trainer.current_epoch == 2


def test_help_shows_the_command_as_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--help"])
    assert capsys.readouterr().out.startswith("usage: jtr [options] fit ")
