"""Results as a Markdown document with the tables of the papers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from jtr_lightning.comparison.commit import short
from jtr_lightning.comparison.markdown import cell, interval, table
from jtr_lightning.comparison.plan import Labels
from jtr_lightning.comparison.results import Results, config_file
from jtr_lightning.comparison.statistics import gap_closed, paired_difference, summary
from jtr_lightning.metric_facts import MetricFacts, delta

if TYPE_CHECKING:
    from jtr_lightning.comparison.search import Chosen

Seeds = dict[int, float]
"""A value for each seed."""

_NOTES = """\
Numbers are of the test set, of the checkpoint that was best on the validation set: mean ± standard deviation (n - 1)
over the seeds. An empty cell was not run. (2 of 3) behind a number: one of three seeds gave NaN or infinity and is left
out of it. An arrow shows the metric's better direction.

* **delta vs supervised MTL**, **delta vs STL**: mean relative improvement over the tasks' metrics, in percent, of each
  seed against the mean over seeds of supervised multi-task training, or of single-task training, with the same labels.
  The mean is over the seeds that both have.
* **gap closed**: (method - supervised MTL) / (supervised MTL with full labels - supervised MTL), of each seed against
  the means over the seeds that all three have: how much of what missing labels cost a method wins back. Empty for a
  task that lost nothing by them; the mean is over the other tasks.
* **time** is wall-clock time of a training with its validation, **memory** its peak: of the process, or on a GPU of
  that GPU's. Times tell what a method costs where all runs were trained on one machine, beside as much other work."""

_MOST_TASKS = 4
"""Tasks with which the papers' table is still readable in one piece."""


def report(
    results: Results,
    command: str,
    plots: Mapping[str, str] | None = None,
    chosen: Chosen | None = None,
) -> str:
    """The whole document.

    Args:
        results: What is finished.
        command: The command that repeats it.
        plots: Title to file name of plots.
        chosen: What a search has chosen for the methods, if there was one.

    Returns:
        Markdown.
    """
    parts = ["# Comparison", _overview(results, command, chosen), _NOTES]
    if chosen is not None:
        parts += ["## Chosen options", chosen_table(results.methods, chosen)]
    for which in (which for which in results.labels if which.fraction is None):
        parts += _section(results, which)
    shares = [which for which in results.labels if which.fraction is not None]
    if shares:
        parts += ["## Share of labels", *_fraction_tables(results, shares)]
    for which in shares:
        parts += _section(results, which)
    parts += [f"![{title}]({file})" for title, file in (plots or {}).items()]
    parts += ["## Runs", _RUNS, runs_table(results)] if results.by_name else []
    return "\n\n".join(parts) + "\n"


def _section(results: Results, labels: Labels) -> list[str]:
    parts = [f"## {labels.title}", results_table(results, labels)]
    for title, text in (
        ("Gap closed by task", gap_table(results, labels)),
        (
            f"Difference to {results.reference} of the same seed, with its 95 % confidence interval (Student's t)",
            paired_table(results, labels),
        ),
        ("Cost", cost_table(results, labels)),
    ):
        if text:
            parts += [f"{title}:", text]
    return parts


_RUNS = (
    "`jtr fit --config` with the file of a row trains it again; `results.csv` has each row with every metric."
)


