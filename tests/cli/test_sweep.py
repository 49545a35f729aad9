"""``jtr sweep --local``: trials, their results, early ends, and going on after every kind of stop."""

import csv
import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from filelock import FileLock
from PIL import Image

from jtr_lightning.cli.main import main
from jtr_lightning.console import program
from jtr_lightning.errors import ConfigError
from jtr_lightning.sweeps import local
from jtr_lightning.sweeps.local import metric_of
from jtr_lightning.sweeps.names import described, short_names
from tests.shell import ROOT
from tests.tiny import TinyData, ToyNetwork

__all__ = ["TinyData", "ToyNetwork"]

NAMED = {"--data": "TinyData", "--model.network": "ToyNetwork"}
OPTIONS = [
    *(f"{flag}={cls}" for flag, cls in NAMED.items()), "--model.optimizer=torch.optim.SGD",
    "--trainer.accelerator=cpu", "--trainer.max_epochs=1", "--trainer.enable_progress_bar=false",
    "--panels.every_n_epochs=0", "--data.tasks=[depth]", "--data.number=2",
]  # fmt: skip
LR = "model.optimizer.lr"
GRID = {LR: {"values": [0.0, 0.001, 0.01]}}


pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


@pytest.fixture
def folder() -> Path:
    return Path("runs", "sweeps", "search")


def sweep(*arguments: str, method: str = "grid", parameters: Any = GRID, **changes: Any) -> int:
    tree = {
        "method": method,
        "metric": {"name": "depth/val/abs_err", "goal": "minimize"},
        "parameters": parameters,
        "command": ["${env}", "jtr", "fit", *OPTIONS, "--trainer.logger=wandb", "${args}"],
        **changes,
    }
    Path("search.yaml").write_text(yaml.safe_dump(tree))
    return main(["sweep", "search.yaml", "--local", *arguments])


