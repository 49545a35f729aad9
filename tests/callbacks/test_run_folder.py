"""Numbers of runs, and what metrics.json holds."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jtr_lightning.callbacks.run_folder import (
    RunFolder,
    add_metrics,
    new_run_folder,
    remove_unused,
    run_of_checkpoint,
)
from jtr_lightning.errors import ConfigError


def test_runs_are_numbered_after_the_last(tmp_path: Path) -> None:
    assert new_run_folder(tmp_path, "jtr") == tmp_path / "jtr" / "0"
    (tmp_path / "jtr" / "9").mkdir()
    (tmp_path / "jtr" / "notes").mkdir()
    assert new_run_folder(tmp_path, "jtr") == tmp_path / "jtr" / "10"
    assert new_run_folder(tmp_path, "other") == tmp_path / "other" / "0"


@pytest.mark.parametrize("name", ["..", "a/../../b", ".", "/tmp/b"])
def test_a_run_stays_below_the_folder_of_all_runs(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"run's name should be that of a folder below '.*runs'; found"):
        new_run_folder(tmp_path / "runs", name)
    assert not list(tmp_path.iterdir())


def test_runs_that_start_together_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path, "jtr"), range(24)))
    assert len(set(folders)) == 24


def test_a_folder_is_removed_only_while_nothing_is_in_it(tmp_path: Path) -> None:
    first, second = (new_run_folder(tmp_path, "jtr") for _ in range(2))
    (first / "config.yaml").touch()
    remove_unused(first)
    remove_unused(second)
    assert [path.name for path in (tmp_path / "jtr").iterdir()] == ["0"]
    assert (first / "config.yaml").is_file()
    remove_unused(new_run_folder(tmp_path, "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["jtr"]


def test_the_run_of_a_checkpoint_is_known_by_its_config(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    assert run_of_checkpoint(checkpoint) is None
    (tmp_path / "config.yaml").touch()
    assert run_of_checkpoint(checkpoint) == tmp_path


def test_metrics_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    add_metrics(tmp_path, {"val/a": 1.0, "val/b": 2.0})
    add_metrics(tmp_path, {"test/a": 3.0, "val/b": 4.0})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"val/a": 1.0, "val/b": 4.0, "test/a": 3.0}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]


def trainer(epoch: int, score: float | None, **changes: Any) -> Any:
    metrics = {"train/loss": torch.tensor(9.0), "val/depth/abs_err": torch.tensor(float(epoch))}
    if score is not None:
        metrics["val/score"] = torch.tensor(score)
    state = {"sanity_checking": False, "is_global_zero": True, "state": SimpleNamespace(fn="fit")}
    return SimpleNamespace(callback_metrics=metrics, current_epoch=epoch, **{**state, **changes})


def test_the_best_epoch_is_kept_and_the_first_of_equals(tmp_path: Path) -> None:
    callback = RunFolder(tmp_path)
    for epoch, score in enumerate([0.5, 0.75, 0.75, 0.25]):
        callback.on_validation_end(trainer(epoch, score), None)
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept == callback.best == {"best_epoch": 1, "val/score": 0.75, "val/depth/abs_err": 1.0}


def test_an_epoch_whose_score_is_no_number_is_not_the_best_for_ever(tmp_path: Path) -> None:
    callback = RunFolder(tmp_path)
    for epoch, score in enumerate([math.nan, 0.5, math.nan, 0.25]):
        callback.on_validation_end(trainer(epoch, score), None)
    assert callback.best == {"best_epoch": 1, "val/score": 0.5, "val/depth/abs_err": 1.0}
    assert json.loads((tmp_path / "metrics.json").read_text()) == callback.best


def test_sanity_checks_other_ranks_and_sets_without_labels_write_nothing(tmp_path: Path) -> None:
    callback = RunFolder(tmp_path)
    callback.on_validation_end(trainer(0, 0.5, sanity_checking=True), None)
    callback.on_validation_end(trainer(0, 0.5, is_global_zero=False), None)
    callback.on_validation_end(trainer(0, None), None)
    assert callback.best == {}
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_goes_on_in_its_folder_remembers_the_best(tmp_path: Path) -> None:
    first = RunFolder(tmp_path)
    first.on_validation_end(trainer(3, 0.5), None)
    same, other = RunFolder(tmp_path), RunFolder(tmp_path / "other")
    for callback in (same, other):
        callback.load_state_dict(first.state_dict())
    assert same.best == first.best
    assert other.best == {}
