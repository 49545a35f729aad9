"""The parameters of a W&B sweep file, drawn by Optuna."""

from __future__ import annotations

import json
import math
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from jtr_lightning.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from optuna import Trial

Scalar = str | int | float | bool


class Parameter(ABC):
    """What a search varies.

    Args:
        name: The option of ``jtr fit``, without hyphens.
    """

    logarithmic: bool = False

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def suggest(self, trial: Trial) -> Any:
        """A value for a trial."""

    def grid(self) -> list[Scalar]:
        """Every value, as Optuna keeps it.

        Raises:
            ConfigError: There are infinitely many.
        """
        raise ConfigError(
            f"Every parameter of a sweep with `method: grid` should have a list of `values`, or whole numbers between "
            f"`min` and `max`; found a continuous range for '{self.name}'. Give `values`, or take `method: random`."
        )


class Constant(Parameter):
    """One value."""

    def __init__(self, name: str, value: Any) -> None:
        super().__init__(name)
        self.value = value

    def suggest(self, trial: Trial) -> Any:
        del trial
        return self.value

    def grid(self) -> list[Scalar]:
        return []


class Choice(Parameter):
    """One of several values, lists and dicts among them."""

    def __init__(self, name: str, values: Sequence[Any]) -> None:
        super().__init__(name)
        # Optuna's storage keeps plain values only.
        self.kept = {self._key(value): value for value in values}

    @staticmethod
    def _key(value: Any) -> Scalar:
        return value if isinstance(value, str | int | float | bool) else json.dumps(value)

    def suggest(self, trial: Trial) -> Any:
        return self.kept[cast(Scalar, trial.suggest_categorical(self.name, list(self.kept)))]

    def grid(self) -> list[Scalar]:
        return list(self.kept)


class Whole(Parameter):
    """A whole number between two, both included."""

    def __init__(self, name: str, low: int, high: int) -> None:
        super().__init__(name)
        self.low, self.high = low, high

    def suggest(self, trial: Trial) -> int:
        return trial.suggest_int(self.name, self.low, self.high)

    def grid(self) -> list[Scalar]:
        return list(range(self.low, self.high + 1))


class Real(Parameter):
    """A number between two, evenly or evenly in its logarithm, rounded to multiples of a step if there is one."""

    def __init__(
        self, name: str, low: float, high: float, logarithmic: bool = False, step: float | None = None
    ) -> None:
        super().__init__(name)
        self.low, self.high, self.logarithmic, self.step = low, high, logarithmic, step

    def suggest(self, trial: Trial) -> float:
        value = trial.suggest_float(self.name, self.low, self.high, log=self.logarithmic)
        if self.step is None:
            return value
        rounded = round(value / self.step) * self.step
        return float(f"{min(max(rounded, self.low), self.high):.12g}")  # 0.30000000000000004 helps nobody


_BOUNDS = {
    "int_uniform": (),
    "uniform": (),
    "q_uniform": ("q",),
    "log_uniform": (),
    "log_uniform_values": (),
    "q_log_uniform": ("q",),
    "q_log_uniform_values": ("q",),
}
"""Distributions between ``min`` and ``max``, and what else each may be given."""
_LARGEST_LOGARITHM = math.log(sys.float_info.max)


def read_parameters(tree: Any) -> list[Parameter]:
    """The parameters of a sweep file.

    Args:
        tree: What stands under ``parameters``.

    Returns:
        One for each name.

    Raises:
        ConfigError: Something is missing, makes no sense, or is no part of local sweeps.
    """
    if not isinstance(tree, Mapping) or not tree:
        raise ConfigError(
            f"A sweep file should have `parameters`, each with `values`, `value` or `min` and `max`; found {tree!r}."
        )
    return [_read(str(name), given) for name, given in tree.items()]


