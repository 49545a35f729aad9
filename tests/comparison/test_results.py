"""Results on disk and as a table for programs."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from jtr_lightning.comparison.plan import Labels
from jtr_lightning.comparison.results import (
    RESULT,
    Results,
    TaskFacts,
    read_result,
    read_results,
    write_csv,
    write_result,
)
from jtr_lightning.errors import ConfigError
from tests.comparison.parts import fake_result, fake_run


def test_a_result_is_read_as_it_was_written_and_none_before(tmp_path: Path) -> None:
    result = fake_result({"seg": 0.5, "depth": 1.25})
    (tmp_path / f"{RESULT}.part").write_text("{")  # an interrupted writer's
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
    assert first["config"] == runs[0].key
    assert (second["fraction"], second["seed"], second["run"]) == ("0.1", "4", runs[1].name)
    assert (second["test/seg/miou"], second["test/depth/abs_err"]) == ("0.5", "1.25")
    assert (second["train_seconds"], second["peak_memory_mib"], second["commit"]) == ("60.0", "3", "abc")


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
