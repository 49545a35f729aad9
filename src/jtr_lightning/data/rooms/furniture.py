"""What stands in the rooms: every piece is a few shapes, of random size and look.

A piece stands on the origin, its front towards +y. Its look says something about its class but does not give it
away: each class has its usual patterns and colours, and one piece in six borrows another class's.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np

from jtr_lightning.data.rooms import shapes
from jtr_lightning.data.rooms.shapes import (
    Array,
    Box,
    Ellipsoid,
    Frustum,
    Part,
    Pattern,
    Shape,
    Texture,
    vector,
)

CLASS_NAMES = (
    "wall", "floor", "ceiling", "window", "picture", "table", "chair", "sofa", "bed", "cabinet", "lamp", "vase",
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Usual patterns of a class, its ranges of hue, saturation and value (0 to 1), and how much darker the second colour is."""

    patterns: tuple[Pattern, ...]
    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]
    fade: tuple[float, float] = (0.5, 0.75)


_WOOD = (0.04, 0.11)
_ANY = (0.0, 1.0)
LOOKS = {
    "wall": Look(
        (shapes.plain, shapes.plain, shapes.stripes, shapes.dots), _ANY, (0.05, 0.4), (0.6, 0.95), (0.8, 0.93)
    ),
    "floor": Look(
        (shapes.planks, shapes.planks, shapes.tiles, shapes.checks), _WOOD, (0.2, 0.6), (0.35, 0.75)
    ),
    "ceiling": Look((shapes.plain,), _ANY, (0.0, 0.08), (0.85, 1.0), (0.95, 1.0)),
    "window": Look((shapes.plain,), _ANY, (0.0, 0.1), (0.85, 1.0), (0.95, 1.0)),
    "picture": Look((shapes.checks, shapes.dots, shapes.plain), _ANY, (0.5, 0.9), (0.4, 0.9)),
    "table": Look((shapes.planks,), _WOOD, (0.4, 0.8), (0.35, 0.75)),
    "chair": Look((shapes.plain, shapes.planks), _ANY, (0.4, 0.8), (0.25, 0.7)),
    "sofa": Look((shapes.plain, shapes.checks, shapes.stripes), (0.45, 1.0), (0.3, 0.8), (0.25, 0.75)),
    "bed": Look((shapes.stripes, shapes.plain, shapes.dots), (0.4, 1.0), (0.15, 0.5), (0.65, 0.95)),
    "cabinet": Look((shapes.planks, shapes.plain), _WOOD, (0.1, 0.6), (0.3, 0.9)),
    "lamp": Look((shapes.plain,), (0.08, 0.16), (0.15, 0.5), (0.9, 1.0)),
    "vase": Look((shapes.stripes, shapes.plain, shapes.dots), _ANY, (0.5, 0.95), (0.4, 0.9)),
}


