"""What a run is compared with; a delta is never shown without its baseline's name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jtr_lightning.described import Described
from jtr_lightning.disk import read_object
from jtr_lightning.errors import ConfigError, check_number
from jtr_lightning.tasks import Task


class Baseline(Described):
    """The headline metrics of another method.

    Args:
        name: What it is, e.g. "supervised MTL, onelabel".
        values: Task name to headline metric (for every stage), or keys such as ``test/depth/abs_err``.
        file: A ``metrics.json`` of another run, in place of ``values``.

    Raises:
        ConfigError: Neither or both of values and file, a missing file, or a value that is not a number above 0.
    """

    def __init__(
        self, name: str, values: dict[str, float] | None = None, file: str | Path | None = None
    ) -> None:
        if (values is None) == (file is None):
            raise ConfigError("A baseline should have either `values` or `file`; found both or neither.")
        for key, value in (values or {}).items():
            check_number(f"values['{key}']", value)
        self.name = name
        self.values = dict(values) if values is not None else _read(Path(str(file)).expanduser())

    def describe(self) -> dict[str, Any]:
        """With the numbers themselves: the file may be gone when a checkpoint is loaded."""
        return {**super().describe(), "init_args": {"name": self.name, "values": dict(self.values)}}

    def headlines(self, stage: str, tasks: Mapping[str, Task]) -> dict[str, float] | None:
        """The baseline's headline metric of each task in a stage, or None if it does not know them all.

        Raises:
            ConfigError: One of them is not above 0.
        """
        found = {}
        for name, task in tasks.items():
            value = self.values.get(f"{stage}/{name}/{task.headline}", self.values.get(name))
            if value is None:
                return None
            if not value > 0:
                raise ConfigError(
                    f"The baseline '{self.name}' should have a headline metric above 0 for each task, since the delta "
                    f"divides by it; found {value} for '{name}'."
                )
            found[name] = float(value)
        return found


def _read(path: Path) -> dict[str, float]:
    if not path.is_file():
        raise ConfigError(
            f"Parameter `file` of a baseline should be the metrics.json of a run; found no file '{path}'."
        )
    try:
        content = read_object(path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The baseline's file '{path}' should hold one JSON object of metrics; found: {error}."
        ) from error
    return {name: float(value) for name, value in content.items() if isinstance(value, int | float)}
