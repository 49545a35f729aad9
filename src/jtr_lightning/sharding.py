"""Weights spread over devices (FSDP2), for networks that one device cannot hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from jtr_lightning.aggregation import GradientAggregation
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.jtr import JTR

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(module: PartialLabelModule, mesh: DeviceMesh) -> PartialLabelModule:
    """Spreads the weights of the network, and of JTR's auto-encoder, over devices with ``fully_shard``.

    Their gradients are then averaged over the ranks, as under DDP. Call it on every rank, before the optimizer is
    made, with the same weights on each.

    Args:
        module: Not wrapped in anything.
        mesh: The ranks, one-dimensional.

    Returns:
        The module itself.

    Raises:
        ConfigError: A part of the module has weights that would be left out, each rank training its own.
    """
    regularizer = module.regularizer
    spread = set(regularizer.autoencoder.parameters()) if isinstance(regularizer, JTR) else set()
    if regularizer is not None and set(regularizer.parameters()) - spread:
        raise ConfigError(
            "Weights can be spread over devices with JTR, with a regularizer without weights or with none; found "
            f"{type(regularizer).__name__}{', which has weights beside the auto-encoder' if spread else ''}. Train it "
            "with DDP: strategy='ddp'."
        )
    if isinstance(module.balancing, GradientAggregation) or list(module.balancing.parameters()):
        raise ConfigError(
            "Weights can be spread over devices with a balancing that neither has weights nor aggregates gradients; "
            f"found {type(module.balancing).__name__}. Train it with DDP: strategy='ddp'."
        )
    fully_shard(module.network, mesh=mesh)
    if isinstance(regularizer, JTR):
        fully_shard(regularizer.autoencoder, mesh=mesh)
        # Entered beside forward(); its weights have to be brought together there, too.
        register_fsdp_forward_method(regularizer.autoencoder, "encode")
    return module
