"""Results as a Markdown document with the tables of the papers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from jtr_lightning.comparison.plan import FULL, Labels
from jtr_lightning.comparison.results import Results
from jtr_lightning.comparison.statistics import (
    Paired,
    Summary,
    delta,
    gap_closed,
    paired_difference,
    summary,
)

Seeds = dict[int, float]
"""A value for each seed."""

_NOTES = """\
Numbers are of the test set, of the checkpoint that was best on the validation set: mean ± standard deviation (n - 1)
over the seeds. An empty cell was not run. An arrow shows the metric's better direction.

* **delta vs supervised MTL**, **delta vs STL**: mean relative improvement over the tasks' metrics, in percent, of each
  seed against the mean over seeds of supervised multi-task training, or of single-task training, with the same labels.
* **gap closed**: (method - supervised MTL) / (supervised MTL with full labels - supervised MTL), of each seed against
  the means over seeds: how much of what missing labels cost a method wins back. Empty for a task that lost nothing by
  them; the mean is over the other tasks.
* **time** is wall-clock time of a training with its validation, **memory** its peak: of the process, or on a GPU of
  that GPU's."""


def report(results: Results, command: str, plots: Mapping[str, str] | None = None) -> str:
    """The whole document.

    Args:
        results: What is finished.
        command: The command that repeats it.
        plots: Title to file name of plots.

    Returns:
        Markdown.
    """
    parts = ["# Comparison", _overview(results, command), _NOTES]
    whole = [which for which in results.labels if which.fraction is None]
    for which in whole:
        parts += [f"## {which.title}", results_table(results, which)]
        for title, table in (
            ("Gap closed by task", gap_table(results, which)),
            (
                f"Difference to {results.reference} of the same seed, with its 95 % confidence interval (Student's t)",
                paired_table(results, which),
            ),
        ):
            if table:
                parts += [f"{title}:", table]
    if any(which.fraction is not None for which in results.labels):
        parts += ["## Share of labels", *_fraction_tables(results)]
    parts += [f"![{title}]({file})" for title, file in (plots or {}).items()]
    return "\n\n".join(parts) + "\n"


def _overview(results: Results, command: str) -> str:
    done, planned = len(results.by_name), len(results.runs)
    commits = sorted({result.commit for result in results.by_name.values()})
    devices = sorted({f"{r.device} ({r.threads} threads)" for r in results.by_name.values()})
    lines = [
        f"{done} of {planned} runs are finished; `results.csv` has each with its configuration's key.",
        "",
        f"* Command: `{command}`",
        f"* Commit: {', '.join(commits) or 'none yet'}",
        f"* Device: {', '.join(devices) or 'none yet'}",
        *(
            f"* {title}: {name or f'none of the methods, so {without}'}"
            for title, name, without in (
                ("Supervised MTL", results.baseline, "its delta and the gap closed are left out"),
                ("STL", results.single_task, "its delta is left out"),
                ("Paired differences to", results.reference, "they are left out"),
            )
        ),
    ]
    return "\n".join(lines)


def results_table(results: Results, labels: Labels) -> str:
    """The papers' table of one scenario: a row for each method."""
    tasks = results.tasks
    heads = ["method", *(_task_head(name, results) for name in tasks)]
    baselines = {
        title: base
        for title, base in (("supervised MTL", results.baseline), ("STL", results.single_task))
        if base is not None
    }
    heads += [f"delta vs {title} [%] ↑" for title in baselines]
    with_gap = results.baseline is not None and labels != FULL
    heads += ["gap closed [%] ↑"] * with_gap + ["time [min]", "memory [MiB]", "seeds"]
    rows = []
    for method in _methods_with(results, labels):
        values = results.headlines(method, labels)
        costs = results.of(method, labels).values()
        row = [method, *(_cell(values[name].values()) for name in tasks)]
        row += [_cell(deltas(results, method, base, labels).values(), "+.2f") for base in baselines.values()]
        if with_gap:
            row.append(_cell(_mean_gaps(gaps(results, method, labels)).values(), ".1f"))
        row += [
            _cell([r.train_seconds / 60 for r in costs], ".1f"),
            _cell([r.peak_memory / 2**20 for r in costs], ".0f"),
            str(len(costs)) if costs else "",
        ]
        rows.append(row)
    return _table(heads, rows)


def gap_table(results: Results, labels: Labels) -> str:
    """How much of each task's gap a method closes; empty without a baseline, and for full labels."""
    if results.baseline is None or labels == FULL:
        return ""
    rows = []
    for method in _methods_with(results, labels):
        if method != results.baseline:
            closed = gaps(results, method, labels)
            cells = [_cell(closed[name].values(), ".1f") for name in results.tasks]
            rows.append([method, *cells, _cell(_mean_gaps(closed).values(), ".1f")])
    return _table(["gap closed [%] ↑", *results.tasks, "mean"], rows) if rows else ""


