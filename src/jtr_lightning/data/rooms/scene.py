"""A random furnished room: its shapes, what may be in it, and how one is drawn. Metres, z up, 0 is the room's middle.

A look says something about a class but does not give it away: classes share materials, and most come in any colour.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice, product
from typing import Any

import numpy as np

from jtr_lightning.data.source import Array


class Box:
    """The cube from -1 to 1 along each axis."""

    def span(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        """The t ``[N]`` where rays ``origin [3, 1] + t * direction`` enter and leave; swapped where they miss."""
        inverse = 1 / (direction + np.float32(1e-12))  # never 0
        middle, reach = -origin * inverse, np.abs(inverse)
        return (middle - reach).max(0), (middle + reach).min(0)

    def surface(self, point: Array, half: Array) -> Array:
        """Normals and principal curvatures ``[5, N]`` (1/m, convex > 0) there, if stretched by ``half`` ``[3, 1]``."""
        face = ((np.abs(point) - 1) * half).argmax(0)
        return np.concatenate([np.sign(point) * (face == np.arange(3)[:, None]), np.zeros_like(point[:2])])


class Round(Box):
    """The part of the cube with x^2 + y^2 + bulge z^2 < 1: a cylinder for 0, a barrel, an ellipsoid for 1."""

    def __init__(self, bulge: float) -> None:
        self.weight = np.array([[1], [1], [bulge]], np.float32)

    def span(self, origin: Array, direction: Array) -> tuple[Array, Array]:
        enter, leave = super().span(origin, direction)
        square = np.maximum((self.weight * direction**2).sum(0), np.float32(1e-9))
        middle = -(self.weight * origin * direction).sum(0) / square
        inside = 1 - (self.weight * (origin + middle * direction) ** 2).sum(0)  # precise even from far away
        reach = np.sqrt(np.maximum(inside, 0) / square)
        enter = np.where(inside > 0, np.maximum(enter, middle - reach), np.inf)
        return enter, np.minimum(leave, middle + reach)

    def surface(self, point: Array, half: Array) -> Array:
        """As a box at the flat ends; on the side, from the quadric's mean and Gaussian curvature."""
        gradient, bend = self.weight * point / half, self.weight / half**2
        slope = np.sqrt((gradient**2).sum(0))
        mean = (gradient**2 * (bend.sum() - bend)).sum(0) / (2 * slope**3)
        gauss = (gradient**2 * np.roll(bend, 1, 0) * np.roll(bend, 2, 0)).sum(0) / slope**4
        spread = np.sqrt(np.maximum(mean**2 - gauss, 0))
        side = np.concatenate([gradient / slope, [mean + spread, mean - spread]])
        # With a tolerance, since rounding must not flatten a pole.
        is_side = np.sqrt((self.weight * point**2).sum(0)) > np.abs(point[2]) - 2e-5
        return np.where(is_side, side, super().surface(point, half))


