"""What stands in the rooms: every piece is a few shapes, of random size and look.

A piece stands on the origin, its front towards +y. Its look says something about its class but does not give it
away: each class has its usual patterns and colours, and one piece in six borrows another class's.
"""

from __future__ import annotations

import colorsys

import numpy as np

from jtr_lightning.data.rooms.shapes import Box, Ellipsoid, Frustum, Part, Shape, vector
from jtr_lightning.data.rooms.textures import Texture, checks, dots, horizon, plain, planks, stripes, tiles
from jtr_lightning.data.source import Array

_WOOD, _ANY = (0.04, 0.11), (0.0, 1.0)
_STRONG, _FAINT, _WHITE = (0.5, 0.75), (0.8, 0.93), (0.95, 1.0)
# Of each class: its patterns, the ranges of hue, saturation and value, and of the second colour's value as a share of
# the first's.
LOOKS = {
    "wall": ((plain, plain, stripes, dots), _ANY, (0.05, 0.4), (0.6, 0.95), _FAINT),
    "floor": ((planks, planks, tiles, checks), _WOOD, (0.2, 0.6), (0.3, 0.7), _STRONG),
    "ceiling": ((plain,), _ANY, (0.0, 0.08), (0.85, 1.0), _WHITE),
    "window": ((plain,), _ANY, (0.0, 0.1), (0.85, 1.0), _WHITE),
    "picture": ((checks, dots, plain), _ANY, (0.5, 0.9), (0.4, 0.9), (0.2, 0.6)),
    "table": ((planks,), _WOOD, (0.4, 0.8), (0.35, 0.75), _STRONG),
    "chair": ((plain, planks), _ANY, (0.4, 0.8), (0.25, 0.7), _STRONG),
    "sofa": ((plain, checks, stripes), (0.45, 1.0), (0.3, 0.8), (0.25, 0.75), _STRONG),
    "bed": ((stripes, plain, dots), (0.4, 1.0), (0.15, 0.5), (0.65, 0.95), _STRONG),
    "cabinet": ((planks, plain), _WOOD, (0.1, 0.6), (0.3, 0.9), _STRONG),
    "lamp": ((plain,), (0.08, 0.16), (0.15, 0.5), (0.9, 1.0), _FAINT),
    "vase": ((stripes, plain, dots), _ANY, (0.5, 0.95), (0.4, 0.9), _STRONG),
}
CLASS_NAMES = tuple(LOOKS)


def colour(hue: float, saturation: float, value: float) -> Array:
    """Linear RGB ``[3]`` of a display colour given by numbers from 0 to 1."""
    return vector(*(channel**2.2 for channel in colorsys.hsv_to_rgb(hue % 1, saturation, value)))


