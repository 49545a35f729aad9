"""Augmentation on the CPU, our adapter around albumentations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jtr_lightning.data.source import Array
from jtr_lightning.described import Described


@dataclass
class Augmented:
    """One sample after augmentation.

    Attributes:
        image: RGB uint8 ``[H, W, 3]``.
        labels: Dense labels ``[H, W]`` or ``[H, W, C]``, their pixels moved with the image's but values unchanged.
        zoom: How much larger things have become by a crop that was resized back, 1 for not at all.
        mirrored: Whether the image was flipped left to right.
    """

    image: Array
    labels: dict[str, Array]
    zoom: float = 1.0
    mirrored: bool = False


class Augmentation(Described):
    """Moves an image and its dense labels alike, and changes the image's colours."""

    def __call__(self, image: Array, labels: Mapping[str, Array], seed: int) -> Augmented:
        """Augments one sample.

        Args:
            image: RGB uint8 ``[H, W, 3]``.
            labels: Dense labels ``[H, W]`` or ``[H, W, C]`` by task.
            seed: Everything drawn depends on this alone.

        Returns:
            The augmented sample, of the same size.
        """
        return Augmented(image, dict(labels))
