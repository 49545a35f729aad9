"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from jtr_lightning.baseline import Baseline
from jtr_lightning.tasks import Task


def metrics_table(
    metrics: Mapping[str, float],
    stage: str,
    tasks: Mapping[str, Task],
    baseline: Baseline | None = None,
    title: str | None = None,
) -> Table:
    """Every metric of every task, the headline metrics first and beside the baseline's.

    Args:
        metrics: Metrics by key, ``<stage>/<task>/<metric>``; other keys are ignored.
        stage: ``val`` or ``test``.
        tasks: Task name to task.
        baseline: What to compare with; its columns are left out without one.
        title: The table's title.

    Returns:
        A table to print.
    """
    against = None if baseline is None else baseline.headlines(stage, tasks)
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("task")
    table.add_column("metric")
    table.add_column("this run", justify="right")
    if against is not None and baseline is not None:
        table.add_column(escape(baseline.name), justify="right", overflow="fold")
        table.add_column("better by", justify="right")
    for name, task in tasks.items():
        values = _of_task(metrics, f"{stage}/{name}/")
        if not values:
            table.add_row(escape(name), Text("no label", style="dim"), end_section=True)
            continue
        facts = task.metric_facts()
        for i, key in enumerate(sorted(values, key=lambda k: k != task.headline)):
            cells: list[str | Text] = [
                name if i == 0 else "",
                escape(facts[key].head(key) if key in facts else key),
                _number(values[key]),
            ]
            if against is not None and i == 0:
                cells += [_number(against[name]), _change(values[key], against[name], task)]
            table.add_row(*cells, style="bold" if i == 0 else "dim", end_section=i == len(values) - 1)
    change = metrics.get(f"{stage}/delta")
    if against is not None and change is not None:
        table.add_row("delta", "mean over tasks", "", "", _percent(change), style="bold")
    return table


def _of_task(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _change(value: float, reference: float, task: Task) -> Text:
    sign = 1 if task.higher_is_better else -1
    return _percent(100 * sign * (value - reference) / reference)


def _percent(value: float) -> Text:
    return Text(f"{value:+.1f} %", style="green" if value > 0 else "red" if value < 0 else "")
