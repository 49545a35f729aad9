"""``report.html``: a run on one page that needs no network and no other file.

The page is made from what the run folder holds (``facts.json``, ``metrics.json``, ``metrics.csv``, ``config.yaml`` and
``panels/``), so that it can be made again at any time. jinja2 escapes every name and value.
"""

from __future__ import annotations

import base64
import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from jtr_lightning.disk import write_text
from jtr_lightning.metric_facts import MetricFacts, delta
from jtr_lightning.reporting.curves import draw, panels_of, read_log
from jtr_lightning.reporting.facts import read_facts
from jtr_lightning.run_folder import CONFIG, METRICS_LOG, PANELS, read_metrics

REPORT = "report.html"
TEMPLATE = "report.html.j2"
SCORE = "score"
"""The metric of all tasks together, by which the best epoch is chosen."""
PATTERNS = 24
"""Rows of the availability table; rarer sets of labels are counted together."""
_PANEL = re.compile(r"epoch_(\d+)\.png")
STAGES = {"test": "Test set", "val": "Validation set, best epoch"}


@dataclass(frozen=True)
class MetricRow:
    """A line of a table of results.

    Attributes:
        task: Task name, or ``all``.
        metric: Name of the metric, with its unit and an arrow to the better side, where these are known.
        value: This run's.
        headline: Whether the metric stands for the task.
        against: For each baseline its value and how much better this run is in percent; None where not known.
    """

    task: str
    metric: str
    value: float
    headline: bool
    against: Sequence[tuple[str, float | None]]


@dataclass(frozen=True)
class Results:
    """The results of one stage.

    Attributes:
        title: What was measured.
        baselines: Names of the columns of baselines.
        rows: A line for each metric.
        deltas: For each baseline the mean over the tasks in percent, None where not known.
    """

    title: str
    baselines: Sequence[str]
    rows: Sequence[MetricRow]
    deltas: Sequence[float | None]


def write_report(folder: Path) -> Path:
    """Makes the page of a run.

    Args:
        folder: The run folder.

    Returns:
        The page's path.

    Raises:
        ConfigError: The folder has no ``facts.json``.
    """
    path = folder / REPORT
    write_text(path, page(folder))
    return path


def page(folder: Path) -> str:
    """The page of a run.

    Args:
        folder: The run folder.

    Returns:
        HTML.

    Raises:
        ConfigError: The folder has no ``facts.json``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    facts = read_facts(folder)
    metrics = read_metrics(folder)
    environment = Environment(
        loader=PackageLoader("jtr_lightning.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    config = folder / CONFIG
    return environment.get_template(TEMPLATE).render(
        title=f"{folder.absolute().parent.name}/{folder.absolute().name}",
        facts=facts,
        labels=_labels(facts),
        best_epoch=metrics.get("best_epoch"),
        results=[each for stage in STAGES if (each := results(stage, metrics, facts)) is not None],
        scored=any(f"{stage}/{SCORE}" in metrics for stage in STAGES),
        unknown=_unknown(facts),
        curves=_curves(folder, facts),
        pictures=_pictures(folder),
        number=number,
        config=config.read_text(encoding="utf-8") if config.is_file() else "",
    )


def results(stage: str, metrics: Mapping[str, float], facts: Mapping[str, Any]) -> Results | None:
    """The table of one stage.

    Args:
        stage: ``val`` or ``test``.
        metrics: What ``metrics.json`` holds.
        facts: What ``facts.json`` holds.

    Returns:
        The table; None without a result.
    """
    tasks: dict[str, Any] = facts["tasks"]
    headlines = {
        name: metrics[key]
        for name, task in tasks.items()
        if (key := f"{stage}/{name}/{task['headline']}") in metrics
    }
    against = [
        {name: _baseline_value(baseline, stage, name, task) for name, task in tasks.items()}
        for baseline in facts["baselines"]
    ]
    rows = [row for name in tasks for row in _rows(stage, name, tasks[name], metrics, against)]
    if not rows:
        return None
    if (score := metrics.get(f"{stage}/{SCORE}")) is not None:
        rows.append(MetricRow("all", f"{SCORE} ↑", score, headline=True, against=[("", None)] * len(against)))
    better = {name: bool(task["higher_is_better"]) for name, task in tasks.items()}
    return Results(
        title=STAGES[stage],
        baselines=[baseline["name"] for baseline in facts["baselines"]],
        rows=rows,
        deltas=[delta(headlines, {k: v or 0.0 for k, v in values.items()}, better) for values in against],
    )


def results_table(stage: str, folder: Path) -> tuple[list[str], list[list[Any]]] | None:
    """The results of one stage as numbers, for loggers.

    Args:
        stage: ``val`` or ``test``.
        folder: The run folder.

    Returns:
        Heads and rows; None without a result.

    Raises:
        ConfigError: The folder has no ``facts.json``.
    """
    facts, metrics = read_facts(folder), read_metrics(folder)
    found = results(stage, metrics, facts)
    if found is None:
        return None
    heads = ["task", "metric", "headline", "this run"]
    heads += [f"better than {name} by percent" for name in found.baselines]
    rows: list[list[Any]] = [
        [row.task, row.metric, row.headline, row.value, *(better for _, better in row.against)]
        for row in found.rows
    ]
    if found.baselines:
        rows.append(["all", "delta", True, None, *found.deltas])
    return heads, rows


def _rows(
    stage: str,
    name: str,
    task: Mapping[str, Any],
    metrics: Mapping[str, float],
    against: Sequence[Mapping[str, float | None]],
) -> list[MetricRow]:
    prefix = f"{stage}/{name}/"
    found = {key.removeprefix(prefix): value for key, value in metrics.items() if key.startswith(prefix)}
    known = {key: MetricFacts(**facts) for key, facts in task.get("metrics", {}).items()}
    known[task["headline"]] = MetricFacts(task["unit"], task["higher_is_better"])
    rows = []
    for key in sorted(found, key=lambda k: k != task["headline"]):
        headline = key == task["headline"]
        rows.append(
            MetricRow(
                task=name,
                metric=known[key].head(key) if key in known else key,
                value=found[key],
                headline=headline,
                against=[_compared(found[key], values[name], task, headline) for values in against],
            )
        )
    return rows


def _compared(
    value: float, reference: float | None, task: Mapping[str, Any], headline: bool
) -> tuple[str, float | None]:
    if not headline or not reference:
        return ("", None)
    sign = 1 if task["higher_is_better"] else -1
    return (number(reference), 100 * sign * (value - reference) / reference)


def _baseline_value(
    baseline: Mapping[str, Any], stage: str, name: str, task: Mapping[str, Any]
) -> float | None:
    values = baseline["values"]
    found = values.get(f"{stage}/{name}/{task['headline']}", values.get(name))
    return None if found is None else float(found)


def number(value: float) -> str:
    """A metric as it is shown."""
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _unknown(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The usual baselines that are not given, and the option that names each."""
    given = {baseline.get("role") for baseline in facts["baselines"]}
    return [named for role, named in ROLES.items() if role not in given]