def paired_table(results: Results, labels: Labels) -> str:
    """Each method minus the reference, seed by seed; empty without a reference."""
    reference = results.reference
    if reference is None or not results.of(reference, labels):
        return ""
    base = results.baseline
    ours = results.headlines(reference, labels)
    rows = []
    for method in _methods_with(results, labels):
        if method == reference:
            continue
        theirs = results.headlines(method, labels)
        pairs = [paired_difference(theirs[name], ours[name]) for name in results.tasks]
        cells = [_interval(pair, "+.4g") for pair in pairs]
        if base is not None:
            change = paired_difference(
                deltas(results, method, base, labels), deltas(results, reference, base, labels)
            )
            cells.append(_interval(change, "+.2f"))
        number = max((pair.number for pair in pairs if pair is not None), default=0)
        rows.append([method, *cells, str(number) if number else ""])
    heads = [f"method - {reference}", *(_task_head(name, results) for name in results.tasks)]
    heads += ["delta vs supervised MTL ↑"] * (base is not None) + ["pairs"]
    return _table(heads, rows) if rows else ""


def deltas(results: Results, method: str, base: str, labels: Labels) -> Seeds:
    """Each seed's delta in percent against a baseline's mean over seeds; only where every task has a number."""
    against = {name: fmean(v.values()) for name, v in results.headlines(base, labels).items() if v}
    better = {name: task.higher_is_better for name, task in results.tasks.items()}
    found = {
        seed: delta(result.headlines(), against, better)
        for seed, result in results.of(method, labels).items()
    }
    return {seed: value for seed, value in found.items() if value is not None}


def gaps(results: Results, method: str, labels: Labels) -> dict[str, Seeds]:
    """For each task and seed the share of the gap that is closed, in percent."""
    values = results.headlines(method, labels)
    partial = results.headlines(results.baseline, labels)
    full = results.headlines(results.baseline, FULL)
    closed: dict[str, Seeds] = {}
    for name, task in results.tasks.items():
        closed[name] = {}
        if not partial[name] or not full[name]:
            continue
        low, high = fmean(partial[name].values()), fmean(full[name].values())
        for seed, value in values[name].items():
            share = gap_closed(value, low, high, task.higher_is_better)
            if share is not None:
                closed[name][seed] = 100 * share
    return closed


def _mean_gaps(closed: Mapping[str, Seeds]) -> Seeds:
    """Each seed's mean over the tasks that have a gap."""
    with_gap = [seeds for seeds in closed.values() if seeds]
    common = set.intersection(*(set(seeds) for seeds in with_gap)) if with_gap else set()
    return {seed: fmean(seeds[seed] for seeds in with_gap) for seed in sorted(common)}


def _fraction_tables(results: Results) -> list[str]:
    shares = [which for which in results.labels if which.fraction is not None]
    tables = []
    for name in results.tasks:
        rows = [
            [method, *(_cell(results.headlines(method, which)[name].values()) for which in shares)]
            for method in results.methods
        ]
        heads = [_task_head(name, results), *(f"{100 * (which.fraction or 0):g} %" for which in shares)]
        tables.append(_table(heads, rows))
    for title, base in (("supervised MTL", results.baseline), ("STL", results.single_task)):
        if base is not None:
            rows = [
                [method, *(_cell(deltas(results, method, base, which).values(), "+.2f") for which in shares)]
                for method in results.methods
            ]
            heads = [f"delta vs {title} [%] ↑", *(f"{100 * (which.fraction or 0):g} %" for which in shares)]
            tables.append(_table(heads, rows))
    return tables


def _methods_with(results: Results, labels: Labels) -> list[str]:
    planned = {run.method for run in results.runs if run.labels == labels}
    return [method for method in results.methods if method in planned]


def task_head(name: str, headline: str, unit: str, higher_is_better: bool) -> str:
    """A task's metric for people, e.g. ``depth abs_err [m] ↓``."""
    return f"{name} {headline}{f' [{unit}]' if unit else ''} {'↑' if higher_is_better else '↓'}"


def _task_head(name: str, results: Results) -> str:
    task = results.tasks[name]
    return task_head(name, task.headline, task.unit, task.higher_is_better)


def _cell(values: Iterable[float], form: str = ".4g") -> str:
    found: Summary | None = summary(list(values))
    if found is None:
        return ""
    deviation = "" if found.deviation is None else f" ± {found.deviation:{form.lstrip('+')}}"
    return f"{_number(found.mean, form)}{deviation}"


def _interval(pair: Paired | None, form: str) -> str:
    if pair is None:
        return ""
    ends = (
        ""
        if pair.low is None or pair.high is None
        else f" [{_number(pair.low, form)}, {_number(pair.high, form)}]"
    )
    return f"{_number(pair.mean, form)}{ends}"


def _number(value: float, form: str) -> str:
    """A number that is rounded to 0 has no minus."""
    text = f"{value:{form}}"
    return f"{0.0:{form}}" if float(text) == 0 else text


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
