"""Tasks of geometry: depth and surface normals, whose values change with the crop and the flip of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jtr_lightning.errors import ConfigError, DataError, check_number
from jtr_lightning.metric_facts import MetricFacts
from jtr_lightning.tasks import rendering
from jtr_lightning.tasks.base import at_least_float32, masked_mean
from jtr_lightning.tasks.dense import DenseTask, unit_length

if TYPE_CHECKING:
    import numpy as np
    from torchmetrics import MetricCollection


class Depth(DenseTask):
    """Depth (or inverse depth, disparity) in the unit of the labels. Valid where finite and above 0.

    Args:
        mean: Mean of the dataset's depth, for the coding ``Phi((d - mean) / std)``. Default: NYU-v2 in metres, as in
            the authors' code (KentoNishi/JTR-CVPR-2024, code/utils/process.py).
        std: Standard deviation of the dataset's depth. Default: NYU-v2.
        unit: Unit of the labels.
        inverse: The labels are inverse depth or disparity: a zoom multiplies them where it divides a depth.
        display_range: Values shown as the first and last colour of a picture.
        expected_range: Smallest and largest value that occur. `jtr data check` tells of files with others; training
            takes them as they are.
        expected_median: Between what the median of a label mostly lies, whatever single pixels are: what tells that
            files are read in another unit. `jtr data check` looks at the middle one of a split's medians.

    Raises:
        ConfigError: ``std`` is not above 0, or an expectation is no range.
    """

    headline = "abs_err"
    blank_value = 0.0

    def __init__(
        self,
        mean: float = 2.3618,
        std: float = 1.5876,
        unit: str = "m",
        inverse: bool = False,
        display_range: tuple[float, float] = (0.0, 8.0),
        expected_range: tuple[float, float] | None = None,
        expected_median: tuple[float, float] | None = None,
    ) -> None:
        check_number("mean", mean)
        check_number("std", std)
        if not std > 0:
            raise ConfigError(f"Parameter `std` should be above 0; found {std}.")
        for name, ends in (("expected_range", expected_range), ("expected_median", expected_median)):
            if ends is not None and not ends[0] < ends[1]:
                raise ConfigError(
                    f"Parameter `{name}` should be a smaller and a larger value; found {list(ends)}."
                )
        self.mean = mean
        self.std = std
        self._unit = unit
        self.inverse = inverse
        self.display_range = display_range
        self.expected_range = expected_range
        self.expected_median = expected_median

    @property
    def channels(self) -> int:
        return 1

    @property
    def unit(self) -> str:
        return self._unit

    @property
    def headline_floor(self) -> float:
        """A thousandth of ``std``."""
        return 0.001 * self.std

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite() & (target > 0)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Absolute error in the unit of the labels."""
        return (prediction - target).abs()

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from jtr_lightning.metrics import DepthErrors

        return MetricCollection([DepthErrors(self.valid)])

    def metric_facts(self) -> dict[str, MetricFacts]:
        return {
            **super().metric_facts(),
            "rel_err": MetricFacts(),
            "rmse": MetricFacts(self.unit),
            "delta1": MetricFacts(higher_is_better=True),
        }

    def zoomed(self, values: Tensor, zoom: Tensor) -> Tensor:
        factor = zoom.to(values.dtype).view(-1, 1, 1, 1)
        return values * factor if self.inverse else values / factor

    def render(self, target: Tensor) -> Tensor:
        near, far = self.display_range
        return rendering.colour_map((target[:, 0] - near) / (far - near), self.valid(target)[:, 0])

    def legend(self) -> rendering.Legend:
        # Labels have none of these, but predictions may.
        nowhere = {f"0 {self.unit} or less".replace("  ", " "): rendering.INVALID}
        return rendering.Legend(nowhere, scale=self.display_range, unit=self.unit)

    def error_legend(self) -> rendering.Legend:
        near, far = self.display_range
        return rendering.Legend(scale=(0.0, (far - near) / 4), unit=self.unit)

    @property
    def joint_channels(self) -> int:
        return 1

    def encode_prediction(self, prediction: Tensor, *, hard: bool = False) -> Tensor:
        """``Phi((d - mean) / std)``, Phi the normal distribution function, in float32; nothing is drawn."""
        del hard
        coded: Tensor = torch.special.ndtr((at_least_float32(prediction) - self.mean) / self.std)
        return coded

    def encode_target(self, target: Tensor) -> Tensor:
        return self.encode_prediction(torch.where(self.valid(target), target, 0.0))

    def encode_prediction_for_pair(self, prediction: Tensor) -> Tensor:
        """Depth over its own maximum in that sample, as MTPSL does; 0 where all of it is at or below 0."""
        depth = at_least_float32(prediction).clamp(min=0)
        return depth / depth.flatten(1).amax(1).clamp(min=1e-6).view(-1, 1, 1, 1)

    def encode_target_for_pair(self, target: Tensor) -> Tensor:
        return self.encode_prediction_for_pair(torch.where(self.valid(target), target, 0.0))

    def reconstruction_loss(self, output: Tensor, code: Tensor, mask: Tensor) -> Tensor:
        """Absolute difference between the sigmoid of the output and the coded depth."""
        return masked_mean((at_least_float32(output).sigmoid() - code).abs(), mask)


