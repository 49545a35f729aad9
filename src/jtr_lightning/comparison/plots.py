"""Pictures of a comparison, drawn with matplotlib, which is imported only here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from jtr_lightning.comparison.curves import Curve
from jtr_lightning.comparison.plan import FULL, Labels
from jtr_lightning.comparison.report import deltas, task_head
from jtr_lightning.comparison.results import Results
from jtr_lightning.comparison.statistics import summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PANEL = (3.4, 2.8)  # inches
_COLUMNS = 5
"""Panels side by side; more go on below."""

Panel = tuple[str, Callable[[str, Labels], Iterable[float]]]
"""A panel's title, and the values over seeds of a method with some labels."""


def draw(results: Results, folder: Path, curves: Sequence[Curve] = ()) -> dict[str, str]:
    """Draws every picture that there are results for.

    Args:
        results: What is finished.
        folder: Where the files go.
        curves: Validation metrics over the epochs.

    Returns:
        Title to file name.
    """
    scenarios = [
        w for w in results.labels if w.fraction is None and any(results.of(m, w) for m in results.methods)
    ]
    if len(results.labels) > 1 and not any(
        results.of(m, FULL) for m in results.methods if m != results.baseline
    ):
        scenarios = [w for w in scenarios if w != FULL]  # a line in the others says the same
    shares = [w for w in results.labels if w.fraction is not None]
    drawn: dict[str, str] = {}
    if scenarios:
        drawn["Methods in each scenario"] = "results.png"
        _draw_scenarios(results, scenarios, folder / "results.png")
    if any(results.of(m, w) for m in results.methods for w in shares):
        drawn["Test metrics against the share of labels"] = "fractions.png"
        _draw_shares(results, shares, folder / "fractions.png")
    if curves:
        drawn["Validation metrics over the epochs"] = "curves.png"
        _draw_curves(results, curves, folder / "curves.png")
    return drawn


def _panels(results: Results) -> list[Panel]:
    panels: list[Panel] = []
    for name, task in results.tasks.items():

        def headline(method: str, labels: Labels, name: str = name) -> Iterable[float]:
            return results.headlines(method, labels)[name].values()

        panels.append((task_head(name, task.headline, task.unit, task.higher_is_better), headline))
    for title, base in (("supervised MTL", results.baseline), ("STL", results.single_task)):
        if base is not None:

            def change(method: str, labels: Labels, base: str = base) -> Iterable[float]:
                return deltas(results, method, base, labels).values()

            panels.append((f"delta vs {title} [%] ↑", change))
    return panels


def _figure(rows: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _save(figure: Any, path: Path) -> None:
    """Writes a picture with 256 colours, a quarter of the size in files that are committed."""
    figure.set_dpi(120)
    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    pixels.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)


