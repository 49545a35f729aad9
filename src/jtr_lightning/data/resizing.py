"""Moving the pixels of images and labels with OpenCV, whatever the type of a label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np

from jtr_lightning.data.source import Array
from jtr_lightning.errors import ConfigError

MAX_CHANNELS = 128
"""Most channels of an array that OpenCV 5 moves."""

# A label is moved, never interpolated, so it travels as the type of its width that OpenCV knows best: it does not take
# int64, bool or float16 everywhere, and gives some of them back as another type.
_CARRIERS: dict[int, Any] = {1: np.uint8, 2: np.int16, 4: np.float32, 8: np.float64}


def carried(label: Array) -> Array:
    """A view of a label that OpenCV moves without touching a bit; ``view(label.dtype)`` turns it back.

    Raises:
        ConfigError: The label has more channels than OpenCV moves.
    """
    if label.ndim == 3 and label.shape[2] > MAX_CHANNELS:
        raise ConfigError(
            f"A label that is resized or augmented should have at most {MAX_CHANNELS} channels; found "
            f"{label.shape[2]}. Split it into several tasks, or train without `size` and `augmentation`."
        )
    return label.view(_CARRIERS[label.dtype.itemsize])


def resize_image(image: Array, size: tuple[int, int]) -> Array:
    """An image uint8 ``[H, W, 3]`` in another height and width, by area if it shrinks, bilinear if it grows."""
    height, width = size
    shrinks = height * width < image.shape[0] * image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation))


def resize_label(label: Array, size: tuple[int, int]) -> Array:
    """A label ``[H, W]`` or ``[H, W, C]`` of any type in another height and width, each pixel the nearest one's value.

    Raises:
        ConfigError: The label has more channels than OpenCV moves.
    """
    height, width = size
    # INTER_NEAREST would shift labels against the image by up to half a pixel.
    moved = cv2.resize(carried(label), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    # OpenCV drops a last dimension of 1.
    return moved.view(label.dtype).reshape(height, width, *label.shape[2:])


def resize(image: Array, dense: Mapping[str, Array], size: tuple[int, int]) -> tuple[Array, dict[str, Array]]:
    """Resizes an image and its dense labels alike.

    Args:
        image: RGB uint8 ``[H, W, 3]``.
        dense: Labels ``[H, W]`` or ``[H, W, C]`` by task.
        size: Height and width wanted.

    Returns:
        The image and the labels, of unchanged types.

    Raises:
        ConfigError: A label has more channels than OpenCV moves.
    """
    return resize_image(image, size), {name: resize_label(label, size) for name, label in dense.items()}
