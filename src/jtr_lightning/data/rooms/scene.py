"""A random furnished room: what is in it, where it stands, its lights and its camera.

``Scene.random(seed, index)`` is a pure function of its two numbers: they alone seed the random generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jtr_lightning.data.rooms.furniture import CLASS_NAMES, Workshop
from jtr_lightning.data.rooms.shapes import Part, Plane, rotate, vector
from jtr_lightning.data.source import Array

# What stands where in each type of room, with its chance (1 unless given): along a wall, free in the room, beside or
# on top of another piece. Each type may hold a piece of another, so that no single piece gives the type away.
_RECIPES = {
    "bedroom": "bed:wall cabinet:wall:.9 lamp:wall:.6 table:wall:.3 chair:wall:.4 bed:wall:.2 cabinet:wall:.4 "
    "vase:top:.5 sofa:wall:.1",
    "living room": "sofa:wall sofa:wall:.6 table:free:.9 cabinet:wall:.7 lamp:wall:.9 vase:top:.9 vase:free:.6 "
    "chair:free:.3 bed:wall:.1",
    "office": "table:wall chair:beside cabinet:wall cabinet:wall:.8 cabinet:wall:.5 table:wall:.4 lamp:wall:.6 "
    "vase:top:.5 sofa:wall:.1",
    "dining room": "table:free chair:beside chair:beside chair:beside:.9 chair:beside:.6 vase:top:.9 cabinet:wall:.6 "
    "vase:top:.5 lamp:wall:.5 bed:wall:.1",
}
_ON_WALLS = " window:hang:.6 window:hang:.5 picture:hang:.8 picture:hang:.6 picture:hang:.6"
ROOM_TYPES = tuple(_RECIPES)


def turn(yaw: float) -> Array:
    """Rotation ``[3, 3]`` about the vertical axis, counter-clockwise seen from above; yaw in radians."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)


@dataclass(frozen=True)
class Thing:
    """Parts that belong together and share a class, given as its number in ``CLASS_NAMES``."""

    category: int
    parts: tuple[Part, ...]

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest corner ``[3]`` of the upright bounding box."""
        corners = np.concatenate([part.corners() for part in self.parts], axis=1)
        return corners.min(1), corners.max(1)

    @property
    def middle(self) -> Array:
        """Middle ``[3]`` of the bounding box."""
        low, high = self.bounds
        return (low + high) / 2


@dataclass(frozen=True)
class Light:
    """A point light: position ``[3]`` and linear RGB power ``[3]``, the irradiance right beside it."""

    position: Array
    power: Array


@dataclass(frozen=True)
class Camera:
    """A pinhole camera with square pixels and its centre at ((W - 1) / 2, (H - 1) / 2).

    Attributes:
        position: ``[3]``, metres.
        yaw: Radians, clockwise from +y seen from above.
        pitch: Radians, positive looks down.
        field_of_view: Horizontal, radians.
    """

    position: Array
    yaw: float
    pitch: float
    field_of_view: float

    @property
    def axes(self) -> Array:
        """World directions of the camera's x (right), y (down) and z (into the scene), as rows ``[3, 3]``."""
        (sy, cy), (sp, cp) = ((np.sin(angle), np.cos(angle)) for angle in (self.yaw, self.pitch))
        return np.array([[cy, -sy, 0], [-sp * sy, -sp * cy, -cp], [cp * sy, cp * cy, -sp]], np.float32)

    def focal_length(self, width: int) -> float:
        """Focal length, in pixels, of an image of that width."""
        return width / 2 / float(np.tan(self.field_of_view / 2))


@dataclass(frozen=True)
class Scene:
    """All that is rendered: ``things`` are solid and cast shadows, ``shell`` (walls, floor, ceiling) casts none."""

    shell: tuple[Thing, ...]
    things: tuple[Thing, ...]
    lights: tuple[Light, ...]
    camera: Camera
    room_type: int = 0
    noise_seed: tuple[int, ...] = (0,)

    @classmethod
    def random(cls, seed: int, index: int) -> Scene:
        """Draws room number ``index`` of the endless series ``seed``; both are 0 or more."""
        rng = np.random.default_rng([seed, index])
        room_type = int(rng.integers(len(ROOM_TYPES)))
        room = _Room(rng, vector(rng.uniform(3.0, 4.6), rng.uniform(3.0, 4.6), rng.uniform(2.4, 2.8)))
        for entry in (_RECIPES[ROOM_TYPES[room_type]] + _ON_WALLS).split():
            piece, where, *chance = entry.split(":")
            if rng.random() < float(*chance or (1,)):
                room.furnish(piece, where)
        return cls(
            room.shell(), tuple(room.things), room.lights(), room.camera(), room_type, (seed, index, 1)
        )


