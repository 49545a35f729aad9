"""Metrics that torchmetrics lacks: errors over valid pixels, exact under DDP and any batch size.

Each keeps sums and counts, never a mean of means. Invalid places of a target do not count, so a sample without a label
changes nothing, and errors over no place at all are NaN, never a perfect 0; a metric is given the task's rule about
them and knows no task.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

Valid = Callable[[Tensor], Tensor]
"""Where a target is defined: ``Task.valid``."""
ANGLE_BINS = 1800
"""Bins of the histogram of angles over 0..180 degrees: the median is exact to 0.05 degrees."""


class SegmentationScores(MulticlassConfusionMatrix):
    """Mean intersection over union and pixel accuracy from one confusion matrix over all pixels.

    ``miou`` is the plain mean over the classes that occur in a label or a prediction. Both are fractions in [0, 1], and
    NaN where a prediction is: its largest value would be that of the first class.

    Args:
        num_classes: Number of classes.
    """

    undefined: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, ignore_index=-1, validate_args=False)
        self.add_state("undefined", torch.zeros((), dtype=torch.bool), dist_reduce_fx=_any)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds log-probabilities ``[B, C, H, W]`` against ids ``[B, H, W]`` (-1 is ignored)."""
        super().update(preds, target)
        self.undefined = self.undefined | _undefined(preds, target)

    def compute(self) -> dict[str, Tensor]:  # type: ignore[override]
        if self.undefined:
            return dict.fromkeys(("miou", "pixel_accuracy"), torch.tensor(torch.nan))
        matrix = self.confmat.cpu().double()  # in host memory, since not every device has float64
        hits = matrix.diag()
        union = matrix.sum(0) + matrix.sum(1) - hits
        occurs = union > 0
        iou = torch.where(occurs, hits / union, 0.0)
        return {
            "miou": (iou.sum() / occurs.sum()).float(),
            "pixel_accuracy": (hits.sum() / matrix.sum()).float(),
        }


