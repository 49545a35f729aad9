"""Results on disk and as a table for programs."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from jtr_lightning.comparison.plan import Labels
from jtr_lightning.comparison.results import (
    RESULT,
    Results,
    TaskFacts,
    read_result,
    read_results,
    write_configs,
    write_csv,
    write_result,
)
from jtr_lightning.errors import ConfigError
from tests.comparison.parts import fake_result, fake_run


def test_a_result_is_read_as_it_was_written_and_none_before(tmp_path: Path) -> None:
    result = fake_result({"seg": 0.5, "depth": 1.25}, points={"seg": [(5, 0.25)], "depth": []})
    (tmp_path / f".{RESULT}.1.part").write_text("{")  # an interrupted writer's
    assert read_result(tmp_path) is None
    write_result(tmp_path, result)
    assert read_result(tmp_path) == result
    assert [path.name for path in tmp_path.iterdir()] == [RESULT]


def test_csv_has_a_row_for_each_run_and_empty_cells_for_unfinished_ones(tmp_path: Path) -> None:
    share = Labels("fractionlabels", "FractionLabels", 0.1)
    runs = [fake_run("jtr"), fake_run("jtr", share, 4)]
    (tmp_path / runs[1].name).mkdir()
    write_result(tmp_path / runs[1].name, fake_result({"seg": 0.5, "depth": 1.25}, peak_memory=3 * 2**20))
    write_csv(read_results(runs, tmp_path), tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["method"], first["scenario"], first["fraction"], first["seed"]) == (
        "jtr",
        "onelabel",
        "",
        "0",
    )
    assert first["test/seg/miou"] == first["commit"] == first["train_seconds"] == ""
    assert first["config"] == f"configs/{runs[0].key}.yaml"
    assert (second["fraction"], second["seed"], second["run"]) == ("0.1", "4", runs[1].name)
    assert (second["test/seg/miou"], second["test/depth/abs_err"]) == ("0.5", "1.25")
    assert (second["train_seconds"], second["peak_memory_mib"], second["commit"]) == ("60.0", "3", "abc")


def test_csv_has_what_the_checkpoint_was_chosen_by_and_what_was_tried(tmp_path: Path) -> None:
    run = replace(fake_run("jtr"), values={"model.optimizer.lr": 0.01})
    metrics = {"val/score": 0.25, "val/seg/miou": 0.5}
    found = {run.name: fake_result({}, metrics=metrics)}
    write_csv(Results([run], found), tmp_path / "search.csv")
    with (tmp_path / "search.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["model.optimizer.lr"], row["val/score"]) == ("0.01", "0.25")
    assert not {"val/seg/miou", "config"} & set(row)


def test_each_row_has_its_configuration_beside_it(tmp_path: Path) -> None:
    runs = [fake_run("jtr"), fake_run("jtr", seed=1)]
    write_configs([*runs, fake_run("old")], tmp_path)
    assert len(list((tmp_path / "configs").iterdir())) == 3
    own = tmp_path / "configs" / "supervised.yaml"  # of a user who gave `--out .`
    own.write_text("name: mine\n")
    write_configs(runs, tmp_path)
    assert own.read_text() == "name: mine\n"
    own.unlink()
    found = {path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "configs").iterdir()}
    assert found == {run.key: run.config for run in runs}


def test_methods_with_other_tasks_cannot_be_compared() -> None:
    runs = [fake_run("a"), fake_run("b")]
    other = {"seg": TaskFacts("pixel_accuracy", True, "")}
    results = Results(
        runs, {runs[0].name: fake_result({"seg": 0.5}), runs[1].name: fake_result({"seg": 0.5}, tasks=other)}
    )
    with pytest.raises(
        ConfigError, match=r"should have the same tasks; run 'b-onelabel-0-\w+' has \['seg'\]"
    ):
        _ = results.tasks