def _overview(results: Results, command: str, chosen: Chosen | None) -> str:
    done, planned = len(results.by_name), len(results.runs)
    commits = results.commits
    devices = sorted(
        {f"{r.device} ({r.threads} thread{'' if r.threads == 1 else 's'})" for r in results.by_name.values()}
    )
    told = ", ".join(short(commit) for commit in commits)
    lines = [
        f"{done} of {planned} runs are finished.",
        "",
        f"* Command: `{command}`",
        f"* Commit: {commits[0] if len(commits) == 1 else f'{told}, see the runs below' if commits else 'none yet'}",
        f"* Device: {', '.join(devices) or 'none yet'}",
        f"* Search: {'none, each method as in its config' if chosen is None else chosen.sentence}",
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


def chosen_table(methods: Sequence[str], chosen: Chosen) -> str:
    """What a search chose for each method."""
    rows = []
    for method in methods:
        choice = chosen.methods[method]
        options = ", ".join(f"`{name}={value}`" for name, value in choice.options.items())
        rows.append([method, options, f"{choice.score:.4g}", str(choice.failed)])
    return table(["method", "options", f"{chosen.metric} ↑", "trials that failed"], rows)


def runs_table(results: Results) -> str:
    """Each finished run with its commit and its configuration."""
    rows = [
        [
            run.method,
            run.labels.title,
            str(run.seed),
            str(result.best_epoch),
            short(result.commit),
            f"[{run.key}]({config_file(run)})",
        ]
        for run in results.runs
        if (result := results.by_name.get(run.name)) is not None
    ]
    return table(["method", "labels", "seed", "best epoch", "commit", "config"], rows)


def results_table(results: Results, labels: Labels) -> str:
    """The papers' table of one scenario: a row for each method; with many tasks what is over all of them by itself."""
    tasks = results.tasks
    baselines = {
        title: base
        for title, base in (("supervised MTL", results.baseline), ("STL", results.single_task))
        if base is not None
    }
    with_gap = results.baseline is not None and not labels.complete
    metric_heads = [_task_head(name, results) for name in tasks]
    total_heads = [f"delta vs {title} [%] ↑" for title in baselines]
    total_heads += [*["gap closed [%] ↑"] * with_gap, "seeds"]
    metrics, totals = [], []
    for method in _methods_with(results, labels):
        values = results.headlines(method, labels)
        metrics.append([method, *(cell(values[name].values()) for name in tasks)])
        total = [_delta_cell(results, method, base, labels) for base in baselines.values()]
        if with_gap:
            total.append(_gap_cell(results, method, labels, _mean_gaps(gaps(results, method, labels))))
        number = len(results.of(method, labels))
        totals.append([*total, str(number) if number else ""])
    return _split(["method", *metric_heads], total_heads, metrics, totals)


def cost_table(results: Results, labels: Labels) -> str:
    """Time and memory of each method; the time also as a multiple of supervised MTL's."""
    base = [r.train_seconds for r in results.of(results.baseline, labels).values()]
    rows = []
    for method in _methods_with(results, labels):
        costs = results.of(method, labels).values()
        row = [method, cell([r.train_seconds / 60 for r in costs], ".1f")]
        if base:
            row.append(cell([r.train_seconds / fmean(base) for r in costs], ".2f"))
        rows.append([*row, cell([r.peak_memory / 2**20 for r in costs], ".0f")])
    return table(["method", "time [min]", *["time / supervised MTL"] * bool(base), "memory [MiB]"], rows)


def gap_table(results: Results, labels: Labels) -> str:
    """How much of each task's gap a method closes; empty without a baseline, and for full labels."""
    if results.baseline is None or labels.complete:
        return ""
    rows = []
    for method in _methods_with(results, labels):
        if method != results.baseline:
            closed = gaps(results, method, labels)
            columns = [*(closed[name] for name in results.tasks), _mean_gaps(closed)]
            rows.append([method, *(_gap_cell(results, method, labels, column) for column in columns)])
    return table(["gap closed [%] ↑", *results.tasks, "mean"], rows) if rows else ""


def paired_table(results: Results, labels: Labels) -> str:
    """Each method minus the reference, seed by seed; empty without a reference."""
    reference = results.reference
    if reference is None or not results.of(reference, labels):
        return ""
    base = results.baseline
    ours = results.headlines(reference, labels)
    rows, totals = [], []
    for method in _methods_with(results, labels):
        if method == reference:
            continue
        theirs = results.headlines(method, labels)
        pairs = [paired_difference(theirs[name], ours[name]) for name in results.tasks]
        rows.append([method, *map(interval, pairs)])
        total = []
        if base is not None:
            # Both against the same mean of the baseline.
            seeds = _common_seeds(results, (method, labels), (reference, labels), (base, labels))
            change = paired_difference(
                deltas(results, method, base, labels, seeds), deltas(results, reference, base, labels, seeds)
            )
            total.append(interval(change, "+.2f"))
        number = max((pair.number for pair in pairs if pair is not None), default=0)
        totals.append([*total, str(number) if number else ""])
    heads = [f"method - {reference}", *(_task_head(name, results) for name in results.tasks)]
    total_heads = [*["delta vs supervised MTL [%] ↑"] * (base is not None), "pairs"]
    return _split(heads, total_heads, rows, totals) if rows else ""


def deltas(
    results: Results, method: str, base: str, labels: Labels, seeds: Collection[int] | None = None
) -> Seeds:
    """Each seed's delta against a baseline's mean over the same seeds.

    Args:
        results: What is finished.
        method: The method.
        base: The baseline.
        labels: The labels of both.
        seeds: The seeds to use; those in which both have a number for every task by default.

    Returns:
        Seed to percent.
    """
    if seeds is None:
        seeds = _common_seeds(results, (method, labels), (base, labels))
    against = _means(results.headlines(base, labels), seeds)
    better = {name: task.higher_is_better for name, task in results.tasks.items()}
    values = results.of(method, labels)
    found = {seed: delta(values[seed].headlines(), against, better) for seed in seeds}
    return {seed: value for seed, value in found.items() if value is not None}


def gaps(results: Results, method: str, labels: Labels) -> dict[str, Seeds]:
    """For each task and seed the share of the gap that is closed, in percent."""
    base, full = results.baseline, results.full
    seeds = _common_seeds(results, (method, labels), (base, labels), (base, full))
    values = results.headlines(method, labels)
    low, high = (_means(results.headlines(base, which), seeds) for which in (labels, full))
    closed: dict[str, Seeds] = {name: {} for name in results.tasks}
    for name in low.keys() & high.keys():
        for seed in seeds & values[name].keys():
            share = gap_closed(
                values[name][seed], low[name], high[name], results.tasks[name].higher_is_better
            )
            if share is not None:
                closed[name][seed] = 100 * share
    return closed


def _common_seeds(results: Results, *rows: tuple[str | None, Labels]) -> set[int]:
    """The seeds in which all of some methods and labels have a number for every task."""
    return set.intersection(*(_whole_seeds(results, method, labels) for method, labels in rows))


def _whole_seeds(results: Results, method: str | None, labels: Labels) -> set[int]:
    """A seed with NaN in one task is as one that was not run: it would be held against the luck of the others."""
    measured = {name for result in results.by_name.values() for name in result.headlines()}
    found = {seed: result.headlines() for seed, result in results.of(method, labels).items()}
    return {
        seed
        for seed, values in found.items()
        if all(math.isfinite(values.get(name, math.nan)) for name in measured)
    }


def _delta_cell(results: Results, method: str, base: str, labels: Labels) -> str:
    """A delta over the seeds, which says how many of those that both were run with have none."""
    run = results.of(method, labels).keys() & results.of(base, labels).keys()
    found = deltas(results, method, base, labels)
    return cell([found.get(seed, math.nan) for seed in run], "+.2f") if found else ""


def _gap_cell(results: Results, method: str, labels: Labels, closed: Seeds) -> str:
    """A closed gap over the seeds, likewise; empty where there is no gap."""
    base, full = results.baseline, results.full
    run = results.of(method, labels).keys() & results.of(base, labels).keys() & results.of(base, full).keys()
    return cell([closed.get(seed, math.nan) for seed in run], ".1f") if closed else ""


def _means(headlines: Mapping[str, Seeds], seeds: Collection[int]) -> dict[str, float]:
    """Each task's mean over some of its seeds; no entry without a number."""
    found = {
        name: summary([value for seed, value in values.items() if seed in seeds])
        for name, values in headlines.items()
    }
    return {name: each.mean for name, each in found.items() if each is not None}


def _mean_gaps(closed: Mapping[str, Seeds]) -> Seeds:
    """Each seed's mean over the tasks that have a gap."""
    with_gap = [seeds for seeds in closed.values() if seeds]
    common = set.intersection(*(set(seeds) for seeds in with_gap)) if with_gap else set()
    return {seed: fmean(seeds[seed] for seeds in with_gap) for seed in sorted(common)}


def _fraction_tables(results: Results, shares: Sequence[Labels]) -> list[str]:
    """What each share's section has, with the shares side by side."""
    percents = [f"{100 * (which.fraction or 0):g} %" for which in shares]
    tables = []
    for name in results.tasks:
        rows = [
            [method, *(cell(results.headlines(method, which)[name].values()) for which in shares)]
            for method in results.methods
        ]
        tables.append(table([_task_head(name, results), *percents], rows))
    for title, base in (("supervised MTL", results.baseline), ("STL", results.single_task)):
        if base is not None:
            rows = [
                [method, *(_delta_cell(results, method, base, which) for which in shares)]
                for method in results.methods
            ]
            tables.append(table([f"delta vs {title} [%] ↑", *percents], rows))
    return tables


def _split(
    heads: list[str], total_heads: list[str], rows: Sequence[list[str]], totals: Sequence[list[str]]
) -> str:
    """One table, or with many tasks two: the tasks' columns, and those over all tasks.

    Args:
        heads: Of the first column, which names the row, and of the tasks'.
        total_heads: Of what is over all tasks.
        rows: The row's name and the tasks' cells.
        totals: The other cells of each row.
    """
    if len(heads) - 1 <= _MOST_TASKS:
        return table([*heads, *total_heads], [row + total for row, total in zip(rows, totals, strict=True)])
    named = [[row[0], *total] for row, total in zip(rows, totals, strict=True)]
    return f"{table(heads, rows)}\n\n{table([heads[0], *total_heads], named)}"


def _methods_with(results: Results, labels: Labels) -> list[str]:
    planned = {run.method for run in results.runs if run.labels == labels}
    return [method for method in results.methods if method in planned]


def task_head(name: str, headline: str, unit: str, higher_is_better: bool) -> str:
    """A task's metric for people, e.g. ``depth abs_err [m] ↓``."""
    return f"{name} {MetricFacts(unit, higher_is_better).head(headline)}"


def _task_head(name: str, results: Results) -> str:
    task = results.tasks[name]
    return task_head(name, task.headline, task.unit, task.higher_is_better)
