"""Says at the start of a training what is trained, on what."""

from __future__ import annotations

from typing import cast

import lightning as L
from rich.console import Console
from torch import nn

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.described import written_out
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.reporting.facts import devices, label_counts, parameters_of


class TrainingSummary(L.Callback):
    """Prints scenario, seed and labels, the sizes of network and regularizer, device and precision."""

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
            A line for the training set, one for the validation set and one for the model.
        """
        data = cast(PartialLabelDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        samples = {split: len(dataset) for split, dataset in data.datasets.items()}
        scenario = f"{written_out(data.scenario)}, seed {data.seed}"
        parts = [f"{type(module.network).__name__} of {_size(module.network, ' parameters')}"]
        if module.regularizer is not None:
            name, regularizer = type(module.regularizer).__name__, module.regularizer
            learns = parameters_of(regularizer)[0] > 0
            parts.append(f"{name} of {_size(regularizer)}, for training only" if learns else name)
        return [
            f"Data: {samples['train']} training samples, labelled ({scenario}): {label_counts(data, 'train')}",
            f"Validation: {samples['val']} samples, labelled: {label_counts(data, 'val')}",
            f"Model: {' + '.join(parts)}; on {devices(trainer)}, precision {trainer.precision}",
        ]


def _size(module: nn.Module, unit: str = "") -> str:
    total, frozen = parameters_of(module)
    return f"{_rounded(total)}{unit}" + (f" ({_rounded(frozen)} frozen)" if frozen else "")


def _rounded(number: float) -> str:
    for suffix in ("", " K", " M"):
        if number < 1000:
            return f"{number:.3g}{suffix}"
        number /= 1000
    return f"{number:.3g} G"
