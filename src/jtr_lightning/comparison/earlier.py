"""Finds the runs again that were trained before the code's configuration had all of today's arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from jtr_lightning.comparison.plan import Run, resolve, seeded, what_matters
from jtr_lightning.comparison.results import CONFIG, RESULT
from jtr_lightning.disk import read_yaml
from jtr_lightning.errors import ConfigError


def found_again(runs: Sequence[Run], root: Path) -> list[Run]:
    """Gives runs the configuration that an earlier version of the code trained them with.

    A run's name has the key of its whole configuration, defaults included. An argument that a class has been given
    since would make every earlier run another one, although at its default it changes nothing. So a run without a
    result or a checkpoint is looked for among the folders of no run: it is the one whose configuration becomes the
    run's as soon as today's defaults stand for what it lacks, of several one that is finished.

    Args:
        runs: Every planned run.
        root: The folder of the runs' folders.

    Returns:
        The runs in their order, with the earlier configuration, and so with its key and name, where there is one.
    """
    names = {run.name for run in runs}
    files = [file for file in root.glob(f"*/{CONFIG}") if file.parent.name not in names]
    # Finished ones first.
    files.sort(key=lambda file: (not file.with_name(RESULT).is_file(), file))
    return [run if _is_begun(root / run.name) else _earlier(run, files) or run for run in runs]


def _is_begun(folder: Path) -> bool:
    """Whether a run has anything that would be lost with it; a folder alone may be left of a look at its lock."""
    return (folder / RESULT).is_file() or any(folder.rglob("*.ckpt"))


def _earlier(run: Run, files: Sequence[Path]) -> Run | None:
    for file in files:
        if not file.parent.name.startswith(run.name.removesuffix(run.key)):
            continue
        try:
            earlier = replace(run, config=dict(read_yaml(file)))
            # The folder's own configuration, and one that lacks something but says nothing else: only then is it worth
            # a second to ask the command line for today's defaults.
            if file.parent.name == earlier.name and _is_part(
                what_matters(earlier.config), what_matters(run.config)
            ):
                filled = seeded(resolve(str(file), run.labels), run.seed)
                if replace(run, config=filled).key == run.key:
                    return earlier
        except (OSError, ValueError, TypeError, yaml.YAMLError, ConfigError):  # no configuration of a run
            continue
    return None


def _is_part(part: Any, whole: Any) -> bool:
    """Whether all that one configuration says is in the other, too."""
    if isinstance(part, Mapping) and isinstance(whole, Mapping):
        return all(name in whole and _is_part(value, whole[name]) for name, value in part.items())
    return bool(part == whole)
