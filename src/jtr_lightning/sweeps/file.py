"""A W&B sweep file as far as it can be run without W&B."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jtr_lightning.disk import read_yaml
from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.sweeps.parameters import Parameter, read_parameters

METHODS = ("random", "grid", "bayes")
_READ = {"program", "method", "metric", "parameters", "command", "early_terminate", "run_cap"}
_OF_THE_SERVER = {"name", "description", "project", "entity", "apiVersion", "kind", "controller"}
"""Keys that say where W&B keeps the sweep; a local sweep needs none of them."""
_JTR = {"jtr", "jtr_lightning"}
_ENVIRONMENT = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


@dataclass(frozen=True)
class Rungs:
    """W&B's early termination: successive halving.

    Attributes:
        first: Validations before the first decision.
        factor: One in so many goes on, and each rung is so many times as far as the one before.
    """

    first: int
    factor: int


@dataclass(frozen=True)
class Sweep:
    """What a sweep file asks for.

    Attributes:
        path: The file.
        method: ``random``, ``grid`` or ``bayes``.
        metric: Name of the metric, as W&B has it.
        maximize: Whether more of it is better.
        parameters: What is varied.
        rungs: When trials end early; None for never.
        cap: Number of trials; None if the file does not say.
        command: The command with its macros.
        program: What stands for ``${program}``.
    """

    path: Path
    method: str
    metric: str
    maximize: bool
    parameters: Sequence[Parameter]
    rungs: Rungs | None
    cap: int | None
    command: Sequence[str]
    program: str

    def fit_arguments(self, values: Mapping[str, Any]) -> list[str]:
        """What follows ``jtr fit`` in the command of a trial, as W&B's agent writes it.

        Args:
            values: Parameter name to value.

        Returns:
            Arguments.
        """
        words = expanded(self.command, self.program, values)
        return words[_position_of_fit(words, self.path) + 1 :]


def read_sweep(path: str | Path) -> Sweep:
    """Reads a sweep file.

    Args:
        path: A YAML file.

    Returns:
        What it asks for.

    Raises:
        ConfigError: The file is missing, makes no sense, or asks for something that needs W&B's server.
    """
    path = Path(path)
    tree = _load(path)
    for key in tree:
        if key not in _READ | _OF_THE_SERVER:
            raise ConfigError(
                f"The sweep file '{path}' has `{key}`, which a local sweep does not take; "
                f"{did_you_mean(str(key), _READ)}"
            )
    method = tree.get("method")
    if method not in METHODS:
        raise ConfigError(
            f"`method` of the sweep file '{path}' should be one of {', '.join(METHODS)}; found {method!r}."
        )
    metric, maximize = _metric(tree.get("metric"), path)
    program = str(tree.get("program", ""))
    command = [
        str(word) for word in tree.get("command") or ["${env}", "${interpreter}", "${program}", "${args}"]
    ]
    cap = tree.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise ConfigError(f"`run_cap` of the sweep file '{path}' should be a number above 0; found {cap!r}.")
    sweep = Sweep(
        path=path,
        method=method,
        metric=metric,
        maximize=maximize,
        parameters=read_parameters(tree.get("parameters")),
        rungs=_rungs(tree.get("early_terminate"), path),
        cap=cap,
        command=command,
        program=program,
    )
    _position_of_fit(expanded(command, program, {}), path)
    if not {"${args}", "${args_no_equals}"} & set(command):
        raise ConfigError(
            f"`command` of the sweep file '{path}' should have '${{args}}', where the parameters go; found none."
        )
    return sweep


def expanded(command: Sequence[str], program: str, values: Mapping[str, Any]) -> list[str]:
    """A command with its macros replaced, as W&B's agent does it.

    Args:
        command: Words, some of which are macros.
        program: What ``${program}`` stands for.
        values: Parameter name to value.

    Returns:
        Words.

    Raises:
        ConfigError: A macro is not known here.
    """
    macros = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": [sys.executable],
        "${program}": [program],
        "${args}": [f"--{name}={value}" for name, value in values.items()],
        "${args_no_equals}": [word for name, value in values.items() for word in (f"--{name}", str(value))],
    }
    words: list[str] = []
    for word in command:
        filled = _ENVIRONMENT.sub(lambda found: os.environ.get(found[1], found[1]), word)
        if filled.startswith("${") and filled not in macros:
            raise ConfigError(
                f"A command of a local sweep has the macros {', '.join(macros)} and ${{envvar:NAME}}; found {filled}."
            )
        words += macros.get(filled, [filled])
    return words


def _load(path: Path) -> dict[str, Any]:
    try:
        tree = read_yaml(path)
    except OSError as error:
        raise ConfigError(
            f"jtr sweep should be given a sweep file; found '{path}': {error.strerror}. Give the path of one, such as "
            "experiments/sweeps/random.yaml."
        ) from error
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(
            f"The sweep file '{path}' should be YAML; {' '.join(str(error).split())}."
        ) from error
    if not isinstance(tree, dict):
        raise ConfigError(
            f"The sweep file '{path}' should hold `method`, `metric` and `parameters`; found other content."
        )
    return tree


def _metric(given: Any, path: Path) -> tuple[str, bool]:
    if not isinstance(given, Mapping) or "name" not in given:
        raise ConfigError(
            f"The sweep file '{path}' should say which metric to search by, as `metric: {{name: val/score, goal: "
            f"maximize}}`; found {given!r}."
        )
    for key in given:
        if key not in ("name", "goal"):
            raise ConfigError(
                f"`metric` of the sweep file '{path}' has `{key}`, which a local sweep does not take; leave it out."
            )
    goal = given.get("goal", "minimize")  # W&B's default
    if goal not in ("minimize", "maximize"):
        raise ConfigError(f"`goal` of the metric in '{path}' should be minimize or maximize; found {goal!r}.")
    return str(given["name"]), goal == "maximize"


def _rungs(given: Any, path: Path) -> Rungs | None:
    """Where trials are compared, from W&B's two ways to say so."""
    if given is None:
        return None
    where = f"`early_terminate` of the sweep file '{path}'"
    if not isinstance(given, Mapping) or given.get("type") != "hyperband":
        raise ConfigError(f"{where} should have `type: hyperband`; found {given!r}.")
    for key in given:
        if key not in ("type", "min_iter", "max_iter", "s", "eta", "strict"):
            raise ConfigError(
                f"{where} has `{key}`, which there is not; known are min_iter, max_iter, s, eta."
            )
    if given.get("strict"):
        raise ConfigError(f"{where} has `strict`, which a local sweep does not take; leave it out.")
    for key in ("min_iter", "max_iter", "s", "eta"):
        value, least = given.get(key, 2), 2 if key == "eta" else 0
        if not isinstance(value, int | float) or not float(value).is_integer() or value < least:
            raise ConfigError(
                f"{where} should have a whole number `{key}` of at least {least}; found {value!r}."
            )
    factor = given.get("eta", 3)
    if ("min_iter" in given) == ("max_iter" in given):
        raise ConfigError(
            f"{where} should have either `min_iter` or `max_iter` and `s`; found {dict(given)}."
        )
    if "min_iter" in given:
        first = int(given["min_iter"])
    else:
        first = int(given["max_iter"]) // int(factor) ** int(given.get("s", 1))
    return Rungs(max(1, first), int(factor))


def _position_of_fit(words: Sequence[str], path: Path) -> int:
    for i, word in enumerate(words[:-1]):
        if Path(word).name in _JTR and words[i + 1] == "fit":
            return i + 1
    raise ConfigError(
        f"`command` of the sweep file '{path}' should call `jtr fit`, as [${{env}}, jtr, fit, --config, FILE, "
        f"${{args}}]; found {' '.join(words)!r}."
    )
