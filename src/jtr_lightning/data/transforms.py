"""Our albumentations transforms. Importing this imports albumentations: done only where augmentation is used.

albumentations and OpenCV are told to move pixels and to change colours, nothing else: what a move does to a label's
values is the task's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.quiet_albumentations import A, Targets
from jtr_lightning.data.resizing import resize_image, resize_label
from jtr_lightning.data.source import Array
from jtr_lightning.randaugment import BINS, LARGEST_FACTOR, MOST_BITS_LOST, OPERATIONS

Pixels = NDArray[np.uint8]


class Zoom(A.DualTransform):  # type: ignore[misc]
    """Cuts out a random part of relative size ``1 / scale`` and resizes it back, images bilinear, labels nearest.

    Args:
        scales: One of them is drawn with equal chance.
    """

    _targets = (Targets.IMAGE, Targets.MASK)

    def __init__(self, scales: Sequence[float]) -> None:
        super().__init__(p=1.0)
        self.scales = tuple(scales)

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        del data
        height, width = params["shape"][:2]
        scale = self.py_random.choice(self.scales)
        rows, columns = max(1, round(height / scale)), max(1, round(width / scale))
        top = self.py_random.randint(0, height - rows)
        left = self.py_random.randint(0, width - columns)
        # The magnification in fact, since the part has whole pixels; over both axes, as it may differ a little.
        zoom = ((height * width) / (rows * columns)) ** 0.5
        return {"zoom": zoom, "part": np.s_[top : top + rows, left : left + columns]}

    def apply(self, img: Array, *, part: tuple[slice, slice], shape: Sequence[int], **params: Any) -> Array:
        cut = img[part]
        return img if cut.shape == img.shape else resize_image(cut, (shape[0], shape[1]))

    def apply_to_mask(
        self, mask: Array, *, part: tuple[slice, slice], shape: Sequence[int], **params: Any
    ) -> Array:
        cut = mask[part]
        return mask if cut.shape == mask.shape else resize_label(cut, (shape[0], shape[1]))


class RandomColours(A.ImageOnlyTransform):  # type: ignore[misc]
    """The photometric operations of ``jtr_lightning.randaugment`` on 8-bit images.

    Args:
        number: How many operations are applied, drawn with equal chance and with replacement.
        strength: The largest of the 31 bins 0..30 from which the magnitude of each operation is drawn.
    """

    def __init__(self, number: int, strength: int) -> None:
        super().__init__(p=1.0)
        self.number = number
        self.strength = strength

    def get_params(self) -> dict[str, Any]:
        draw = self.py_random
        return {
            "operations": [
                (
                    FUNCTIONS[draw.choice(OPERATIONS)],
                    draw.randint(0, self.strength) / (BINS - 1),
                    draw.choice((-1, 1)),
                )
                for _ in range(self.number)
            ]
        }

    def apply(
        self, img: Pixels, *, operations: Sequence[tuple[Operation, float, int]], **params: Any
    ) -> Pixels:
        for operation, magnitude, sign in operations:
            img = operation(img, magnitude, sign)
        return img


Operation = Callable[[Pixels, float, int], Pixels]
"""Changes an RGB image by a magnitude in [0, 1] up or down (where there are two directions)."""

# ITU-R BT.601, OpenCV's and PIL's weights of red, green and blue in grey.
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
# PIL's SMOOTH, the zero of its sharpness.
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13
_SAME = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=np.float32)


def _factor(magnitude: float, sign: int) -> float:
    return 1 + sign * LARGEST_FACTOR * magnitude


def identity(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Nothing."""
    del magnitude, sign
    return image


def brightness(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Further from or nearer to black."""
    return np.asarray(cv2.convertScaleAbs(image, alpha=_factor(magnitude, sign)))


def contrast(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Further from or nearer to the image's mean grey."""
    factor = _factor(magnitude, sign)
    mean = float(np.dot(cv2.mean(image)[:3], _GREY))
    return np.asarray(cv2.addWeighted(image, factor, image, 0, mean * (1 - factor)))


def colour(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Further from or nearer to the pixel's own grey."""
    factor = _factor(magnitude, sign)
    return np.asarray(cv2.transform(image, factor * np.eye(3, dtype=np.float32) + (1 - factor) * _GREY))


def sharpness(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Further from or nearer to the smoothed image."""
    factor = _factor(magnitude, sign)
    return np.asarray(cv2.filter2D(image, -1, factor * _SAME + (1 - factor) * _SMOOTH))


def posterize(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Fewer bits per value: 8 down to 4."""
    del sign
    return np.asarray(image & np.uint8(256 - 2 ** round(MOST_BITS_LOST * magnitude)))


def solarize(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Inverts values from a threshold on: 255 down to 0."""
    del sign
    threshold = np.ceil(255 * (1 - magnitude))
    # All bits set where the value is above.
    _, inverted = cv2.threshold(image, threshold - 1, 255, cv2.THRESH_BINARY)
    return np.asarray(cv2.bitwise_xor(image, inverted), dtype=np.uint8)


def autocontrast(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Stretches each channel over all values."""
    del magnitude, sign
    channels = [_stretched(np.asarray(channel, dtype=np.uint8)) for channel in cv2.split(image)]
    return np.asarray(cv2.merge(channels), dtype=np.uint8)


def _stretched(channel: Pixels) -> Pixels:
    low, high = int(channel.min()), int(channel.max())
    if low == high:
        return channel
    scale = 255 / (high - low)
    return np.asarray(cv2.addWeighted(channel, scale, channel, 0, -low * scale))


def equalize(image: Pixels, magnitude: float, sign: int) -> Pixels:
    """Makes each channel's histogram as even as can be."""
    del magnitude, sign
    return np.asarray(cv2.merge([cv2.equalizeHist(channel) for channel in cv2.split(image)]))


FUNCTIONS: dict[str, Operation] = {
    "identity": identity,
    "brightness": brightness,
    "colour": colour,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": autocontrast,
    "equalize": equalize,
}
