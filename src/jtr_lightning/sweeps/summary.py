"""The results of a sweep: a table for people, one for programs, and a picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from jtr_lightning.sweeps.file import Sweep
from jtr_lightning.sweeps.local import FAILURE, SECONDS, VALUES, trial_name
from jtr_lightning.sweeps.names import short_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from optuna import Study

TABLE = "results.csv"
PLOT = "results.png"
SHOWN = 20
"""Trials in the table for people."""
_COLUMNS = 3
_PANEL = (4.0, 3.0)  # inches
_STATES = {"COMPLETE": "finished", "PRUNED": "stopped early", "FAIL": "failed"}


@dataclass(frozen=True)
class Row:
    """What became of a trial.

    Attributes:
        trial: Its number.
        state: In words.
        value: The metric; of a trial that was stopped early, the last one.
        seconds: How long it took.
        values: Parameter name to value.
    """

    trial: int
    state: str
    value: float | None
    seconds: float
    values: dict[str, Any]


def rows_of(study: Study) -> list[Row]:
    """The trials that were tried, the best first.

    Finished trials come before those that were stopped early, whose values are of fewer epochs, and before those that
    failed. Interrupted ones, which were begun again, are left out.
    """
    rows = []
    for trial in study.get_trials(deepcopy=False):
        name = trial.state.name
        if name not in _STATES or (name == "FAIL" and FAILURE not in trial.user_attrs):
            continue
        last = (
            None
            if not trial.intermediate_values
            else trial.intermediate_values[max(trial.intermediate_values)]
        )
        value = trial.value if name == "COMPLETE" else last if name == "PRUNED" else None
        seconds = float(trial.user_attrs.get(SECONDS, 0))
        rows.append(Row(trial.number, _STATES[name], value, seconds, trial.user_attrs.get(VALUES, {})))
    sign = -1 if study.direction.name == "MAXIMIZE" else 1
    order = list(_STATES.values())
    return sorted(
        rows, key=lambda r: (order.index(r.state), sign * r.value if r.value is not None else 0, r.trial)
    )


def table_of(rows: Sequence[Row], sweep: Sweep) -> Table:
    """The best trials for people."""
    names = short_names([p.name for p in sweep.parameters])
    table = Table(pad_edge=False, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.title = f"Trials, the best first ({_with_arrow(sweep)})"
    for head in ("trial", sweep.metric, *names.values()):
        table.add_column(Text(head), justify="right", overflow="fold")
    for position, row in enumerate(rows[:SHOWN]):
        finished = row.state == _STATES["COMPLETE"]
        value = f"{_shown(row.value)} {'' if finished else row.state.split()[0]}".strip()
        cells = [str(row.trial), value, *(_shown(row.values.get(name)) for name in names)]
        table.add_row(*(Text(cell) for cell in cells), style="bold" if finished and position == 0 else "")
    if len(rows) > SHOWN:
        table.caption = f"{len(rows) - SHOWN} more in {TABLE}"
    return table


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def write_table(rows: Sequence[Row], sweep: Sweep, folder: Path) -> None:
    """Writes ``results.csv``."""
    names = [p.name for p in sweep.parameters]
    with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", sweep.metric, "seconds", "folder", *names])
        for row in rows:
            values = [_kept(row.values.get(name)) for name in names]
            value = "" if row.value is None else row.value
            writer.writerow([row.trial, row.state, value, row.seconds, trial_name(row.trial), *values])


def _kept(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value


def draw(rows: Sequence[Row], sweep: Sweep, folder: Path) -> None:
    """Draws ``results.png``: the metric over the trials, and against each parameter that is varied.

    Args:
        rows: Trials.
        sweep: Their sweep.
        folder: Where the picture goes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    names = short_names([p.name for p in sweep.parameters])
    drawn = [row for row in rows if row.value is not None]
    varied = [p for p in sweep.parameters if len({_shown(row.values.get(p.name)) for row in drawn}) > 1]
    columns = min(_COLUMNS, 1 + len(varied))
    lines = -(-(1 + len(varied)) // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * lines), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes[1 + len(varied) :]:
        axis.set_visible(False)
    for axis in axes:
        axis.grid(alpha=0.3)
        axis.tick_params(labelsize=8)
        axis.set_ylabel(_with_arrow(sweep), fontsize=8, parse_math=False)
    _draw_history(axes[0], drawn, sweep.maximize)
    for axis, parameter in zip(axes[1:], varied, strict=False):
        _draw_against(axis, drawn, parameter.name)
        axis.set_xlabel(names[parameter.name], fontsize=8, parse_math=False)
        if parameter.logarithmic:
            axis.set_xscale("log", subs=())
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
    figure.savefig(folder / PLOT, dpi=120)


def _with_arrow(sweep: Sweep) -> str:
    return f"{sweep.metric} {'↑' if sweep.maximize else '↓'}"


def _points(axis: Axes, xs: Sequence[float], rows: Sequence[Row]) -> None:
    """Finished trials are filled, others hollow."""
    for state, face in ((_STATES["COMPLETE"], "C0"), (_STATES["PRUNED"], "none")):
        chosen = [(x, row.value) for x, row in zip(xs, rows, strict=True) if row.state == state]
        if chosen:
            across, values = zip(*chosen, strict=True)
            axis.scatter(across, values, s=18, facecolors=face, edgecolors="C0", label=state)


def _draw_history(axis: Axes, rows: Sequence[Row], maximize: bool) -> None:
    ordered = sorted(rows, key=lambda row: row.trial)
    _points(axis, [row.trial for row in ordered], ordered)
    best: list[tuple[int, float]] = []
    for row in ordered:
        if row.value is not None and row.state == _STATES["COMPLETE"]:
            better = (max if maximize else min)(row.value, best[-1][1] if best else row.value)
            best.append((row.trial, better))
    if best:
        best.append((max(ordered[-1].trial, best[-1][0]), best[-1][1]))
        axis.step(*zip(*best, strict=True), where="post", color="C1", linewidth=1.2, label="best so far")
        axis.legend(fontsize=7, frameon=False)
    axis.set_xlabel("trial", fontsize=8)
    axis.locator_params(axis="x", integer=True)


def _draw_against(axis: Axes, rows: Sequence[Row], name: str) -> None:
    found = [row.values.get(name) for row in rows]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in found):
        _points(axis, [float(value) for value in found if value is not None], rows)
        axis.locator_params(axis="x", integer=all(isinstance(value, int) for value in found))
        return
    texts = sorted({str(value) for value in found})
    _points(axis, [texts.index(str(value)) for value in found], rows)
    axis.set_xticks(range(len(texts)), texts, fontsize=8, rotation=15, ha="right", parse_math=False)
    axis.margins(x=0.3)
