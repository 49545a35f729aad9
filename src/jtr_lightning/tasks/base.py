"""What a task is: everything that the rest of the library needs to know about one thing the network predicts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.metric_facts import MetricFacts
from jtr_lightning.tasks.rendering import Legend

if TYPE_CHECKING:
    import numpy as np
    from torchmetrics import MetricCollection


class Task(Described, ABC):
    """Something the network predicts, and all facts about it.

    Three forms of the same quantity pass through a task:

    * *raw*: what the network's head gives, ``channels`` channels, any real value;
    * *prediction*: ``activate(raw)``, which ``loss``, the metrics and the joint space read;
    * *target*: the layout of a label. ``decode(prediction)`` brings a prediction into it.

    Invalid and missing are values of the target itself (``blank``), never a separate mask that could get lost:
    ``valid(target)`` is the only rule about which pixels count.

    A new kind of task derives from ``DenseTask`` (one value per pixel) or ``ImageTask`` (one per image) and nothing
    else in the library changes.

    Attributes:
        headline: The name of the metric that stands for the task in tables and in the delta.
        higher_is_better: The direction of the headline metric.
        target_dtype: dtype of a target.
        dense: Whether the task has a value for every pixel; decides which kind of head a network gives it.
    """

    headline: str
    higher_is_better: bool = False
    target_dtype: torch.dtype = torch.float32
    dense: bool

    @property
    @abstractmethod
    def channels(self) -> int:
        """Number of channels that the network predicts."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """Unit of the values; empty for none."""

    @property
    def headline_floor(self) -> float:
        """The least that the headline metric counts as in ``val/score``, which takes its logarithm; above 0.

        Below all that trainings differ in, or it would change which epoch is the best; but not by so much that a
        single 0 decides, whatever the other tasks do. By default 0.01 where higher is better, as of a fraction, and
        0.000001 else, since an error may have any unit.
        """
        return 0.01 if self.higher_is_better else 1e-6

    @abstractmethod
    def target_shape(self, height: int, width: int) -> tuple[int, ...]:
        """Shape of one target, without the batch, for an image of this size."""

    @abstractmethod
    def blank(self, height: int, width: int) -> Tensor:
        """The target that stands for 'no label': nowhere valid.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.

        Returns:
            Target of shape ``target_shape(height, width)``.
        """

    @abstractmethod
    def to_target(self, array: np.ndarray[Any, Any]) -> Tensor:
        """One label as a dataset reads it, as a target.

        Args:
            array: ``[H, W]`` or ``[H, W, C]`` for a dense task; a number or ``[C]`` for an image-level one.

        Returns:
            Target of ``target_dtype``.

        Raises:
            DataError: The array cannot be a label of this task (shape, ids out of range ...).
        """

    @abstractmethod
    def valid(self, target: Tensor) -> Tensor:
        """Where a target is defined.

        Args:
            target: Targets ``[B, ...]``.

        Returns:
            bool ``[B, 1, H, W]`` for a dense task, ``[B]`` for an image-level one.
        """

    def activate(self, raw: Tensor) -> Tensor:
        """Turns the output of the network's head into a prediction of the same shape."""
        return raw

    def decode(self, prediction: Tensor) -> Tensor:
        """Brings a prediction into the layout of a target."""
        return prediction

    @abstractmethod
    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The supervised loss of each sample, averaged over the sample's own valid pixels.

        Args:
            prediction: ``[B, channels, ...]``.
            target: ``[B, ...]``; blank where there is no label.

        Returns:
            ``[B]``, at least float32; exactly 0 with a gradient path for a sample without a valid pixel.
        """

    @abstractmethod
    def metrics(self) -> MetricCollection:
        """Fresh metrics, updated with ``(prediction, target)``; invalid places never count.

        Must have the metric named by ``headline``.
        """

    def metric_facts(self) -> dict[str, MetricFacts]:
        """Unit and better direction of the metrics by name, of the headline metric in any case.

        The default knows that one alone, in the unit of the values; tables show others without unit and arrow.
        """
        return {self.headline: MetricFacts(self.unit, self.higher_is_better)}

    @abstractmethod
    def render(self, target: Tensor) -> Tensor:
        """A picture of targets for people.

        Args:
            target: ``[B, ...]`` (use ``decode`` for predictions).

        Returns:
            RGB uint8 ``[B, 3, H, W]``; invalid pixels are dark grey.
        """

    def legend(self) -> Legend:
        """What the colours of ``render`` mean; nothing by default."""
        return Legend()

    def error(self, prediction: Tensor, target: Tensor) -> Tensor | None:
        """How wrong a prediction is at every pixel, for pictures.

        Args:
            prediction: ``[B, channels, ...]``.
            target: ``[B, ...]``.

        Returns:
            ``[B, 1, H, W]``, 0 where the prediction is right; any value where the target is invalid. None for a task
            without pixels, which is the default.
        """
        del prediction, target
        return None

    def error_legend(self) -> Legend:
        """What the values of ``error`` mean; without a scale, pictures take the largest error in them."""
        return Legend()

    # What geometry does to the *values*; moving the pixels is the caller's.

    def zoomed(self, values: Tensor, zoom: Tensor) -> Tensor:
        """Values after a crop of relative size ``1 / zoom`` was resized back to full size.

        Args:
            values: Predictions or targets ``[B, ...]``, already resampled.
            zoom: Magnification of each sample ``[B]``, 1 for none.

        Returns:
            Values of the same shape.
        """
        del zoom
        return values

    def mirrored(self, values: Tensor) -> Tensor:
        """Values after the image was flipped left to right (the pixels are already moved)."""
        return values

    def renormalize(self, mean: Tensor) -> Tensor:
        """A mean of predictions as a prediction: of several views of an image, or of neighbouring pixels.

        Args:
            mean: ``[B, channels, ...]``, a weighted mean of what ``activate`` gave.

        Returns:
            A prediction of the same shape; by default the mean itself.
        """
        return mean

    # The joint-task space (JTR).

    @property
    def joint_channels(self) -> int:
        """Channels that the task has in the joint-task stack; 0 keeps it out of the stack."""
        return 0

    def encode_prediction(self, prediction: Tensor, *, hard: bool = False) -> Tensor:
        """Codes predictions for the stack, differentiable in the prediction.

        Args:
            prediction: ``[B, channels, H, W]``, or ``[B, channels]`` of an image-level task.
            hard: Draw one of the categories where the task has some, with a straight-through gradient.

        Returns:
            Code in [0, 1], ``[B, joint_channels, H, W]``; ``[B, joint_channels, 1, 1]`` of an image-level task, which
            knows no height and width: the stack repeats it at every pixel.

        Raises:
            NotImplementedError: The task has no place in the stack (``joint_channels`` is 0).
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no place in the joint-task stack (joint_channels is 0)."
        )

    def encode_target(self, target: Tensor) -> Tensor:
        """Codes targets for the stack; any finite value where the target is invalid.

        Args:
            target: ``[B, ...]``.

        Returns:
            Code in [0, 1] of the shape that ``encode_prediction`` gives.

        Raises:
            NotImplementedError: The task has no place in the stack (``joint_channels`` is 0).
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no place in the joint-task stack (joint_channels is 0)."
        )

    def reconstruction_loss(self, output: Tensor, code: Tensor, mask: Tensor) -> Tensor:
        """How far the joint auto-encoder's output is from the code that went in.

        Args:
            output: The auto-encoder's linear output for this task ``[B, joint_channels, H, W]``.
            code: What it should reconstruct ``[B, joint_channels, H, W]``, of an image-level task the same at every
                pixel.
            mask: bool ``[B, 1, H, W]``, the pixels that count.

        Returns:
            ``[B]``, a sum over the mask's pixels divided by their number; 0 where there are none.

        Raises:
            NotImplementedError: The task has no place in the stack (``joint_channels`` is 0).
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no place in the joint-task stack (joint_channels is 0)."
        )

    # Pairwise spaces, of dense tasks alone, and agreement between views (MTPSL, consistency regularization).

    def encode_prediction_for_pair(self, prediction: Tensor) -> Tensor:
        """Codes predictions for a pairwise joint space: as for the stack, with hard draws.

        Args:
            prediction: ``[B, channels, H, W]``.

        Returns:
            ``[B, joint_channels, H, W]``.
        """
        return self.encode_prediction(prediction, hard=True)

    def encode_target_for_pair(self, target: Tensor) -> Tensor:
        """Codes targets for a pairwise joint space: as for the stack.

        Args:
            target: ``[B, ...]``.

        Returns:
            ``[B, joint_channels, H, W]``.
        """
        return self.encode_target(target)

    @abstractmethod
    def consistency_loss(self, prediction: Tensor, reference: Tensor, visible: Tensor) -> Tensor:
        """How far a prediction is from another prediction of the same image.

        Args:
            prediction: ``[B, channels, ...]``.
            reference: The other one in the same frame ``[B, channels, ...]``; no gradient goes into it.
            visible: Pixels that both show, bool ``[B, 1, H, W]``; of no concern to an image-level task.

        Returns:
            ``[B]``, averaged over the visible pixels.
        """