def _grid(blocks: int, panels: int) -> tuple[Any, list[list[Axes]]]:
    """A figure with the same panels in each of several blocks below one another.

    Args:
        blocks: Number of blocks.
        panels: Panels of each block.

    Returns:
        The figure, and the axes of each block; places that are left over are empty.
    """
    rows = -(-panels // _COLUMNS)
    columns = -(-panels // rows)
    figure, axes = _figure(blocks * rows, columns)
    places = axes.reshape(blocks, rows * columns)
    for axis in places[:, panels:].ravel():
        axis.set_axis_off()
    return figure, [list(block[:panels]) for block in places]


def _draw_scenarios(results: Results, scenarios: list[Labels], path: Path) -> None:
    """A block for each scenario, a panel for each metric: every seed as a dot, the mean with its deviation as a bar.

    A dashed line is supervised multi-task training with full labels.
    """
    panels = _panels(results)
    figure, blocks = _grid(len(scenarios), len(panels))
    for labels, axes in zip(scenarios, blocks, strict=True):
        for number, ((title, values_of), axis) in enumerate(zip(panels, axes, strict=True)):
            axis.set_title(f"{labels.title}\n{title}", fontsize=9)
            _bars(axis, [(method, list(values_of(method, labels))) for method in results.methods])
            if results.baseline is not None and number < len(results.tasks):
                full = summary(list(values_of(results.baseline, results.full)))
                if full is not None:
                    axis.axvline(full.mean, linestyle="--", linewidth=1, color="gray")
    _save(figure, path)


def _bars(axis: Axes, rows: list[tuple[str, list[float]]]) -> None:
    for position, (_, values) in enumerate(rows):
        found = summary(values)
        if found is not None:
            axis.errorbar(
                found.mean,
                position,
                xerr=found.deviation,
                fmt="|",
                markersize=14,
                capsize=3,
                color=f"C{position}",
            )
            axis.scatter(values, [position] * len(values), s=12, alpha=0.6, color=f"C{position}")
    axis.set_yticks(range(len(rows)), [method for method, _ in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)  # the first row on top, and as much space for one without a value
    axis.tick_params(axis="x", labelsize=8)
    axis.grid(axis="x", alpha=0.3)


def _draw_shares(results: Results, shares: list[Labels], path: Path) -> None:
    """A panel for each metric, a line for each method."""
    panels = _panels(results)
    figure, (axes,) = _grid(1, len(panels))
    for (title, values_of), axis in zip(panels, axes, strict=True):
        for number, method in enumerate(results.methods):
            points = [
                (100 * (labels.fraction or 0), found)
                for labels in shares
                if (found := summary(list(values_of(method, labels)))) is not None
            ]
            axis.errorbar(
                [x for x, _ in points],
                [found.mean for _, found in points],
                [found.deviation or 0.0 for _, found in points],
                label=method,
                marker="o",
                markersize=3,
                capsize=2,
                color=f"C{number}",
            )
        axis.set_xscale("log")
        percent = [100 * (labels.fraction or 0) for labels in shares]
        axis.set_xticks(percent, [f"{value:g}" for value in percent], fontsize=8)
        axis.set_xticks([], minor=True)
        axis.set_xlabel("share of labels [%]", fontsize=8)
        axis.set_title(title, fontsize=9)
        axis.tick_params(axis="y", labelsize=8)
        axis.grid(alpha=0.3)
    _legend(figure)
    _save(figure, path)


def _draw_curves(results: Results, curves: Sequence[Curve], path: Path) -> None:
    """A block for each scenario, a panel for each task, a colour for each method: its seeds thin, their mean thick."""
    scenarios = list(dict.fromkeys(curve.labels for curve in curves))
    figure, blocks = _grid(len(scenarios), len(results.tasks))
    for labels, axes in zip(scenarios, blocks, strict=True):
        for (name, task), axis in zip(results.tasks.items(), axes, strict=True):
            head = task_head(name, task.headline, task.unit, task.higher_is_better)
            axis.set_title(f"{labels.title}\n{head}", fontsize=9)
            axis.set_xlabel("epochs", fontsize=8)
            axis.tick_params(labelsize=8)
            axis.grid(alpha=0.3)
            for number, method in enumerate(results.methods):
                seeds = [
                    dict(c.points)
                    for c in curves
                    if (c.labels, c.task, c.method) == (labels, name, method) and c.points
                ]
                for points in seeds:
                    axis.plot(
                        *zip(*points.items(), strict=True), color=f"C{number}", linewidth=0.7, alpha=0.4
                    )
                if seeds:
                    # A run that is still going on has fewer epochs than the others.
                    epochs = [epoch for epoch in seeds[0] if all(epoch in points for points in seeds)]
                    means = [fmean(points[epoch] for points in seeds) for epoch in epochs]
                    axis.plot(epochs, means, color=f"C{number}", linewidth=1.8, label=method)
    _legend(figure)
    _save(figure, path)


def _legend(figure: Any) -> None:
    """Names the methods above all panels, where they cover nothing."""
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside upper center",
        ncols=min(len(handles), 8) or 1,
        fontsize=8,
    )