LENGTH_TOLERANCE = 0.05
"""How far from 1 the length of a true normal may be: codes of 8 bits keep it to a hundredth."""


class Normals(DenseTask):
    """Surface normals, unit vectors in the camera's frame with x to the right. Valid where not the zero vector.

    A left-right flip negates x.
    """

    headline = "mean_angle"
    blank_value = 0.0

    @property
    def channels(self) -> int:
        return 3

    @property
    def unit(self) -> str:
        return ""  # of the vectors; angles between them have one

    @property
    def headline_floor(self) -> float:
        """A tenth of a degree."""
        return 0.1

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite().all(1, keepdim=True) & (target != 0).any(1, keepdim=True)

    def to_target(self, array: np.ndarray[Any, Any]) -> Tensor:
        """As of every dense task; refuses valid normals whose length is not within ``LENGTH_TOLERANCE`` of 1.

        Of a map with more than 64 rows about 64 are looked at, evenly spaced: this is done for every sample of a
        training, and files of another coding differ everywhere.
        """
        target = super().to_target(array)
        x, y, z = seen = target[:, :: max(1, target.shape[1] // 64)]
        square = x * x + y * y + z * z
        others = seen[:, (square <= (1 - LENGTH_TOLERANCE) ** 2) | (square >= (1 + LENGTH_TOLERANCE) ** 2)]
        # Of another length, 1 - <n_hat, n> is no longer 0 where the prediction is right.
        strange = others[:, self.valid(others[None])[0, 0]].norm(dim=0)
        if len(strange):
            raise DataError(
                f"A normal should have length 1, give or take {LENGTH_TOLERANCE:g}, or be the zero vector where it is "
                f"not known; found {len(strange)} of {square.numel()} vectors of lengths {float(strange.min()):.3g} to "
                f"{float(strange.max()):.3g}. Divide them by their length; the coding UnitVectors does."
            )
        return target

    def activate(self, raw: Tensor) -> Tensor:
        return unit_length(at_least_float32(raw))

    def renormalize(self, mean: Tensor) -> Tensor:
        """The direction of the mean, as a unit vector."""
        return unit_length(mean)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """``1 - <n_hat, n>``."""
        return 1 - (prediction * target).sum(1, keepdim=True)

    def consistency_loss(self, prediction: Tensor, reference: Tensor, visible: Tensor) -> Tensor:
        """``1 - cos`` to the other prediction, which resampling may have shortened."""
        return super().consistency_loss(prediction, unit_length(reference), visible)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from jtr_lightning.metrics import AngularErrors

        return MetricCollection([AngularErrors(self.valid)])

    def metric_facts(self) -> dict[str, MetricFacts]:
        from jtr_lightning.metrics import AngularErrors

        angles = dict.fromkeys((self.headline, "median_angle"), MetricFacts("deg"))
        return {**angles, **dict.fromkeys(AngularErrors.thresholds, MetricFacts(higher_is_better=True))}

    def mirrored(self, values: Tensor) -> Tensor:
        return torch.cat([-values[:, :1], values[:, 1:]], 1)

    def render(self, target: Tensor) -> Tensor:
        return rendering.as_rgb((target + 1) / 2, self.valid(target))

    def legend(self) -> rendering.Legend:
        ends = torch.cat([torch.eye(3), -torch.eye(3)])
        colours = self.render(ends.view(6, 3, 1, 1)).flatten(1).tolist()
        names = ("+x (right)", "+y", "+z", "-x (left)", "-y", "-z")
        return rendering.Legend(dict(zip(names, colours, strict=True)))

    def error(self, prediction: Tensor, target: Tensor) -> Tensor | None:
        """The angle in degrees."""
        from jtr_lightning.metrics import angles

        return angles(prediction, torch.where(self.valid(target), target, 1.0))

    def error_legend(self) -> rendering.Legend:
        return rendering.Legend(scale=(0.0, 60.0), unit="deg")

    @property
    def joint_channels(self) -> int:
        return 3

    def encode_prediction(self, prediction: Tensor, *, hard: bool = False) -> Tensor:
        """``(n + 1) / 2``; nothing is drawn."""
        del hard
        return (prediction + 1) / 2

    def encode_target(self, target: Tensor) -> Tensor:
        return self.encode_prediction(torch.where(target.isfinite(), target, 0.0))

    def reconstruction_loss(self, output: Tensor, code: Tensor, mask: Tensor) -> Tensor:
        """``1 - <unit(output), n>`` with the normal that the code stands for."""
        normal = 2 * code - 1
        return masked_mean(1 - (unit_length(at_least_float32(output)) * normal).sum(1, keepdim=True), mask)
