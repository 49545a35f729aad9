"""Validation metrics over the epochs of a comparison's trainings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jtr_lightning.comparison.plan import Labels
from jtr_lightning.comparison.results import Results

LOG = Path("training") / "metrics.csv"
"""The CSV log of a run's training, below the run's folder."""


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
    points: Sequence[tuple[int, float]]


def read_curves(results: Results, run_folders: Path) -> list[Curve]:
    """Reads the logs of all finished runs.

    Args:
        results: What is finished.
        run_folders: The folder that holds the runs' folders.

    Returns:
        A curve for each run and task; none for a run whose log is gone.
    """
    curves: list[Curve] = []
    for run in results.runs:
        log = run_folders / run.name / LOG
        if run.name not in results.by_name or not log.is_file():
            continue
        with log.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for task, facts in results.tasks.items():
            key = f"val/{task}/{facts.headline}"
            points = [(int(row["epoch"]) + 1, float(row[key])) for row in rows if row.get(key)]
            curves.append(Curve(run.method, run.labels, run.seed, task, points))
    return curves


def write_curves(curves: Sequence[Curve], path: Path) -> None:
    """Writes curves as CSV: method, labels, seed, task, epoch, value."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["method", "labels", "seed", "task", "epoch", "value"])
        for curve in curves:
            for epoch, value in curve.points:
                writer.writerow(
                    [curve.method, curve.labels.title, curve.seed, curve.task, epoch, f"{value:.5g}"]
                )
