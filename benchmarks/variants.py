"""Forms of JTR that undo one of its savings each, to see what it is worth."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.base import View
from jtr_lightning.regularizers.jtr import JTR, Stacks, cosine_distance


class TwoLayerHeads(JTR):
    """JTR, with the two convolutions of every head computed one after the other (see ``recipes.make_module``)."""


class GraphOfEveryView(JTR):
    """JTR with a graph of view 2, too, whose gradient nothing uses.

    In a network with BatchNorm this is another method: all three views are one batch, so that view 2 is in the
    statistics of views 0 and 1.
    """

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        """The views of JTR, all with a gradient."""
        return tuple(View(view.batch, grad=True) for view in super().sample_views(batch))


class FrozenByCopy(JTR):
    """JTR whose first distance goes through a copy of the encoder, for which gradients are computed and thrown away."""

    def _network_distance(self, stacks: Stacks) -> Tensor:
        latent = copy.deepcopy(self.autoencoder).encode(torch.cat([stacks.target, stacks.prediction]))
        return cosine_distance(latent, stacks.mask)
