"""A random furnished room: what is in it, where it stands, its lights and its camera.

`Scene.random(seed, index)` is a pure function of its two numbers: they alone seed the random generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jtr_lightning.data.rooms.furniture import CLASS_NAMES, Workshop, turn
from jtr_lightning.data.rooms.shapes import Array, Part, Plane, vector

# What stands in each type of room: (piece, where, chance). Every type may hold a stranger, so that
# no single piece gives the type away.
_RECIPES = {
    "bedroom": (
        ("bed", "wall", 1.0), ("cabinet", "wall", 0.9), ("lamp", "wall", 0.6), ("table", "wall", 0.3), ("chair", "wall", 0.4),
        ("bed", "wall", 0.2), ("cabinet", "wall", 0.4), ("table_lamp", "top", 0.6), ("vase", "top", 0.4), ("sofa", "wall", 0.1),
    ),
    "living room": (
        ("sofa", "wall", 1.0), ("sofa", "wall", 0.6), ("table", "free", 0.9), ("cabinet", "wall", 0.7), ("lamp", "wall", 0.9),
        ("vase", "top", 0.9), ("vase", "free", 0.6), ("chair", "free", 0.3), ("bed", "wall", 0.1),
    ),
    "office": (
        ("table", "wall", 1.0), ("chair", "table", 1.0), ("cabinet", "wall", 1.0), ("cabinet", "wall", 0.8), ("cabinet", "wall", 0.5),
        ("table_lamp", "top", 0.9), ("vase", "top", 0.4), ("table", "wall", 0.4), ("lamp", "wall", 0.3), ("sofa", "wall", 0.1),
    ),
    "dining room": (
        ("table", "free", 1.0), ("chair", "table", 1.0), ("chair", "table", 1.0), ("chair", "table", 0.9), ("chair", "table", 0.6),
        ("vase", "top", 0.9), ("cabinet", "wall", 0.6), ("vase", "top", 0.5), ("lamp", "wall", 0.5), ("bed", "wall", 0.1),
    ),
}  # fmt: skip
ROOM_TYPES = tuple(_RECIPES)
_SHOWN_AS = {"table_lamp": "lamp"}


@dataclass(frozen=True)
class Thing:
    """Parts that belong together and share a class (index into `CLASS_NAMES`)."""

    category: int
    parts: tuple[Part, ...]

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Lowest and highest corner `[3]` of the upright bounding box."""
        corners = np.concatenate([part.corners() for part in self.parts], axis=1)
        return corners.min(1), corners.max(1)


@dataclass(frozen=True)
class Light:
    """A point light: position `[3]` and linear RGB power `[3]` (irradiance next to it)."""

    position: Array
    power: Array


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: `[3]`, metres.
        yaw: radians, clockwise from +y seen from above.
        pitch: radians, positive looks down.
        field_of_view: horizontal, radians.
    """

    position: Array
    yaw: float
    pitch: float
    field_of_view: float

    @property
    def axes(self) -> Array:
        """Rows: world directions of the camera's x (right), y (down) and z (into the scene)."""
        (sy, cy), (sp, cp) = ((np.sin(a), np.cos(a)) for a in (self.yaw, self.pitch))
        return np.array([[cy, -sy, 0], [-sp * sy, -sp * cy, -cp], [cp * sy, cp * cy, -sp]], np.float32)

    def focal_length(self, width: int) -> float:
        """Focal length in pixels of an image of that width; pixels are square, the centre is ((W-1)/2, (H-1)/2)."""
        return width / 2 / float(np.tan(self.field_of_view / 2))


@dataclass(frozen=True)
class Scene:
    """Everything that `rendering.render` needs. `things` are solid and cast shadows, `shell` (walls, floor, ceiling) does not."""

    shell: tuple[Thing, ...]
    things: tuple[Thing, ...]
    lights: tuple[Light, ...]
    camera: Camera
    room_type: int = 0
    noise_seed: tuple[int, ...] = (0,)

    @classmethod
    def random(cls, seed: int, index: int) -> Scene:
        """Draws room number `index` of the endless series `seed`."""
        rng = np.random.default_rng([seed, index])
        room = _Room(rng, vector(rng.uniform(3.0, 4.6), rng.uniform(3.0, 4.6), rng.uniform(2.4, 2.8)))
        room_type = int(rng.integers(len(ROOM_TYPES)))
        for piece, where, chance in _RECIPES[ROOM_TYPES[room_type]]:
            if rng.random() < chance:
                room.furnish(piece, where)
        for piece in ("window", "window", "picture", "picture", "picture"):
            if rng.random() < 0.55:
                room.hang(piece)
        return cls(
            room.shell(), tuple(room.things), room.lights(), room.camera(), room_type, (seed, index, 1)
        )


