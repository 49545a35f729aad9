"""What a user may give as an image, and how it becomes what the network was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from jtr_lightning.data.resizing import resize_image
from jtr_lightning.data.source import Array
from jtr_lightning.errors import ConfigError

ImageLike: TypeAlias = "Image.Image | NDArray[Any] | Tensor"
"""A PIL image; an array ``[H, W, 3]``, ``[H, W]`` or ``[B, H, W, 3]``; a tensor ``[3, H, W]`` or ``[B, 3, H, W]``."""

_SLACK = 0.01
"""How far outside [0, 1] a value may be: a user's own bicubic resize overshoots a little."""


def as_arrays(image: ImageLike) -> tuple[list[Array], bool]:
    """The image or images that a user gave, as arrays.

    Args:
        image: Grey becomes three equal channels, a palette its colours, transparency is dropped, 16 bits become the
            upper 8, as when a dataset is read. A PIL image is turned upright where its camera noted so (EXIF).

    Returns:
        RGB arrays ``[H, W, 3]``, uint8 or float32 in [0, 1], and whether they were a batch.

    Raises:
        ConfigError: Another type, shape or range of values.
    """
    if isinstance(image, Image.Image):
        return [_from_pil(image)], False
    if isinstance(image, Tensor):
        if image.ndim not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
            raise ConfigError(
                "A tensor image should have the shape [3, H, W] or [B, 3, H, W]; found "
                f"{list(image.shape)}. Permute its dimensions, or give an array [H, W, 3]."
            )
        batch = image.detach().cpu().movedim(-3, -1)
        if batch.dtype == torch.bfloat16:  # numpy has no such type
            batch = batch.float()
        arrays = list(batch.numpy()) if image.ndim == 4 else [batch.numpy()]
        return [_values(array) for array in arrays], image.ndim == 4
    if isinstance(image, np.ndarray):
        return _from_numpy(image), image.ndim == 4
    raise _no_image(image)


def network_input(image: Array, size: tuple[int, int]) -> Array:
    """The image in the size that the network should see, resized as a dataset does.

    Args:
        image: RGB ``[H, W, 3]``, uint8 or float32.
        size: Height and width.

    Returns:
        RGB ``[h, w, 3]`` of the same type.
    """
    return image if image.shape[:2] == size else resize_image(image, size)


def as_batch(images: list[Array], device: torch.device) -> Tensor:
    """Images of one size and type as the network's input, float32 ``[B, 3, H, W]`` in [0, 1]."""
    stacked = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2)
    return stacked.float().div_(255) if stacked.dtype == torch.uint8 else stacked.contiguous()


def _no_image(given: object) -> ConfigError:
    remedy = ""
    if isinstance(given, str | Path):
        remedy = f" Open it: PIL.Image.open({str(given)!r})."
    elif isinstance(given, list | tuple):
        remedy = " Give them one by one, or stack those of one size: an array [B, H, W, 3] or a tensor [B, 3, H, W]."
    return ConfigError(
        f"An image should be a PIL image, a numpy array or a tensor; found {type(given).__name__}.{remedy}"
    )


def _from_pil(image: Image.Image) -> Array:
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        # PIL would clip 16 bits to the lower 8.
        grey = (np.asarray(image, dtype=np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ConfigError(
            f"A PIL image should have 8 or 16 bits per channel; found the mode '{image.mode}'. Give an array of "
            "floating-point values in [0, 1]."
        )
    return np.array(image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB"))


def _from_numpy(image: NDArray[Any]) -> list[Array]:
    array = image[..., None] if image.ndim == 2 else image
    several = array if array.ndim == 4 else array[None]
    if several.ndim != 4 or several.shape[3] not in (1, 3, 4) or 0 in several.shape:
        channels_first = array.ndim in (3, 4) and array.shape[-3] in (1, 3)
        hint = " Transpose it, or give a tensor." if channels_first else ""
        raise ConfigError(
            "An array image should have the shape [H, W, 3], [H, W] or [B, H, W, 3]; found "
            f"{list(image.shape)}.{hint}"
        )
    return [_values(np.repeat(one, 3, axis=2) if one.shape[2] == 1 else one[..., :3]) for one in several]


def _values(array: NDArray[Any]) -> Array:
    """Checks type and range."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ConfigError(
            f"An image should hold uint8, or floating-point values in [0, 1]; found {array.dtype}. Convert values in "
            "0..255 with .astype(np.uint8), or those of a tensor with .to(torch.uint8)."
        )
    low, high = float(array.min()), float(array.max())
    if not (low >= -_SLACK and high <= 1 + _SLACK):  # NaN fails, too
        raise ConfigError(
            f"An image of floating-point values should hold values in [0, 1]; found {low:g} to {high:g}. Divide it by "
            "its largest possible value, or give uint8."
        )
    return np.ascontiguousarray(array, dtype=np.float32)
