"""The result of each run: a file that exists once the run is finished, and all of them as one table."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml

from jtr_lightning.comparison.plan import FULL, Labels, Run
from jtr_lightning.disk import read_object, write_text
from jtr_lightning.errors import ConfigError

CONFIG = "config.yaml"
RESULT = "result.json"
PROGRESS = "progress.txt"
LOG = "log.txt"
LOCK = "lock"
CONFIGS = "configs"
"""The folder beside the tables that has each row's configuration."""
_OURS = re.compile(r"[0-9a-f]{12}\.yaml")
"""Names of the files there, after a run's key."""

Points = Sequence[tuple[int, float]]
"""Numbers of finished epochs, and a metric on the validation set after each."""


@dataclass(frozen=True)
class TaskFacts:
    """What a table needs to know of a task.

    Attributes:
        headline: Name of its headline metric.
        higher_is_better: The metric's direction.
        unit: The metric's unit, empty for none.
    """

    headline: str
    higher_is_better: bool
    unit: str


@dataclass(frozen=True)
class Result:
    """What a finished run leaves.

    Attributes:
        metrics: ``val/...`` of the best epoch, and ``test/<task>/<metric>`` of its checkpoint if it was tested.
        tasks: The tasks in order.
        best_epoch: Epoch of the tested checkpoint, from 0.
        train_seconds: Wall-clock time of the training, validation included.
        peak_memory: Bytes, see ``Costs``.
        device: What it was trained on.
        threads: Threads of the training on the CPU.
        commit: Commit or version of this library; several, joined by "and", of a run that went on with other code.
        points: Task name to the curve of its headline metric.
    """

    metrics: Mapping[str, float]
    tasks: Mapping[str, TaskFacts]
    best_epoch: int
    train_seconds: float
    peak_memory: int
    device: str
    threads: int
    commit: str
    points: Mapping[str, Points] = field(default_factory=dict)

    def headlines(self) -> dict[str, float]:
        """Task name to headline metric, for tasks that have one."""
        keys = {name: f"test/{name}/{task.headline}" for name, task in self.tasks.items()}
        return {name: self.metrics[key] for name, key in keys.items() if key in self.metrics}


def write_result(folder: Path, result: Result) -> None:
    """Writes a result, as a whole or not at all."""
    write_text(folder / RESULT, json.dumps(asdict(result), indent=2) + "\n")


