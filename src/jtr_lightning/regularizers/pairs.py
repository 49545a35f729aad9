"""What the methods that relate tasks pair by pair have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Task
from jtr_lightning.tasks.base import at_least_float32


class Pairs(NamedTuple):
    """Which ordered pairs of tasks (source, target) of which samples take part, ``R`` rows in host memory.

    Attributes:
        sample: Number of the sample in its batch, int64 ``[R]``.
        source: Number of the source task, int64 ``[R]``.
        target: Number of the target task, int64 ``[R]``.
    """

    sample: Tensor
    source: Tensor
    target: Tensor

    def number(self, num_tasks: int) -> Tensor:
        """Number of each row's pair among the ``K (K - 1)`` ordered pairs, int64 ``[R]``."""
        return self.source * (num_tasks - 1) + self.target - (self.target > self.source).long()

    def to(self, device: torch.device) -> Pairs:
        """The same rows on a device."""
        return Pairs(*(part.to(device, non_blocking=True) for part in self))


def cross_task_pairs(available: Tensor) -> Pairs:
    """Every pair of an unlabelled source and a labelled target; of a fully labelled sample every pair.

    Args:
        available: In host memory, bool ``[B, K]``.
    """
    full = available.all(1)[:, None, None]
    chosen = available[:, None, :] & (~available[:, :, None] | full)
    chosen &= ~torch.eye(available.shape[1], dtype=torch.bool)
    return Pairs(*chosen.nonzero().unbind(1))


def cosine_distance(first: Tensor, second: Tensor) -> Tensor:
    """``1 - cos`` over the channels, averaged over positions, in float32 whatever the precision of the step.

    Args:
        first: ``[R, C, h, w]``.
        second: ``[R, C, h, w]``.

    Returns:
        ``[R]`` in [0, 2].
    """
    # Autocast lowers the precision of neither of these once their inputs are float32.
    similarity = F.cosine_similarity(at_least_float32(first), at_least_float32(second), dim=1)
    return 1 - similarity.flatten(1).mean(1)


def stacked_tasks(tasks: Mapping[str, Task], method: str) -> dict[str, Task]:
    """The tasks that can be paired: the dense ones with a place in a joint space.

    Raises:
        ConfigError: There are fewer than two.
    """
    paired = {name: task for name, task in tasks.items() if task.dense and task.joint_channels > 0}
    if len(paired) < 2:
        raise ConfigError(
            f"{method} should be used with at least two dense tasks, since it relates tasks to each other; found "
            f"{list(paired)} among {list(tasks)}."
        )
    return paired