def turn(yaw: float) -> Array:
    """Rotation `[3, 3]` about the vertical axis, counter-clockwise seen from above; yaw in radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


def linear(hue: float, saturation: float, value: float) -> Array:
    """Linear RGB `[3]` of a display colour."""
    return (vector(*colorsys.hsv_to_rgb(hue % 1, saturation, value)) ** 2.2).astype(np.float32)


@dataclass
class Workshop:
    """Draws the pieces of one room."""

    rng: np.random.Generator
    parts: list[Part] = field(default_factory=list)

    def size(self, low: float, high: float) -> float:
        """A number between the bounds."""
        return float(self.rng.uniform(low, high))

    def texture(self, category: str, scale: float | None = None) -> Texture:
        """Draws the look of a piece of a class."""
        look = LOOKS[category]
        patterns, hue = look.patterns, self.size(*look.hue)
        if self.rng.random() < 1 / 6:
            other = LOOKS[CLASS_NAMES[self.rng.integers(len(CLASS_NAMES))]]
            patterns, hue = other.patterns, self.size(*other.hue)
        saturation, value = self.size(*look.saturation), self.size(*look.value)
        fade = self.size(*look.fade)
        return Texture(
            patterns[self.rng.integers(len(patterns))],
            (linear(hue, saturation, value), linear(hue + self.size(-0.04, 0.04), saturation, value * fade)),
            scale or self.size(3, 7),
            self.size(0, 20),
        )

    def add(
        self, shape: Shape, texture: Texture, *centre: float, glow: float = 0.0, hole: bool = False
    ) -> None:
        """Adds an upright part to the current piece."""
        self.parts.append(Part(shape, texture, vector(*centre), np.eye(3, dtype=np.float32), glow, hole))

    def box(self, texture: Texture, size: tuple[float, float, float], *centre: float) -> None:
        """Adds a box of the given edge lengths."""
        self.add(Box(vector(*size) / 2), texture, *centre)

    def build(self, category: str) -> tuple[Part, ...]:
        """Returns the parts of a new piece of the class."""
        self.parts = []
        getattr(self, category)()
        return tuple(self.parts)

    def legs(self, texture: Texture, width: float, depth: float, height: float, thickness: float) -> None:
        """Four legs, square or round, at the corners of a width x depth rectangle."""
        is_round = self.rng.random() < 0.5
        for x in (-width / 2 + thickness, width / 2 - thickness):
            for y in (-depth / 2 + thickness, depth / 2 - thickness):
                if is_round:
                    self.add(Frustum(thickness * 0.4, thickness * 0.6, height), texture, x, y, height / 2)
                else:
                    self.box(texture, (thickness, thickness, height), x, y, height / 2)

    def table(self) -> None:
        """A table: rectangular on four legs, or round on one."""
        texture, width, depth, height = (
            self.texture("table"),
            self.size(1, 1.7),
            self.size(0.7, 1),
            self.size(0.5, 0.78),
        )
        if self.rng.random() < 0.3:
            self.add(Frustum(width / 2.2, width / 2.2, 0.05), texture, 0, 0, height - 0.025)
            self.add(Frustum(0.05, 0.05, height), texture, 0, 0, height / 2 - 0.03)
            self.add(Frustum(0.3, 0.06, 0.08), texture, 0, 0, 0.04)
        else:
            self.box(texture, (width, depth, 0.06), 0, 0, height - 0.03)
            self.legs(texture, width, depth, height - 0.06, 0.08)

    def chair(self) -> None:
        """A chair: four legs or an office swivel foot, a seat and a back."""
        texture, width, seat, back = (
            self.texture("chair"),
            self.size(0.42, 0.52),
            self.size(0.42, 0.5),
            self.size(0.4, 0.6),
        )
        self.box(texture, (width, width, 0.06), 0, 0, seat)
        self.box(texture, (width, 0.05, back), 0, -width / 2 + 0.02, seat + back / 2 + 0.05)
        if self.rng.random() < 0.3:
            self.add(Frustum(0.04, 0.04, seat), texture, 0, 0, seat / 2)
            self.add(Frustum(0.26, 0.05, 0.1), texture, 0, 0, 0.05)
        else:
            self.legs(texture, width, width, seat, 0.05)

    def sofa(self) -> None:
        """A sofa: base, back, arms and one or two cushions."""
        texture, width, seat = self.texture("sofa"), self.size(1.4, 2.2), self.size(0.38, 0.46)
        self.box(texture, (width, 0.85, seat), 0, 0, seat / 2)
        self.box(texture, (width, 0.22, 0.42), 0, -0.32, seat + 0.21)
        for side in (-1, 1):
            self.box(texture, (0.2, 0.85, 0.2), side * (width / 2 - 0.1), 0, seat + 0.1)
        for _ in range(self.rng.integers(1, 3)):
            cushion = Ellipsoid(vector(0.22, 0.1, 0.2))
            self.add(cushion, self.texture("sofa"), self.size(-0.35, 0.35) * width, -0.13, seat + 0.19)

    def bed(self) -> None:
        """A bed: frame, mattress, headboard and pillows."""
        wood, linen = self.texture("table"), self.texture("bed")
        width, length, height = self.size(0.95, 1.7), self.size(1.9, 2.1), self.size(0.4, 0.55)
        self.box(wood, (width, length, 0.15), 0, 0, height - 0.27)
        self.legs(wood, width, length, height - 0.27, 0.1)
        self.box(linen, (width - 0.04, length - 0.06, 0.2), 0, 0.02, height - 0.1)
        self.box(wood, (width, 0.06, height + 0.45), 0, -length / 2 - 0.02, (height + 0.45) / 2)
        for x in (0.0,) if width < 1.25 else (-width / 4, width / 4):
            self.add(
                Ellipsoid(vector(0.3, 0.19, 0.1)), self.texture("bed"), x, -length / 2 + 0.28, height + 0.05
            )

    def cabinet(self) -> None:
        """A cabinet with doors and knobs, or an open shelf."""
        texture = self.texture("cabinet")
        width, depth, height = self.size(0.7, 1.3), self.size(0.35, 0.55), self.size(0.7, 2.0)
        if self.rng.random() < 0.5:
            front = self.texture("cabinet")
            self.box(texture, (width, depth, height), 0, 0, height / 2)
            for side in (-1, 1):
                self.box(
                    front, (width / 2 - 0.05, 0.03, height - 0.12), side * width / 4, depth / 2, height / 2
                )
                self.add(
                    Ellipsoid(vector(0.03, 0.03, 0.03)), texture, side * 0.08, depth / 2 + 0.04, height / 2
                )
            return
        self.box(texture, (width, 0.03, height), 0, -depth / 2 + 0.02, height / 2)
        for side in (-1, 1):
            self.box(texture, (0.05, depth, height), side * (width / 2 - 0.025), 0, height / 2)
        for level in np.linspace(0.05, height - 0.03, max(3, round(height / 0.4))):
            self.box(texture, (width - 0.1, depth, 0.04), 0, 0, float(level))

    def lamp(self) -> None:
        """A floor lamp: foot, pole and glowing shade."""
        metal, height = self.texture("chair"), self.size(1.2, 1.8)
        self.add(Frustum(0.17, 0.12, 0.04), metal, 0, 0, 0.02)
        self.add(Frustum(0.02, 0.02, height), metal, 0, 0, height / 2)
        self.add(
            Frustum(self.size(0.24, 0.36), self.size(0.12, 0.2), self.size(0.3, 0.42)),
            self.texture("lamp"),
            0,
            0,
            height,
            glow=0.7,
        )

    def table_lamp(self) -> None:
        """A lamp to stand on a table: round body and glowing shade."""
        self.add(Ellipsoid(vector(0.1, 0.1, 0.14)), self.texture("lamp"), 0, 0, 0.13)
        self.add(Frustum(0.24, 0.14, 0.26), self.texture("lamp"), 0, 0, 0.4, glow=0.7)

    def vase(self) -> None:
        """A vase, slender or bulging, or a ball."""
        texture, width = self.texture("vase", scale=self.size(4, 9)), self.size(0.13, 0.24)
        kind = self.rng.integers(3)
        if kind == 0:
            self.add(Ellipsoid(vector(width, width, width)), texture, 0, 0, width)
        elif kind == 1:
            self.add(Ellipsoid(vector(width, width, width * 1.2)), texture, 0, 0, width * 1.1)
            self.add(Frustum(width * 0.4, width * 0.65, width), texture, 0, 0, width * 2.6)
        else:
            self.add(Frustum(width * 0.5, width * 0.9, width * 3), texture, 0, 0, width * 1.5)

    def picture(self) -> None:
        """A framed picture that hangs with its back on the plane y = 0."""
        width, height = self.size(0.4, 1.1), self.size(0.4, 0.8)
        self.box(self.texture("table"), (width, 0.05, height), 0, 0.025, 0)
        canvas = Texture(
            self.texture("picture").pattern,
            (linear(self.size(0, 1), 0.7, 0.8), linear(self.size(0, 1), 0.6, 0.5)),
        )
        canvas = Texture(canvas.pattern, canvas.colours, self.size(4, 9), self.size(0, 20))
        self.box(canvas, (width - 0.1, 0.06, height - 0.1), 0, 0.03, 0)

    def window(self) -> None:
        """A window: white frame and bars around a pane that looks out to nothing (a hole in the geometry)."""
        white, width, height = self.texture("window"), self.size(0.8, 1.6), self.size(0.8, 1.3)
        sky = Texture(
            shapes.horizon,
            (linear(self.size(0.2, 0.4), 0.5, 0.5), linear(self.size(0.5, 0.65), 0.25, 1.0)),
            1.5,
        )
        self.add(Box(vector(width / 2, 0.01, height / 2)), sky, 0, 0.01, 0, glow=1.2, hole=True)
        for side in (-1, 0, 1):
            self.box(white, (0.07, 0.06, height + 0.07), side * width / 2, 0.03, 0)
            self.box(white, (width + 0.07, 0.06, 0.07), 0, 0.03, side * height / 2)
