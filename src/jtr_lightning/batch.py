"""What flows from the data to the network: images, labels and which of them are available."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jtr_lightning.errors import ConfigError

if TYPE_CHECKING:
    from jtr_lightning.tasks import Task


@dataclass
class Batch:
    """A partially labelled batch. ``B`` samples, ``K`` tasks in the order of ``labels``.

    A label that is not available holds its task's blank target, so nothing downstream can use a hidden label by
    mistake. The task order of ``available`` is the order of ``labels``.

    Attributes:
        image: RGB in [0, 1], float32 ``[B, 3, H, W]``.
        labels: Task name to target, each in its task's own layout (``[B, H, W]``, ``[B, C, H, W]``, ``[B]`` ...).
        available: bool ``[B, K]``, True where the sample is labelled for the task.
        domain: Which of several datasets or domains the sample comes from, int64 ``[B]``.
        index: The sample's number in its dataset, int64 ``[B]``.
        available_on_host: ``available`` as it was before the batch left for a device, so that a method may choose
            what to compute without waiting for the device; None for a batch in host memory.
        skipped: A sentence for each file that was passed over while the batch was read; empty unless the data module
            has ``on_error: skip``.
    """

    image: Tensor
    labels: dict[str, Tensor]
    available: Tensor
    domain: Tensor
    index: Tensor
    available_on_host: Tensor | None = None
    skipped: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.image.shape[0]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks, in the order of the columns of ``available``."""
        return tuple(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape[-2:]
        return height, width

    def labelled(self, task: str) -> Tensor:
        """Which samples are labelled for a task, bool ``[B]``."""
        return self.available[:, self.tasks.index(task)]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same batch on another device."""
        moved = self._map(lambda t: t.to(device, non_blocking=non_blocking))
        return replace(moved, available_on_host=self.labelled_on_host())

    def labelled_on_host(self) -> Tensor:
        """Availability in host memory, bool ``[B, K]``; waits for the device only if the batch was made there."""
        return self.available.cpu() if self.available_on_host is None else self.available_on_host

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which copies to a GPU are asynchronous."""
        return self._map(Tensor.pin_memory)

    def _map(self, function) -> Batch:  # type: ignore[no-untyped-def]
        return replace(
            self,
            image=function(self.image),
            labels={name: function(label) for name, label in self.labels.items()},
            available=function(self.available),
            domain=function(self.domain),
            index=function(self.index),
        )

    def check_order(self, tasks: Mapping[str, Task]) -> None:
        """Looks whether the columns of ``available`` are those of some tasks.

        Raises:
            ConfigError: The labels are of others, or in another order.
        """
        if self.tasks != tuple(tasks):
            raise ConfigError(
                f"Batch.labels should have the tasks {list(tasks)} in this order; found {list(self.tasks)}. Build data "
                "and model from the same tasks."
            )

    def validate(self, tasks: Mapping[str, Task]) -> Batch:
        """Checks names, shapes and dtypes against the tasks (no value is read, so a device is never waited for).

        Args:
            tasks: The tasks that the batch should have labels for, in order.

        Returns:
            The batch itself.

        Raises:
            ConfigError: Something does not fit.
        """
        if self.image.ndim != 4 or self.image.shape[1] != 3 or not self.image.is_floating_point():
            raise ConfigError(
                "Batch.image should be a floating-point tensor [B, 3, H, W]; found "
                f"{self.image.dtype} {list(self.image.shape)}."
            )
        self.check_order(tasks)
        b = len(self)
        for name, task in tasks.items():
            expected = (b, *task.target_shape(*self.size))
            label = self.labels[name]
            if tuple(label.shape) != expected or not _same_kind(label.dtype, task.target_dtype):
                raise ConfigError(
                    f"The label of task '{name}' should be {task.target_dtype} {list(expected)}; found {label.dtype} "
                    f"{list(label.shape)}."
                )
        if self.available.dtype != torch.bool or tuple(self.available.shape) != (b, len(tasks)):
            raise ConfigError(
                f"Batch.available should be bool [{b}, {len(tasks)}]; found {self.available.dtype} "
                f"{list(self.available.shape)}."
            )
        for field, value in (("domain", self.domain), ("index", self.index)):
            if value.dtype != torch.int64 or tuple(value.shape) != (b,):
                raise ConfigError(
                    f"Batch.{field} should be int64 [{b}]; found {value.dtype} {list(value.shape)}."
                )
        return self


def _same_kind(found: torch.dtype, expected: torch.dtype) -> bool:
    """Equal, or both floating-point: a trainer in double or half precision converts a batch before it is moved."""
    return found == expected or (found.is_floating_point and expected.is_floating_point)


def join(batches: Sequence[Batch]) -> Batch:
    """Joins batches of the same tasks and image size into one, in order.

    Args:
        batches: At least one batch.

    Returns:
        The batch with all samples.

    Raises:
        ConfigError: No batch, other tasks or another image size.
    """
    if not batches:
        raise ConfigError("join() should be given at least one batch; found none.")
    first = batches[0]
    for batch in batches[1:]:
        if batch.tasks != first.tasks or batch.size != first.size:
            raise ConfigError(
                f"Only batches of the same tasks and image size can be joined; found {list(first.tasks)} at "
                f"{first.size} and {list(batch.tasks)} at {batch.size}."
            )
    return Batch(
        image=torch.cat([b.image for b in batches]),
        labels={name: torch.cat([b.labels[name] for b in batches]) for name in first.labels},
        available=torch.cat([b.available for b in batches]),
        domain=torch.cat([b.domain for b in batches]),
        index=torch.cat([b.index for b in batches]),
        skipped=tuple(message for b in batches for message in b.skipped),
    )
