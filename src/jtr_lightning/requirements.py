"""What a training needs of its tasks' names, of its parts, of the trainer and of its own length."""

from __future__ import annotations

import math
from collections.abc import Iterable

import lightning as L
from lightning.pytorch.plugins import HalfPrecision
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from jtr_lightning.balancing import Balancing
from jtr_lightning.baseline import Baseline
from jtr_lightning.errors import ConfigError, check_kind
from jtr_lightning.networks.base import Network
from jtr_lightning.regularizers.base import Regularizer


def check_names(names: Iterable[str]) -> None:
    """Looks at the tasks' names, which name layers and metrics.

    Args:
        names: The tasks' names.

    Raises:
        ConfigError: A name is no Python identifier, or torch's modules have it for something else.
    """
    for name in names:
        if not str(name).isidentifier():
            raise ConfigError(
                f"A task's name should be a Python identifier, since it names layers and metrics; found '{name}'."
            )
        if hasattr(nn.ModuleDict(), name):
            raise ConfigError(
                "A task's name should be none that torch's modules have for something else, since it names layers; "
                f"found '{name}'. Take another, such as '{name}_'."
            )


def check_parts(network: object, regularizer: object, balancing: object, baseline: object) -> None:
    """Looks whether the parts of a module are objects, and no names or classes.

    Args:
        network: The network.
        regularizer: None for none, as the others.
        balancing: The balancing.
        baseline: The baseline.

    Raises:
        ConfigError: One is of another kind.
    """
    check_kind("network", network, Network, "SMPNetwork('resnet18')")
    for name, part, kind, example in (
        ("regularizer", regularizer, Regularizer, "JTR()"),
        ("balancing", balancing, Balancing, "FixedWeights()"),
        ("baseline", baseline, Baseline, "Baseline('supervised', file='metrics.json')"),
    ):
        if part is not None:
            check_kind(name, part, kind, example)


def check_trainer(trainer: L.Trainer, stage: str) -> None:
    """Looks at the strategy and the precision.

    Args:
        trainer: The trainer.
        stage: What it is about to do, as in ``LightningModule.setup``.

    Raises:
        ConfigError: The strategy is the first FSDP; all numbers, those of labels and metrics too, are 16-bit; or an
            optimizer's step should have less than one batch.
    """
    if isinstance(trainer.strategy, FSDPStrategy):
        raise ConfigError(
            "The strategy should be 'ddp' on several devices: the first FSDP flattens the weights, which methods "
            "that freeze some of them cannot use; found 'fsdp'. Take ddp, or jtr_lightning.sharding (FSDP2)."
        )
    precision = trainer.precision_plugin
    if isinstance(precision, HalfPrecision) and stage != TrainerFn.PREDICTING:
        half = precision.precision
        raise ConfigError(
            "The precision should be 32-true, 64-true or mixed where there are labels, since sums of losses and "
            f"errors, labels and places of views do not fit into 16 bits; found '{half}'. Take "
            f"{half.removesuffix('-true')}-mixed, which computes the network in 16 bits alone."
        )
    if trainer.accumulate_grad_batches < 1:
        raise ConfigError(
            "Option `trainer.accumulate_grad_batches`, the batches of one optimizer's step, should be at least 1; "
            f"found {trainer.accumulate_grad_batches}."
        )


def check_length(regularizer: Regularizer | None, total_steps: float) -> None:
    """Looks whether a share of the training can be told.

    Args:
        regularizer: The regularizer, if there is one.
        total_steps: Steps of the whole training, infinite where nobody knows.

    Raises:
        ConfigError: It is not known how long the training is, but the regularizer's ramp is a share of it.
    """
    if regularizer is not None and regularizer.ramp and math.isinf(total_steps):
        raise ConfigError(
            f"Parameter `ramp` of {type(regularizer).__name__} should be 0 in a training whose number of steps is not "
            f"known, of which no share can be told; found {regularizer.ramp}. Set `max_steps` of the trainer, or "
            "`max_epochs` where the loader has a length (beside `max_time`, which may end it earlier), or `ramp` to 0."
        )