class _Room:
    """A room while it is being furnished; the origin is the middle of its floor."""

    def __init__(self, rng: np.random.Generator, size: Array) -> None:
        self.rng, self.size, self.workshop = rng, size, Workshop(rng)
        self.things: list[Thing] = []
        self.windows: list[Array] = []

    def shell(self) -> tuple[Thing, ...]:
        """Floor, ceiling and four walls as planes that face inwards."""
        tip = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float32)  # local z (the normal) becomes world y
        papers = [self.workshop.texture("wall", scale=self.rng.uniform(2, 4)) for _ in range(2)]
        papers += [papers[0]] * 2 if self.rng.random() < 0.6 else papers[::-1]
        things = []
        for side, paper in enumerate(papers):
            to_world = turn(side * np.pi / 2)
            inwards = to_world[:, 1]
            distance = self.size[1 - side % 2] / 2
            things.append(Thing(0, (Part(Plane(), paper, -inwards * distance, (to_world @ tip).T),)))
        flat, over = np.eye(3, dtype=np.float32), np.diag(vector(1, -1, -1))
        floor = self.workshop.texture("floor", scale=self.rng.uniform(1.5, 3.5))
        things.append(Thing(1, (Part(Plane(), floor, vector(0, 0, 0), flat),)))
        roof = self.workshop.texture("ceiling")
        things.append(Thing(2, (Part(Plane(), roof, vector(0, 0, self.size[2]), over),)))
        return tuple(things)

    def _fits(self, thing: Thing) -> bool:
        low, high = thing.bounds
        inside = bool((low >= -self.size / 2 - 0.02)[:2].all() and (high <= self.size / 2 + 0.02)[:2].all())
        gap = vector(0.03, 0.03, -0.001)  # pieces may stand on one another
        return (
            inside
            and high[2] < self.size[2] - 0.2
            and not any(
                (low < t.bounds[1] + gap).all() and (high > t.bounds[0] - gap).all() for t in self.things
            )
        )

    def _against_wall(self, side: int, depth: float, height: float) -> tuple[float, Array]:
        along = self.size[side % 2] / 2
        place = vector(self.rng.uniform(-along, along), depth - self.size[1 - side % 2] / 2, height)
        return side * np.pi / 2, turn(side * np.pi / 2) @ place

    def furnish(self, piece: str, where: str) -> None:
        """Puts a piece at a free place: along a wall, free in the room, at a table or on top of one; or leaves it out."""
        rng, parts = self.rng, self.workshop.build(piece)
        category = CLASS_NAMES.index(_SHOWN_AS.get(piece, piece))
        depth = -min(float(part.corners()[1].min()) for part in parts)
        hosts = [t for t in self.things if CLASS_NAMES[t.category] == "table"]
        if where == "top":
            hosts += [t for t in self.things if CLASS_NAMES[t.category] == "cabinet" and t.bounds[1][2] < 1.6]
        if where in ("top", "table") and not hosts:
            where = "free"
        for _ in range(25):
            if where == "wall":
                yaw, place = self._against_wall(int(rng.integers(4)), depth + 0.02, 0)
            elif where == "free":
                yaw, place = (
                    rng.uniform(0, 2 * np.pi),
                    vector(*rng.uniform(-0.5, 0.5, 2), 0) * (self.size - 1),
                )
            else:
                low, high = hosts[rng.integers(len(hosts))].bounds
                middle, reach = (low + high) / 2, (high - low) / 2
                if where == "top":
                    yaw, spot = 0.0, rng.uniform(-0.6, 0.6, 2) * reach[:2]
                    place = vector(*(middle[:2] + spot), high[2])
                else:
                    yaw = rng.integers(4) * np.pi / 2
                    away = turn(yaw) @ vector(rng.uniform(-0.4, 0.4), -1, 0)
                    place = (middle + away * (reach + 0.32)) * vector(1, 1, 0)
            thing = Thing(category, tuple(part.moved(turn(yaw), place) for part in parts))
            if self._fits(thing):
                self.things.append(thing)
                return

    def hang(self, piece: str) -> None:
        """Puts a window or a picture on a wall, above the furniture that stands there; or leaves it out."""
        parts = self.workshop.build(piece)
        for _ in range(15):
            yaw, place = self._against_wall(int(self.rng.integers(4)), 0, self.rng.uniform(1.3, 1.7))
            thing = Thing(CLASS_NAMES.index(piece), tuple(part.moved(turn(yaw), place) for part in parts))
            if self._fits(thing):
                self.things.append(thing)
                if piece == "window":
                    self.windows.append(place + turn(yaw) @ vector(0, 0.4, 0))
                return

    def lights(self) -> tuple[Light, ...]:
        """A warm lamp under the ceiling and, where there is a window, its cooler daylight."""
        rng = self.rng
        lamp = vector(*rng.uniform(-0.3, 0.3, 2), 0) * self.size + vector(0, 0, self.size[2] - 0.15)
        lights = [
            Light(lamp, vector(1.0, rng.uniform(0.8, 0.95), rng.uniform(0.6, 0.85)) * rng.uniform(0.7, 1.3))
        ]
        lights += [
            Light(window, vector(0.75, 0.88, 1.0) * rng.uniform(0.4, 0.9)) for window in self.windows[:1]
        ]
        return tuple(lights)

    def _clearance(self, place: Array) -> float:
        gaps = [np.maximum(t.bounds[0] - place, place - t.bounds[1])[:2].max() for t in self.things]
        return float(min(gaps, default=np.inf))

    def camera(self) -> Camera:
        """Stands at eye height where nothing is near and looks across the furniture, from the farthest of a few places."""
        rng = self.rng
        middles = np.array([(t.bounds[0] + t.bounds[1]) / 2 for t in self.things])
        target = middles.mean(0) * 0.7 + vector(*rng.uniform(-0.6, 0.6, 2), 0)
        eyes = [
            vector(*rng.uniform(-0.5, 0.5, 2), 0) * (self.size - 0.5) + vector(0, 0, rng.uniform(1.2, 1.75))
            for _ in range(40)
        ]
        free = [eye for eye in eyes if self._clearance(eye) > 0.35][:5] or [max(eyes, key=self._clearance)]
        eye = max(free, key=lambda place: float(np.hypot(*(place - target)[:2])))
        yaw = np.arctan2(target[0] - eye[0], target[1] - eye[1]) + rng.uniform(-0.3, 0.3)
        pitch, field_of_view = np.radians(rng.uniform(-6, 34)), np.radians(rng.uniform(55, 85))
        return Camera(eye, float(yaw), float(pitch), float(field_of_view))
