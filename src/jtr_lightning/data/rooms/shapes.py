"""Solids whose hits, normals and curvatures have closed forms.

Points and directions hold their three components first (``[3, ...]``), and rotations are written out instead of
calling a matrix product: the bytes then do not depend on how many threads a linear algebra library uses. Lengths are
metres; the world's z axis points up.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np

from jtr_lightning.data.rooms.textures import Texture
from jtr_lightning.data.source import Array

_CORNERS = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), np.float32).reshape(3, 8)
_TINY, _NEVER = np.float32(1e-9), np.float32(np.inf)


def vector(*values: float) -> Array:
    """The values as a float32 vector."""
    return np.array(values, np.float32)


def dot(a: Array, b: Array) -> Array:
    """Scalar product over the first axis."""
    product: Array = a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    return product


def rotate(matrix: Array, points: Array) -> Array:
    """Multiplies points ``[3, ...]`` by a matrix ``[3, 3]``."""
    return dot(align(matrix.T, points), points[:, None])


def align(values: Array, points: Array) -> Array:
    """Gives ``[3, ...]`` values trailing axes, so that they broadcast against points ``[3, ...]``."""
    return values.reshape(*values.shape, *[1] * (points.ndim - 1))


def _ahead(t: Array, hits: Array) -> Array:
    """Keeps t where it hits in front of the origin; inf elsewhere."""
    kept: Array = np.where(hits & (t > 0), t, _NEVER)
    return kept


class Shape(ABC):
    """A convex solid around the origin of its own frame, within ``half`` (``[3]``) of it along each axis."""

    half: Array

    @abstractmethod
    def first_hit(self, origin: Array, direction: Array) -> Array:
        """Smallest t > 0 at which ``origin + t * direction`` is on the surface, inf where there is none.

        Args:
            origin: A point ``[3]`` outside the solid.
            direction: Directions ``[3, ...]`` of any length.
        """

    @abstractmethod
    def surface(self, point: Array) -> tuple[Array, Array]:
        """Outward unit normals ``[3, N]`` and principal curvatures ``[2, N]`` (1/m, larger first) at ``[3, N]``."""


class Plane(Shape):
    """The half space below z = 0."""

    half = vector(1e6, 1e6, 1e6)

    def first_hit(self, origin: Array, direction: Array) -> Array:
        return _ahead(-origin[2] / np.minimum(direction[2], -_TINY), direction[2] < 0)

    def surface(self, point: Array) -> tuple[Array, Array]:
        return np.broadcast_to(vector(0, 0, 1)[:, None], point.shape), np.zeros_like(point[:2])


@dataclass(frozen=True)
class Box(Shape):
    """A box of half edges ``half``."""

    half: Array

    def first_hit(self, origin: Array, direction: Array) -> Array:
        inverse = 1 / np.where(direction == 0, _TINY, direction)
        middle, reach = -align(origin, direction) * inverse, np.abs(inverse) * align(self.half, direction)
        enter, leave = (middle - reach).max(0), (middle + reach).min(0)
        return _ahead(enter, enter <= leave)

    def surface(self, point: Array) -> tuple[Array, Array]:
        face = np.argmax(np.abs(point) - self.half[:, None], axis=0)
        return np.where(face == np.arange(3)[:, None], np.sign(point), np.float32(0)), np.zeros_like(
            point[:2]
        )


@dataclass(frozen=True)
class Ellipsoid(Shape):
    """An ellipsoid of half axes ``half``."""

    half: Array

    def first_hit(self, origin: Array, direction: Array) -> Array:
        o, d = origin / self.half, direction / align(self.half, direction)
        a, b, c = dot(d, d), dot(o, d), dot(o, o) - 1
        t = (-b - np.sqrt(np.maximum(b * b - a * c, 0))) / a
        return _ahead(t, b * b >= a * c)

    def surface(self, point: Array) -> tuple[Array, Array]:
        """The curvatures follow from the Gaussian and the mean curvature."""
        square = self.half[:, None] ** 2
        gradient = point / square
        slope = np.sqrt(dot(gradient, gradient))
        gauss = 1 / (square.prod() * slope**4)
        mean = (square.sum() - dot(point, point)) / (2 * square.prod() * slope**3)
        spread = np.sqrt(np.maximum(mean**2 - gauss, 0))
        return gradient / slope, np.stack([mean + spread, mean - spread])


@dataclass(frozen=True)
class Frustum(Shape):
    """An upright cylinder or cone stump: radius ``bottom`` at z = -height / 2, ``top`` at z = height / 2."""

    bottom: float
    top: float
    height: float

    @property
    def half(self) -> Array:  # type: ignore[override]
        return vector(*[max(self.bottom, self.top)] * 2, self.height / 2)

    @property
    def _slope(self) -> float:
        return (self.top - self.bottom) / self.height

    def _radius(self, z: Array) -> Array:
        radius: Array = z * np.float32(self._slope) + np.float32((self.bottom + self.top) / 2)
        return radius

    def first_hit(self, origin: Array, direction: Array) -> Array:
        """The first of two hits with the side and two with the caps that lies on the solid."""
        dx, dy, dz = direction[0], direction[1], np.where(direction[2] == 0, _TINY, direction[2])
        a = dx**2 + dy**2 - np.float32(self._slope**2) * dz**2
        a = np.where(a == 0, _TINY, a)
        b = origin[0] * dx + origin[1] * dy - np.float32(self._slope) * self._radius(origin[2]) * dz
        c = origin[0] ** 2 + origin[1] ** 2 - self._radius(origin[2]) ** 2
        root, end = np.sqrt(np.maximum(b * b - a * c, 0)), np.float32(self.height / 2)
        best: Array = np.full_like(dz, np.inf)
        for t in ((-b - root) / a, (-b + root) / a):
            best = np.minimum(best, _ahead(t, (b * b >= a * c) & (np.abs(origin[2] + t * dz) <= end)))
        for z in (-end, end):
            t = (z - origin[2]) / dz
            on_cap = np.hypot(origin[0] + t * dx, origin[1] + t * dy) <= self._radius(z)
            best = np.minimum(best, _ahead(t, on_cap))
        return best

    def surface(self, point: Array) -> tuple[Array, Array]:
        """A point belongs to the side or to a cap, whichever is nearer."""
        distance, lean = np.hypot(point[0], point[1]), np.float32(np.hypot(1, self._slope))
        on_side = np.abs(self._radius(point[2]) - distance) / lean < self.height / 2 - np.abs(point[2])
        across = np.maximum(distance, np.float32(1e-6)) * lean
        side = np.stack([point[0] / across, point[1] / across, np.full_like(across, -self._slope / lean)])
        cap = np.sign(point) * vector(0, 0, 1)[:, None]
        return np.where(on_side, side, cap), np.stack([on_side / across, np.zeros_like(across)])


@dataclass(frozen=True)
class Part:
    """A textured shape at a place in the world.

    Attributes:
        shape: What it is.
        texture: How it is painted.
        centre: World position ``[3]``.
        rotation: World to local frame, ``[3, 3]``.
        glow: Light of its own, as a share of the albedo.
        hole: Whether depth, normals and curvature are undefined there (a pane that looks out to nothing).
    """

    shape: Shape
    texture: Texture
    centre: Array
    rotation: Array
    glow: float = 0.0
    hole: bool = False

    def moved(self, turn: Array, offset: Array) -> Part:
        """The part turned about the origin by ``turn`` ``[3, 3]`` and then shifted by ``offset`` ``[3]``."""
        return replace(
            self, centre=rotate(turn, self.centre) + offset, rotation=rotate(self.rotation, turn.T)
        )

    def to_local(self, points: Array) -> Array:
        """World points ``[3, N]`` in the part's frame."""
        return rotate(self.rotation, points - self.centre[:, None])

    def corners(self) -> Array:
        """World positions ``[3, 8]`` of the bounding box's corners."""
        return self.centre[:, None] + rotate(self.rotation.T, _CORNERS * self.shape.half[:, None])

    def first_hit(self, origin: Array, direction: Array) -> Array:
        """As ``Shape.first_hit``, in world coordinates."""
        return self.shape.first_hit(
            rotate(self.rotation, origin - self.centre), rotate(self.rotation, direction)
        )
