"""Random changes of colour and sharpness for a whole batch at once, each sample with changes of its own.

The operations are those of ``jtr_lightning.randaugment``; no sample is looped over and no value leaves the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jtr_lightning.described import Described
from jtr_lightning.errors import check_whole
from jtr_lightning.randaugment import BINS, LARGEST_FACTOR, MOST_BITS_LOST, OPERATIONS
from jtr_lightning.tasks.base import at_least_float32

_LEVELS = 256  # grey levels of the images that the operations were defined on


class Photometric(Described):
    """Draws operations for each sample, applied one after the other.

    Args:
        operations: Operations per image; 0 leaves every image as it is.
        strength: Magnitudes are drawn from the bins 0 to this of 31. Default: 5, as in the authors' code of JTR
            (KentoNishi/JTR-CVPR-2024, code/datasets/randaugment.py).

    Raises:
        ConfigError: A negative number of operations, or ``strength`` outside 0..30.
    """

    def __init__(self, operations: int = 2, strength: int = 5) -> None:
        check_whole("operations", operations, 0)
        check_whole("strength", strength, 0, BINS - 1)
        self.operations = operations
        self.strength = strength
        self.change = Change()

    def __call__(self, image: Tensor) -> Tensor:
        """Changes a batch of images.

        Args:
            image: RGB in [0, 1], ``[B, 3, H, W]``.

        Returns:
            Images of the same shape, dtype and range.
        """
        b, device = image.shape[0], image.device
        changed = at_least_float32(image)
        for _ in range(self.operations):
            operation = torch.randint(len(OPERATIONS), (b,), device=device)
            magnitude = torch.randint(self.strength + 1, (b,), device=device) / (BINS - 1)
            sign = torch.randint(2, (b,), device=device) * 2 - 1
            changed = self.change(changed, operation, magnitude * sign)
        return changed.to(image.dtype)

    def compilable(self) -> Sequence[nn.Module]:
        """Parts that gain from ``torch.compile``; see ``Regularizer.compilable``."""
        return (self.change,)


class Change(nn.Module):
    """``change`` as a module: hundreds of small operations, which ``torch.compile`` makes a few of."""

    def forward(self, image: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
        """Applies one operation to each image; see ``change``."""
        return change(image, operation, magnitude)


def change(image: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
    """Applies one operation to each image.

    Every operation is computed for every image and the drawn one kept: picking out the images that need it would
    wait for the device.

    Args:
        image: RGB in [0, 1], ``[B, 3, H, W]``.
        operation: Number of the operation in ``OPERATIONS`` ``[B]``.
        magnitude: Strength in [-1, 1] ``[B]``; the sign matters to brightness, colour, contrast and sharpness alone.

    Returns:
        The changed images in [0, 1].
    """
    operation = operation.view(-1, 1, 1, 1)
    magnitude = magnitude.to(image.dtype).view(-1, 1, 1, 1)
    changed = image
    for number, name in enumerate(OPERATIONS):
        changed = torch.where(operation == number, FUNCTIONS[name](image, magnitude), changed)
    return changed


def _identity(image: Tensor, magnitude: Tensor) -> Tensor:
    del magnitude
    return image


def _brightness(image: Tensor, magnitude: Tensor) -> Tensor:
    return _away_from(torch.zeros_like(image), image, magnitude)


def _colour(image: Tensor, magnitude: Tensor) -> Tensor:
    return _away_from(_grey(image), image, magnitude)


def _contrast(image: Tensor, magnitude: Tensor) -> Tensor:
    return _away_from(_grey(image).mean((1, 2, 3), keepdim=True), image, magnitude)


def _sharpness(image: Tensor, magnitude: Tensor) -> Tensor:
    """Away from (or towards) a 3x3 smoothing with weight 5 in the centre; the outermost pixels are left alone."""
    if min(image.shape[-2:]) < 3:
        return image
    smooth = image.clone()
    centre = image[..., 1:-1, 1:-1]
    smooth[..., 1:-1, 1:-1] = (9 * F.avg_pool2d(image, 3, stride=1) + 4 * centre) / 13
    return _away_from(smooth, image, magnitude)


def _posterize(image: Tensor, magnitude: Tensor) -> Tensor:
    """Keeps the upper bits of each 8-bit value."""
    step = torch.exp2((MOST_BITS_LOST * magnitude.abs()).round())
    return (_to_levels(image) / step).floor() * step / (_LEVELS - 1)


def _solarize(image: Tensor, magnitude: Tensor) -> Tensor:
    """Inverts the values from a threshold upwards."""
    return torch.where(image >= 1 - magnitude.abs(), 1 - image, image)


def _autocontrast(image: Tensor, magnitude: Tensor) -> Tensor:
    """Stretches each channel to [0, 1]; one with a single value stays."""
    del magnitude
    low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
    flat = high <= low
    return torch.where(flat, image, (image - low) / torch.where(flat, 1.0, high - low))


def _equalize(image: Tensor, magnitude: Tensor) -> Tensor:
    """Makes the histogram of each channel flat, with the integer arithmetic of 8-bit images."""
    del magnitude
    # NaN as a whole number would be far outside of the histogram; it is told where the loss is looked at.
    level = _to_levels(image.nan_to_num(0.0)).long().flatten(2)
    count = torch.zeros((*level.shape[:2], _LEVELS), dtype=torch.int64, device=image.device)
    count.scatter_add_(2, level, torch.ones_like(level))
    brightest = count.gather(2, level.amax(2, keepdim=True))
    step = (level.shape[2] - brightest) // (_LEVELS - 1)
    below = count.cumsum(2) - count
    table = ((below + step // 2) // step.clamp(min=1)).clamp(max=_LEVELS - 1)
    equal = table.gather(2, level).view_as(image).to(image.dtype) / (_LEVELS - 1)
    return torch.where((step == 0).unsqueeze(-1) | image.isnan(), image, equal)


FUNCTIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": _identity,
    "brightness": _brightness,
    "colour": _colour,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}
"""Name to function of an image in [0, 1] ``[B, 3, H, W]`` and a magnitude in [-1, 1] ``[B, 1, 1, 1]``."""


def _away_from(other: Tensor, image: Tensor, magnitude: Tensor) -> Tensor:
    return (other + (1 + LARGEST_FACTOR * magnitude) * (image - other)).clamp(0, 1)


def _grey(image: Tensor) -> Tensor:
    """Luma (ITU-R BT.601) ``[B, 1, H, W]``."""
    return 0.2989 * image[:, :1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:]


def _to_levels(image: Tensor) -> Tensor:
    return (image * (_LEVELS - 1)).round().clamp(0, _LEVELS - 1)
