"""Every trial of a search as a Markdown document."""

from __future__ import annotations

from collections.abc import Collection

from jtr_lightning.comparison.commit import short
from jtr_lightning.comparison.markdown import cell, table
from jtr_lightning.comparison.plan import Run
from jtr_lightning.comparison.results import Results
from jtr_lightning.comparison.search import Trial, best_of, trials_of
from jtr_lightning.run_folder import MONITOR
from jtr_lightning.sweeps.names import short_names

_NOTES = f"""\
`{MONITOR}` is of the best epoch, mean ± standard deviation (n - 1) over the seeds; the test set was not looked at. The
trial with the highest mean is chosen, of equal ones the first. Every method has the same number of trials."""


def search_report(results: Results, command: str, failed: Collection[Run] = ()) -> str:
    """The whole document.

    Args:
        results: The trials and what is finished of them.
        command: The command that repeats it.
        failed: Runs that ended with an error.

    Returns:
        Markdown.
    """
    by_method = {method: trials_of(results, method, failed) for method in results.methods}
    parts = ["# Search", _overview(results, command, max(map(len, by_method.values()))), _NOTES]
    for method, trials in by_method.items():
        parts += [f"## {method}", trials_table(trials)]
    return "\n\n".join(parts) + "\n"


def _overview(results: Results, command: str, trials: int) -> str:
    seeds = ", ".join(map(str, dict.fromkeys(run.seed for run in results.runs)))
    devices = sorted(
        {f"{r.device} ({r.threads} thread{'' if r.threads == 1 else 's'})" for r in results.by_name.values()}
    )
    return "\n".join(
        [
            f"{len(results.by_name)} of {len(results.runs)} runs are finished; `search.csv` has each.",
            "",
            f"* Command: `{command}`",
            f"* Budget: {trials} trials of each method on {results.labels[0].title}, seeds {seeds}",
            f"* Commit: {', '.join(map(short, results.commits)) or 'none yet'}",
            f"* Device: {', '.join(devices) or 'none yet'}",
        ]
    )


def trials_table(trials: list[Trial]) -> str:
    """A method's trials in the order of the search file, the chosen one in bold."""
    best = best_of(trials)
    names = short_names(list(trials[0].values))
    rows = []
    for trial in trials:
        state = (
            "chosen" if trial is best else "failed" if trial.failed else "" if trial.ended else "not finished"
        )
        row = [
            *(str(value) for value in trial.values.values()),
            cell(result.metrics[MONITOR] for result in trial.results.values()),
            cell([result.best_epoch for result in trial.results.values()], ".0f"),
            cell([result.train_seconds / 60 for result in trial.results.values()], ".1f"),
            state,
        ]
        rows.append([f"**{text}**" if trial is best and text else text for text in row])
    return table([*names.values(), f"{MONITOR} ↑", "best epoch", "time [min]", ""], rows)
