"""From images of any size to predictions of the same size: batches, resizing, tiles and mirrored views."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.data.source import Array
from jtr_lightning.errors import ConfigError, check_number, check_whole, height_and_width
from jtr_lightning.module import PartialLabelModule, Predictions
from jtr_lightning.prediction.inputs import ImageLike, as_arrays, as_batch, network_input
from jtr_lightning.tasks import Task
from jtr_lightning.tasks.base import at_least_float32

Key = TypeVar("Key")

WAITING = 4
"""How many batches of images of other sizes may wait for company before a smaller batch is run."""
_EDGE = 1e-3
"""Weight of a tile's outermost pixel. Above 0, since at the border of the image there is no other tile."""


class Predictor:
    """Predicts images one by one or in batches, each at its own size.

    An image is resized for the network as the training's data module did (``size``), and its predictions are resized
    back, bilinear, in the form in which ``forward`` gives them (so classes by their log-probabilities), then brought
    back to what a prediction is by ``Task.renormalize``.

    With ``tile``, an image that is larger keeps its own size and is predicted in overlapping tiles, which are blended
    with a smooth window. Image-level tasks are predicted from the whole image.

    A tile, and an image at another size than the training's, show the network things magnified against the training.
    ``Task.zoomed`` takes the magnification out of dense predictions again, as far as the training's size is known.

    Args:
        module: A trained module; used in evaluation mode.
        size: Height and width for the network; ``trained`` for those of the training's images (their own, if it did
            not resize), ``own`` for each image's own.
        tile: Height and width of a tile, or one number for both; None for no tiles.
        overlap: Share of a tile that the next one covers again, in [0, 1).
        flip: Average with the prediction of the mirrored image.
        batch_size: Most images, or tiles, in one forward pass.

    Raises:
        ConfigError: A parameter does not fit.
    """

    def __init__(
        self,
        module: PartialLabelModule,
        size: tuple[int, int] | Literal["trained", "own"] = "trained",
        tile: int | tuple[int, int] | None = None,
        overlap: float = 0.25,
        flip: bool = False,
        batch_size: int = 8,
    ) -> None:
        self.module = module
        self.size = (
            module.image_size
            if size == "trained"
            else None
            if size == "own"
            else height_and_width("size", size)
        )
        self.tile = (
            None
            if tile is None
            else height_and_width("tile", (tile, tile) if isinstance(tile, int) else tile)
        )
        if self.tile is not None and not isinstance(size, str):
            raise ConfigError(
                f"Parameters `size` and `tile` exclude each other, since tiles are of images at their own size; found "
                f"size={size} and tile={tile}. Give one of them."
            )
        check_number("overlap", overlap)
        if not 0 <= overlap < 1:
            raise ConfigError(f"Parameter `overlap` should be in [0, 1); found {overlap}.")
        check_whole("batch_size", batch_size, 1)
        self.overlap = overlap
        self.flip = flip
        self.batch_size = batch_size

    def __call__(self, images: Sequence[Array]) -> list[Predictions]:
        """Predictions of images, in their order.

        Args:
            images: RGB ``[H, W, 3]``, uint8 or float32 in [0, 1], of any sizes.

        Returns:
            Task name to prediction ``[C, H, W]`` or ``[C]`` for each image.
        """
        results = dict(self.stream(enumerate(images)))
        return [results[i] for i in range(len(images))]

    def stream(self, images: Iterable[tuple[Key, Array]]) -> Iterator[tuple[Key, Predictions]]:
        """Predicts images as they come, those of equal size together.

        Args:
            images: Images, each with anything that tells whose it is.

        Yields:
            The key and the predictions ``[C, H, W]`` or ``[C]`` of each image, not always in the order they came in.
        """
        waiting: dict[tuple[object, ...], list[tuple[Key, tuple[int, int], Array]]] = {}
        for key, image in images:
            height, width = image.shape[:2]
            if self.tile is not None and (height > self.tile[0] or width > self.tile[1]):
                yield key, self._tiled(image, self.tile)
                continue
            seen = network_input(image, self.size or (height, width))
            kind = (seen.shape, seen.dtype)
            waiting.setdefault(kind, []).append((key, (height, width), seen))
            if len(waiting[kind]) == self.batch_size:
                yield from self._together(waiting.pop(kind))
            elif sum(map(len, waiting.values())) >= WAITING * self.batch_size:
                yield from self._together(waiting.pop(max(waiting, key=lambda kind: len(waiting[kind]))))
        for group in waiting.values():
            yield from self._together(group)

    def _together(self, group: list[tuple[Key, tuple[int, int], Array]]) -> Iterator[tuple[Key, Predictions]]:
        predictions = self._run([image for _, _, image in group])
        seen = group[0][2].shape
        for i, (key, size, _) in enumerate(group):
            yield (
                key,
                {
                    name: self._unzoomed(task, _resized(task, predictions[name][i], size), seen[0], seen[1])
                    for name, task in self.module.tasks.items()
                },
            )

    def _run(self, images: list[Array]) -> Predictions:
        """Predictions of images of one size, averaged with those of the mirrored images if wanted."""
        with torch.no_grad(), _evaluating(self.module):
            batch = as_batch(images, self.module.device)
            predictions = _float(self.module(batch))
            if not self.flip:
                return predictions
            mirrored = _float(self.module(batch.flip(-1)))
        return {
            name: task.renormalize((predictions[name] + _mirrored_back(task, mirrored[name])) / 2)
            for name, task in self.module.tasks.items()
        }

    def _tiled(self, image: Array, tile: tuple[int, int]) -> Predictions:
        height, width = image.shape[:2]
        th, tw = min(tile[0], height), min(tile[1], width)
        corners = [(y, x) for y in starts(height, th, self.overlap) for x in starts(width, tw, self.overlap)]
        device = self.module.device
        window = _window(th, device)[:, None] * _window(tw, device)
        dense = {name: task for name, task in self.module.tasks.items() if task.dense}
        totals = {
            name: torch.zeros(task.channels, height, width, device=device) for name, task in dense.items()
        }
        weight = torch.zeros(height, width, device=device)
        for first in range(0, len(corners) if dense else 0, self.batch_size):
            part = corners[first : first + self.batch_size]
            predictions = self._run([image[y : y + th, x : x + tw] for y, x in part])
            for i, (y, x) in enumerate(part):
                weight[y : y + th, x : x + tw] += window
                for name in dense:
                    totals[name][:, y : y + th, x : x + tw] += predictions[name][i] * window
        result = {
            name: self._unzoomed(task, task.renormalize((totals[name] / weight)[None])[0], height, width)
            for name, task in dense.items()
        }
        if len(dense) < len(self.module.tasks):
            whole = self._run([network_input(image, self._whole_size(height, width, tile))])
            result |= {name: whole[name][0] for name, task in self.module.tasks.items() if not task.dense}
        return {name: result[name] for name in self.module.tasks}

    def _unzoomed(self, task: Task, prediction: Tensor, height: int, width: int) -> Tensor:
        """A prediction without the magnification of what the network saw, against a training image that shows as much.

        Args:
            task: Of the prediction.
            prediction: ``[C, H, W]``.
            height: Of the image in pixels as the network saw it, whole or in tiles.
            width: As ``height``.
        """
        trained = self.module.image_size
        if trained is None or trained == (height, width) or not task.dense:
            return prediction
        zoom = math.sqrt(trained[0] * trained[1] / (height * width))
        return task.zoomed(prediction[None], torch.tensor([zoom], device=prediction.device))[0]

    def _whole_size(self, height: int, width: int, tile: tuple[int, int]) -> tuple[int, int]:
        """The size in which the network sees a whole image that is otherwise predicted in tiles."""
        if self.module.image_size is not None:
            return self.module.image_size
        scale = min(1.0, tile[0] / height, tile[1] / width)
        return max(1, round(height * scale)), max(1, round(width * scale))


