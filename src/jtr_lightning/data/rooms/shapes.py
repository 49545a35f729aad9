"""Solid shapes whose hits, normals and curvatures have closed forms, and the textures painted on them.

Arrays of points and directions hold their three components first (`[3, ...]`), so that every step is one
contiguous numpy operation, and rotations are written out instead of calling a matrix product: the bytes then do
not depend on how many threads a linear algebra library uses. Lengths are metres, the world's z axis points up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Pattern = Callable[[Array], npt.NDArray[Any]]

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32).T


def vector(*values: float) -> Array:
    """Returns the values as a float32 vector."""
    return np.array(values, np.float32)


def dot(a: Array, b: Array) -> Array:
    """Scalar product over the first axis."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def rotate(matrix: Array, points: Array) -> Array:
    """Multiplies points `[3, ...]` by a matrix `[3, 3]`."""
    columns = matrix.T.reshape(3, 3, *[1] * (points.ndim - 1))
    return columns[0] * points[0] + columns[1] * points[1] + columns[2] * points[2]


class Shape(ABC):
    """A convex solid around the origin of its own frame, inside the box of half extents `half` `[3]`."""

    half: Array

    @abstractmethod
    def first_hit(self, origin: Array, direction: Array) -> Array:
        """Smallest t > 0 with origin + t * direction on the surface, inf where there is none.

        Args:
            origin: a point `[3]` outside the solid.
            direction: `[3, ...]`, of any length.
        """

    @abstractmethod
    def surface(self, point: Array) -> tuple[Array, Array]:
        """Outward unit normals `[3, N]` and principal curvatures `[2, N]` (1/m, larger first, convex positive)
        at surface points `[3, N]`."""


def _flat(point: Array) -> Array:
    return np.zeros((2, point.shape[1]), np.float32)


@dataclass(frozen=True)
class Plane(Shape):
    """The half space below z = 0; seen from above only."""

    half = vector(1e6, 1e6, 1e6)

    def first_hit(self, origin: Array, direction: Array) -> Array:
        height = np.where(direction[2] < 0, direction[2], np.float32(-1e-9))
        return np.where(direction[2] < 0, -origin[2] / height, np.float32(np.inf))

    def surface(self, point: Array) -> tuple[Array, Array]:
        return np.broadcast_to(vector(0, 0, 1)[:, None], point.shape), _flat(point)


@dataclass(frozen=True)
class Box(Shape):
    """A box of half extents `half`."""

    half: Array

    def first_hit(self, origin: Array, direction: Array) -> Array:
        inverse = 1 / np.where(direction == 0, np.float32(1e-9), direction)
        column = (3, *[1] * (direction.ndim - 1))
        middle = -origin.reshape(column) * inverse
        reach = np.abs(inverse) * self.half.reshape(column)
        enter, leave = (middle - reach).max(0), (middle + reach).min(0)
        return np.where((enter <= leave) & (enter > 0), enter, np.float32(np.inf))

    def surface(self, point: Array) -> tuple[Array, Array]:
        face = np.argmax(np.abs(point) - self.half[:, None], axis=0)
        normal = np.zeros_like(point)
        np.put_along_axis(normal, face[None], np.sign(np.take_along_axis(point, face[None], 0)), 0)
        return normal, _flat(point)


@dataclass(frozen=True)
class Ellipsoid(Shape):
    """An ellipsoid of half axes `half`."""

    half: Array

    def first_hit(self, origin: Array, direction: Array) -> Array:
        o, d = origin / self.half, direction / self.half.reshape(3, *[1] * (direction.ndim - 1))
        a, b, c = dot(d, d), dot(o, d), dot(o, o) - 1
        root = b * b - a * c
        t = (-b - np.sqrt(np.maximum(root, 0))) / a
        return np.where((root >= 0) & (t > 0), t, np.float32(np.inf))

    def surface(self, point: Array) -> tuple[Array, Array]:
        square = self.half[:, None] ** 2
        gradient = point / square
        slope = np.sqrt(dot(gradient, gradient))
        volume = square.prod()
        gauss = 1 / (volume * slope**4)
        mean = (square.sum() - dot(point, point)) / (2 * volume * slope**3)
        spread = np.sqrt(np.maximum(mean**2 - gauss, 0))
        return gradient / slope, np.stack([mean + spread, mean - spread])


