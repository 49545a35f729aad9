"""Tasks with one value for the whole image.

The kinds below have no place in the joint-task stack (``joint_channels`` 0); one of your own may have (see
``Task.encode_prediction``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.errors import ConfigError, DataError, check_number, check_whole
from jtr_lightning.tasks import rendering
from jtr_lightning.tasks.base import Task, at_least_float32, class_ids, class_names
from jtr_lightning.tasks.dense import sharpened_cross_entropy

if TYPE_CHECKING:
    import numpy as np
    from torchmetrics import MetricCollection

NO_CLASS = -1
"""The class of an image without a label."""


class ImageTask(Task):
    """A task with one value per image; the base for kinds of your own."""

    dense = False


class Classification(ImageTask):
    """One class for the image. Prediction: log-probabilities ``[B, C]``; target: id ``[B]``, -1 where unlabelled.

    Args:
        classes: The number of classes, or their names in the order of the ids.

    Raises:
        ConfigError: Fewer than two classes.
    """

    headline = "accuracy"
    higher_is_better = True
    target_dtype = torch.int64

    def __init__(self, classes: int | list[str]) -> None:
        self.class_names = class_names(classes)

    @property
    def channels(self) -> int:
        return len(self.class_names)

    @property
    def unit(self) -> str:
        return ""

    def target_shape(self, height: int, width: int) -> tuple[int, ...]:
        del height, width
        return ()

    def blank(self, height: int, width: int) -> Tensor:
        del height, width
        return torch.tensor(NO_CLASS)

    def to_target(self, array: np.ndarray[Any, Any]) -> Tensor:
        if array.size != 1:
            raise DataError(
                f"A classification label should be one class id; found the shape {list(array.shape)}."
            )
        value = int(class_ids(array).reshape(()))
        if not NO_CLASS <= value < self.channels:
            raise DataError(
                f"A classification label should be a class id 0..{self.channels - 1}, or {NO_CLASS} for 'no label'; "
                f"found {value}."
            )
        return torch.tensor(value)

    def valid(self, target: Tensor) -> Tensor:
        return target != NO_CLASS

    def activate(self, raw: Tensor) -> Tensor:
        return F.log_softmax(at_least_float32(raw), dim=1)

    def renormalize(self, mean: Tensor) -> Tensor:
        """Log-probabilities that sum to one again: the classes' geometric mean."""
        return F.log_softmax(mean, dim=1)

    def decode(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(1)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.nll_loss(at_least_float32(prediction), target, ignore_index=NO_CLASS, reduction="none")

    def consistency_loss(self, prediction: Tensor, reference: Tensor, visible: Tensor) -> Tensor:
        """Cross-entropy to the other view's sharpened probabilities."""
        del visible
        return sharpened_cross_entropy(prediction, reference)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from jtr_lightning.metrics import ClassAccuracy

        return MetricCollection({self.headline: ClassAccuracy(self.channels)})

    def render(self, target: Tensor) -> Tensor:
        names = [*self.class_names, "no label"]
        return rendering.text_cards([names[int(i)] for i in target], target.device)


class Regression(ImageTask):
    """Real values for the image (an angle, a count ...). Target ``[B, C]``, NaN where unlabelled.

    Args:
        channels: Number of values.
        unit: Unit of the values.
        scale: Size of a typical difference between images, in the unit: the loss is taken on values divided by it,
            so that tasks of other units weigh alike.
        mean: Typical value, which the network predicts when its head gives 0.

    Raises:
        ConfigError: No channel, or ``scale`` is not above 0.
    """

    headline = "mae"

    def __init__(self, channels: int = 1, unit: str = "", scale: float = 1.0, mean: float = 0.0) -> None:
        check_whole("channels", channels, 1)
        check_number("scale", scale)
        check_number("mean", mean)
        if not scale > 0:
            raise ConfigError(f"Parameter `scale` should be above 0; found {scale}.")
        self._channels = channels
        self._unit = unit
        self.scale = scale
        self.mean = mean

    @property
    def channels(self) -> int:
        return self._channels

    @property
    def unit(self) -> str:
        return self._unit

    @property
    def headline_floor(self) -> float:
        """A thousandth of ``scale``."""
        return 0.001 * self.scale

    def target_shape(self, height: int, width: int) -> tuple[int, ...]:
        del height, width
        return (self.channels,)

    def blank(self, height: int, width: int) -> Tensor:
        del height, width
        return torch.full((self.channels,), float("nan"))

    def to_target(self, array: np.ndarray[Any, Any]) -> Tensor:
        if array.size != self.channels:
            raise DataError(
                f"A regression label should have {self.channels} value(s); found the shape {list(array.shape)}."
            )
        return torch.as_tensor(array, dtype=self.target_dtype).reshape(self.channels)

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite().all(1)

    def activate(self, raw: Tensor) -> Tensor:
        return at_least_float32(raw) * self.scale + self.mean

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Smooth L1 of the values over ``scale``, averaged over the channels."""
        mask = self.valid(target)
        safe = torch.where(mask.unsqueeze(1), target, 0.0)
        error = F.smooth_l1_loss(prediction / self.scale, safe / self.scale, reduction="none").mean(1)
        return torch.where(mask, error, 0.0)

    def consistency_loss(self, prediction: Tensor, reference: Tensor, visible: Tensor) -> Tensor:
        """The supervised loss with the other prediction in the label's place."""
        del visible
        return self.loss(prediction, reference.detach())

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from jtr_lightning.metrics import ValueErrors

        return MetricCollection([ValueErrors(self.valid)])

    def render(self, target: Tensor) -> Tensor:
        known = self.valid(target).tolist()
        texts = [
            " ".join(f"{v:.2f}" for v in row.tolist()) + f" {self.unit}" if ok else "no label"
            for row, ok in zip(target, known, strict=True)
        ]
        return rendering.text_cards(texts, target.device)
