"""Augmentation on the CPU, our adapter around albumentations, which is imported only where it is used."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jtr_lightning.data.resizing import carried
from jtr_lightning.data.source import Array
from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError, check_number, check_numbers, check_whole


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
    """Moves an image and its dense labels alike, and changes the image's colours.

    The labels' pixels are moved (the nearest one, normals included: a mean of two normals across an edge is the normal
    of neither side). What a zoom or a flip does to a label's *values* is told by ``zoom`` and ``mirrored`` and left to
    the tasks. Override ``transforms`` to add albumentations transforms of your own.

    Args:
        scales: A part of relative size ``1 / scale`` is cut out and resized back; a scale is drawn with equal chance.
            The default is that of the published recipes (MTPSL, JTR).
        flip: Chance of a flip from left to right. The published recipe for NYU-v2 has none: ``flip: 0``.
        colour_changes: How many of RandAugment's photometric operations are applied (2 in the published recipe of
            JTR; 0 for none).
        colour_strength: Their magnitudes are drawn from the bins 0 to this of 31 (5 in the published recipe).

    Raises:
        ConfigError: A parameter is out of its range.
    """

    def __init__(
        self,
        scales: Sequence[float] = (1.0, 1.2, 1.5),
        flip: float = 0.5,
        colour_changes: int = 2,
        colour_strength: int = 5,
    ) -> None:
        check_numbers("scales", scales)
        check_number("flip", flip)
        check_whole("colour_changes", colour_changes, 0)
        check_whole("colour_strength", colour_strength, 0, 30)
        if not scales or any(not 1 <= scale < float("inf") for scale in scales):
            raise ConfigError(
                f"Parameter `scales` should have at least one number, each at least 1; found {list(scales)}."
            )
        if not 0 <= flip <= 1:
            raise ConfigError(f"Parameter `flip` should be a chance from 0 to 1; found {flip}.")
        self.scales = tuple(scales)
        self.flip = flip
        self.colour_changes = colour_changes
        self.colour_strength = colour_strength
        self._pipeline: _Pipeline | None = None

    def transforms(self) -> list[Any]:
        """The albumentations transforms, in order.

        A subclass may add transforms that leave every pixel in its place (``ImageOnlyTransform``, and the likes of
        ``OneOf`` around them), and the image 8-bit RGB, which the network normalises. Of those that move pixels only
        ``Zoom`` and ``HorizontalFlip`` may occur, since the tasks know what these do to a depth or a normal.
        """
        from jtr_lightning.data.quiet_albumentations import A
        from jtr_lightning.data.transforms import RandomColours, Zoom

        transforms: list[Any] = []
        if set(self.scales) != {1.0}:
            transforms.append(Zoom(self.scales))
        if self.flip > 0:
            transforms.append(A.HorizontalFlip(p=self.flip))
        if self.colour_changes > 0:
            transforms.append(RandomColours(self.colour_changes, self.colour_strength))
        return transforms

    def __call__(self, image: Array, labels: Mapping[str, Array], seed: int) -> Augmented:
        """Augments one sample.

        Args:
            image: RGB uint8 ``[H, W, 3]``.
            labels: Dense labels ``[H, W]`` or ``[H, W, C]`` by task, of any type.
            seed: Everything drawn depends on this alone.

        Returns:
            The augmented sample, of the same size and types.

        Raises:
            ConfigError: ``transforms`` has one that moves pixels in a way that the tasks do not know, or leaves no
                8-bit RGB image of the same size; or a label has more than 128 channels.
        """
        if self._pipeline is None:
            self._pipeline = _Pipeline(self.transforms())
        return self._pipeline(image, labels, seed)

    def __getstate__(self) -> dict[str, Any]:
        # Each process builds its own pipeline.
        return {**self.__dict__, "_pipeline": None}


class _Pipeline:
    """An albumentations pipeline for any set of labels.

    Labels go in as ``label0``, ``label1`` ...: the pipeline passes what it was not told of through unmoved, and would
    take a task named 'keypoints' for a list of points.
    """

    def __init__(self, transforms: list[Any]) -> None:
        from jtr_lightning.data.quiet_albumentations import A
        from jtr_lightning.data.transforms import Zoom

        # A Lambda is a NoOp by its class, whatever it does to labels.
        untouched = A.Lambda().custom_apply_fns["mask"]
        for transform in _leaves(transforms):
            follows = isinstance(transform, A.ImageOnlyTransform | Zoom | A.HorizontalFlip | A.NoOp)
            if isinstance(transform, A.Lambda):
                follows = transform.custom_apply_fns["mask"] is untouched
            if not follows:
                raise ConfigError(
                    "Augmentation.transforms() should have transforms of the image alone, and of those that move "
                    f"pixels only Zoom and HorizontalFlip; found {type(transform).__name__}. The tasks do not know "
                    "what it does to their values."
                )
        moving = (Zoom, A.HorizontalFlip)
        self._zooms = [t for t in transforms if isinstance(t, Zoom)]
        self._flips = [t for t in transforms if isinstance(t, A.HorizontalFlip)]
        hidden = [t for t in _leaves(transforms) if isinstance(t, moving) and t not in transforms]
        if hidden or len(self._zooms) > 1 or len(self._flips) > 1:
            raise ConfigError(
                "Augmentation.transforms() should have Zoom and HorizontalFlip at most once each, and not inside "
                "another transform; found them elsewhere or more often."
            )
        # Sizes are checked where the sample is read, with its name.
        self._compose = A.Compose(transforms, is_check_shapes=False)
        self._slots = 0

    def __call__(self, image: Array, labels: Mapping[str, Array], seed: int) -> Augmented:
        self._make_slots(len(labels))
        slots = {f"label{i}": carried(array) for i, array in enumerate(labels.values())}
        # Anew for each sample: workers are copies of one process, and all would draw the same numbers. One generator
        # for all transforms: set_random_seed() would start each from the same seed, so that a certain zoom would
        # always come with a flip.
        self._compose.set_random_state(np.random.default_rng(seed), random.Random(seed))
        result = self._compose(image=image, **slots)
        changed = result["image"]
        if (changed.dtype, changed.shape) != (image.dtype, image.shape):
            raise ConfigError(
                f"Augmentation.transforms() should leave an image of {image.dtype} {list(image.shape)}; found "
                f"{changed.dtype} {list(changed.shape)}. Leave out what normalises or converts it (Normalize, ToFloat, "
                "ToGray with one channel): the network normalises it, and the loader makes it a tensor."
            )
        moved = {
            name: result[f"label{i}"].view(array.dtype) for i, (name, array) in enumerate(labels.items())
        }
        zooms = [zoom.get_applied_params()["zoom"] for zoom in self._zooms]
        mirrored = any(flip.get_applied_params() for flip in self._flips)
        return Augmented(changed, moved, zooms[0] if zooms else 1.0, mirrored)

    def _make_slots(self, number: int) -> None:
        if number > self._slots:
            self._compose.add_targets({f"label{i}": "mask" for i in range(self._slots, number)})
            self._slots = number


def _leaves(transforms: Sequence[Any]) -> Iterator[Any]:
    from jtr_lightning.data.quiet_albumentations import A

    for transform in transforms:
        if isinstance(transform, A.BaseCompose):
            yield from _leaves(transform.transforms)
        else:
            yield transform
