"""Which epoch's numbers metrics.json holds."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from jtr_lightning.callbacks.best_metrics import BestMetrics
from jtr_lightning.run_folder import add_metrics


def trainer(epoch: int, score: float | None, **changes: Any) -> Any:
    metrics = {"train/loss": torch.tensor(9.0), "val/depth/abs_err": torch.tensor(float(epoch))}
    if score is not None:
        metrics["val/score"] = torch.tensor(score)
    state = {"sanity_checking": False, "is_global_zero": True, "state": SimpleNamespace(fn="fit")}
    return SimpleNamespace(callback_metrics=metrics, current_epoch=epoch, **{**state, **changes})


def test_the_best_epoch_is_kept_and_the_first_of_equals(tmp_path: Path) -> None:
    callback = BestMetrics(tmp_path)
    for epoch, score in enumerate([0.5, 0.75, 0.75, 0.25]):
        callback.on_validation_end(trainer(epoch, score), None)
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept == callback.best == {"best_epoch": 1, "val/score": 0.75, "val/depth/abs_err": 1.0}


def test_an_epoch_whose_score_is_no_number_is_not_the_best_for_ever(tmp_path: Path) -> None:
    callback = BestMetrics(tmp_path)
    for epoch, score in enumerate([math.nan, 0.5, math.nan, 0.25]):
        callback.on_validation_end(trainer(epoch, score), None)
    assert callback.best == {"best_epoch": 1, "val/score": 0.5, "val/depth/abs_err": 1.0}
    assert json.loads((tmp_path / "metrics.json").read_text()) == callback.best


def test_sanity_checks_other_ranks_and_sets_without_labels_write_nothing(tmp_path: Path) -> None:
    callback = BestMetrics(tmp_path)
    callback.on_validation_end(trainer(0, 0.5, sanity_checking=True), None)
    callback.on_validation_end(trainer(0, 0.5, is_global_zero=False), None)
    callback.on_validation_end(trainer(0, None), None)
    assert callback.best == {}
    assert list(tmp_path.iterdir()) == []


def test_a_training_that_goes_on_in_its_folder_remembers_the_best(tmp_path: Path) -> None:
    first = BestMetrics(tmp_path)
    first.on_validation_end(trainer(3, 0.5), None)
    same, other = BestMetrics(tmp_path), BestMetrics(tmp_path / "other")
    for callback in (same, other):
        callback.load_state_dict(first.state_dict())
    assert same.best == first.best
    assert other.best == {}


def test_a_test_of_earlier_weights_does_not_stand_beside_a_better_epoch(tmp_path: Path) -> None:
    """``jtr test``, then ``jtr fit --resume``: the page would show both as results of one checkpoint."""
    callback = BestMetrics(tmp_path)
    callback.on_validation_end(trainer(0, 0.5), None)
    add_metrics(tmp_path, {"test/depth/abs_err": 7.0, "val/of_before": 1.0})
    callback.on_validation_end(trainer(1, 0.25), None)
    assert json.loads((tmp_path / "metrics.json").read_text())["test/depth/abs_err"] == 7.0
    callback.on_validation_end(trainer(2, 0.75), None)
    assert json.loads((tmp_path / "metrics.json").read_text()) == callback.best
