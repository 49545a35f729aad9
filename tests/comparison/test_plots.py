"""Pictures show the numbers of the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jtr_lightning.comparison import plots
from jtr_lightning.comparison.curves import Curve
from jtr_lightning.comparison.plan import FULL, Labels
from jtr_lightning.comparison.results import Results, TaskFacts
from tests.comparison.parts import EXAMPLE, ONELABEL, fake_result, fake_results, fake_run


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every figure's axes, ``[rows, columns]``."""
    made: list[Any] = []
    original = plots._figure

    def remember(rows: int, columns: int) -> tuple[Any, Any]:
        figure, axes = original(rows, columns)
        made.append(axes)
        return figure, axes

    monkeypatch.setattr(plots, "_figure", remember)
    return made


def test_every_seed_is_a_dot(tmp_path: Path, figures: list[Any]) -> None:
    drawn = plots.draw(fake_results(EXAMPLE), tmp_path)
    assert drawn == {"Methods in each scenario": "results.png"}
    with Image.open(tmp_path / "results.png") as picture:
        assert picture.width > 1000
    (axes,) = figures
    assert axes.shape == (1, 4)  # two tasks, two deltas; full labels are a line
    depth = axes[0, 1]
    assert depth.get_title() == "onelabel\ndepth abs_err [m] ↓"
    dots = [tuple(map(tuple, c.get_offsets().tolist())) for c in depth.collections if len(c.get_offsets())]
    assert ((0.7, 3.0), (0.9, 3.0)) in dots  # jtr is the fourth row
    assert ((0.8, 2.0),) in dots
    assert [label.get_text() for label in depth.get_yticklabels()][3] == "jtr"
    dashed = [line.get_xdata()[0] for line in depth.lines if line.get_linestyle() == "--"]
    assert dashed == [pytest.approx(0.6)]


def test_a_method_that_was_not_run_has_a_row_like_the_others(tmp_path: Path, figures: list[Any]) -> None:
    plots.draw(fake_results({**EXAMPLE, ("later", ONELABEL): [None]}), tmp_path)
    axis = figures[0][0, 0]
    rows = [label.get_text() for label in axis.get_yticklabels()]
    assert rows[-1] == "later"
    assert axis.get_ylim() == (len(rows) - 0.5, -0.5)


def test_full_labels_are_a_row_where_every_method_has_them(tmp_path: Path, figures: list[Any]) -> None:
    plots.draw(fake_results({**EXAMPLE, ("jtr", FULL): [(0.9, 0.4)]}), tmp_path)
    assert figures[0].shape == (2, 4)
    assert figures[0][1, 0].get_title().startswith("fulllabels")


def test_shares_of_labels_are_lines(tmp_path: Path, figures: list[Any]) -> None:
    shares = [Labels("fractionlabels", "FractionLabels", share) for share in (0.1, 0.5)]
    results = fake_results(
        {
            ("supervised", shares[0]): [(0.2, 2.0), (0.4, 2.0)],
            ("supervised", shares[1]): [(0.6, 1.0)],
            ("jtr", shares[0]): [(0.5, 1.0)],
            ("jtr", shares[1]): [None],
        }
    )
    assert plots.draw(results, tmp_path) == {"Test metrics against the share of labels": "fractions.png"}
    (axes,) = figures
    assert axes.shape == (1, 3)
    lines = {c.get_label(): c.lines[0] for c in axes[0, 0].containers}
    assert lines["supervised"].get_xdata().tolist() == [10.0, 50.0]
    assert lines["supervised"].get_ydata().tolist() == [pytest.approx(0.3), 0.6]
    assert lines["jtr"].get_xdata().tolist() == [10.0]


def test_many_panels_go_on_below(tmp_path: Path, figures: list[Any]) -> None:
    tasks = {f"t{i}": TaskFacts("rmse", False, "") for i in range(6)}
    run = fake_run("supervised")
    metrics = {f"test/{name}/rmse": float(number) for number, name in enumerate(tasks)}
    results = Results([run], {run.name: fake_result({}, metrics=metrics, tasks=tasks)}, baseline="supervised")
    curves = [Curve("supervised", ONELABEL, 0, name, [(1, 0.5)]) for name in tasks]
    plots.draw(results, tmp_path, curves)
    assert [axes.shape for axes in figures] == [(2, 4), (2, 3)]  # six tasks with a delta, six tasks
    placed = [axis for axis in figures[0].ravel() if axis.axison]
    assert [axis.get_title().split()[1] for axis in placed] == [*tasks, "delta"]
    assert placed[5].collections[0].get_offsets().tolist()[0][0] == 5.0


def test_nothing_finished_is_nothing_to_draw(tmp_path: Path) -> None:
    assert plots.draw(fake_results({("jtr", ONELABEL): [None]}), tmp_path) == {}
    assert list(tmp_path.iterdir()) == []