def _read(name: str, given: Any) -> Parameter:
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"The sweep's parameter '{name}' should have `values`, `value` or `min` and `max`; found {given!r}."
        )
    if "parameters" in given:
        nested = given["parameters"]
        example = next(iter(nested), "lr") if isinstance(nested, Mapping) else "lr"
        raise ConfigError(
            f"A local sweep has no nested parameters; found some in '{name}'. Write each by its whole name, such as "
            f"{name}.{example}."
        )
    kind = given.get("distribution", _kind(given))
    if kind == "constant":
        _check_keys(name, given, {"value"})
        return Constant(name, _no_null(name, given["value"]))
    if kind == "categorical":
        _check_keys(name, given, {"values"})
        values = given["values"]
        if not isinstance(values, list) or not values:
            raise ConfigError(
                f"`values` of the sweep's parameter '{name}' should be a list; found {values!r}."
            )
        return Choice(name, [_no_null(name, value) for value in values])
    if not isinstance(kind, str) or kind not in _BOUNDS:
        known = ["constant", "categorical", *_BOUNDS]
        raise ConfigError(
            f"The sweep's parameter '{name}' has the distribution '{kind}', which a local sweep does not draw from; "
            f"{did_you_mean(str(kind), known)}"
        )
    _check_keys(name, given, {"min", "max", *_BOUNDS[kind]})
    return _between(name, kind, given)


def _kind(given: Mapping[str, Any]) -> str:
    """The distribution that W&B takes where none is named."""
    if "value" in given:
        return "constant"
    if "values" in given:
        return "categorical"
    whole = all(isinstance(given.get(key), int) for key in ("min", "max"))
    return "int_uniform" if whole else "uniform"


def _check_keys(name: str, given: Mapping[str, Any], wanted: set[str]) -> None:
    optional = {"distribution", "q"}
    missing = sorted(wanted - optional - set(given))
    if missing:
        raise ConfigError(
            f"The sweep's parameter '{name}' should have {' and '.join(f'`{key}`' for key in missing)}; found "
            f"{sorted(given)}."
        )
    for key in given:
        if key not in wanted | {"distribution"}:
            raise ConfigError(
                f"The sweep's parameter '{name}' has `{key}`, which a local sweep does not take; "
                f"{did_you_mean(key, wanted)}"
            )


def _no_null(name: str, value: Any) -> Any:
    if value is None:
        raise ConfigError(
            f"The sweep's parameter '{name}' should have the text 'null' where nothing is meant (W&B writes an empty "
            "value as None, which jtr fit does not understand); found an empty value."
        )
    return value


def _between(name: str, kind: str, given: Mapping[str, Any]) -> Parameter:
    low, high = given["min"], given["max"]
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (low, high)) or not low < high:
        raise ConfigError(
            f"The sweep's parameter '{name}' should have a number `min` below `max`; found {low!r} and {high!r} (YAML "
            "reads 1e-3 as text: write 1.0e-3 or 0.001)."
        )
    if kind == "int_uniform":
        if not (isinstance(low, int) and isinstance(high, int)):
            raise ConfigError(
                f"The sweep's parameter '{name}' should have whole numbers `min` and `max` for int_uniform; found "
                f"{low} and {high}."
            )
        return Whole(name, low, high)
    if kind in ("log_uniform", "q_log_uniform"):  # W&B's: the bounds are natural logarithms
        if high > _LARGEST_LOGARITHM:
            raise ConfigError(
                f"The sweep's parameter '{name}' should have natural logarithms as `min` and `max` for {kind}; found "
                f"{low} and {high}. For the values themselves take {kind}_values."
            )
        low, high = math.exp(low), math.exp(high)
    logarithmic = "log" in kind
    if logarithmic and low <= 0:
        raise ConfigError(
            f"The sweep's parameter '{name}' should have `min` above 0 for {kind}; found {low}."
        )
    step = given.get("q", 1.0) if kind.startswith("q_") else None
    if step is not None and (not isinstance(step, int | float) or not step > 0):
        raise ConfigError(f"The sweep's parameter '{name}' should have a number `q` above 0; found {step!r}.")
    return Real(name, float(low), float(high), logarithmic, step)
