from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jtr_lightning.comparison import plots
from jtr_lightning.comparison.curves import LOG, read_curves, write_curves
from tests.comparison.parts import ONELABEL, fake_results

TABLE = """epoch,step,train/loss,val/depth/abs_err,val/seg/miou
0,4,1.5,,
4,20,,0.9,0.2
9,40,,0.7,0.35
"""


@pytest.fixture
def results_and_runs(tmp_path: Path) -> tuple[Any, Path]:
    """Two methods with a log for the first alone, and a run that is not finished."""
    results = fake_results({("jtr", ONELABEL): [(0.5, 0.5), None], ("supervised", ONELABEL): [(0.4, 0.6)]})
    log = tmp_path / results.runs[0].name / LOG
    log.parent.mkdir(parents=True)
    log.write_text(TABLE, encoding="utf-8")
    return results, tmp_path


def test_curves_count_finished_epochs_and_skip_rows_without_validation(
    results_and_runs: tuple[Any, Path],
) -> None:
    curves = read_curves(*results_and_runs)
    assert [(c.method, c.seed, c.task) for c in curves] == [("jtr", 0, "seg"), ("jtr", 0, "depth")]
    assert curves[0].points == [(5, 0.2), (10, 0.35)]
    assert curves[1].points == [(5, 0.9), (10, 0.7)]


def test_curves_are_written_as_a_table(results_and_runs: tuple[Any, Path]) -> None:
    path = results_and_runs[1] / "curves.csv"
    write_curves(read_curves(*results_and_runs), path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "method,labels,seed,task,epoch,value"
    assert lines[1:] == [
        "jtr,onelabel,0,seg,5,0.2",
        "jtr,onelabel,0,seg,10,0.35",
        "jtr,onelabel,0,depth,5,0.9",
        "jtr,onelabel,0,depth,10,0.7",
    ]


def test_curves_are_drawn(results_and_runs: tuple[Any, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    original = plots._figure
    monkeypatch.setattr(plots, "_figure", lambda *size: made.append(original(*size)) or made[-1])
    results, folder = results_and_runs
    curves = read_curves(results, folder)
    shorter = [replace(c, seed=1, points=[(5, 0.5)]) for c in curves if c.task == "depth"]
    drawn = plots.draw(results, folder, [*curves, *shorter])
    assert drawn["Validation metrics over the epochs"] == "curves.png"
    assert (folder / "curves.png").is_file()
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in made[-1][1][0, 1].lines]
    assert lines == [([5, 10], [0.9, 0.7]), ([5], [0.5]), ([5], [pytest.approx(0.7)])], (
        "two seeds and their mean"
    )
