"""Consistency regularization: two views of an image should be predicted alike where there is no label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.regularizers.views import Geometry, ViewMaker


class ConsistencyRegularization(Regularizer):
    """``(w r / B) sum_b sum_{k in U_b} c_k(yhat1_bk, T(yhat0_bk))``, a row of the tables of MTPSL and JTR.

    View 1 is a further crop of the batch with colours of its own; ``T`` brings the batch's prediction into its frame
    (pixels, and values: a zoom divides depth, a flip negates normals' x). ``c_k`` is ``Task.consistency_loss``:
    cross-entropy to sharpened probabilities, L1, 1 - cos. The batch's prediction is the reference and takes no
    gradient. ``r`` rises linearly from 0 to 1 over the first part of the training.

    The papers do not publish the row's exact settings; weight, ramp and reference are choices made here.

    Args:
        weight: ``w``.
        ramp: Share of the training over which the weight rises linearly from 0; 0 for none.
        views: Makes view 1; random scale crops and colours by default.

    Raises:
        ConfigError: ``ramp`` outside [0, 1].
    """

    _geometry: Geometry

    def __init__(self, weight: float = 1.0, ramp: float = 0.25, views: ViewMaker | None = None) -> None:
        super().__init__(ramp)
        self.weight = weight
        self.views = ViewMaker() if views is None else views

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        view, self._geometry = self.views(batch, self.tasks)
        return (View(view),)

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        first, second = predictions
        penalties = [
            task.consistency_loss(
                second[name], self._geometry.apply(first[name].detach(), task, smooth=task.dense)
            )
            for name, task in self.tasks.items()
        ]
        unlabelled = ~batches[0].available
        weight = self.weight * self.ramp_factor(progress)
        penalty = torch.where(unlabelled, torch.stack(penalties, 1), 0.0).sum(1).mean()
        return {"consistency": weight * penalty}
