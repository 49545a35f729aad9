"""Colours for pictures of labels and predictions. Pixel work only; panels and pages are made elsewhere."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

INVALID = (64, 64, 64)
"""RGB of a pixel without a value: dark grey, which no colour map here contains."""


@dataclass(frozen=True)
class Legend:
    """What the colours of a task's pictures mean: named colours, or a scale from one value to another, or neither.

    Attributes:
        colours: Name to RGB in 0..255.
        scale: The values of the first and last colour of ``colour_map``.
        unit: Unit of the scale.
    """

    colours: Mapping[str, Sequence[int]] = field(default_factory=dict)
    scale: tuple[float, float] | None = None
    unit: str = ""


def distinct_colours(number: int) -> list[list[int]]:
    """RGB colours in 0..255 that neighbouring ids do not share: hues a golden ratio apart, three brightnesses."""
    colours = []
    for i in range(number):
        hue = (0.08 + i * 0.618034) % 1.0
        rgb = colorsys.hsv_to_rgb(hue, (0.75, 0.45, 0.95)[i % 3], (0.95, 0.8, 0.6)[(i // 3) % 3])
        colours.append([round(255 * c) for c in rgb])
    return colours


def as_rgb(values: Tensor, valid: Tensor) -> Tensor:
    """Three channels in [0, 1] as a picture.

    Args:
        values: ``[B, 3, H, W]``; clamped to [0, 1].
        valid: bool ``[B, 1, H, W]``.

    Returns:
        RGB uint8 ``[B, 3, H, W]``.
    """
    rgb = (values.float().nan_to_num(0.0).clamp(0, 1) * 255).round().to(torch.uint8)
    grey = torch.tensor(INVALID, dtype=torch.uint8, device=values.device).view(1, 3, 1, 1)
    return torch.where(valid, rgb, grey)


def colour_map(values: Tensor, valid: Tensor, *, error: bool = False) -> Tensor:
    """One channel in [0, 1] as a picture in OpenCV's Turbo colours, blue for 0 and red for 1.

    Args:
        values: ``[B, H, W]``; clamped to [0, 1].
        valid: bool ``[B, H, W]``.
        error: Take the Inferno colours instead, black for 0 and pale yellow for 1.

    Returns:
        RGB uint8 ``[B, 3, H, W]``.
    """
    table = _table(error).to(values.device)
    steps = (values.float().nan_to_num(0.0).clamp(0, 1) * 255).round().long()
    grey = torch.tensor(INVALID, dtype=torch.uint8, device=values.device).view(1, 3, 1, 1)
    return torch.where(valid.unsqueeze(1), table[steps].movedim(-1, 1), grey)


def error_colours(number: int) -> list[list[int]]:
    """RGB colours in 0..255 of errors from 0 to the largest, in even steps."""
    colours: list[list[int]] = _table(error=True)[torch.linspace(0, 255, number).round().long()].tolist()
    return colours


def _table(error: bool) -> Tensor:
    """The 256 colours of a scale, uint8 ``[256, 3]``."""
    import cv2
    import numpy as np

    ramp = np.arange(256, dtype=np.uint8)[:, None]
    scale = cv2.COLORMAP_INFERNO if error else cv2.COLORMAP_TURBO
    return torch.from_numpy(cv2.applyColorMap(ramp, scale)[:, 0, ::-1].copy())


def text_cards(texts: Sequence[str], device: torch.device, height: int = 48, width: int = 96) -> Tensor:
    """Short texts as pictures, for tasks that have no pixels.

    Args:
        texts: One text for each picture.
        device: Where the pictures should be.
        height: Height in pixels.
        width: Width in pixels.

    Returns:
        RGB uint8 ``[B, 3, height, width]``, dark text on white.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    cards = []
    for text in texts:
        card = Image.new("RGB", (width, height), "white")
        ImageDraw.Draw(card).multiline_text(
            (4, height // 2 - 8), text.replace(" ", "\n", 1), fill=(20, 20, 20)
        )
        cards.append(torch.from_numpy(np.asarray(card).copy()).permute(2, 0, 1))
    return torch.stack(cards).to(device)