class Workshop:
    """Draws pieces of furniture; each method that is named like a class makes one of that class."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.parts: list[Part] = []

    def build(self, category: str) -> tuple[Part, ...]:
        """The parts of a new piece of the class."""
        self.parts = []
        getattr(self, category)()
        return tuple(self.parts)

    def size(self, low: float, high: float) -> float:
        """A number between the bounds."""
        return float(self.rng.uniform(low, high))

    def texture(self, category: str, scale: tuple[float, float] = (3, 7)) -> Texture:
        """The look of a piece of the class, with ``scale`` repetitions per metre."""
        patterns, hues, saturations, values, fades = LOOKS[category]
        if self.rng.random() < 1 / 6:
            patterns, hues, *_ = LOOKS[CLASS_NAMES[self.rng.integers(len(CLASS_NAMES))]]
        hue, saturation, value = self.size(*hues), self.size(*saturations), self.size(*values)
        second = colour(hue + self.size(-0.04, 0.04), saturation, value * self.size(*fades))
        pattern = patterns[self.rng.integers(len(patterns))]
        return Texture(pattern, (colour(hue, saturation, value), second), self.size(*scale), self.size(0, 20))

    def add(
        self,
        shape: Shape,
        texture: Texture,
        x: float,
        y: float,
        z: float,
        glow: float = 0,
        hole: bool = False,
    ) -> None:
        """Adds an upright part around a centre."""
        self.parts.append(Part(shape, texture, vector(x, y, z), np.eye(3, dtype=np.float32), glow, hole))

    def box(
        self, texture: Texture, x: float, y: float, z: float, width: float, depth: float, height: float
    ) -> None:
        """Adds a box around a centre."""
        self.add(Box(vector(width, depth, height) / 2), texture, x, y, z)

    def legs(
        self, texture: Texture, width: float, depth: float, height: float, thickness: float = 0.06
    ) -> None:
        """Adds four legs, square or round."""
        is_round = self.rng.random() < 0.5
        for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            foot = (x * (width / 2 - thickness), y * (depth / 2 - thickness), height / 2)
            if is_round:
                self.add(Frustum(thickness * 0.4, thickness * 0.6, height), texture, *foot)
            else:
                self.box(texture, *foot, thickness, thickness, height)

    def column(self, texture: Texture, height: float, thickness: float, foot: float) -> None:
        """Adds a round leg with a wide foot."""
        self.add(Frustum(thickness, thickness, height), texture, 0, 0, height / 2)
        self.add(Frustum(foot, thickness, 0.08), texture, 0, 0, 0.04)

    def table(self) -> None:
        """Rectangular on four legs, or round on one."""
        look, width, depth = self.texture("table"), self.size(1, 1.7), self.size(0.7, 1)
        height = self.size(0.5, 0.78)
        if self.rng.random() < 0.3:
            self.add(Frustum(width / 2.2, width / 2.2, 0.06), look, 0, 0, height - 0.03)
            self.column(look, height - 0.06, 0.05, 0.3)
        else:
            self.box(look, 0, 0, height - 0.03, width, depth, 0.06)
            self.legs(look, width, depth, height - 0.06, 0.08)

    def chair(self) -> None:
        """Seat and back on four legs, or on the foot of an office chair."""
        look, width, seat, back = (
            self.texture("chair"),
            self.size(0.42, 0.52),
            self.size(0.42, 0.5),
            self.size(0.4, 0.6),
        )
        self.box(look, 0, 0, seat, width, width, 0.06)
        self.box(look, 0, -width / 2 + 0.02, seat + back / 2 + 0.05, width, 0.05, back)
        if self.rng.random() < 0.3:
            self.column(look, seat, 0.04, 0.26)
        else:
            self.legs(look, width, width, seat)

    def sofa(self) -> None:
        """Base, back, arms and a cushion or two."""
        look, width, seat = self.texture("sofa"), self.size(1.4, 2.2), self.size(0.38, 0.46)
        self.box(look, 0, 0, seat / 2, width, 0.85, seat)
        self.box(look, 0, -0.32, seat + 0.21, width, 0.22, 0.42)
        for side in (-1, 1):
            self.box(look, side * (width / 2 - 0.1), 0, seat + 0.1, 0.2, 0.85, 0.2)
        for _ in range(self.rng.integers(1, 3)):
            place = self.size(-0.35, 0.35) * width
            self.add(Ellipsoid(vector(0.22, 0.1, 0.2)), self.texture("sofa"), place, -0.13, seat + 0.19)

    def bed(self) -> None:
        """Frame, mattress, headboard and pillows."""
        wood, linen = self.texture("table"), self.texture("bed")
        width, length, height = self.size(0.95, 1.7), self.size(1.9, 2.1), self.size(0.4, 0.55)
        self.box(wood, 0, 0, height - 0.27, width, length, 0.15)
        self.legs(wood, width, length, height - 0.27, 0.1)
        self.box(linen, 0, 0.02, height - 0.1, width - 0.04, length - 0.06, 0.2)
        self.box(wood, 0, -length / 2 - 0.02, height / 2 + 0.22, width, 0.06, height + 0.45)
        for side in (0,) if width < 1.25 else (-1, 1):
            pillow = Ellipsoid(vector(0.3, 0.19, 0.1))
            self.add(pillow, self.texture("bed"), side * width / 4, -length / 2 + 0.28, height + 0.05)

    def cabinet(self) -> None:
        """Doors with knobs, or open shelves."""
        look, width, depth, height = (
            self.texture("cabinet"),
            self.size(0.7, 1.3),
            self.size(0.35, 0.55),
            self.size(0.7, 2),
        )
        closed = self.rng.random() < 0.5
        self.box(look, 0, -depth / 2 + 0.02, height / 2, width, 0.03, height)
        for side in (-1, 1):
            self.box(look, side * (width / 2 - 0.025), 0, height / 2, 0.05, depth, height)
            if closed:
                self.box(look, side * width / 4, depth / 2, height / 2, width / 2 - 0.02, 0.03, height - 0.08)
                self.add(Ellipsoid(vector(0.03, 0.03, 0.03)), look, side * 0.08, depth / 2 + 0.04, height / 2)
        for level in np.linspace(0.05, height - 0.02, 2 if closed else max(3, round(height / 0.4))):
            self.box(look, 0, 0, float(level), width - 0.1, depth, 0.04)

    def lamp(self) -> None:
        """A pole with a glowing shade."""
        height = self.size(1.2, 1.8)
        self.column(self.texture("chair"), height, 0.02, 0.17)
        shade = Frustum(self.size(0.24, 0.36), self.size(0.12, 0.2), self.size(0.3, 0.42))
        self.add(shade, self.texture("lamp"), 0, 0, height, glow=0.7)

    def vase(self) -> None:
        """A slender vase, a bulging one, or a ball."""
        look, width, kind = self.texture("vase", (4, 9)), self.size(0.13, 0.24), self.rng.integers(3)
        if kind == 0:
            self.add(Frustum(width * 0.5, width * 0.9, width * 3), look, 0, 0, width * 1.5)
        else:
            self.add(Ellipsoid(vector(width, width, width)), look, 0, 0, width)
        if kind == 1:
            self.add(Frustum(width * 0.4, width * 0.65, width), look, 0, 0, width * 2.4)

    def picture(self) -> None:
        """A picture in a frame, around the origin, its back on y = 0."""
        width, height = self.size(0.4, 1.1), self.size(0.4, 0.8)
        self.box(self.texture("table"), 0, 0.025, 0, width, 0.05, height)
        self.box(self.texture("picture", (4, 9)), 0, 0.03, 0, width - 0.1, 0.06, height - 0.1)

    def window(self) -> None:
        """A frame and a cross of bars around a pane that looks out to nothing, around the origin, on y = 0."""
        white, width, height = self.texture("window"), self.size(0.8, 1.6), self.size(0.8, 1.3)
        sky = (colour(self.size(0.2, 0.4), 0.5, 0.5), colour(self.size(0.5, 0.65), 0.25, 1.0))
        pane = Box(vector(width / 2, 0.01, height / 2))
        self.add(pane, Texture(horizon, sky, 1.5), 0, 0.01, 0, glow=1.2, hole=True)
        for side in (-1, 0, 1):
            self.box(white, side * width / 2, 0.03, 0, 0.07, 0.06, height + 0.07)
            self.box(white, 0, 0.03, side * height / 2, width + 0.07, 0.06, 0.07)
