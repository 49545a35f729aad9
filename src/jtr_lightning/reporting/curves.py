"""Curves of a run as one SVG picture, drawn with matplotlib, which is imported only here."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

POINTS = 300
"""Points of a line; more are averaged, since nobody could tell them apart."""
COLUMNS = 3
_PANEL = (4.2, 2.7)  # inches
_INK = "#20242c"

Line = list[tuple[float, float]]


@dataclass
class Panel:
    """One set of axes.

    Attributes:
        title: Written over it.
        across: What the horizontal axis is.
        lines: Name to points.
        marks: Name to a value that is drawn as a dashed line.
        logarithmic: Whether the vertical axis is, which needs values above 0.
    """

    title: str
    across: str
    lines: dict[str, Line]
    marks: dict[str, float] = field(default_factory=dict)
    logarithmic: bool = False


def read_log(path: Path) -> list[dict[str, float]]:
    """The rows of a ``metrics.csv``, each with the values that it has.

    Args:
        path: The file; a missing one has no rows.

    Returns:
        Column to finite value, row by row.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {key: number for key, text in row.items() if key and (number := _number(text)) is not None}
            for row in csv.DictReader(file)
        ]


def _number(text: Any) -> float | None:
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def panels_of(
    rows: Sequence[Mapping[str, float]],
    tasks: Mapping[str, Mapping[str, Any]],
    marks: Mapping[str, Mapping[str, float]],
    baseline: str = "",
) -> list[Panel]:
    """What there is to draw.

    Args:
        rows: What ``read_log`` gives.
        tasks: Task name to its facts.
        marks: Task name to baselines' names and values.
        baseline: Name of the baseline of the delta.

    Returns:
        The training loss and its parts, each task's headline metric, the tasks' training losses, score, delta, and
        what a regularizer tells with every validation; those that have values.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    losses = [f"train/{name}/loss" for name in tasks]
    parts = [key for key in keys if key.startswith("train/") and key not in losses]
    told = [
        key for key in keys if key.startswith("val/") and key.split("/")[1] not in {*tasks, "score", "delta"}
    ]
    panels = [
        Panel("Training loss and its parts", "step", _lines(rows, "step", parts, "train/")),
        Panel(
            "Training loss of each task",
            "epoch",
            _lines(rows, "epoch", losses, "train/", "/loss"),
            logarithmic=True,
        ),
    ]
    for name, facts in tasks.items():
        unit = f" [{facts['unit']}]" if facts["unit"] else ""
        better = "higher is better" if facts["higher_is_better"] else "lower is better"
        title = f"{name}: {facts['headline']}{unit}, {better}"
        key = f"val/{name}/{facts['headline']}"
        lines = _lines(rows, "epoch", [key], "val/", f"/{facts['headline']}")
        panels.append(Panel(title, "epoch", lines, dict(marks.get(name, {}))))
    panels.append(
        Panel("Score of all tasks, higher is better", "epoch", _lines(rows, "epoch", ["val/score"]))
    )
    against = f" against {baseline}" if baseline else ""
    title = f"Delta{against} [%], higher is better"
    panels.append(Panel(title, "epoch", _lines(rows, "epoch", ["val/delta"])))
    for group in dict.fromkeys(key.rpartition("/")[0] for key in told):
        members = [key for key in told if key.rpartition("/")[0] == group]
        title = f"{group.removeprefix('val/')}, told by the regularizer"
        panels.append(Panel(title, "epoch", _lines(rows, "epoch", members, f"{group}/"), logarithmic=True))
    return [panel for panel in panels if panel.lines]


def _lines(
    rows: Sequence[Mapping[str, float]], across: str, keys: Sequence[str], prefix: str = "", suffix: str = ""
) -> dict[str, Line]:
    lines = {
        key.removeprefix(prefix).removesuffix(suffix): [
            (row[across], row[key]) for row in rows if key in row and across in row
        ]
        for key in keys
    }
    return {name: _thinned(line) for name, line in lines.items() if line}


def _thinned(line: Line) -> Line:
    """Means of neighbours, where there are too many points."""
    step = -(-len(line) // POINTS)
    groups = [line[i : i + step] for i in range(0, len(line), step)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def draw(panels: Sequence[Panel]) -> str:
    """Draws panels.

    Args:
        panels: At least one.

    Returns:
        An ``<svg>`` element to stand in a page: as wide as its place, text as text, nothing from elsewhere.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    rows = -(-len(panels) // COLUMNS)
    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "jtr",
        "font.family": "sans-serif",
        "text.parse_math": False,  # a name is a name, whatever it is made of
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(_PANEL[0] * COLUMNS, _PANEL[1] * rows), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw(axis, panel)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Type": None}
        )
    return _for_page(buffer.getvalue())


def _draw(axis: Axes, panel: Panel) -> None:
    from matplotlib.ticker import LogLocator

    axis.set_title(panel.title, fontsize=9.5, loc="left", color=_INK)
    for number, (name, line) in enumerate(panel.lines.items()):
        xs, ys = [x for x, _ in line], [y for _, y in line]
        few = len(line) < 20
        axis.plot(xs, ys, label=name, color=f"C{number}", linewidth=1.4, marker="." if few else None)
    for number, (name, value) in enumerate(panel.marks.items()):
        axis.axhline(
            value, linestyle=(0, (4, 3)), linewidth=1, color=("#777777", "#b08040")[number % 2], label=name
        )
    if panel.logarithmic and all(y > 0 for line in panel.lines.values() for _, y in line):
        axis.set_yscale("log", subs=())
        # Powers of ten written as such would need mathematical text.
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
    if len(panel.lines) + len(panel.marks) > 1:
        axis.legend(fontsize=7.5, frameon=False, ncols=1 + (len(panel.lines) > 4))
    axis.set_xlabel(panel.across, fontsize=8, color=_INK)
    axis.tick_params(labelsize=8, colors=_INK)
    axis.locator_params(axis="x", nbins=6, integer=True)
    axis.grid(alpha=0.25)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _for_page(document: str) -> str:
    """The element of an SVG document, without what only a file needs."""
    element = document[document.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    tag, bracket, rest = element.partition(">")
    return re.sub(r' (width|height)="[^"]*"', "", tag) + bracket + rest.strip()
