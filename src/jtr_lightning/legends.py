"""Legends below pictures of labels: what the colours of each task mean."""

from __future__ import annotations

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from jtr_lightning.tasks.rendering import Legend, colour_map

INK = (32, 36, 44)
PALE = (118, 124, 134)
PAPER = (255, 255, 255)
MARGIN = 16
SWATCH = 13
RAMP = 220
"""Length of a colour bar."""


class Strip:
    """A line of legend that wraps."""

    def __init__(self, name: str, width: int) -> None:
        self.width = width
        self.image = Image.new("RGB", (width, 600), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.left = MARGIN + max(120, round(self.draw.textlength(name, font(14))) + 12)
        self.x, self.y = self.left, 4
        self.draw.text((MARGIN, self.y - 1), name, INK, font(14))

    def swatch(self, text: str, picture: Image.Image, before: str = "") -> None:
        """A picture between two texts."""
        first = round(self.draw.textlength(before, font(13))) + 6 if before else 0
        length = first + picture.width + 6 + round(self.draw.textlength(text, font(13))) + 16
        self._make_room(length)
        self.draw.text((self.x, self.y), before, INK, font(13))
        self.image.paste(picture, (self.x + first, self.y + 2))
        self.draw.text((self.x + first + picture.width + 6, self.y), text, INK, font(13))
        self.x += length

    def text(self, text: str) -> None:
        """A word by itself, which stays with what follows it."""
        length = round(self.draw.textlength(text, font(13))) + 8
        self._make_room(length + 340)
        self.draw.text((self.x, self.y), text, PALE, font(13))
        self.x += length

    def _make_room(self, length: int) -> None:
        if self.x + length > self.width - MARGIN and self.x > self.left:
            self.x, self.y = self.left, self.y + SWATCH + 8

    def done(self) -> Image.Image:
        """As high as it has become."""
        return self.image.crop((0, 0, self.width, self.y + SWATCH + 10))


def legend_strip(name: str, legend: Legend, error: Legend, width: int) -> Image.Image:
    """What the colours of a task mean, and those of its errors if they have a scale.

    Args:
        name: The task's name.
        legend: Of its labels and predictions.
        error: Of its errors; ``Legend()`` for none.
        width: Width in pixels; what is longer goes on in another line.

    Returns:
        The picture.
    """
    strip = Strip(name, width)
    _draw_legend(strip, legend, error=False)
    if error.scale is not None:
        strip.text("error:")
        _draw_legend(strip, error, error=True)
    return strip.done()


def _draw_legend(strip: Strip, legend: Legend, error: bool) -> None:
    for text, colour in legend.colours.items():
        strip.swatch(text, Image.new("RGB", (SWATCH, SWATCH), (colour[0], colour[1], colour[2])))
    if legend.scale is None or (error and legend.colours):
        return
    low, high = legend.scale
    ramp = torch.linspace(0, 1, RAMP).expand(1, SWATCH, RAMP)
    everywhere = torch.ones_like(ramp, dtype=torch.bool)
    picture = as_picture(colour_map(ramp, everywhere, error=error)[0])
    last = f"{high:g} {legend.unit}".rstrip()
    strip.swatch(f"{last} or more" if error else last, picture, f"{low:g}")


def as_picture(pixels: Tensor) -> Image.Image:
    """uint8 ``[1 or 3, H, W]`` as a picture."""
    if pixels.shape[0] == 1:
        return Image.fromarray(pixels[0].contiguous().numpy())
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, which needs no file of the system."""
    return ImageFont.load_default(size)
