"""Consistency regularization: two views of an image should be predicted alike where there is no label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.regularizers.views import Geometry, ViewMaker
from jtr_lightning.tasks import Task


class ConsistencyRegularization(Regularizer):
    """``(w r / B) sum_b sum_{k in U_b} c_bk`` with ``c = (c_k(yhat0, sg yhat1) + c_k(yhat1, sg yhat0)) / 2``.

    View 1 is a further crop of the batch with colours of its own. Its prediction is brought into the batch's frame:
    pixels are moved back, a flip and a zoom of the values (of a depth) undone. ``c_k`` is ``Task.consistency_loss``
    (cross-entropy to sharpened probabilities, L1, 1 - cos), averaged over the pixels that view 1 shows. ``r`` rises
    linearly from 0 to 1 over the first part of the training. A row of the tables of MTPSL and JTR.

    The papers do not publish the row's exact settings; weight, ramp and directions are choices made here. Each
    prediction is once the reference of the other, *in the other's own values*: with the batch's as the only reference
    (or with a gradient into both sides of an L1 distance), a network that does not notice a zoom gets smaller depths,
    since every view is a zoom into the batch and wants ``1 / zoom`` of the depth. So the two directions pull such a
    network up and down alike.

    Args:
        weight: ``w``.
        ramp: Share of the training over which the weight rises linearly from 0; 0 for none.
        views: Makes view 1; random scale crops and colours by default.

    Raises:
        ConfigError: ``ramp`` outside [0, 1], or a weight that is negative or infinite.
    """

    _geometry: Geometry

    def __init__(self, weight: float = 1.0, ramp: float = 0.25, views: ViewMaker | None = None) -> None:
        super().__init__(ramp)
        self.check_weights(weight=weight)
        self.weight = weight
        self.views = ViewMaker() if views is None else views

    def compilable(self) -> Sequence[nn.Module]:
        return self.views.compilable()

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
        visible = self._geometry.visible(*batches[0].size)
        penalties = [
            self._penalty(task, first[name], second[name], visible) for name, task in self.tasks.items()
        ]
        penalty = torch.where(batches[0].available, 0.0, torch.stack(penalties, 1)).sum(1).mean()
        return {"consistency": self.weight * self.ramp_factor(progress) * penalty}

    def _penalty(self, task: Task, first: Tensor, second: Tensor, visible: Tensor) -> Tensor:
        """How much the views disagree about a task ``[B]``."""
        zoom = self._geometry.zoom
        # In the batch's frame, but with the values that view 1 gives them.
        second = self._geometry.undo(second, task, keep_zoom=True)
        of_first = task.consistency_loss(first, task.zoomed(second, 1 / zoom), visible)
        of_second = task.consistency_loss(second, task.zoomed(first, zoom), visible)
        return (of_first + of_second) / 2
