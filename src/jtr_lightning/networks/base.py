"""What every network keeps to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Task


class Network(Described, nn.Module, ABC):
    """A shared encoder and a head for each task. Knows nothing of losses.

    A network is made with its own settings and then built for tasks, so that tasks are said once, on the data:
    ``SMPNetwork("resnet18").build(tasks)``; ``PartialLabelModule`` calls ``build`` itself.

    Attributes:
        takes_labelled: Whether ``forward`` takes a second argument, given in steps of supervised training: which
            samples are labelled for which task, bool ``[B, K]`` in host memory.
    """

    takes_labelled: bool = False
    tasks: Mapping[str, Task] = {}  # replaced, never changed, by build()

    def build(self, tasks: Mapping[str, Task]) -> Network:
        """Makes the layers for these tasks.

        Args:
            tasks: Task name to task, at least one.

        Returns:
            The network itself.

        Raises:
            ConfigError: The network was built before, or there is no task.
        """
        if self.tasks:
            raise ConfigError(
                f"{type(self).__name__} should be built once; it already has the tasks {list(self.tasks)}. Make a new "
                "network for another module."
            )
        if not tasks:
            raise ConfigError(f"{type(self).__name__} should be built for at least one task; found none.")
        # Past nn.Module.__setattr__: tasks are plain objects and no part of the state dict.
        object.__setattr__(self, "tasks", dict(tasks))
        # Within inference mode nothing is made that ever has a gradient, which layers may be looked at for.
        with torch.inference_mode(False):
            self.make_layers(tasks)
        return self

    @abstractmethod
    def make_layers(self, tasks: Mapping[str, Task]) -> None:
        """Makes every layer whose size depends on the tasks; called once by ``build``."""

    @property
    @abstractmethod
    def feature_channels(self) -> list[int]:
        """Channels of each of the features that ``forward`` returns; known once the network is built."""

    @abstractmethod
    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Predicts all tasks.

        Args:
            image: RGB in [0, 1], ``[B, 3, H, W]``, any H and W.

        Returns:
            Task name to raw output, ``[B, channels, H, W]`` for a dense task and ``[B, channels]`` for an image-level
            one; and the encoder's features for regularizers, from the finest to the deepest ``[B, C_i, h_i, w_i]``.

        Raises:
            ConfigError: In training, the batch is too small for the network's normalisation.
        """


def zero_path(modules: Iterable[nn.Module]) -> Tensor:
    """0 with a gradient path to every parameter, so that DDP finds none unused where a step has no sample for it."""
    return torch.stack([p.sum() * 0.0 for module in modules for p in module.parameters()]).sum()
