"""What this library adds to Lightning's checkpoints, and how one is read without running code from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jtr_lightning.described import differences
from jtr_lightning.disk import read_tensors
from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Task

DESCRIPTION = "jtr_lightning"
"""The checkpoint's key of the plain description from which ``load_from_checkpoint`` rebuilds the module."""
IMAGE_SIZE = "jtr_lightning_image_size"
"""The checkpoint's key of the height and width that images were resized to in training, or None."""


def read_checkpoint(path: str | Path, map_location: torch.device | str | None = None) -> dict[str, Any]:
    """Reads a checkpoint of this library without running code from it.

    Args:
        path: The file.
        map_location: Where to put its tensors; the CPU by default.

    Returns:
        Lightning's checkpoint with our description under ``DESCRIPTION``.

    Raises:
        ConfigError: No such file, unreadable, or not written by this library.
    """
    if not Path(path).is_file():
        raise ConfigError(f"The checkpoint should be a file; found none at '{path}'.")
    try:
        checkpoint = read_tensors(path, map_location)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"The file '{path}' should be a checkpoint of plain tensors and values; it could not be read "
            f"({error}). It is damaged, or holds objects, which are never unpickled."
        ) from error
    if not isinstance(checkpoint, dict) or not _is_ours(checkpoint):
        raise ConfigError(
            f"The file '{path}' should be a checkpoint written by jtr-lightning; found other content."
        )
    return checkpoint


def _is_ours(checkpoint: Mapping[str, Any]) -> bool:
    """Whether a checkpoint has a description of a module, and weights by name."""
    description, weights = checkpoint.get(DESCRIPTION), checkpoint.get("state_dict")
    return (
        isinstance(description, dict)
        and set(description) == {"class_path", "init_args"}
        and isinstance(description["init_args"], dict)
        and isinstance(weights, dict)
        and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items())
    )


def image_size(checkpoint: Mapping[str, Any]) -> tuple[int, int] | None:
    """Height and width that the training resized images to; None if they kept their own.

    Raises:
        ConfigError: The checkpoint has something else in this place.
    """
    size = checkpoint.get(IMAGE_SIZE)
    if size is None:
        return None
    if not (isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(n, int) for n in size)):
        raise ConfigError(
            f"The checkpoint should hold a height and a width under '{IMAGE_SIZE}', or None; found {size!r}. It is "
            "damaged, or was not written by jtr-lightning."
        )
    return size[0], size[1]


def check_tasks(checkpoint: Mapping[str, Any], tasks: Mapping[str, Task], in_order: bool) -> None:
    """Refuses a checkpoint of other tasks.

    Args:
        checkpoint: What ``read_checkpoint`` gave.
        tasks: The model's, by name.
        in_order: Whether the order matters, as where a training goes on: the optimizer's state and the channels of
            JTR's stack follow it.

    Raises:
        ConfigError: There are more, fewer or other tasks, one is of another kind or has other arguments, or the order
            is another one.
    """
    saved = checkpoint.get(DESCRIPTION, {}).get("init_args", {}).get("tasks")
    if saved is None:
        return
    remedy = "Give the model the checkpoint's tasks (--data.tasks), or another checkpoint."
    if set(saved) != set(tasks):
        raise ConfigError(
            f"The checkpoint should be of the same tasks as the model; it has {sorted(saved)}, the model "
            f"{sorted(tasks)}. {remedy}"
        )
    for name, task in tasks.items():
        different = differences(saved[name], task)
        if different is not None:
            raise ConfigError(
                f"The checkpoint should be of the same tasks as the model; its '{name}' is {different[0]}, the model's "
                f"{different[1]}. {remedy}"
            )
    if in_order and list(saved) != list(tasks):
        raise ConfigError(
            f"A training should go on with its tasks in the order of the checkpoint, {list(saved)}, which the state of "
            f"its optimizer follows; found {list(tasks)}. Give the tasks in that order (--data.tasks)."
        )


def check_weights(checkpoint: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    """Refuses a checkpoint of another network, naming the first weight that differs.

    Args:
        checkpoint: What ``read_checkpoint`` gave.
        wanted: The model's weights by name.

    Raises:
        ConfigError: A weight is missing, too many or of another shape.
    """
    saved = checkpoint["state_dict"]
    for name in (*wanted, *saved):
        there, here = (
            list(part[name].shape) if name in part else "no such weight" for part in (saved, wanted)
        )
        if there != here:
            raise ConfigError(
                f"The checkpoint should be of the same network and regularizer as the model; for '{name}' it has "
                f"{there}, the model {here}. Give the model the arguments that the checkpoint was trained with."
            )