SHAPES = {"box": Box(), "pole": Round(0), "drum": Round(0.2), "urn": Round(0.8), "ball": Round(1)}
# The share (0 to 1) of a material's second colour at points [3, N], in repetitions of the pattern.
PATTERNS: dict[str, Callable[[Array], Array]] = {
    "clouds": lambda p: (2 + np.sin(5 * p[0] + 2 * np.sin(4 * p[1])) + np.sin(6 * p[1] + 3 * p[2])) / 4,
    "stripes": lambda p: np.sin(2 * np.pi * (p[0] + p[1])) > 0.2,
    "checks": lambda p: np.floor(p).sum(0) % 2,
    "dots": lambda p: ((p % 1 - 0.5) ** 2).sum(0) < 0.2,
    "planks": lambda p: (2 + np.sin(7 * np.floor(2 * p[::2]).sum(0)) + np.sin(40 * p[::2].sum(0))) / 4,
    "hills": lambda p: p[2] > 0.2 * np.sin(3 * p[0]),
}
# fmt: off
# Patterns; ranges of hue, saturation and value, of the second colour's value as a share of the first's, and of the
# repetitions per metre; glow (light of its own as a share of the colour); whether it is a hole without geometry.
MATERIALS = {
    "paper": ("clouds clouds stripes dots", (0.00, 1.00), (0.05, 0.40), (0.60, 0.95), (0.80, 0.93), (2, 4), 0, False),
    "floor": ("planks planks checks",       (0.04, 0.11), (0.20, 0.60), (0.30, 0.70), (0.50, 0.75), (1, 3), 0, False),
    "white": ("clouds",                     (0.00, 1.00), (0.00, 0.10), (0.85, 1.00), (0.95, 1.00), (3, 7), 0, False),
    "wood":  ("planks",                     (0.04, 0.11), (0.20, 0.80), (0.30, 0.80), (0.50, 0.75), (3, 7), 0, False),
    "paint": ("clouds",                     (0.00, 1.00), (0.30, 0.90), (0.25, 0.85), (0.50, 0.75), (3, 7), 0, False),
    "cloth": ("clouds checks stripes dots", (0.00, 1.00), (0.20, 0.80), (0.30, 0.90), (0.50, 0.75), (3, 7), 0, False),
    "light": ("clouds",                     (0.08, 0.16), (0.15, 0.50), (0.90, 1.00), (0.80, 0.93), (3, 7), 0.7, False),
    "view":  ("hills",                      (0.20, 0.60), (0.30, 0.60), (0.40, 0.60), (1.60, 2.00), (1, 2), 1.2, True),
}
ROOM_TYPES = ("bedroom", "living room", "office", "dining room")
# Place; materials; expected number in each type of room (any may hold a piece of another, so that no single one gives
# the type away); least and greatest width, depth and height; and models. A model is a cube from -1 to 1, its front at
# y = 1, that is stretched to such a size. Its parts: shape, centre (± is on both sides), half edges, and the material
# if it differs from the whole's. Rooms are furnished in this order.
CLASSES: dict[str, tuple[Any, ...]] = {
    "wall": ("shell", "paper", (), (), "box ±1.1 0 0 .1 1.2 1, box 0 ±1.1 0 1 .1 1"),
    "floor": ("shell", "floor", (), (), "box 0 0 -1.1 1 1 .1"),
    "ceiling": ("shell", "white", (), (), "box 0 0 1.1 1 1 .1"),
    "bed": ("wall", "cloth cloth white", (1.2, 0.1, 0.1, 0), (1.0, 1.7, 1.95, 2.15, 0.85, 1.1),
        ("box 0 -.97 0 1 .03 1 wood, box 0 .03 -.55 1 .97 .15 wood, box ±.9 .95 -.85 .08 .04 .15 wood,"
         "box 0 .03 -.2 .96 .95 .2, ball ±.46 -.72 .1 .4 .18 .2 white")),
    "sofa": ("wall", "cloth", (0.1, 1.6, 0.1, 0.1), (1.4, 2.2, 0.8, 0.95, 0.78, 0.9),
        "box 0 0 -.5 1 1 .5, box 0 -.75 .5 1 .25 .5, box ±.88 .25 .2 .12 .75 .2, ball ±.5 -.28 .38 .2 .22 .4 paint"),
    "cabinet": ("wall", "wood wood paint", (1.3, 0.7, 2.3, 0.6), (0.7, 1.3, 0.35, 0.55, 0.7, 2.0),
        "box 0 -.08 0 1 .92 1, box ±.49 .88 0 .47 .04 .95, ball ±.12 .95 0 .04 .05 .02 paint",
        "box 0 -.95 0 1 .05 1, box ±.96 0 0 .04 1 1, box 0 0 ±.97 .96 .95 .03, box 0 0 ±.32 .96 .9 .02"),
    "table": ("floor", "wood wood paint", (0.3, 0.9, 1.4, 1), (1.0, 1.7, 0.8, 1.1, 0.5, 0.78),
        "box 0 0 .92 1 1 .08, box ±.9 ±.86 -.08 .05 .07 .92",
        "pole 0 0 .92 1 1 .08, pole 0 0 -.08 .1 .1 .92, drum 0 0 -.9 .5 .5 .1"),
    "chair": ("at table", "wood paint cloth", (0.4, 0.3, 1.4, 3.5), (0.42, 0.52, 0.42, 0.52, 0.85, 1.05),
        "box 0 0 -.06 1 1 .06, box 0 -.92 .5 1 .08 .5, box ±.88 ±.88 -.56 .12 .12 .44",
        "box 0 0 -.06 1 1 .06, box 0 -.92 .5 1 .08 .5, pole 0 0 -.56 .12 .12 .44, drum 0 0 -.94 .9 .9 .06"),
    "lamp": ("wall", "light", (0.6, 0.9, 0.6, 0.5), (0.4, 0.6, 0.4, 0.6, 1.3, 1.9),
        "drum 0 0 .78 1 1 .22, pole 0 0 -.2 .06 .06 .8 paint, drum 0 0 -.97 .6 .6 .03 paint"),
    "vase": ("on table cabinet", "paint cloth", (0.5, 1.5, 0.5, 1.4), (0.2, 0.35, 0.2, 0.35, 0.3, 0.6),
        "urn 0 0 0 1 1 .9, pole 0 0 0 .6 .6 1", "ball 0 0 -.4 1 1 .6, pole 0 0 .5 .4 .4 .5"),
    "window": ("hang", "white", (1.6, 1.6, 1.6, 1.6), (0.8, 1.6, 0.05, 0.07, 0.8, 1.3),
        "box 0 0 0 .9 .1 .9 view, box ±.95 0 0 .05 1 1, box 0 0 ±.95 1 1 .05, box 0 0 0 .04 .9 1, box 0 0 0 1 .9 .04"),
    "picture": ("hang", "paint cloth cloth", (2.4, 2.4, 2.4, 2.4), (0.4, 1.1, 0.04, 0.06, 0.4, 0.8),
        "box 0 -.1 0 1 .9 1 wood, box 0 0 0 .85 1 .85"),
}
# fmt: on
CLASS_NAMES = tuple(CLASSES)


