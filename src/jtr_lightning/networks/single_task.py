"""One network per task: single-task training (STL) as one network among others."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from jtr_lightning.errors import ConfigError
from jtr_lightning.networks.base import Network, zero_path
from jtr_lightning.tasks import Task


class SingleTask(Network):
    """Gives every task a whole network of its own, so that no task learns from another's labels.

    Trained without a regularizer, this is single-task learning: in a training step each network sees the samples that
    are labelled for its task and no other, also in its batch statistics. All take the same number of steps as with
    every other method, and one checkpoint and one table hold all tasks.

    Args:
        network: The network to make one of for each task; not yet built.
    """

    takes_labelled = True

    def __init__(self, network: Network) -> None:
        super().__init__()
        # Kept out of the module's children: only its copies are trained.
        object.__setattr__(self, "prototype", network)

    def make_layers(self, tasks: Mapping[str, Task]) -> None:
        prototype: Network = object.__getattribute__(self, "prototype")
        self.networks = nn.ModuleDict(
            {name: copy.deepcopy(prototype).build({name: task}) for name, task in tasks.items()}
        )

    @property
    def feature_channels(self) -> list[int]:
        """Those of the first task's network."""
        return cast(Network, next(iter(self.networks.values()))).feature_channels

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compiles each network; which samples each is given is decided outside of them."""
        for network in self.networks.values():
            network.compile(*args, **kwargs)

    def forward(
        self, image: Tensor, labelled: Tensor | None = None
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Predicts all tasks.

        Args:
            image: RGB in [0, 1], ``[B, 3, H, W]``.
            labelled: Predict each task for its labelled samples alone, and 0 for the others: bool ``[B, K]`` in host
                memory. None for all samples.

        Returns:
            As of every network; the features are those of the first task's network, and none with ``labelled``.

        Raises:
            ConfigError: ``labelled`` with normalisation over several devices.
        """
        if labelled is not None:
            self._check_normalisation()
            return {
                name: self._of_labelled(name, image, column)
                for name, column in zip(self.networks, labelled.T, strict=True)
            }, []
        outputs = {name: network(image) for name, network in self.networks.items()}
        raw = {name: own[name] for name, (own, _) in outputs.items()}
        return raw, next(iter(outputs.values()))[1]

    def _check_normalisation(self) -> None:
        # A device without a sample for a task would leave the others waiting for its share of the statistics.
        if any(isinstance(module, nn.SyncBatchNorm) for module in self.networks.modules()):
            raise ConfigError(
                "SingleTask should be trained with BatchNorm of each device's own samples, since a device may have no "
                "labelled sample of a task; found SyncBatchNorm. Leave out --trainer.sync_batchnorm."
            )

    def _of_labelled(self, name: str, image: Tensor, labelled: Tensor) -> Tensor:
        # Chosen in host memory, so that nothing waits for the device.
        rows = labelled.nonzero().flatten().to(image.device, non_blocking=True)
        network, task = self.networks[name], self.tasks[name]
        if not len(rows):
            size = image.shape[-2:] if task.dense else ()
            return image.new_zeros(len(image), task.channels, *size) + zero_path([network])
        try:
            own: Tensor = network(image[rows])[0][name]
        except ConfigError as error:
            if len(rows) == len(image):
                raise
            raise ConfigError(
                f"Task '{name}' has {len(rows)} of {len(image)} labels in this batch, and SingleTask trains its "
                f"network on these alone: {error} Where labels are drawn, any batch may have one of a task: choose a "
                "decoder that pools no whole image, or larger images."
            ) from error
        return own.new_zeros(len(image), *own.shape[1:]).index_copy(0, rows, own)
