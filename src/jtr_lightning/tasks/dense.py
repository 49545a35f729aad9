"""Tasks with a value for every pixel: their base, segmentation and general dense regression.

Supervised losses and codings into the joint-task space follow Nishi et al., "Joint-Task Regularization for Partially
Labeled Multi-Task Learning" (CVPR 2024), with the corrections that the documentation lists as departures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.errors import ConfigError, DataError, check_number, check_whole
from jtr_lightning.metric_facts import MetricFacts
from jtr_lightning.tasks import rendering
from jtr_lightning.tasks.base import Task, at_least_float32, class_ids, class_names, masked_mean

if TYPE_CHECKING:
    import numpy as np
    from torchmetrics import MetricCollection

SHARPENING = 0.5
"""Temperature of the reference in the consistency loss of classes, after Berthelot et al., "MixMatch" (2019)."""
IGNORE = -1
"""The class id of a pixel without a class, in every target."""
USUAL_VOID = 255
"""The id of a pixel without a class in many 8-bit files."""


class DenseTask(Task):
    """A task with ``target_channels`` values per pixel; the base for kinds of your own.

    A subclass gives ``channels``, ``unit``, ``headline``, ``valid``, ``pixel_loss``, ``metrics`` and ``render``; for
    a place in JTR's stack also ``joint_channels`` and the three methods of the joint-task space.

    Attributes:
        blank_value: The value that fills the target of a sample without a label; ``valid`` must be False there.
    """

    dense = True
    blank_value: float = float("nan")

    @property
    def target_channels(self) -> int:
        """Channels of a target."""
        return self.channels

    def target_shape(self, height: int, width: int) -> tuple[int, ...]:
        return (self.target_channels, height, width)

    def blank(self, height: int, width: int) -> Tensor:
        return torch.full(self.target_shape(height, width), self.blank_value, dtype=self.target_dtype)

    def to_target(self, array: np.ndarray[Any, Any]) -> Tensor:
        values = array[..., None] if array.ndim == 2 else array
        if values.ndim != 3 or values.shape[-1] != self.target_channels:
            raise DataError(
                f"A label of {type(self).__name__} should have the shape [H, W, {self.target_channels}]"
                f"{' or [H, W]' if self.target_channels == 1 else ''}; found {list(array.shape)}."
            )
        return torch.as_tensor(values, dtype=self.target_dtype).permute(2, 0, 1)

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        mask = self.valid(target)
        fill = torch.zeros((), dtype=target.dtype, device=target.device)
        safe = torch.where(mask, target, fill) if target.ndim == 4 else torch.where(mask[:, 0], target, fill)
        return masked_mean(self.pixel_loss(at_least_float32(prediction), safe), mask)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss at every pixel.

        Args:
            prediction: ``[B, channels, H, W]``, at least float32.
            target: The target with 0 at every invalid pixel, so that no NaN enters the graph.

        Returns:
            ``[B, 1, H, W]``; what stands at invalid pixels is ignored.
        """
        raise NotImplementedError(f"{type(self).__name__} should define pixel_loss().")

    def error(self, prediction: Tensor, target: Tensor) -> Tensor | None:
        """The loss at every pixel, 0 where the target is invalid."""
        mask = self.valid(target)
        safe = torch.where(mask if target.ndim == 4 else mask[:, 0], target, 0)
        return torch.where(mask, self.pixel_loss(at_least_float32(prediction), safe), 0.0)

    def consistency_loss(self, prediction: Tensor, reference: Tensor, visible: Tensor) -> Tensor:
        """The supervised loss with the other prediction in the label's place."""
        errors = self.pixel_loss(at_least_float32(prediction), at_least_float32(reference.detach()))
        return masked_mean(errors, visible)