@dataclass(frozen=True)
class Part:
    """A shape in the frame of its thing; ``albedo`` is linear RGB ``[3, N]`` at points ``[3, N]`` around the centre."""

    shape: Box
    centre: Array  # [3, 1]
    half: Array  # half edges [3, 1]
    albedo: Callable[[Array], Array]
    glow: float = 0.0
    hole: bool = False


@dataclass(frozen=True)
class Thing:
    """Parts that belong together, in a frame of their own around a point in the world."""

    category: int  # index into CLASS_NAMES
    centre: Array  # [3]
    reach: Array  # half edges [3] of the upright box around it in the world
    turned: Array  # own to world frame, [3, 3]
    parts: tuple[Part, ...]

    def is_apart(self, other: Thing) -> bool:
        """Whether the upright boxes around the two do not overlap."""
        return bool((np.abs(self.centre - other.centre) > self.reach + other.reach - 1e-4).any())


@dataclass(frozen=True)
class Scene:
    """All that is rendered; the shell (walls, floor, ceiling) casts no shadows.

    Lights ``[L, 2, 3]`` have a position and a linear RGB power. The camera is at ``eye`` ``[3]``; its x (right), y
    (down) and z (into the scene) are the rows of ``axes`` ``[3, 3]``, its focal length a share of the picture's width.
    """

    shell: tuple[Thing, ...]
    things: tuple[Thing, ...]
    lights: Array
    eye: Array
    axes: Array
    focal: float
    room_type: int = 0
    noise_seed: tuple[int, ...] = (0,)

    @classmethod
    def random(cls, seed: int, index: int) -> Scene:
        """Draws room number ``index`` of the endless series ``seed``, a pure function of these two."""
        rng = np.random.default_rng([seed, index])
        room, room_type = rng.uniform((1.5, 1.5, 1.2), (2.3, 2.3, 1.4)), int(rng.integers(len(ROOM_TYPES)))
        spot = rng.uniform(-1, 1, 2)
        eye = np.append(spot / np.abs(spot).max() * (room[:2] - 0.5), rng.uniform(1.2, 1.75) - room[2])
        things = [Thing(-1, eye, np.array([0.4, 0.4, 9]), np.eye(3), ())]  # keeps the camera's place free
        for name in CLASS_NAMES[3:]:
            for _ in range(int(CLASSES[name][2][room_type] + rng.random())):
                tries = (_thing(rng, name, room, things) for _ in range(10))
                things += islice((thing for thing in tries if all(map(thing.is_apart, things))), 1)
        way = 0.7 * np.mean([thing.centre for thing in things[1:]], 0) + rng.uniform(-0.5, 0.5, 3) - eye
        (x, y), (pitch, half_view) = way[:2] / np.hypot(*way[:2]), np.radians(rng.uniform((-6, 27), (34, 43)))
        right, into = (y, -x, 0), (x * np.cos(pitch), y * np.cos(pitch), -np.sin(pitch))
        axes = np.array([right, np.cross(into, right), into], np.float32)
        lamp = room * (*rng.uniform(-0.6, 0.6, 2), 0.9), rng.uniform((0.8, 0.7, 0.5), (1.3, 1.1, 0.9))
        daylight = room * (*rng.uniform(-0.7, 0.7, 2), 0.3), rng.uniform(0.4, 0.9) * np.array([0.75, 0.88, 1])
        lights, focal = np.array([lamp, daylight], np.float32), 0.5 / float(np.tan(half_view))
        shell, eye = tuple(_thing(rng, name, room, []) for name in CLASS_NAMES[:3]), eye.astype(np.float32)
        return cls(shell, tuple(things[1:]), lights, eye, axes, focal, room_type, (seed, index, 1))


