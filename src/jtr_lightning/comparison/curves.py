"""Validation metrics over the epochs of a comparison's trainings."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jtr_lightning.comparison.plan import Labels
from jtr_lightning.comparison.results import Points, Results, TaskFacts
from jtr_lightning.reporting.curves import read_log

_DIGITS = 5
"""Significant ones, more than a picture can show."""


@dataclass(frozen=True)
class Curve:
    """One headline metric of one finished run.

    Attributes:
        method: Name of the method.
        labels: The scenario.
        seed: The run's seed.
        task: Name of the task.
        points: Number of finished epochs and the metric on the validation set.
    """

    method: str
    labels: Labels
    seed: int
    task: str
    points: Points


def points_of(log: Path, tasks: Mapping[str, TaskFacts]) -> dict[str, Points]:
    """Reads the headline metrics of a training's validations.

    Args:
        log: The ``metrics.csv`` of the training.
        tasks: The tasks.

    Returns:
        Task name to its points, of the epochs with a finite value.
    """
    rows = read_log(log)
    keys = {name: f"val/{name}/{facts.headline}" for name, facts in tasks.items()}
    return {
        name: [(int(row["epoch"]) + 1, float(f"{row[key]:.{_DIGITS}g}")) for row in rows if key in row]
        for name, key in keys.items()
    }


def curves_of(results: Results) -> list[Curve]:
    """The curves of all finished runs, one for each run and task."""
    return [
        Curve(run.method, run.labels, run.seed, task, points)
        for run in results.runs
        if run.name in results.by_name
        for task, points in results.by_name[run.name].points.items()
    ]


def write_curves(curves: Sequence[Curve], path: Path) -> None:
    """Writes curves as CSV: method, labels, seed, task, epoch, value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "labels", "seed", "task", "epoch", "value"])
        for curve in curves:
            writer.writerows(
                [curve.method, curve.labels.title, curve.seed, curve.task, epoch, f"{value:.{_DIGITS}g}"]
                for epoch, value in curve.points
            )
