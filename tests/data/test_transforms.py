"""Each photometric operation against its definition, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jtr_lightning.data import transforms
from jtr_lightning.data.source import Array
from jtr_lightning.data.transforms import FUNCTIONS, Operation


@pytest.fixture
def image() -> Array:
    """Soft colours, so that there is something left to stretch and to equalise."""
    rng = np.random.default_rng(0)
    return np.clip(rng.normal((90, 120, 150), (20, 30, 25), (40, 50, 3)), 0, 255).astype(np.uint8)


def enhanced(kind: type[ImageEnhance._Enhance], image: Array, factor: float) -> Array:
    return np.asarray(kind(Image.fromarray(image)).enhance(factor)).astype(int)


@pytest.mark.parametrize("magnitude", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        (transforms.brightness, ImageEnhance.Brightness),
        (transforms.contrast, ImageEnhance.Contrast),
        (transforms.colour, ImageEnhance.Color),
        (transforms.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_those_of_pil(
    image: Array, operation: Operation, kind: type[ImageEnhance._Enhance], magnitude: float, sign: int
) -> None:
    expected = enhanced(kind, image, 1 + sign * 0.9 * magnitude)
    found = operation(image, magnitude, sign).astype(int)
    # PIL leaves the border unsharpened, and rounds its grey.
    assert np.abs(found - expected)[1:-1, 1:-1].max() <= 1


@pytest.mark.parametrize(("magnitude", "bits"), [(0.0, 8), (5 / 30, 7), (1.0, 4)])
def test_posterize_keeps_the_upper_bits(image: Array, magnitude: float, bits: int) -> None:
    expected = np.asarray(ImageOps.posterize(Image.fromarray(image), bits))
    assert np.array_equal(transforms.posterize(image, magnitude, 1), expected)


@pytest.mark.parametrize(("magnitude", "threshold"), [(0.0, 255), (0.4, 153), (1.0, 0)])
def test_solarize_inverts_from_a_threshold_on(image: Array, magnitude: float, threshold: int) -> None:
    expected = np.asarray(ImageOps.solarize(Image.fromarray(image), threshold))
    assert np.array_equal(transforms.solarize(image, magnitude, 1), expected)


def test_autocontrast_is_that_of_pil(image: Array) -> None:
    expected = np.asarray(ImageOps.autocontrast(Image.fromarray(image))).astype(int)
    assert np.abs(transforms.autocontrast(image, 0.3, 1).astype(int) - expected).max() <= 1


def test_equalize_spreads_each_channel_over_all_values(image: Array) -> None:
    found = transforms.equalize(image, 0.3, 1)
    assert found.min((0, 1)).tolist() == [0, 0, 0]
    assert found.max((0, 1)).tolist() == [255, 255, 255]
    for channel in range(3):
        # Order is kept, and quarters of the pixels come to lie in quarters of the range.
        pairs = np.unique(np.stack([image[..., channel].ravel(), found[..., channel].ravel()], 1), axis=0)
        assert (np.diff(pairs[:, 1].astype(int)) >= 0).all()
        assert np.abs(np.percentile(found[..., channel], [25, 50, 75]) - [64, 128, 191]).max() < 12


@pytest.mark.parametrize("operation", FUNCTIONS.values())
@pytest.mark.parametrize("value", [0, 77, 255])
def test_a_plain_image_stays_an_image(operation: Operation, value: int) -> None:
    plain = np.full((6, 7, 3), value, np.uint8)
    for magnitude in (0.0, 0.5, 1.0):
        found = operation(plain, magnitude, -1)
        assert found.dtype == np.uint8
        assert found.shape == plain.shape
        assert len(np.unique(found)) == 1
    assert (plain == value).all()
