"""A small search for each method before a comparison: the same number of trials, chosen on the validation set alone.

A search file gives for each method the values of some options of ``jtr fit``; every combination is a trial::

    supervised:
      model.optimizer.lr: [0.0005, 0.001, 0.002, 0.004]
    jtr:
      model.regularizer.distance_weight: [1.0, 4.0]
      model.regularizer.ramp: [0.0, 0.5]

A trial is a run like those of the comparison, with other seeds and without a test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from jtr_lightning.comparison.plan import (
    Labels,
    Method,
    Run,
    as_options,
    refuse_decided,
    resolve,
    seeded,
)
from jtr_lightning.comparison.results import Result, Results
from jtr_lightning.disk import read_yaml
from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.run_folder import MONITOR
from jtr_lightning.sweeps.names import described

Values = dict[str, Any]
"""Option of ``jtr fit``, without hyphens, to value."""


@dataclass(frozen=True)
class Trial:
    """What was reached with some values.

    Attributes:
        values: Option to value.
        seeds: Number of seeds.
        results: Seed to result, of the seeds that are finished.
        failed: Whether a seed's training ended with an error.
    """

    values: Values
    seeds: int
    results: Mapping[int, Result]
    failed: bool

    @property
    def ended(self) -> bool:
        """Whether nothing more is to come."""
        return self.failed or len(self.results) == self.seeds

    @property
    def score(self) -> float | None:
        """Mean over the seeds of the best epoch's validation score; None for a trial that failed or has not ended."""
        if self.failed or not self.ended:
            return None
        mean = fmean(result.metrics.get(MONITOR, math.nan) for result in self.results.values())
        return mean if math.isfinite(mean) else None


@dataclass(frozen=True)
class Choice:
    """What a search chose for a method.

    Attributes:
        options: Option of ``jtr fit`` to value.
        score: The validation score that was reached with it.
        failed: How many of its trials failed.
    """

    options: Values
    score: float
    failed: int = 0


@dataclass(frozen=True)
class Chosen:
    """What a search chose, and how: the content of ``chosen.yaml``.

    Attributes:
        command: The command of the search.
        metric: What was compared: the mean over the seeds, each of its best epoch.
        labels: The scenario, for people.
        seeds: The search's seeds, none of which the comparison may have.
        trials: Number of trials of each method.
        methods: Name of a method to what was chosen for it.
    """

    command: str
    metric: str
    labels: str
    seeds: Sequence[int]
    trials: int
    methods: Mapping[str, Choice]

    @property
    def sentence(self) -> str:
        """How much was searched, for people."""
        seeds = ", ".join(map(str, self.seeds))
        return (
            f"{self.trials} trials of each method on {self.labels} with seed{'s' * (len(self.seeds) > 1)} {seeds}, "
            f"chosen by {self.metric} of the best epoch, without a look at the test set: `{self.command}`"
        )

    def options_of(self, methods: Sequence[Method], seeds: Sequence[int], source: str) -> dict[str, Values]:
        """What each method of a comparison is given.

        Args:
            methods: The comparison's methods.
            seeds: The comparison's seeds.
            source: The file or files, for error messages.

        Returns:
            Method name to options.

        Raises:
            ConfigError: A method was not searched for, or a seed was used in the search.
        """
        both = sorted(set(seeds) & set(self.seeds))
        if both:
            raise ConfigError(
                f"--seeds should have none of the search's; found {both[0]} in '{source}', too. Give others, so that "
                "the numbers are not of the trainings that the options were chosen by."
            )
        for method in methods:
            if method.name not in self.methods:
                raise ConfigError(
                    f"The search in '{source}' should have every compared method; found none for '{method.name}', "
                    f"{did_you_mean(method.name, self.methods)}"
                )
        return {method.name: dict(self.methods[method.name].options) for method in methods}


def read_search(path: str | Path, methods: Sequence[Method]) -> dict[str, list[Values]]:
    """The trials of each method.

    Args:
        path: A search file.
        methods: The methods to search for.

    Returns:
        Method name to the combinations of its values, the last option varying fastest.

    Raises:
        ConfigError: The file cannot be read, lacks a method, or gives one more trials than another.
    """
    tree = _load(path, "--search")
    trials: dict[str, list[Values]] = {}
    for method in methods:
        options = tree.get(method.name)
        if not isinstance(options, dict) or not options:
            hint = "" if method.name in tree else f", {did_you_mean(method.name, map(str, tree))}"
            raise ConfigError(
                f"The search file '{path}' should have options to vary for each method, or the search is not fair; "
                f"found none for '{method.name}'{hint}"
            )
        for name, values in options.items():
            if not isinstance(values, list) or not values:
                raise ConfigError(
                    f"The search file '{path}' should have a list of values for '{name}' of '{method.name}'; found "
                    f"{values!r}."
                )
        names = [str(name) for name in options]
        refuse_decided(f"--{name}" for name in names)
        trials[method.name] = [dict(zip(names, each, strict=True)) for each in product(*options.values())]
    numbers = {name: len(each) for name, each in trials.items()}
    if len(set(numbers.values())) > 1:
        raise ConfigError(
            f"The search file '{path}' should give every method the same number of trials; found "
            f"{', '.join(f'{number} for {name}' for name, number in numbers.items())}."
        )
    return trials


