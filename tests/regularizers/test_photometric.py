"""The batched operations are RandAugment's, each sample has its own, and values stay images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.transforms.v2.functional as TF
from torch import Tensor

from jtr_lightning.errors import ConfigError
from jtr_lightning.randaugment import BINS, OPERATIONS
from jtr_lightning.regularizers.photometric import FUNCTIONS, Photometric, change


def strengths(low: float, high: float) -> Tensor:
    return torch.linspace(low, high, BINS)


BITS_LOST = (torch.arange(BINS) / ((BINS - 1) / 4)).round().int()

# What torchvision's RandAugment does for an operation, a bin and a sign, on an 8-bit image or on floats.
TORCHVISION: dict[str, Callable[[Tensor, Tensor, int, int], Tensor]] = {
    "identity": lambda f, u, i, s: f,
    "brightness": lambda f, u, i, s: TF.adjust_brightness(f, 1 + s * float(strengths(0, 0.9)[i])),
    "colour": lambda f, u, i, s: TF.adjust_saturation(f, 1 + s * float(strengths(0, 0.9)[i])),
    "contrast": lambda f, u, i, s: TF.adjust_contrast(f, 1 + s * float(strengths(0, 0.9)[i])),
    "sharpness": lambda f, u, i, s: TF.adjust_sharpness(f, 1 + s * float(strengths(0, 0.9)[i])),
    "posterize": lambda f, u, i, s: TF.posterize(u, 8 - int(BITS_LOST[i])) / 255,
    "solarize": lambda f, u, i, s: TF.solarize(u, float(strengths(255, 0)[i])) / 255,
    "autocontrast": lambda f, u, i, s: TF.autocontrast(f),
    "equalize": lambda f, u, i, s: TF.equalize(u) / 255,
}


def eight_bit_images(b: int = 2) -> Tensor:
    """Images with a smooth histogram, one flat channel and some saturated values; equalize needs over 255 pixels."""
    images = (torch.rand(b, 3, 40, 51) * torch.rand(b, 3, 1, 1) * 300).clamp(max=255).to(torch.uint8)
    images[0, 1] = 77
    return images


def test_there_is_a_check_for_every_operation() -> None:
    assert list(OPERATIONS) == list(TORCHVISION) == list(FUNCTIONS)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("magnitude_bin", [0, 1, 5, 30])
@pytest.mark.parametrize("name", TORCHVISION)
def test_an_operation_equals_torchvisions(name: str, magnitude_bin: int, sign: int) -> None:
    images = eight_bit_images()
    number = torch.full((len(images),), OPERATIONS.index(name))
    magnitude = torch.full((len(images),), sign * magnitude_bin / (BINS - 1))
    found = change(images / 255, number, magnitude)
    expected = TORCHVISION[name](images / 255, images, magnitude_bin, sign)
    assert torch.allclose(found, expected, atol=2e-6)


def test_each_sample_gets_its_own_operation_and_strength() -> None:
    images = eight_bit_images(20) / 255
    operation = torch.arange(20) % len(OPERATIONS)
    magnitude = torch.rand(20) * 2 - 1
    together = change(images, operation, magnitude)
    for i in range(20):
        alone = change(images[i : i + 1], operation[i : i + 1], magnitude[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-6)


def test_draws_differ_between_samples_repeat_with_the_seed_and_stay_in_range() -> None:
    images = (eight_bit_images(1) / 255).expand(40, -1, -1, -1)
    photometric = Photometric(operations=2, strength=30)
    torch.manual_seed(3)
    first = photometric(images)
    torch.manual_seed(3)
    assert torch.equal(first, photometric(images))
    assert len({tuple(image.flatten().tolist()) for image in first}) > 15
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1


def test_images_become_brighter_or_darker() -> None:
    grey = torch.full((120, 3, 4, 4), 0.5)
    means = Photometric(operations=1)(grey).mean((1, 2, 3))
    # Bin 5 of 30 is a factor of 1 +- 0.15.
    assert float(means.min()) == pytest.approx(0.5 * 0.85)
    assert float(means.max()) == pytest.approx(0.5 * 1.15)


def test_nothing_drawn_changes_nothing() -> None:
    images = torch.rand(3, 3, 8, 8)
    assert torch.equal(Photometric(operations=0)(images), images)


def test_weak_magnitudes_change_less_than_strong_ones() -> None:
    images = eight_bit_images(60) / 255

    def distance(strength: int) -> float:
        torch.manual_seed(0)
        return float((Photometric(operations=1, strength=strength)(images) - images).abs().mean())

    assert distance(0) < distance(5) < distance(30)


def test_half_precision_images_keep_their_dtype() -> None:
    images = torch.rand(8, 3, 8, 8).to(torch.bfloat16)
    assert Photometric()(images).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operations": -1}, r"`operations` should be at least 0; found -1"),
        ({"strength": -1}, r"`strength` should be at least 0; found -1"),
        ({"strength": 31}, r"`strength` should be at most 30; found 31"),
    ],
)
def test_refuses_settings_that_cannot_work(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Photometric(**settings)


def test_images_of_two_pixels_have_nothing_to_sharpen() -> None:
    image = torch.rand(2, 3, 2, 5)
    changed = FUNCTIONS["sharpness"](image, torch.ones(2, 1, 1, 1))
    torch.testing.assert_close(changed, image, rtol=0, atol=0)


def test_posterized_values_that_rounding_has_put_beyond_white_are_white() -> None:
    image = torch.linspace(0, 1, 600).view(1, 3, 10, 20)
    beyond = torch.where(image > 0.99, 1.01, image)
    white = torch.where(image > 0.99, 1.0, image)
    weakest = torch.zeros(1, 1, 1, 1)
    torch.testing.assert_close(
        FUNCTIONS["posterize"](beyond, weakest), FUNCTIONS["posterize"](white, weakest), rtol=0, atol=0
    )


def test_a_pixel_that_is_no_number_stays_one_and_ends_nothing() -> None:
    """So that the training's guard can name the sample."""
    image = torch.rand(4, 3, 8, 8)
    image[1, 0, 2, 3] = torch.nan
    for name, function in FUNCTIONS.items():
        changed = function(image, torch.zeros(4, 1, 1, 1))
        assert changed[1, 0, 2, 3].isnan(), name
        assert changed[[0, 2, 3]].isfinite().all(), name