class Segmentation(DenseTask):
    """Semantic segmentation. Prediction: log-probabilities; target: class ids, -1 where there is none.

    Args:
        classes: The number of classes, or their names in the order of the ids.
        ignore_index: A further id on disk that means 'no class' (255 in many datasets; where there are more than 255
            classes it is one of them); -1 always does.
        palette: An RGB colour in 0..255 for each class; colours that are easy to tell apart by default.

    Raises:
        ConfigError: Fewer than two classes, or a palette of another length.
    """

    headline = "miou"
    higher_is_better = True
    target_dtype = torch.int64
    blank_value = IGNORE

    def __init__(
        self,
        classes: int | list[str],
        ignore_index: int = USUAL_VOID,
        palette: list[list[int]] | None = None,
    ) -> None:
        self.class_names = class_names(classes)
        if palette is not None and len(palette) != len(self.class_names):
            raise ConfigError(
                f"Parameter `palette` should have a colour for each of the {len(self.class_names)} classes; found "
                f"{len(palette)}."
            )
        self.ignore_index = IGNORE if ignore_index == USUAL_VOID < len(self.class_names) else ignore_index
        self.palette = rendering.distinct_colours(len(self.class_names)) if palette is None else palette

    @property
    def channels(self) -> int:
        return len(self.class_names)

    @property
    def unit(self) -> str:
        return ""

    def target_shape(self, height: int, width: int) -> tuple[int, ...]:
        return (height, width)

    def to_target(self, array: np.ndarray[Any, Any]) -> Tensor:
        if array.ndim == 3 and array.shape[-1] == 1:
            array = array[..., 0]
        if array.ndim != 2 or not array.size:
            raise DataError(
                f"A segmentation label should have the shape [H, W] with some pixels; found {list(array.shape)}."
            )
        ids = torch.as_tensor(class_ids(array))
        low, high = (int(v) for v in torch.aminmax(ids))
        if low <= self.ignore_index <= high:
            ids = ids.masked_fill(ids == self.ignore_index, IGNORE)
            low, high = (int(v) for v in torch.aminmax(ids))
        if low < IGNORE or high >= self.channels:
            raise DataError(
                f"A segmentation label should have class ids 0..{self.channels - 1}, or {IGNORE} or "
                f"{self.ignore_index} for 'no class'; found ids from {low} to {high}. Set `classes` and "
                "`ignore_index` of the task to what the files hold."
            )
        return ids

    def valid(self, target: Tensor) -> Tensor:
        return (target != IGNORE).unsqueeze(1)

    def activate(self, raw: Tensor) -> Tensor:
        return F.log_softmax(at_least_float32(raw), dim=1)

    def renormalize(self, mean: Tensor) -> Tensor:
        """Log-probabilities that sum to one again: the classes' geometric mean."""
        return F.log_softmax(mean, dim=1)

    def decode(self, prediction: Tensor) -> Tensor:
        return prediction.argmax(1)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        return F.nll_loss(prediction, target, reduction="none").unsqueeze(1)

    def consistency_loss(self, prediction: Tensor, reference: Tensor, visible: Tensor) -> Tensor:
        """Cross-entropy to the other view's sharpened probabilities."""
        return masked_mean(sharpened_cross_entropy(prediction, reference).unsqueeze(1), visible)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from jtr_lightning.metrics import SegmentationScores

        return MetricCollection([SegmentationScores(self.channels)])

    def metric_facts(self) -> dict[str, MetricFacts]:
        return {**super().metric_facts(), "pixel_accuracy": MetricFacts(higher_is_better=True)}

    def render(self, target: Tensor) -> Tensor:
        colours = torch.tensor([*self.palette, rendering.INVALID], dtype=torch.uint8, device=target.device)
        return colours[target].movedim(-1, 1)

    def legend(self) -> rendering.Legend:
        return rendering.Legend(dict(zip(self.class_names, self.palette, strict=True)))

    def error(self, prediction: Tensor, target: Tensor) -> Tensor | None:
        """1 where the class is wrong."""
        return (self.decode(prediction) != target).float().unsqueeze(1)

    def error_legend(self) -> rendering.Legend:
        right, wrong = rendering.error_colours(2)
        return rendering.Legend({"right": right, "wrong": wrong}, scale=(0.0, 1.0))

    @property
    def joint_channels(self) -> int:
        return self.channels

    def encode_prediction(self, prediction: Tensor, *, hard: bool = False) -> Tensor:
        """Softmax; with ``hard`` a one-hot Gumbel-softmax draw (temperature 1) with a straight-through gradient."""
        if not hard:
            return prediction.exp()
        noisy = prediction + gumbel_noise(prediction)
        drawn = noisy.detach().argmax(1, keepdim=True)
        one_hot = torch.zeros_like(noisy).scatter_(1, drawn, 1.0)
        if not noisy.requires_grad:
            return one_hot  # nobody will ask for the gradient that the softmax is for
        soft = noisy.softmax(1)
        return one_hot + (soft - soft.detach())

    def encode_target(self, target: Tensor) -> Tensor:
        """One-hot; an ignored pixel is zero in every class."""
        classes = torch.arange(self.channels, device=target.device)
        return (target.unsqueeze(1) == classes.view(1, -1, 1, 1)).to(torch.get_default_dtype())

    def reconstruction_loss(self, output: Tensor, code: Tensor, mask: Tensor) -> Tensor:
        """Binary cross-entropy with logits, summed over the classes."""
        output = at_least_float32(output)
        per_class = F.binary_cross_entropy_with_logits(output, code.to(output.dtype), reduction="none")
        return masked_mean(per_class, mask)


def sharpened_cross_entropy(prediction: Tensor, reference: Tensor) -> Tensor:
    """``-sum_c q_c log p_c`` with ``q`` the reference's probabilities to the power ``1 / SHARPENING``, normalised.

    Args:
        prediction: Log-probabilities ``[B, C, ...]``.
        reference: Log-probabilities up to a constant ``[B, C, ...]``; no gradient goes into them.

    Returns:
        ``[B, ...]``.
    """
    sharpened = (at_least_float32(reference.detach()) / SHARPENING).softmax(1)
    return -(sharpened * at_least_float32(prediction)).sum(1)