def plan_trials(
    methods: Sequence[Method],
    trials: Mapping[str, Sequence[Values]],
    labels: Labels,
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
) -> list[Run]:
    """All runs of a search.

    Args:
        methods: The methods.
        trials: Each method's trials, as many for each.
        labels: Which labels they are trained with.
        seeds: The seeds.
        overrides: Options for every run, as after ``jtr fit``; a trial's own win.

    Returns:
        Runs by seed, number of the trial and method: an interrupted search has been fair so far.

    Raises:
        ConfigError: A config or an option does not fit, or two trials are one.
    """
    refuse_decided(overrides)
    runs: list[Run] = []
    for number in range(len(next(iter(trials.values())))):
        for method in methods:
            values = trials[method.name][number]
            config = resolve(method.config, labels, [*overrides, *as_options(values)])
            new = [Run(method.name, labels, seed, seeded(config, seed), values) for seed in seeds]
            same = next((run for run in runs if run.method == method.name and run.key == new[0].key), None)
            if same is not None:
                raise ConfigError(
                    f"Every trial of '{method.name}' should be another; found {described(values)} to be the same as "
                    f"{described(same.values)}."
                )
            runs += new
    return sorted(runs, key=lambda run: seeds.index(run.seed))


def trials_of(results: Results, method: str, failed: Collection[Run] = ()) -> list[Trial]:
    """A method's trials in their order, with what is finished of them."""
    by_values: dict[str, list[Run]] = {}
    for run in results.runs:
        if run.method == method:
            by_values.setdefault(json.dumps(run.values), []).append(run)
    return [
        Trial(
            values=dict(runs[0].values),
            seeds=len(runs),
            results={run.seed: results.by_name[run.name] for run in runs if run.name in results.by_name},
            failed=any(run in failed for run in runs),
        )
        for runs in by_values.values()
    ]


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """The trial with the highest score, of equal ones the first; None if one has not ended, or if all failed."""
    scored = [(trial.score, trial) for trial in trials if trial.score is not None]
    if not scored or not all(trial.ended for trial in trials):
        return None
    return max(scored, key=lambda pair: pair[0])[1]


def choose(results: Results, command: str, failed: Collection[Run] = ()) -> Chosen | None:
    """What a search chose.

    Args:
        results: Its trials.
        command: The command that repeats it.
        failed: Runs that ended with an error.

    Returns:
        The choice; None as long as a trial has not ended, or where all of a method's failed.
    """
    methods: dict[str, Choice] = {}
    for method in results.methods:
        trials = trials_of(results, method, failed)
        best = best_of(trials)
        if best is None or best.score is None:
            return None
        methods[method] = Choice(best.values, best.score, sum(trial.failed for trial in trials))
    seeds = sorted({run.seed for run in results.runs})
    number = len(results.runs) // (len(seeds) * len(methods))
    return Chosen(command, MONITOR, results.labels[0].title, seeds, number, methods)


def write_chosen(chosen: Chosen, path: Path) -> None:
    """Writes ``chosen.yaml``."""
    path.write_text(yaml.safe_dump(asdict(chosen), sort_keys=False, width=120), encoding="utf-8")


def read_chosen(paths: Sequence[str | Path]) -> Chosen:
    """Reads what one or more searches wrote, as when a method was searched for later than the others.

    Args:
        paths: Their ``chosen.yaml``; at least one.

    Returns:
        The methods of all files. Its command repeats one search after the other.

    Raises:
        ConfigError: A file cannot be read or is no such file, two have the same method, or one search had another
            budget than the others: other trials, seeds, labels or another metric.
    """
    first, *others = paths
    joined = _read_chosen(first)
    for path in others:
        other = _read_chosen(path)
        for name, one, two in (
            ("trials", joined.trials, other.trials),
            ("seeds", list(joined.seeds), list(other.seeds)),
            ("labels", joined.labels, other.labels),
            ("metric", joined.metric, other.metric),
        ):
            if one != two:
                raise ConfigError(
                    f"The searches of --chosen should be alike, or the comparison is not fair; found the {name} {one} "
                    f"in '{first}' and {two} in '{path}'."
                )
        both = [name for name in other.methods if name in joined.methods]
        if both:
            raise ConfigError(
                f"The searches of --chosen should have each method once; found '{both[0]}' in '{path}' again."
            )
        joined = replace(
            joined,
            command=f"{joined.command} && {other.command}",
            methods={**joined.methods, **other.methods},
        )
    return joined


def _read_chosen(path: str | Path) -> Chosen:
    """Reads what a search wrote.

    Raises:
        ConfigError: The file cannot be read, or is no such file.
    """
    tree = _load(path, "--chosen")
    try:
        methods = {
            name: Choice({**each.pop("options")}, float(each.pop("score")), **each)
            for name, each in tree.pop("methods").items()
        }
        return Chosen(seeds=[int(seed) for seed in tree.pop("seeds")], methods=methods, **tree)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"--chosen should be given the `chosen.yaml` that `jtr compare --search` wrote; found other content in "
            f"'{path}'."
        ) from error


def _load(path: str | Path, option: str) -> dict[str, Any]:
    try:
        tree = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"{option} should be given a file; found '{path}': {error.strerror}.") from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"'{path}' should be YAML; found: {' '.join(str(error).split())}.") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"'{path}' should hold a method in each entry; found other content.")
    return tree
