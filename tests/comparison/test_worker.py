"""One run: chosen on the validation set, measured on the test set, gone on with after an interruption."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock

from jtr_lightning.comparison import worker
from jtr_lightning.comparison.commit import short
from jtr_lightning.comparison.plan import Labels, resolve
from jtr_lightning.comparison.results import LOCK, PROGRESS, RESULT, Result, TaskFacts, read_result
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from tests.comparison.parts import ONELABEL, write_config

HALF = Labels("fractionlabels", "FractionLabels", 0.5)


def prepare(tmp_path: Path, labels: Labels = ONELABEL, **config: object) -> Path:
    """The folder of a run that has not begun."""
    folder = tmp_path / "run"
    folder.mkdir()
    file = write_config(tmp_path / "toy.yaml", **config)  # type: ignore[arg-type]
    (folder / "config.yaml").write_text(yaml.safe_dump(resolve(str(file), labels)))
    return folder


def finished(folder: Path) -> Result:
    result = read_result(folder)
    assert result is not None
    return result


def validation_scores(folder: Path) -> dict[int, float]:
    """Epoch to score, of the log that the curves are read from."""
    with (folder / "training" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {int(row["epoch"]): float(row["val/score"]) for row in rows if row.get("val/score")}


def test_the_best_epoch_of_validation_is_tested(tmp_path: Path) -> None:
    folder = prepare(tmp_path, epochs=3)
    worker.run([str(folder)])
    result = finished(folder)
    scores = validation_scores(folder)
    assert sorted(scores) == [0, 1, 2]
    assert result.best_epoch == max(scores, key=lambda epoch: scores[epoch])
    assert dict(result.tasks) == {
        "segmentation": TaskFacts("miou", True, ""),
        "depth": TaskFacts("abs_err", False, "m"),
    }
    assert result.points.keys() == set(result.tasks)
    assert [epoch for epoch, _ in result.points["depth"]] == [1, 2, 3]
    assert result.points["depth"][result.best_epoch][1] == pytest.approx(
        result.metrics["val/depth/abs_err"], 1e-4
    )
    assert set(result.headlines()) == {"segmentation", "depth"}
    assert result.metrics.keys() > {"test/segmentation/miou", "test/depth/abs_err", "test/depth/rmse"}
    assert result.metrics["val/score"] == max(scores.values())
    assert all(key.startswith(("val/", "test/")) for key in result.metrics)
    assert result.train_seconds > 0
    assert result.peak_memory > 50 * 2**20
    assert result.device.endswith("CPU")
    written = json.loads((folder / "training" / "metrics.json").read_text())
    assert written["test/depth/abs_err"] == result.metrics["test/depth/abs_err"]
    assert float((folder / PROGRESS).read_text()) > 0


def test_nothing_is_drawn_and_no_page_is_written(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["panels"]["every_n_epochs"] = 1
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    worker.run([str(folder)])
    left = {path.name for path in (folder / "training").iterdir()}
    assert left == {"config.yaml", "metrics.csv", "metrics.json", "checkpoints"}


def test_a_trial_is_not_tested_and_leaves_no_weights(tmp_path: Path) -> None:
    folder = prepare(tmp_path, epochs=3)
    worker.run([worker.VALIDATION_ONLY, str(folder)])
    result = finished(folder)
    scores = validation_scores(folder)
    assert result.metrics["val/score"] == max(scores.values())
    assert result.best_epoch == max(scores, key=lambda epoch: scores[epoch])
    assert not [key for key in result.metrics if key.startswith("test/")]
    assert "test/" not in (folder / "training" / "metrics.json").read_text()
    assert not list(folder.rglob("*.ckpt"))


def test_what_is_left_is_one_checkpoint_of_weights(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    worker.run([str(folder)])
    checkpoints = folder / "training" / "checkpoints"
    assert [path.name for path in checkpoints.iterdir()] == ["best.ckpt"]
    best = torch.load(checkpoints / "best.ckpt", weights_only=True)
    assert best["optimizer_states"] == []
    model = PartialLabelModule.load_from_checkpoint(checkpoints / "best.ckpt")
    assert set(model.tasks) == {"segmentation", "depth"}


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback")  # as jtr hides it
def test_of_averaged_weights_the_average_is_left_alone(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["trainer"]["callbacks"] = [{"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging"}]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    worker.run([str(folder)])
    best = torch.load(folder / "training" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["state_dict"]
    assert not {"current_model_state", "averaging_state"} & best.keys()


def test_a_run_whose_result_was_removed_is_trained_anew(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    worker.run([str(folder)])
    first = finished(folder)
    (folder / RESULT).unlink()
    worker.run([str(folder)])
    assert finished(folder).metrics == first.metrics
    assert finished(folder).points == first.points


def stopped_in_the_middle(tmp_path: Path) -> tuple[Path, Path]:
    """The folder of a run of four epochs that was stopped after two, and that of its checkpoints."""
    stop = tmp_path / "stop"
    stop.touch()
    regularizer = {"class_path": "tests.comparison.parts.StopsOnce", "init_args": {"file": str(stop)}}
    folder = prepare(tmp_path, HALF, epochs=4, regularizer=regularizer)
    with pytest.raises(RuntimeError, match="the power is gone"):
        worker.run([str(folder)])
    assert read_result(folder) is None
    return folder, folder / "training" / "checkpoints"


def test_an_interrupted_training_goes_on(tmp_path: Path) -> None:
    folder, checkpoints = stopped_in_the_middle(tmp_path)
    before = torch.load(checkpoints / "last.ckpt", weights_only=True)
    assert before["epoch"] == 1
    worker.run([str(folder)])
    result = finished(folder)
    scores = validation_scores(folder)
    assert sorted(scores) == [0, 1, 2, 3]
    assert result.best_epoch == max(scores, key=lambda epoch: scores[epoch])
    assert json.loads((folder / "training" / "metrics.json").read_text())["best_epoch"] == result.best_epoch
    costs = before["callbacks"]["Costs"]
    assert result.train_seconds > costs["seconds"] > 0
    assert result.peak_memory >= costs["peak_memory"] > 0


def test_a_run_names_the_code_of_each_of_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "current_commit", lambda: "a" * 40)
    folder, _ = stopped_in_the_middle(tmp_path)
    monkeypatch.setattr(worker, "current_commit", lambda: "b" * 40 + "-dirty")
    worker.run([str(folder)])
    assert finished(folder).commit == "a" * 40 + " and " + "b" * 40 + "-dirty"
    assert short(finished(folder).commit) == "a" * 10 + " and " + "b" * 10 + "-dirty"


def test_a_run_that_another_comparison_has_finished_meanwhile_is_left_alone(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    (folder / RESULT).write_text("theirs")
    worker.run([str(folder)])
    assert (folder / RESULT).read_text() == "theirs"
    assert not (folder / "training").exists()


def test_an_interrupted_test_costs_no_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepare(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "write_result", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            worker.run([str(folder)])
    log = (folder / "training" / "metrics.csv").read_bytes()
    (last,) = (folder / "training" / "checkpoints").glob("last.ckpt")
    seconds = torch.load(last, weights_only=True)["callbacks"]["Costs"]["seconds"]
    worker.run([str(folder)])
    assert (folder / "training" / "metrics.csv").read_bytes() == log
    assert finished(folder).train_seconds == seconds


def test_a_damaged_last_checkpoint_means_from_the_best_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, checkpoints = stopped_in_the_middle(tmp_path)
    (checkpoints / "last.ckpt").write_bytes(b"half of a")
    log = (folder / "training" / "metrics.csv").read_bytes()
    best = torch.load(checkpoints / "best.ckpt", weights_only=True)
    worker.run([str(folder)])
    assert f"Passed over: The file '{checkpoints / 'last.ckpt'}'" in caplog.text
    assert sorted(validation_scores(folder)) == [0, 1, 2, 3]
    # Epochs before the checkpoint were not trained again.
    head = log.splitlines()[: 1 + 2 * best["epoch"]]
    assert (folder / "training" / "metrics.csv").read_bytes().splitlines()[: len(head)] == head
    assert finished(folder).train_seconds > best["callbacks"]["Costs"]["seconds"]


def test_without_a_whole_checkpoint_it_begins_again(tmp_path: Path) -> None:
    folder, checkpoints = stopped_in_the_middle(tmp_path)
    for path in checkpoints.iterdir():
        path.write_bytes(b"half of a")
    worker.run([str(folder)])
    assert sorted(validation_scores(folder)) == [0, 1, 2, 3]


def test_two_processes_never_train_one_run(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / LOCK, thread_local=False),
        pytest.raises(ConfigError, match=r"is being trained by another process; wait for it"),
    ):
        worker.run([str(tmp_path)])


def test_without_a_checkpoint_there_is_nothing_to_test(tmp_path: Path) -> None:
    folder = prepare(tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["trainer"]["enable_checkpointing"] = False
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(ConfigError, match=r"should keep its best checkpoint, to test that one; found none"):
        worker.run([str(folder)])
    assert read_result(folder) is None