def gumbel_noise(like: Tensor) -> Tensor:
    """Standard Gumbel noise of the shape of a tensor, at least float32, drawn from torch's global generator."""
    # Of uniform numbers, four times as fast on a CPU as exponential_(). One of exactly 0 becomes -inf: never drawn.
    uniform = torch.rand_like(like, dtype=torch.promote_types(like.dtype, torch.float32))
    return uniform.log_().neg_().log_().neg_()


class DenseRegression(DenseTask):
    """Any real values per pixel: edges, keypoints, reshading, curvature, albedo ... Invalid where not finite.

    A zoom leaves the values as they are. Lengths in pixels, such as a flow, become larger: give them a subclass with a
    ``zoomed`` of its own.

    Args:
        channels: Values per pixel.
        low: Smallest value that occurs; with ``high`` it codes values into [0, 1] for the joint space and pictures.
        high: Largest value that occurs.
        unit: Unit of the values.
        signed_channels: Channels that hold a horizontal vector component, which a left-right flip negates.

    Raises:
        ConfigError: No channel, or ``low`` not below ``high``.
    """

    headline = "l1"

    def __init__(
        self,
        channels: int = 1,
        low: float = 0.0,
        high: float = 1.0,
        unit: str = "",
        signed_channels: Sequence[int] = (),
    ) -> None:
        check_whole("channels", channels, 1)
        check_number("low", low)
        check_number("high", high)
        if not low < high:
            raise ConfigError(f"Parameter `low` should be below `high`; found low={low}, high={high}.")
        if any(not 0 <= c < channels for c in signed_channels):
            raise ConfigError(
                f"Parameter `signed_channels` should name channels 0..{channels - 1}; found {list(signed_channels)}."
            )
        self._channels = channels
        self.low = low
        self.high = high
        self._unit = unit
        self.signed_channels = tuple(signed_channels)

    @property
    def channels(self) -> int:
        return self._channels

    @property
    def unit(self) -> str:
        return self._unit

    @property
    def headline_floor(self) -> float:
        """A thousandth of the way from ``low`` to ``high``."""
        return 0.001 * (self.high - self.low)

    def valid(self, target: Tensor) -> Tensor:
        return target.isfinite().all(1, keepdim=True)

    def pixel_loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Absolute error, averaged over the channels."""
        return (prediction - target).abs().mean(1, keepdim=True)

    def metrics(self) -> MetricCollection:
        from torchmetrics import MetricCollection

        from jtr_lightning.metrics import DenseErrors

        return MetricCollection([DenseErrors(self.valid)])

    def metric_facts(self) -> dict[str, MetricFacts]:
        return {**super().metric_facts(), "rmse": MetricFacts(self.unit)}

    def mirrored(self, values: Tensor) -> Tensor:
        if not self.signed_channels:
            return values
        values = values.clone()
        for channel in self.signed_channels:
            values[:, channel].neg_()
        return values

    def render(self, target: Tensor) -> Tensor:
        scaled = (target - self.low) / (self.high - self.low)
        if self.channels in (2, 3):
            blue = torch.full_like(scaled[:, :1], 0.5)
            return rendering.as_rgb(torch.cat([scaled, blue], 1)[:, :3], self.valid(target))
        return rendering.colour_map(scaled[:, 0], self.valid(target)[:, 0])

    def legend(self) -> rendering.Legend:
        return rendering.Legend(
            scale=(self.low, self.high) if self.channels not in (2, 3) else None, unit=self.unit
        )

    def error_legend(self) -> rendering.Legend:
        return rendering.Legend(scale=(0.0, (self.high - self.low) / 4), unit=self.unit)

    @property
    def joint_channels(self) -> int:
        return self.channels

    def encode_prediction(self, prediction: Tensor, *, hard: bool = False) -> Tensor:
        """Values brought from [low, high] to [0, 1] and clamped; nothing is drawn."""
        del hard
        return ((prediction - self.low) / (self.high - self.low)).clamp(0, 1)

    def encode_target(self, target: Tensor) -> Tensor:
        return self.encode_prediction(torch.where(target.isfinite(), target, self.low))

    def reconstruction_loss(self, output: Tensor, code: Tensor, mask: Tensor) -> Tensor:
        """Absolute difference between the sigmoid of the output and the code, averaged over the channels."""
        difference = at_least_float32(output).sigmoid() - code
        return masked_mean(difference.abs().mean(1, keepdim=True), mask)


def unit_length(vectors: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Vectors ``[B, C, ...]`` over their length, smooth at the zero vector.

    ``epsilon`` is added to the squared length: at the zero vector the gradient stays below ``epsilon ** -0.5``, and a
    vector of length 1 is shortened by half of it.
    """
    return vectors * (vectors.square().sum(1, keepdim=True) + epsilon).rsqrt()