def read_result(folder: Path) -> Result | None:
    """The result of a run, or None if it is not finished.

    Raises:
        ConfigError: The file is damaged.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    try:
        content = read_object(path)
        tasks = {str(name): TaskFacts(**facts) for name, facts in content.pop("tasks").items()}
        metrics = {str(name): float(value) for name, value in content.pop("metrics").items()}
        points = {
            str(name): [(int(epoch), float(value)) for epoch, value in each]
            for name, each in content.pop("points", {}).items()
        }
        return Result(metrics=metrics, tasks=tasks, points=points, **content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"The file '{path}' should hold the result of a finished run; found: {type(error).__name__} ({error}). "
            "Remove it and start the comparison again, which trains this run anew."
        ) from error


@dataclass(frozen=True)
class Results:
    """All runs of a comparison with the results that there are.

    Attributes:
        runs: Every planned run.
        by_name: The finished runs' results by the run's name.
        baseline: Name of supervised multi-task training, or None.
        single_task: Name of single-task training, or None.
        reference: The method that others are compared with in pairs, or None.
    """

    runs: Sequence[Run]
    by_name: Mapping[str, Result]
    baseline: str | None = None
    single_task: str | None = None
    reference: str | None = None

    @property
    def methods(self) -> list[str]:
        """Every method, in the order given."""
        return list(dict.fromkeys(run.method for run in self.runs))

    @property
    def labels(self) -> list[Labels]:
        """Every scenario, in the order given."""
        return list(dict.fromkeys(run.labels for run in self.runs))

    @property
    def full(self) -> Labels:
        """What stands for all labels in the gap: the scenario, or else a share of 1."""
        complete = [which for which in self.labels if which.complete]
        return FULL if FULL in complete or not complete else complete[0]

    @property
    def tasks(self) -> dict[str, TaskFacts]:
        """The tasks, the same in all results; none as long as no run is finished.

        Raises:
            ConfigError: Two runs have other tasks.
        """
        found: dict[str, TaskFacts] = {}
        for name, result in self.by_name.items():
            if found and dict(result.tasks) != found:
                raise ConfigError(
                    f"Compared methods should have the same tasks; run '{name}' has {sorted(result.tasks)}, others "
                    f"have {sorted(found)}, or other metrics. Give all the same --data.tasks."
                )
            found = dict(result.tasks)
        return found

    @property
    def commits(self) -> list[str]:
        """The commits of the finished runs, the most frequent first."""
        counts = Counter(result.commit for result in self.by_name.values())
        return [commit for commit, _ in counts.most_common()]

    def of(self, method: str | None, labels: Labels) -> dict[int, Result]:
        """Seed to result, for the finished runs of a method with some labels."""
        return {
            run.seed: self.by_name[run.name]
            for run in self.runs
            if run.method == method and run.labels == labels and run.name in self.by_name
        }

    def headlines(self, method: str | None, labels: Labels) -> dict[str, dict[int, float]]:
        """Task to seed to headline metric."""
        results = {seed: result.headlines() for seed, result in self.of(method, labels).items()}
        return {
            task: {seed: values[task] for seed, values in results.items() if task in values}
            for task in self.tasks
        }


def read_results(runs: Sequence[Run], root: Path, **roles: str | None) -> Results:
    """Reads what is finished.

    Args:
        runs: Every planned run.
        root: The folder of the runs' folders.
        **roles: ``baseline``, ``single_task`` and ``reference`` of ``Results``.

    Returns:
        The results.
    """
    found = {run.name: read_result(root / run.name) for run in runs}
    return Results(runs, {name: result for name, result in found.items() if result is not None}, **roles)


def write_csv(results: Results, path: Path) -> None:
    """One row for each planned run; the cells of one that is not finished are empty.

    Columns of metrics are the score that the checkpoint was chosen by and everything that was measured on test.
    """
    # It brings Lightning, which reading results does not need.
    from jtr_lightning.run_folder import MONITOR

    keys = dict.fromkeys(key for result in results.by_name.values() for key in result.metrics)
    metrics = [key for key in keys if key == MONITOR or key.startswith("test/")]
    tried = list(dict.fromkeys(name for run in results.runs for name in run.values))
    head = ["method", "scenario", "fraction", "seed", *tried]
    tail = ["best_epoch", "train_seconds", "peak_memory_mib", "device", "threads", "commit", "run"]
    # A trial's configuration is its method's with the options that are in its row.
    tail += [] if tried else ["config"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*head, *metrics, *tail], extrasaction="ignore")
        writer.writeheader()
        for run in results.runs:
            row: dict[str, Any] = {
                "method": run.method,
                "scenario": run.labels.name,
                "fraction": run.labels.fraction,
                "seed": run.seed,
                "config": config_file(run),
                "run": run.name,
                **run.values,
            }
            result = results.by_name.get(run.name)
            if result is not None:
                row.update(
                    result.metrics,
                    best_epoch=result.best_epoch,
                    train_seconds=round(result.train_seconds, 1),
                    peak_memory_mib=round(result.peak_memory / 2**20),
                    device=result.device,
                    threads=result.threads,
                    commit=result.commit,
                )
            writer.writerow(row)


def config_file(run: Run) -> str:
    """Where a run's configuration is, as seen from the tables."""
    return f"{CONFIGS}/{run.key}.yaml"


def write_configs(runs: Sequence[Run], folder: Path) -> None:
    """Writes the configuration of each run beside the tables, and removes those of runs that are in no table any more.

    The folder may be a user's own, who keeps other configs in it.

    Args:
        runs: Every planned run.
        folder: The folder of the tables.
    """
    wanted = {folder / config_file(run): run.config for run in runs}
    (folder / CONFIGS).mkdir(parents=True, exist_ok=True)
    for path in (folder / CONFIGS).glob("*.yaml"):
        if path not in wanted and _OURS.fullmatch(path.name):
            path.unlink()
    for path, config in wanted.items():
        path.write_text(yaml.safe_dump(dict(config), sort_keys=False), encoding="utf-8")