class ClassAccuracy(MulticlassAccuracy):
    """Share of the images whose class is right, in [0, 1]; NaN where a prediction is.

    Args:
        num_classes: Number of classes.
    """

    undefined: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, average="micro", ignore_index=-1, validate_args=False)
        self.add_state("undefined", torch.zeros((), dtype=torch.bool), dist_reduce_fx=_any)

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds log-probabilities ``[B, C]`` against ids ``[B]`` (-1 is ignored)."""
        super().update(preds, target)
        self.undefined = self.undefined | _undefined(preds, target)

    def compute(self) -> Tensor:
        return torch.where(self.undefined, torch.nan, super().compute())


def _undefined(preds: Tensor, target: Tensor) -> Tensor:
    """Whether a prediction ``[B, C, ...]`` is NaN where there is a class ``[B, ...]``, bool ``[]``."""
    return (preds.isnan().any(1) & (target != -1)).any()


def _any(of_ranks: Tensor) -> Tensor:
    return of_ranks.any(0)


class Sums(Metric):
    """Base of metrics that add up in float64, or in float32 on a device that lacks it (Apple's GPUs)."""

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Module:
        @functools.wraps(fn)  # its name tells the base class whether it changes the dtype alone
        def moved(state: Tensor) -> Tensor:
            try:
                return fn(state)
            except TypeError:
                return fn(state.float())

        return super()._apply(moved, exclude_state)


class _MaskedSums(Sums):
    """Base of errors that are means over all valid places of a set."""

    full_state_update = False
    count: Tensor

    def __init__(self, valid: Valid, names: tuple[str, ...]) -> None:
        super().__init__()
        self._valid = valid
        self._names = names
        # float64: a float32 sum stops growing after some 2^24 pixels.
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        for name in names:
            self.add_state(f"sum_{name}", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def _add(self, mask: Tensor, values: Mapping[str, Tensor]) -> None:
        """Adds values where the mask is true; elsewhere they may be anything, NaN too."""
        self.count += mask.sum()
        for name, value in values.items():
            total = getattr(self, f"sum_{name}")
            setattr(self, f"sum_{name}", total + torch.where(mask, value, 0.0).sum(dtype=total.dtype))

    def _means(self) -> dict[str, Tensor]:
        return {name: (getattr(self, f"sum_{name}") / self.count).float() for name in self._names}


class DepthErrors(_MaskedSums):
    """Depth errors over all valid pixels of a set, after Eigen et al. (2014).

    ``abs_err`` mean |p - t| and ``rmse`` in the label's unit; ``rel_err`` mean |p - t| / t; ``delta1`` the share of
    pixels with max(p/t, t/p) < 1.25.

    Args:
        valid: ``Task.valid`` of the task.
    """

    def __init__(self, valid: Valid) -> None:
        super().__init__(valid, ("abs_err", "rel_err", "rmse", "delta1"))

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds depths ``[B, 1, H, W]``."""
        mask = self._valid(target)
        preds, truth = preds.float(), target.float()
        error = (preds - truth).abs()
        positive = preds.clamp(min=1e-9)
        ratio = torch.maximum(positive / truth, truth / positive)
        values = {
            "abs_err": error,
            "rel_err": error / truth,
            "rmse": error.square(),
            "delta1": (ratio < 1.25).float(),
        }
        self._add(mask, values)

    def compute(self) -> dict[str, Tensor]:
        means = self._means()
        return {**means, "rmse": means["rmse"].sqrt()}


def angles(first: Tensor, second: Tensor) -> Tensor:
    """Angles in degrees ``[B, 1, H, W]`` between vectors ``[B, 3, H, W]`` of any length; 90 to a zero vector."""
    # atan2 of cross and dot product: acos loses all digits near 0 degrees.
    across = torch.linalg.cross(first, second, dim=1).norm(dim=1)
    along = (first * second).sum(1)
    # A zero vector points nowhere: neither right nor opposite, as its loss 1 - <n, t> has it. atan2 would give 0.
    pointless = (across == 0) & (along == 0)
    return torch.where(pointless, 90.0, torch.rad2deg(torch.atan2(across, along))).unsqueeze(1)


class AngularErrors(_MaskedSums):
    """Angles between predicted and true normals over all valid pixels of a set, in degrees.

    ``mean_angle``, ``median_angle`` (from a histogram, exact to 0.05 degrees), and ``within_11_25``, ``within_22_5``,
    ``within_30``: shares in [0, 1].

    Args:
        valid: ``Task.valid`` of the task.
    """

    histogram: Tensor
    sum_mean_angle: Tensor
    thresholds: ClassVar = {"within_11_25": 11.25, "within_22_5": 22.5, "within_30": 30.0}

    def __init__(self, valid: Valid) -> None:
        super().__init__(valid, ("mean_angle", *self.thresholds))
        self.add_state("histogram", torch.zeros(ANGLE_BINS, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds normals ``[B, 3, H, W]``; lengths do not matter."""
        mask = self._valid(target)
        preds, target = preds.float(), torch.where(mask, target, 1.0).float()
        angle = angles(preds, target)
        self._add(mask, {"mean_angle": angle, **{n: (angle < t).float() for n, t in self.thresholds.items()}})
        # The lower limit is for NaN of a prediction, which as a whole number is far below 0.
        bins = (angle * (ANGLE_BINS / 180)).long().clamp(0, ANGLE_BINS - 1)
        self.histogram = self.histogram.scatter_add(
            0, bins.flatten(), mask.flatten().to(self.histogram.dtype)
        )

    def compute(self) -> dict[str, Tensor]:
        cumulated = self.histogram.cumsum(0)
        middle = torch.searchsorted(cumulated, cumulated[-1] / 2)
        # NaN of a prediction was counted as the smallest angle.
        known = self.sum_mean_angle.isfinite() & (self.count > 0)
        median = torch.where(known, (middle + 0.5) * (180 / ANGLE_BINS), torch.nan)
        return {**self._means(), "median_angle": median.float()}


class DenseErrors(_MaskedSums):
    """``l1``, the mean absolute error, and ``rmse`` over all valid pixels and channels of a set.

    Args:
        valid: ``Task.valid`` of the task.
    """

    def __init__(self, valid: Valid) -> None:
        super().__init__(valid, ("l1", "rmse"))

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds values ``[B, C, H, W]``."""
        mask = self._valid(target)
        error = (preds.float() - target.float()).abs()
        self._add(mask, {"l1": error.mean(1, keepdim=True), "rmse": error.square().mean(1, keepdim=True)})

    def compute(self) -> dict[str, Tensor]:
        means = self._means()
        return {**means, "rmse": means["rmse"].sqrt()}


class ValueErrors(_MaskedSums):
    """``mae``, the mean absolute error of image-level values.

    Args:
        valid: ``Task.valid`` of the task.
    """

    def __init__(self, valid: Valid) -> None:
        super().__init__(valid, ("mae",))

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Adds values ``[B, C]``."""
        self._add(self._valid(target), {"mae": (preds.float() - target.float()).abs().mean(1)})

    def compute(self) -> dict[str, Tensor]:
        return self._means()