def _thing(rng: np.random.Generator, name: str, room: Array, things: list[Thing]) -> Thing:
    """Draws a thing, and where it might go in a room of half edges ``[3]`` that these things are in."""
    where, materials, _, size, *models = CLASSES[name]
    where, *hosts = where.split()
    on_wall, half = where in ("wall", "hang"), rng.uniform(size[::2], size[1::2]) / 2
    yaw = rng.integers(4) * np.pi / 2 + (0 if on_wall else rng.uniform(-0.4, 0.4))
    if where == "shell":
        half, yaw = room, 0
    turned = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]], np.float32)
    front, reach = turned[:, 1], (np.abs(turned) @ half).astype(np.float32)
    free = room - reach
    centre = rng.uniform(-1, 1, 3) * free
    if on_wall:
        centre = np.clip(centre - 9 * front, -free, free)  # slides backwards until it meets the wall
    centre[2] = rng.uniform(0.1, 0.4) if where == "hang" else -free[2]
    near = [thing for thing in things if CLASS_NAMES[thing.category] in hosts and thing.reach[2] < 0.7]
    if near:
        host = near[rng.integers(len(near))]
        top = host.centre + host.reach * (*rng.uniform(-0.3, 0.3, 2), 1) + (0, 0, half[2])
        side = host.centre - front * (host.reach + reach + 0.05)
        centre = np.clip(top if where == "on" else (*side[:2], centre[2]), -free, free)
    parts, paint, own = [], cache(partial(_paint, rng)), rng.choice(materials.split())
    for row in models[rng.integers(len(models))].split(","):
        shape, *words = row.split()
        numbers = np.array([word.strip("±") for word in words[:6]], np.float32)
        middle, edges = numbers.reshape(2, 3, 1) * half[:, None].astype(np.float32)
        signs = product(*([[1], [-1]] if "±" in word else [[1]] for word in words[:3]))
        parts += [Part(SHAPES[shape], middle * sign, edges, *paint(*words[6:] or [own])) for sign in signs]
    return Thing(CLASS_NAMES.index(name), centre.astype(np.float32), reach, turned, tuple(parts))


def _paint(rng: np.random.Generator, material: str) -> tuple[Callable[[Array], Array], float, bool]:
    """Albedo, glow and hole of a random piece of a material."""
    patterns, *ranges, glow, hole = MATERIALS[material]
    hue, saturation, value, fade, scale = (rng.uniform(*bounds) for bounds in ranges)
    display = [colorsys.hsv_to_rgb(hue, saturation, v) for v in (value, value * fade)]
    first, second = np.array(display, np.float32)[..., None] ** 2.2
    pattern, shift = PATTERNS[rng.choice(patterns.split())], rng.uniform(0, 20, (3, 1)) * [[1], [1], [0]]
    shift = shift.astype(np.float32)
    return lambda points: first + (second - first) * pattern(points * scale + shift), glow, hole
