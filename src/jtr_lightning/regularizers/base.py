"""What every method for partial labels keeps to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError, check_number
from jtr_lightning.tasks import Task


@dataclass
class View:
    """One more augmented version of a batch.

    Attributes:
        batch: Same samples and image size as the batch it was made from.
        grad: Whether the network's forward pass of this view is recorded for the backward pass. Views with and
            without are separate forward passes, so BatchNorm sees them apart.
    """

    batch: Batch
    grad: bool = True


class Regularizer(Described, nn.Module, ABC):
    """What a partially labelled method adds to the supervised loss.

    A regularizer may hold parameters of its own: they are trained, saved in the checkpoint, and not used when
    predicting. Like a network it is made with its settings and then built for tasks.

    Args:
        ramp: Share of the training over which the weight of what trains the network rises linearly from 0; 0 for
            none. A method multiplies that weight by ``ramp_factor``.

    Raises:
        ConfigError: ``ramp`` outside [0, 1].
    """

    tasks: Mapping[str, Task] = {}  # replaced, never changed, by build()

    def __init__(self, ramp: float = 0.0) -> None:
        super().__init__()
        check_number("ramp", ramp)
        if not 0 <= ramp <= 1:
            raise ConfigError(
                f"Parameter `ramp` of {type(self).__name__} should be a share of the training in [0, 1]; found {ramp}."
            )
        self.ramp = ramp

    def check_weights(self, **weights: float) -> None:
        """Looks whether factors of terms and learning rates can be such.

        Raises:
            ConfigError: One is negative, infinite or no number.
        """
        for name, weight in weights.items():
            check_number(name, weight)
            if not 0 <= weight < float("inf"):
                raise ConfigError(
                    f"Parameter `{name}` of {type(self).__name__} should be at least 0 and finite; found {weight}."
                )

    def ramp_factor(self, progress: float) -> float:
        """What the weight of the network's term is multiplied by, in [0, 1].

        Args:
            progress: Share of the training that is done, in [0, 1].
        """
        return min(1.0, progress / self.ramp) if self.ramp else 1.0

    def build(self, tasks: Mapping[str, Task], feature_channels: Sequence[int] = ()) -> Regularizer:
        """Makes the layers for these tasks; called by ``PartialLabelModule``.

        Args:
            tasks: Task name to task, in the order of ``Batch.labels``.
            feature_channels: Channels of each of the network's features, for methods that read them.

        Returns:
            The regularizer itself.
        """
        object.__setattr__(self, "tasks", dict(tasks))
        self.make_layers(tasks, feature_channels)
        return self

    def make_layers(self, tasks: Mapping[str, Task], feature_channels: Sequence[int]) -> None:
        """Makes the parameters whose size depends on the tasks; nothing by default.

        Raises:
            ConfigError: The method cannot work on these tasks.
        """
        del tasks, feature_channels

    def start_training(self, available: Tensor) -> None:
        """Told before the first step which labels the training set has, where that is known; does nothing by default.

        Args:
            available: Of all training samples, on all ranks alike and in host memory, bool ``[N, K]``.
        """
        del available

    def compilable(self) -> Sequence[nn.Module]:
        """Parts that gain from ``torch.compile``: called as modules, with inputs of the same shape in every step."""
        return ()

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        """Draws the further views that ``forward`` needs, on the batch's device, for the whole batch at once."""
        del batch
        return ()

    @abstractmethod
    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        """The terms to add to the loss, already weighted.

        Args:
            predictions: For the supervised batch and then each view: task name to prediction ``[B, C, H, W]``.
            batches: The supervised batch and then each view's.
            features: For each of them the network's features.
            progress: Share of the training that is done, in [0, 1].

        Returns:
            Term name to scalar, at least float32. Each has a gradient path whatever labels the batch has.
        """

    def diagnose(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Numbers that tell whether the method is at work; no part of the loss, and nothing by default.

        Called without gradients for the first batch of each validation, whose labels no scenario has hidden. Nothing
        may be drawn, so that a training does not depend on how often it is validated.

        Args:
            predictions: Task name to prediction ``[B, C, H, W]``.
            batch: The batch they were made from.

        Returns:
            Name to scalar, logged as ``val/<name>``.
        """
        del predictions, batch
        return {}

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        """The regularizer's parameters as an optimizer's groups.

        A group may set its own learning rate, ``lr``, and as ``steps: (step_size, gamma)`` its own schedule in place
        of the optimizer's: multiplied by gamma after every step_size epochs.
        """
        parameters = [p for p in self.parameters() if p.requires_grad]
        if parameters:
            yield {"params": parameters}
