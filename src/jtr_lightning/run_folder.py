"""The folder of a run: where everything that a training leaves behind is found again.

``<runs>/<name>/<number>/`` with the next free number, so that no run ever writes into another's folder:

* ``config.yaml``: the whole configuration, defaults included;
* ``metrics.csv``: everything logged, by step;
* ``metrics.json``: one flat object; ``val/...`` of the best epoch, and ``test/...`` once ``jtr test`` has run;
* ``checkpoints/best.ckpt`` (by ``val/score``) and ``checkpoints/last.ckpt``.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from jtr_lightning.disk import read_object, write_text
from jtr_lightning.errors import ConfigError

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
METRICS = "metrics.json"
METRICS_LOG = "metrics.csv"
PANELS = "panels"
"""Where the pictures are, and what they are called in W&B and TensorBoard."""
MONITOR = "val/score"
"""What the best epoch is chosen by; higher is better."""

_log = logging.getLogger(__name__)


def new_run_folder(root: str | Path, name: str) -> Path:
    """Makes the folder of a new run.

    Args:
        root: The folder of all runs.
        name: What is trained; runs of the same name are numbered.

    Returns:
        ``root/name/number``, new and empty, also when several processes ask at once.

    Raises:
        ConfigError: It cannot be made there, or the name leads out of the folder of all runs.
    """
    if Path(name).is_absolute() or ".." in Path(name).parts or not Path(name).parts:
        raise ConfigError(
            f"The run's name should be that of a folder below '{root}'; found '{name}'. Give another --name, or --runs "
            "for another place."
        )
    parent = Path(root) / name
    try:
        parent.mkdir(parents=True, exist_ok=True)
        number = max((int(p.name) for p in parent.iterdir() if p.name.isdecimal()), default=-1) + 1
        while not _make(parent / str(number)):
            number += 1
    except OSError as error:
        raise ConfigError(
            f"The folder of a new run should be made in '{parent}', but that failed: {error.strerror}. Give --runs a "
            "folder that is writable, or another --name."
        ) from error
    return parent / str(number)


def _make(folder: Path) -> bool:
    """Makes a folder; False if another process was first."""
    try:
        folder.mkdir(parents=True)  # another process may have removed the parent, which was empty
    except FileExistsError:
        return False
    return True


def remove_unused(folder: Path) -> None:
    """Removes the folder of a run that failed before it wrote anything, and its parent if nothing else is in it.

    Args:
        folder: What ``new_run_folder`` made.
    """
    with contextlib.suppress(OSError):  # something is in it
        folder.rmdir()
        folder.parent.rmdir()


def run_of_checkpoint(checkpoint: str | Path) -> Path | None:
    """The run folder that a checkpoint lies in, or None if it lies elsewhere."""
    folder = Path(checkpoint).absolute().parent.parent
    return folder if (folder / CONFIG).is_file() else None


def read_metrics(folder: Path) -> dict[str, float]:
    """What a run's ``metrics.json`` holds; nothing where there is none.

    Raises:
        ConfigError: The file is damaged.
    """
    path = folder / METRICS
    try:
        metrics = read_object(path)
        wrong = [key for key, value in metrics.items() if not isinstance(value, int | float)]
        if wrong:
            raise ValueError(f"no number for '{wrong[0]}'")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The file '{path}' should hold one JSON object of metrics; found: {error}. Remove it; a training and "
            "jtr test write their parts anew."
        ) from error
    return metrics


def add_metrics(folder: Path, values: Mapping[str, float], forget: tuple[str, ...] = ()) -> None:
    """Adds values to a run's ``metrics.json``, in place of those of the same keys.

    A damaged file is reported and written anew: no training should end for the sake of its earlier numbers.

    Args:
        folder: The run folder.
        values: Metrics by key, such as ``test/depth/abs_err``.
        forget: Beginnings of keys whose earlier values are of other weights, and are removed.
    """
    try:
        known = read_metrics(folder)
    except ConfigError as error:
        _log.warning("%s It is written anew now, without what it held.", error)
        known = {}
    known = {key: value for key, value in known.items() if not key.startswith(forget)}
    write_text(folder / METRICS, json.dumps({**known, **dict(sorted(values.items()))}, indent=2) + "\n")
