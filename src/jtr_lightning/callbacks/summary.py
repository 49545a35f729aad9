"""Says at the start of a training what is trained, on what."""

from __future__ import annotations

from typing import cast

import lightning as L
from rich.console import Console
from torch import nn

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.module import PartialLabelModule


class TrainingSummary(L.Callback):
    """Prints the training set's labels, the sizes of network and regularizer, device and precision."""

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Prints the lines, once, on the first rank."""
        if trainer.is_global_zero:
            console = Console(highlight=False, soft_wrap=True)
            for line in self.lines(trainer, cast(PartialLabelModule, pl_module)):
                console.print(line, markup=False)

    def lines(self, trainer: L.Trainer, module: PartialLabelModule) -> list[str]:
        """What is printed.

        Args:
            trainer: Gives the data, the device and the precision.
            module: What is trained.

        Returns:
            One line for the data, one for the model.
        """
        data = cast(PartialLabelDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        dataset = data.datasets["train"]
        counts = dataset.available.sum(0).tolist()
        labels = ", ".join(f"{name} {count}" for name, count in zip(data.tasks, counts, strict=True))
        parts = [f"{type(module.network).__name__} of {_size(module.network)} parameters"]
        if module.regularizer is not None:
            name, size = type(module.regularizer).__name__, _size(module.regularizer)
            parts.append(f"{name} of {size}, for training only" if size != "0" else name)
        device = trainer.strategy.root_device.type
        return [
            f"Data: {len(dataset)} training samples, labelled ({type(data.scenario).__name__}): {labels}",
            f"Model: {' + '.join(parts)}; on {trainer.world_size} x {device}, precision {trainer.precision}",
        ]


def _size(module: nn.Module) -> str:
    number = float(sum(p.numel() for p in module.parameters() if p.requires_grad))
    for suffix in ("", " K", " M"):
        if number < 1000:
            return f"{number:.3g}{suffix}"
        number /= 1000
    return f"{number:.3g} G"