def predict(predictor: Predictor, image: ImageLike, decode: bool = True) -> Predictions:
    """Predicts what a user gives as an image; see ``PartialLabelModule.predict``.

    Args:
        predictor: Makes the predictions.
        image: An image, or a tensor of several.
        decode: Give values in the layout of labels.

    Returns:
        Task name to values, with a batch in front for a batch.

    Raises:
        ConfigError: It is no image.
    """
    arrays, batched = as_arrays(image)
    each = predictor(arrays)
    result = {name: torch.stack([one[name] for one in each]) for name in predictor.module.tasks}
    if decode:
        result = {name: task.decode(result[name]) for name, task in predictor.module.tasks.items()}
    return result if batched else {name: values[0] for name, values in result.items()}


def starts(length: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along one side: as few as cover it with at least this overlap, evenly spread.

    Args:
        length: Pixels of the image.
        tile: Pixels of a tile, at most ``length``.
        overlap: Least share of a tile that the next one covers again.

    Returns:
        First pixels, ascending, from 0 to ``length - tile``.
    """
    step = max(1, math.floor(tile * (1 - overlap)))
    number = math.ceil((length - tile) / step) + 1
    return [round(i * (length - tile) / max(1, number - 1)) for i in range(number)]


def _window(length: int, device: torch.device) -> Tensor:
    """Weights of a tile along one side ``[length]``: a Hann window, which falls smoothly towards the edges."""
    return torch.hann_window(length + 2, periodic=False, device=device)[1:-1].clamp(min=_EDGE)


def _mirrored_back(task: Task, values: Tensor) -> Tensor:
    return task.mirrored(values.flip(-1) if task.dense else values)


def _resized(task: Task, prediction: Tensor, size: tuple[int, int]) -> Tensor:
    """One prediction ``[C, h, w]`` in another height and width; an image-level one as it is."""
    if not task.dense or tuple(prediction.shape[1:]) == size:
        return prediction
    # Where it shrinks, every pixel counts.
    shrinks = size[0] < prediction.shape[1] or size[1] < prediction.shape[2]
    resized = F.interpolate(prediction[None], size=size, mode="bilinear", antialias=shrinks)
    return task.renormalize(resized)[0]


def _float(predictions: Predictions) -> Predictions:
    return {name: at_least_float32(values) for name, values in predictions.items()}


@contextmanager
def _evaluating(module: torch.nn.Module) -> Iterator[None]:
    """The module in evaluation mode, and afterwards every part in its own again."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training