class _Room:
    """A room while it is being furnished; the origin is the middle of its floor."""

    def __init__(self, rng: np.random.Generator, size: Array) -> None:
        self.rng, self.size, self.workshop = rng, size, Workshop(rng)
        self.things: list[Thing] = []

    def furnish(self, piece: str, where: str) -> None:
        """Puts a new piece at a place where it fits; leaves it out when none of a few tries does."""
        parts = self.workshop.build(piece)
        corners = np.concatenate([part.corners() for part in parts], axis=1)
        for _ in range(20):
            yaw, place = self._spot(where, -corners[1].min())
            moved = turn(yaw) @ corners + place[:, None]
            if self._fits(moved.min(1), moved.max(1)):
                turned = tuple(part.moved(turn(yaw), place) for part in parts)
                self.things.append(Thing(CLASS_NAMES.index(piece), turned))
                return

    def _spot(self, where: str, depth: float) -> tuple[float, Array]:
        """A random yaw and position for a piece whose back is ``depth`` behind its origin."""
        rng, side = self.rng, int(self.rng.integers(4))
        yaw = side * np.pi / 2
        hosts = [
            t for t in self.things if CLASS_NAMES[t.category] in ("table", "cabinet") and t.bounds[1][2] < 1.4
        ]
        if where in ("wall", "hang"):
            along, across = self.size[side % 2] / 2, self.size[1 - side % 2] / 2
            height = rng.uniform(1.3, 1.7) if where == "hang" else 0
            return yaw, turn(yaw) @ vector(rng.uniform(-along, along), depth - across, height)
        if where == "free" or not hosts:
            return rng.uniform(0, 2 * np.pi), vector(*rng.uniform(-0.5, 0.5, 2), 0) * (self.size - 1)
        host = hosts[rng.integers(len(hosts)) if where == "top" else 0]
        reach = host.bounds[1] - host.middle
        if where == "top":
            return 0.0, host.middle + reach * vector(*rng.uniform(-0.6, 0.6, 2), 1)
        away = turn(yaw) @ vector(rng.uniform(-0.4, 0.4), -1, 0)
        return yaw, (host.middle + away * (reach + 0.32)) * vector(1, 1, 0)

    def _fits(self, low: Array, high: Array) -> bool:
        room, gap = self.size / 2 + 0.02, vector(0.03, 0.03, -0.001)  # a piece may stand on another
        in_room = (low > -room)[:2].all() and (high < room)[:2].all() and high[2] < self.size[2] - 0.2
        hits = ((low < t.bounds[1] + gap).all() and (high > t.bounds[0] - gap).all() for t in self.things)
        return bool(in_room) and not any(hits)

    def shell(self) -> tuple[Thing, ...]:
        """Four walls in one or two papers, floor and ceiling, as planes that face inwards."""
        upright = np.array(
            [[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32
        ).T  # a plane's z axis becomes the world's y
        papers = [self.workshop.texture("wall", (2, 4)) for _ in range(2)]
        second = int(self.rng.integers(2))
        planes = []
        for side in range(4):
            to_world = turn(side * np.pi / 2)
            foot = to_world @ vector(0, -self.size[1 - side % 2] / 2, 0)
            planes.append((0, papers[second * (side % 2)], foot, upright @ to_world.T))
        planes.append(
            (1, self.workshop.texture("floor", (1.5, 3.5)), vector(0, 0, 0), np.diag(vector(1, 1, 1)))
        )
        planes.append(
            (2, self.workshop.texture("ceiling"), vector(0, 0, self.size[2]), np.diag(vector(1, -1, -1)))
        )
        return tuple(Thing(category, (Part(Plane(), *rest),)) for category, *rest in planes)

    def lights(self) -> tuple[Light, ...]:
        """A warm lamp under the ceiling and, if there is a window, its cooler daylight."""
        rng = self.rng
        lamp = vector(*rng.uniform(-0.3, 0.3, 2), 1) * self.size - vector(0, 0, 0.15)
        lights = [
            Light(lamp, vector(1, rng.uniform(0.8, 0.95), rng.uniform(0.6, 0.85)) * rng.uniform(0.7, 1.3))
        ]
        windows = [t.middle for t in self.things if CLASS_NAMES[t.category] == "window"]
        lights += [
            Light(w * vector(0.75, 0.75, 1), vector(0.75, 0.88, 1) * rng.uniform(0.4, 0.9))
            for w in windows[:1]
        ]
        return tuple(lights)

    def camera(self) -> Camera:
        """Stands at eye height where nothing is near; of a few such places and views the one with most things in it."""
        rng, boxes = self.rng, np.array([t.bounds for t in self.things])
        middles, views = boxes.mean(1), []
        for _ in range(40):
            eye = vector(*rng.uniform(-0.5, 0.5, 2), 0) * (self.size - 0.5) + vector(
                0, 0, rng.uniform(1.2, 1.75)
            )
            gap = np.maximum(boxes[:, 0] - eye, eye - boxes[:, 1])[:, :2].max(1).min()
            way = middles.mean(0) * 0.7 + vector(*rng.uniform(-0.6, 0.6, 2), 0) - eye
            yaw = float(np.arctan2(way[0], way[1])) + rng.uniform(-0.3, 0.3)
            pitch, field_of_view = np.radians([rng.uniform(-6, 34), rng.uniform(55, 85)])
            camera = Camera(eye, yaw, float(pitch), float(field_of_view))
            x, y, z = rotate(camera.axes, (middles - eye).T)
            seen = np.sum((z > 0) & (np.maximum(np.abs(x), np.abs(y)) < z * np.tan(field_of_view / 2)))
            views.append((min(gap, 0.5), int(seen), camera))
            if sum(view[0] == 0.5 for view in views) == 4:
                break
        return max(views, key=lambda view: view[:2])[2]
