from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jtr_lightning.comparison import plots
from jtr_lightning.comparison.curves import curves_of, points_of, write_curves
from jtr_lightning.comparison.results import Results
from tests.comparison.parts import ONELABEL, TASKS, fake_results

TABLE = """epoch,step,train/loss,val/depth/abs_err,val/seg/miou
0,4,1.5,,
4,20,,0.9,0.2
9,40,,0.7123456,nan
"""


@pytest.fixture
def results() -> Results:
    """Two methods with curves for the first alone, and a run that is not finished."""
    results = fake_results({("jtr", ONELABEL): [(0.5, 0.5), None], ("supervised", ONELABEL): [(0.4, 0.6)]})
    name = results.runs[0].name
    points = {"seg": [(5, 0.2), (10, 0.35)], "depth": [(5, 0.9), (10, 0.7)]}
    return replace(results, by_name={**results.by_name, name: replace(results.by_name[name], points=points)})


def test_points_count_finished_epochs_and_leave_out_what_has_no_value(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(TABLE, encoding="utf-8")
    points = points_of(tmp_path / "metrics.csv", TASKS)
    assert points == {"seg": [(5, 0.2)], "depth": [(5, 0.9), (10, 0.71235)]}


def test_curves_are_of_the_finished_runs(results: Results) -> None:
    assert [(c.method, c.seed, c.task) for c in curves_of(results)] == [
        ("jtr", 0, "seg"),
        ("jtr", 0, "depth"),
    ]


def test_curves_are_written_as_a_table(results: Results, tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    write_curves(curves_of(results), path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "method,labels,seed,task,epoch,value"
    assert lines[1:] == [
        "jtr,onelabel,0,seg,5,0.2",
        "jtr,onelabel,0,seg,10,0.35",
        "jtr,onelabel,0,depth,5,0.9",
        "jtr,onelabel,0,depth,10,0.7",
    ]


def test_curves_are_drawn(results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    original = plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: made.append(original(*size)) or made[-1])
    curves = curves_of(results)
    shorter = [replace(c, seed=1, points=[(5, 0.5)]) for c in curves if c.task == "depth"]
    drawn = plots.draw(results, tmp_path, [*curves, *shorter])
    assert drawn["Validation metrics over the epochs"] == "curves.png"
    assert (tmp_path / "curves.png").is_file()
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in made[-1][1][0, 1].lines]
    assert lines == [([5, 10], [0.9, 0.7]), ([5], [0.5]), ([5], [pytest.approx(0.7)])], (
        "two seeds and their mean"
    )
