"""What the table of results says."""

import io

from rich.console import Console

from jtr_lightning.baseline import Baseline
from jtr_lightning.lightning_cli.tables import metrics_table
from jtr_lightning.tasks import Depth, Segmentation, Task

TASKS: dict[str, Task] = {"segmentation": Segmentation(3), "depth": Depth()}
METRICS = {
    "test/segmentation/pixel_accuracy": 0.9,
    "test/segmentation/miou": 0.5,
    "test/depth/abs_err": 0.25,
    "test/delta": 0.0,
    "val/depth/abs_err": 0.75,
}


def rows(metrics: dict[str, float], baseline: Baseline | None = None) -> list[list[str]]:
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(metrics_table(metrics, "test", TASKS, baseline))
    lines = console.export_text().splitlines()
    return [[cell.strip() for cell in line.strip("┃│").split("│" if "│" in line else "┃")] for line in lines]


def test_headlines_come_first_with_unit_and_direction() -> None:
    found = rows(METRICS)
    assert found[1] == ["task", "metric", "this run"]
    assert found[3:5] == [["segmentation", "miou ↑", "0.5"], ["", "pixel_accuracy ↑", "0.9"]]
    assert ["depth", "abs_err [m] ↓", "0.25"] in found


def test_changes_are_positive_where_the_run_is_better() -> None:
    against = Baseline("supervised [1]", {"segmentation": 0.4, "depth": 0.2})
    found = rows({**METRICS, "test/delta": 0.0}, against)
    assert found[1] == ["task", "metric", "this run", "supervised [1]", "better by"]
    assert ["segmentation", "miou ↑", "0.5", "0.4", "+25.0 %"] in found
    assert ["depth", "abs_err [m] ↓", "0.25", "0.2", "-25.0 %"] in found
    assert ["delta", "mean over tasks", "", "", "+0.0 %"] in found


def test_a_task_without_labels_says_so() -> None:
    only_depth = {key: value for key, value in METRICS.items() if "segmentation" not in key}
    assert ["segmentation", "no label", ""] in rows(only_depth)


def test_a_baseline_that_lacks_a_task_is_left_out() -> None:
    assert rows(METRICS, Baseline("half", {"depth": 0.2}))[1] == ["task", "metric", "this run"]