def results(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


class Fake:
    """Stands for ``jtr fit`` where only the search matters: validations with given values.

    Args:
        curve: From the learning rate to the metric after each validation; an exception is raised.
    """

    def __init__(self, curve: Any) -> None:
        self.curve = curve
        self.asked: list[float] = []

    def __call__(self, arguments: list[str], folder: Path, callbacks: list[Any], kind: type) -> Any:
        lr = next(float(a.partition("=")[2]) for a in arguments if a.startswith(f"--{LR}="))
        self.asked.append(lr)
        folder.mkdir(parents=True)
        trainer: Any = type("Trainer", (), {"sanity_checking": False, "should_stop": False})()
        seen = []
        for value in self.curve(lr):
            if isinstance(value, BaseException):
                raise value
            seen.append(value)
            trainer.callback_metrics = {"val/depth/abs_err": value}
            callbacks[0].on_validation_end(trainer, None)
            if trainer.should_stop:
                break
        return type("Done", (), {"metrics": {"val/depth/abs_err": min(reversed(seen))}})()


def faked(monkeypatch: pytest.MonkeyPatch, curve: Any) -> Fake:
    fake = Fake(curve)
    monkeypatch.setattr(local, "command_line", fake)
    return fake


# Real trainings


def test_a_grid_is_trained_and_summed_up(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep() == 0
    rows = results(folder)
    assert sorted(float(row[LR]) for row in rows) == [0.0, 0.001, 0.01]
    values = [float(row["depth/val/abs_err"]) for row in rows]
    assert values == sorted(values)
    assert len(set(values)) == 3
    for row in rows:
        run = folder / row["folder"]
        assert (run / "checkpoints" / "best.ckpt").is_file()
        assert (run / "report.html").is_file()
        assert not (run / "wandb").exists()
        metrics = yaml.safe_load((run / "metrics.json").read_text())
        assert metrics["val/depth/abs_err"] == float(row["depth/val/abs_err"])
    with Image.open(folder / "results.png") as picture:
        assert min(picture.size) > 200
    out = capsys.readouterr().out
    assert "Each trial logs to its metrics.csv alone, on one device, without --trainer.logger=wandb." in out
    assert f"Best: {folder / rows[0]['folder']}" in out
    again = ["fit", *OPTIONS, "--trainer.logger=wandb", f"--{LR}={rows[0][LR]}"]
    assert f"The same again: {program()} {shlex.join(again)}" in out


@pytest.mark.parametrize(
    ("content", "more", "told"),
    [
        (
            {"trainer": {"logger": {"class_path": "TensorBoardLogger"}, "devices": 2}},
            [],
            "`trainer.logger` of own.yaml, `trainer.devices` of own.yaml",
        ),
        ({"trainer.logger": "PartialLabelWandbLogger"}, [], "`trainer.logger` of own.yaml"),
        ({"trainer": {"logger": "PartialLabelWandbLogger"}}, ["--trainer.logger=true"], None),
        ({"trainer": {"logger": True}}, ["--trainer.logger=wandb"], "--trainer.logger=wandb"),
        ({"trainer": {"logger": True, "devices": 1}}, [], None),
        ({"trainer": {"logger": None, "max_epochs": 1}}, [], None),
    ],
)
def test_what_a_config_file_asks_for_and_no_trial_gets_is_told(
    content: Any,
    more: list[str],
    told: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    faked(monkeypatch, lambda lr: [lr])
    Path("own.yaml").write_text(yaml.safe_dump(content))
    command = ["${env}", "jtr", "fit", "--config", "own.yaml", "${args}"]
    assert sweep(*more, command=command, parameters={LR: {"values": [0.1]}}) == 0
    expected = [] if told is None else [told]
    assert re.findall(r"alone, on one device, without (.+)\.\n", capsys.readouterr().out) == expected


def test_options_are_given_to_every_trial_last(folder: Path) -> None:
    assert sweep("--data.number", "3", parameters={LR: {"values": [0.1]}}) == 0
    config = yaml.safe_load((folder / "trial_0000" / "config.yaml").read_text())
    assert config["data"]["init_args"]["number"] == 3
    assert int(config["trainer"]["devices"]) == 1


@pytest.mark.slow
def test_a_trial_trains_what_the_printed_command_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    # In a new process, where other packages come before Lightning than in `jtr fit`, and the options of a user.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "src"), str(ROOT)]))
    imported = [f"{flag}=tests.tiny.{cls}" for flag, cls in NAMED.items()]
    imported += [option for option in OPTIONS if option.partition("=")[0] not in NAMED]
    tree = {
        "method": "grid",
        "metric": {"name": "val/score", "goal": "maximize"},
        "parameters": {LR: {"values": [0.1]}},
        "command": ["jtr", "fit", *imported, "${args}"],
    }
    Path("search.yaml").write_text(yaml.safe_dump(tree))
    numbers = ["--trainer.limit_train_batches", "1", "--trainer.val_check_interval", "1"]
    command = [sys.executable, "-m", "jtr_lightning", "sweep", "search.yaml", "--local", *numbers]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    printed = out.partition("The same again: ")[2].partition("\n")[0]
    words = shlex.split(printed)
    assert main(words[words.index("fit") :]) == 0
    configs = [
        yaml.safe_load(Path("runs", run, "config.yaml").read_text())
        for run in ("sweeps/search/trial_0000", "run/0")
    ]
    assert configs[0]["trainer"]["limit_train_batches"] == 1
    for config in configs:
        for option in ("logger", "devices"):  # what a trial is told otherwise
            del config["trainer"][option]
    assert json.dumps(configs[0]) == json.dumps(configs[1])  # 1 and 1.0 are equal in Python


def test_a_mistake_in_the_command_ends_the_sweep_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(parameters={"model.optimizer.larning_rate": {"values": [1, 2]}}) == 1
    captured = capsys.readouterr()
    assert "has no parameter 'larning_rate'" in captured.err
    assert "trial 1" not in captured.out
    # With the file mended, the same folder is used.
    assert sweep(parameters={LR: {"values": [0.1]}}) == 0


def test_a_metric_that_is_not_measured_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(metric={"name": "val/depth/abs_er", "goal": "minimize"}) == 1
    assert "found 'val/depth/abs_er', did you mean 'val/depth/abs_err'" in capsys.readouterr().err


# The search


def test_methods_have_their_samplers_and_rungs(folder: Path) -> None:
    from jtr_lightning.sweeps.file import read_sweep

    kinds = {}
    for method in ("grid", "random", "bayes"):
        Path("s.yaml").write_text(
            yaml.safe_dump(
                {
                    "method": method,
                    "metric": {"name": "a"},
                    "parameters": GRID,
                    "command": ["jtr", "fit", "${args}"],
                    "early_terminate": {"type": "hyperband", "min_iter": 2},
                }
            )
        )
        made = local.LocalSweep(read_sweep("s.yaml"), folder)
        kinds[method] = type(made._sampler(0)).__name__
        assert type(made._pruner()).__name__ == "SuccessiveHalvingPruner"
    assert kinds == {"grid": "GridSampler", "random": "RandomSampler", "bayes": "TPESampler"}


def test_trials_behind_the_others_are_stopped_early(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, lambda lr: [lr + 1 / step for step in range(1, 10)])
    rungs = {"type": "hyperband", "min_iter": 2}
    assert sweep(parameters={LR: {"values": [0.1, 0.5, 0.6, 0.7]}}, early_terminate=rungs) == 0
    best = float("inf")
    for row in sorted(results(folder), key=lambda row: int(row["trial"])):
        lr, value = float(row[LR]), float(row["depth/val/abs_err"])
        # Of two to five trials one goes on: the best so far.
        goes_on = lr < best
        assert row["state"] == ("finished" if goes_on else "stopped early")
        assert value == pytest.approx(lr + (1 / 9 if goes_on else 1 / 2))
        best = min(best, lr)
    assert "stopped after 2 validations" in capsys.readouterr().out


def test_a_sweep_goes_on_where_it_was_and_draws_new_values(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ranges = {LR: {"distribution": "uniform", "min": 0.0, "max": 1.0}}
    fake = faked(monkeypatch, lambda lr: [lr])
    assert sweep("--trials", "2", method="random", parameters=ranges) == 0
    assert sweep("--trials", "5", method="random", parameters=ranges) == 0
    assert sweep("--trials", "5", method="random", parameters=ranges) == 0
    assert len(fake.asked) == len(set(fake.asked)) == 5
    assert len(results(folder)) == 5
    assert "5 trials, 5 of them done." in capsys.readouterr().out
    with sqlite3.connect(folder / "sweep.db") as database:
        assert database.execute("select count(*) from trials").fetchone() == (5,)
    database.close()


@pytest.mark.parametrize("method", ["grid", "random"])
def test_a_choice_may_be_between_numbers_texts_and_lists(
    monkeypatch: pytest.MonkeyPatch, folder: Path, method: str
) -> None:
    """An empty value is refused with the advice to write the text 'null'."""
    fake = faked(monkeypatch, lambda lr: [lr])
    values = ["null", 0.5, 2, [1, 2]]
    parameters = {LR: {"values": [0.25, 0.125]}, "data.batch_size": {"values": values}}
    for trials in ("2", "4"):
        assert sweep("--trials", trials, method=method, parameters=parameters) == 0
    assert len(fake.asked) == 4
    assert {row["data.batch_size"] for row in results(folder)} <= {"null", "0.5", "2", "[1, 2]"}


def test_a_sweep_of_earlier_code_goes_on(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """It kept what was asked for as text by sorted keys."""
    faked(monkeypatch, lambda lr: [lr])
    parameters = {LR: {"values": [0.5, 0.25]}, "data.batch_size": {"values": [2]}}
    assert sweep("--trials", "1", parameters=parameters) == 0
    with sqlite3.connect(folder / "sweep.db") as database:
        (kept,) = database.execute(
            "select value_json from study_user_attributes where key = 'asked'"
        ).fetchone()
        earlier = json.dumps(json.dumps(json.loads(json.loads(kept)), sort_keys=True))
        assert earlier != kept
        database.execute("update study_user_attributes set value_json = ? where key = 'asked'", (earlier,))
    database.close()
    assert sweep("--trials", "2", parameters=parameters) == 0
    assert len(results(folder)) == 2


@pytest.mark.parametrize(("method", "stop"), [("grid", KeyboardInterrupt), ("random", SystemExit)])
def test_an_interrupted_trial_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, folder: Path, method: str, stop: type[BaseException]
) -> None:
    parameters = GRID if method == "grid" else {LR: {"distribution": "uniform", "min": 0.0, "max": 1.0}}
    interrupted: list[float] = []

    def curve(lr: float) -> list[Any]:
        if len(fake.asked) == 2 and not interrupted:
            interrupted.append(lr)
            return [0.5, stop()]
        return [lr]

    fake = faked(monkeypatch, curve)
    try:
        assert sweep("--trials", "3", method=method, parameters=parameters) == 130
    except SystemExit:
        assert stop is SystemExit
    assert sweep("--trials", "3", method=method, parameters=parameters) == 0
    finished = [float(row[LR]) for row in results(folder)]
    assert len(set(finished)) == 3
    assert interrupted[0] in finished
    if method == "grid":
        assert sorted(finished) == [0.0, 0.001, 0.01]


def test_a_grid_that_goes_on_with_another_seed_tries_each_point_once(
    monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    fake = faked(monkeypatch, lambda lr: [lr])
    parameters = {LR: {"values": [number / 8 for number in range(8)]}}
    assert sweep("--trials", "4", parameters=parameters) == 0
    assert sweep("--seed", "2", parameters=parameters) == 0
    assert sorted(fake.asked) == parameters[LR]["values"]


def test_one_failed_trial_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, lambda lr: [RuntimeError("out of memory\nat ...")] if lr == 0.001 else [lr])
    assert sweep() == 0
    rows = {float(row[LR]): row for row in results(folder)}
    assert [rows[lr]["state"] for lr in (0.0, 0.001, 0.01)] == ["finished", "failed", "finished"]
    assert "Traceback" in (folder / rows[0.001]["folder"] / "failure.txt").read_text()
    assert "FAILED: RuntimeError: out of memory; see" in capsys.readouterr().out


def test_trials_whose_metric_is_no_number_are_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = faked(monkeypatch, lambda lr: [float("nan")] * 3 if lr < 0.01 else [float("nan"), lr])
    rungs = {"type": "hyperband", "min_iter": 1}
    assert sweep(early_terminate=rungs) == 0
    assert sorted(fake.asked) == [0.0, 0.001, 0.01]
    assert {float(row[LR]): row["state"] for row in results(folder)} == {
        0.0: "failed", 0.001: "failed", 0.01: "finished"
    }  # fmt: skip
    assert "FAILED: depth/val/abs_err of the best epoch is not a number (NaN); see" in capsys.readouterr().out
    assert sweep(early_terminate=rungs) == 0
    assert len(fake.asked) == 3


# Mistakes


def test_without_local_the_way_to_wandb_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", "search.yaml"]) == 1
    assert (
        "should be given --local; with a server of W&B, run `wandb sweep search.yaml`"
        in capsys.readouterr().err
    )


def test_an_endless_search_needs_an_end(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert sweep(method="random") == 1
    assert "has no end of its own; give --trials N, or `run_cap`" in capsys.readouterr().err
    assert not folder.exists()
    assert sweep("--trials", "0") == 1
    assert "--trials should be at least 1; found 0." in capsys.readouterr().err


def test_results_of_another_sweep_are_not_mixed_in(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    faked(monkeypatch, lambda lr: [lr])
    assert sweep() == 0
    assert sweep(parameters={LR: {"values": [0.0, 0.5]}}) == 1
    assert "found results with other parameters, another command or other options" in capsys.readouterr().err
    assert sweep("--trainer.max_epochs", "9") == 1
    assert "Give another --out" in capsys.readouterr().err
    assert sweep(parameters={LR: {"values": [0.01, 0.001, 0.0]}}) == 1
    assert "found results with other parameters" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("--out", "search.yaml/below") == 1
    assert (
        "written into; found 'search.yaml/below': Not a directory. Give another." in capsys.readouterr().err
    )


def test_a_folder_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch, lambda lr: [lr])
    folder = Path("what? 100 % é #1 {lr} %20")
    assert sweep("--out", str(folder)) == 0
    assert sweep("--out", str(folder)) == 0
    assert {path.name for path in folder.iterdir()} >= {"sweep.db", "results.csv"}
    assert {path.name for path in Path().iterdir()} == {"search.yaml", folder.name}


def test_two_processes_do_not_run_one_sweep(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"):
        assert sweep() == 1
    assert "is being run by another process; wait for it." in capsys.readouterr().err


def test_without_optuna_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    assert sweep() == 1
    assert (
        "needs Optuna, which is not installed; pip install 'jtr-lightning[optuna]'" in capsys.readouterr().err
    )


# Small parts


def test_metrics_have_two_names() -> None:
    values = {"val/depth/abs_err": 1.0, "val/score": 2.0}
    assert metric_of(values, "depth/val/abs_err") == metric_of(values, "val/depth/abs_err") == 1
    assert metric_of(values, "val/score") == 2
    with pytest.raises(ConfigError, match="found 'val/scor', did you mean 'val/score'"):
        metric_of(values, "val/scor")


def test_names_are_as_short_as_they_can_be() -> None:
    names = ["model.optimizer.lr", "model.regularizer.lr", "data.batch_size"]
    assert list(short_names(names).values()) == ["optimizer.lr", "regularizer.lr", "batch_size"]
    assert described({"model.optimizer.lr": 0.00123456, "data.size": [4, 4]}) == "lr=0.001235, size=[4, 4]"


def test_a_validation_before_the_training_is_no_step() -> None:
    watch = local.Watch(None, "val/score")  # type: ignore[arg-type]
    trainer: Any = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=False)
    trainer.state.stage = L.pytorch.trainer.states.RunningStage.SANITY_CHECKING
    watch.on_validation_end(trainer, None)  # type: ignore[arg-type]
    assert watch.validations == 0