def class_names(classes: int | Sequence[str]) -> list[str]:
    """The names of classes, in the order of their ids.

    Args:
        classes: The names, or how many there are, which then are called by their ids.

    Raises:
        ConfigError: They are fewer than two, or something else.
    """
    given: Any = classes
    names: list[str] = []
    if isinstance(given, Integral):
        names = [str(i) for i in range(int(given))]
    elif isinstance(given, Sequence) and not isinstance(given, str):
        names = list(given)
    if len(names) < 2 or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"Parameter `classes` should be at least 2 (a number, or names); found {classes!r}."
        )
    return names


def class_ids(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A label of classes as int64, of the same shape.

    Raises:
        DataError: A value is no whole number, such as NaN or 0.7; it would silently become another class.
    """
    import numpy as np

    with np.errstate(invalid="ignore"):  # NaN, and numbers too large for an id: told below
        ids = array.astype(np.int64, copy=False)
    if array.dtype.kind == "f" and (wrong := array[ids != array]).size:
        raise DataError(
            f"A label of classes should have whole numbers as class ids; found {wrong[0]:g}. Mend the file, or read it "
            "as what it is, such as a DenseRegression."
        )
    return ids


def at_least_float32(values: Tensor) -> Tensor:
    """Half-precision values as float32 (sums over an image overflow or lose digits); others unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each sample's own masked places.

    Args:
        values: ``[B, C, ...]``; may hold anything outside the mask as long as its gradient is finite.
        mask: bool ``[B, 1, ...]``.

    Returns:
        ``[B]``: the channels' sum at the masked places over the number of places; 0 where the mask is empty.
    """
    values = at_least_float32(values)
    kept = torch.where(mask, values, torch.zeros((), dtype=values.dtype, device=values.device))
    return kept.flatten(1).sum(1) / mask.flatten(1).sum(1).clamp(min=1)
