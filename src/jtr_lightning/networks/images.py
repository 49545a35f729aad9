"""What every network does to the image first: normalisation, and padding to a size that its stages can halve."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jtr_lightning.errors import ConfigError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of the ImageNet training images for red, green, blue in [0, 1]; what most pretrained encoders expect."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the ImageNet training images, likewise."""


class Normalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation, channel by channel.

    Args:
        mean: For red, green, blue in [0, 1].
        std: For red, green, blue, above 0.

    Raises:
        ConfigError: Not three numbers each, or a standard deviation that is not above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or not min(std) > 0:
            raise ConfigError(
                "Parameters `mean` and `std` should be three numbers each, for red, green and blue, and those of "
                f"`std` above 0; found mean={list(mean)}, std={list(std)}."
            )
        # Not persistent: they are arguments of the network, which a checkpoint keeps in plain form.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Normalises an image ``[B, 3, H, W]``."""
        return (image - self.mean) / self.std


def pad_to_multiple(image: Tensor, multiple: int) -> Tensor:
    """Repeats the last row and column until height and width are multiples of a number.

    Args:
        image: ``[B, C, H, W]``, any H and W (a reflection would need at least as many pixels as it adds).
        multiple: The number.

    Returns:
        ``[B, C, H', W']``; ``crop`` undoes it.
    """
    height, width = image.shape[-2:]
    # Not `-width % multiple`: torch's compiler has no remainder of negative numbers for a size that changes.
    right, below = ((multiple - side % multiple) % multiple for side in (width, height))
    return F.pad(image, (0, right, 0, below), mode="replicate")


def crop(values: Tensor, height: int, width: int) -> Tensor:
    """Cuts off what was padded below and to the right.

    Padding by a negative number rather than a slice: a slice is a view whose memory layout depends on whether anything
    was cut off, and an exported network would be tied to the one or the other.

    Args:
        values: ``[B, C, H', W']``.
        height: Height to keep.
        width: Width to keep.

    Returns:
        ``[B, C, height, width]``.
    """
    return F.pad(values, (0, width - values.shape[-1], 0, height - values.shape[-2]))