ROLES = {
    "supervised": ("supervised multi-task training", "--model.baseline"),
    "single_task": ("single-task training", "--report.single_task"),
}
"""Which baselines results are usually compared with, and the option that names each."""


def _curves(folder: Path, facts: Mapping[str, Any]) -> str:
    """The curves; empty where nothing was logged yet."""
    tasks = facts["tasks"]
    marks = {
        name: {
            baseline["name"]: value
            for baseline in facts["baselines"]
            if (value := _baseline_value(baseline, "val", name, task)) is not None
        }
        for name, task in tasks.items()
    }
    # The delta that is logged is that of the module's own baseline.
    names = [baseline["name"] for baseline in facts["baselines"] if baseline.get("role") == "supervised"]
    panels = panels_of(read_log(folder / METRICS_LOG), tasks, marks, *names[:1])
    if not panels:
        return ""
    return draw(panels)


def _labels(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The availability table as it is shown."""
    labels = facts["labels"]
    total = max(1, labels["samples"])
    shown = labels["patterns"][:PATTERNS]
    rest = labels["patterns"][PATTERNS:]
    return {
        "names": list(labels["counts"]),
        "counts": [(n, 100 * n / total) for n in labels["counts"].values()],
        "patterns": [(p["labelled"], p["samples"], 100 * p["samples"] / total) for p in shown],
        "more": (len(rest), sum(p["samples"] for p in rest)),
        "pairs": labels["pairs"],
        "samples": labels["samples"],
    }


def _pictures(folder: Path) -> list[tuple[str, str]]:
    """Title and data URI of the last panels, and of the first where there are more; no damaged ones."""
    found = [(_PANEL.fullmatch(path.name), path) for path in (folder / PANELS).glob("*.png")]
    by_epoch = {int(name[1]): path for name, path in found if name}
    shown = []
    for epoch in sorted({max(by_epoch), min(by_epoch)}, reverse=True) if by_epoch else []:
        with contextlib.suppress(OSError, SyntaxError):  # Pillow has both for a damaged file
            shown.append((f"Epoch {epoch}", _data_uri(by_epoch[epoch])))
    return shown


def _data_uri(path: Path) -> str:
    """A picture as part of the page. WebP without loss takes half of the place of PNG."""
    buffer = io.BytesIO()
    with Image.open(path) as picture:
        picture.save(buffer, format="WEBP", lossless=True)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