@dataclass(frozen=True)
class Frustum(Shape):
    """An upright cylinder or cone stump: radius `bottom` at z = -height / 2, `top` at z = height / 2."""

    bottom: float
    top: float
    height: float

    @property
    def half(self) -> Array:  # type: ignore[override]
        widest = max(self.bottom, self.top)
        return vector(widest, widest, self.height / 2)

    def _radius(self, z: Array | float) -> Any:
        return (self.bottom + self.top) / 2 + (self.top - self.bottom) / self.height * z

    def first_hit(self, origin: Array, direction: Array) -> Array:
        slope, middle = (self.top - self.bottom) / self.height, self._radius(origin[2])
        dz = np.where(direction[2] == 0, np.float32(1e-9), direction[2])
        a = direction[0] ** 2 + direction[1] ** 2 - slope**2 * dz**2
        a = np.where(a == 0, np.float32(1e-9), a)
        b = origin[0] * direction[0] + origin[1] * direction[1] - slope * middle * dz
        c = origin[0] ** 2 + origin[1] ** 2 - middle**2
        root = np.sqrt(np.maximum(b * b - a * c, 0))
        best = np.full(dz.shape, np.inf, np.float32)
        for t in ((-b - root) / a, (-b + root) / a):
            on_side = (b * b >= a * c) & (t > 0) & (np.abs(origin[2] + t * dz) <= self.height / 2)
            best = np.where(on_side & (t < best), t, best)
        for z, radius in ((-self.height / 2, self.bottom), (self.height / 2, self.top)):
            t = (z - origin[2]) / dz
            x, y = origin[0] + t * direction[0], origin[1] + t * direction[1]
            best = np.where((t > 0) & (x**2 + y**2 <= radius**2) & (t < best), t, best)
        return best

    def surface(self, point: Array) -> tuple[Array, Array]:
        slope = (self.top - self.bottom) / self.height
        lean = float(np.sqrt(1 + slope**2))
        distance, radius = np.hypot(point[0], point[1]), self._radius(point[2])
        on_side = np.abs(radius - distance) / lean < self.height / 2 - np.abs(point[2])
        across = np.maximum(distance, np.float32(1e-6)) * np.float32(lean)
        side = np.stack([point[0] / across, point[1] / across, np.full_like(across, -slope / lean)])
        cap = np.stack([np.zeros_like(across), np.zeros_like(across), np.sign(point[2])])
        round_about = np.where(on_side, 1 / across, np.float32(0))
        return np.where(on_side, side, cap), np.stack([round_about, np.zeros_like(across)])


@dataclass(frozen=True)
class Texture:
    """A solid texture: a pattern of local coordinates mixes two linear RGB colours `[3]`."""

    pattern: Pattern
    colours: tuple[Array, Array]
    scale: float = 1.0
    phase: float = 0.0

    def albedo(self, point: Array) -> Array:
        """Returns linear RGB `[3, N]` at local points `[3, N]`."""
        mix = self.pattern(point * np.float32(self.scale) + np.float32(self.phase)).astype(np.float32)
        first, second = self.colours
        return first[:, None] + (second - first)[:, None] * mix


def plain(p: Array) -> npt.NDArray[Any]:
    """Soft clouds, as on plaster or cloth."""
    return (
        0.5 + 0.25 * np.sin(5 * p[0] + 2 * np.sin(4 * p[1])) + 0.25 * np.sin(6 * p[1] + 3 * np.sin(3 * p[2]))
    )


def stripes(p: Array) -> npt.NDArray[Any]:
    """Stripes across x."""
    return np.sin(2 * np.pi * p[0]) > 0.2


def checks(p: Array) -> npt.NDArray[Any]:
    """A checkerboard of unit cubes."""
    return np.floor(p).sum(0) % 2


def tiles(p: Array) -> npt.NDArray[Any]:
    """Unit tiles with dark joints."""
    cell = p - np.floor(p)
    return np.where(np.minimum(cell[0], cell[1]) < 0.07, 1.0, 0.15 * np.sin(9 * np.floor(p).sum(0)) + 0.15)


def planks(p: Array) -> npt.NDArray[Any]:
    """Boards along y, each of its own tone, with grain."""
    board = np.floor(2 * p[0]) + np.floor(2 * p[2])
    grain = np.sin(40 * p[0] + 40 * p[2] + 3 * np.sin(p[1] + board))
    return 0.45 + 0.35 * np.sin(7.3 * board) + 0.2 * grain


def dots(p: Array) -> npt.NDArray[Any]:
    """Round spots on a grid."""
    cell = p - np.floor(p) - 0.5
    return dot(cell, cell) < 0.2


def horizon(p: Array) -> npt.NDArray[Any]:
    """What a window looks out to: land below, sky above, brighter towards the top."""
    land = p[2] < 0.1 * np.sin(3 * p[0]) + 0.05 * np.sin(11 * p[0])
    return np.where(land, 0.0, 0.7 + 0.3 * np.clip(p[2], 0, 1))


@dataclass(frozen=True)
class Part:
    """A textured shape at a place in the world.

    Attributes:
        centre: world position `[3]`.
        rotation: `[3, 3]`, world to local frame.
        glow: radiance of its own, as a share of the albedo.
        hole: whether depth, normals and curvature are undefined there (a pane that looks out to nothing).
    """

    shape: Shape
    texture: Texture
    centre: Array
    rotation: Array
    glow: float = 0.0
    hole: bool = False

    def moved(self, turn: Array, offset: Array) -> Part:
        """Returns the part turned about the origin by `turn` `[3, 3]` and then shifted by `offset`."""
        return replace(self, centre=rotate(turn, self.centre) + offset, rotation=self.rotation @ turn.T)

    def to_local(self, points: Array) -> Array:
        """World points `[3, N]` in the part's frame."""
        return rotate(self.rotation, points - self.centre[:, None])

    def corners(self) -> Array:
        """World positions `[3, 8]` of the bounding box's corners."""
        return self.centre[:, None] + rotate(self.rotation.T, _CORNERS * self.shape.half[:, None])

    def first_hit(self, origin: Array, direction: Array) -> Array:
        """As `Shape.first_hit`, in world coordinates."""
        return self.shape.first_hit(
            rotate(self.rotation, origin - self.centre), rotate(self.rotation, direction)
        )
