"""What rooms are made of: things apart, in the room, and a camera that stands free."""

from __future__ import annotations

import numpy as np
import pytest

from jtr_lightning.data.rooms.furniture import CLASS_NAMES, LOOKS, Workshop
from jtr_lightning.data.rooms.scene import ROOM_TYPES, Camera, Scene
from jtr_lightning.data.rooms.shapes import vector

SCENES = [Scene.random(1, index) for index in range(60)]


def test_things_do_not_overlap() -> None:
    for scene in SCENES:
        boxes = [thing.bounds for thing in scene.things]
        for i, (low, high) in enumerate(boxes):
            for other_low, other_high in boxes[:i]:
                assert not ((low < other_high - 0.01) & (high > other_low + 0.01)).all()


def test_things_are_inside_the_room() -> None:
    for scene in SCENES:
        walls = np.abs(np.stack([wall.parts[0].centre for wall in scene.shell if wall.category == 0])).max(0)
        ceiling = scene.shell[-1].parts[0].centre[2]
        for thing in scene.things:
            low, high = thing.bounds
            assert (low[:2] > -walls[:2] - 0.03).all()
            assert (high[:2] < walls[:2] + 0.03).all()
            assert low[2] > -0.01
            assert high[2] < ceiling


def test_camera_is_in_the_room_and_outside_of_every_thing() -> None:
    for scene in SCENES:
        eye = scene.camera.position
        for wall in scene.shell:
            assert wall.parts[0].to_local(eye[:, None])[2, 0] > 0.1
        for thing in scene.things:
            assert not ((thing.bounds[0] < eye) & (eye < thing.bounds[1])).all()
    pitches = np.degrees([scene.camera.pitch for scene in SCENES])
    assert pitches.std() > 5


def test_every_room_is_furnished_after_its_type() -> None:
    signature = {"bedroom": "bed", "living room": "sofa", "office": "cabinet", "dining room": "table"}
    for scene in SCENES:
        pieces = {CLASS_NAMES[thing.category] for thing in scene.things}
        assert len(scene.things) >= 2
        if signature[ROOM_TYPES[scene.room_type]] not in pieces:
            pytest.fail(f"a {ROOM_TYPES[scene.room_type]} has only {pieces}")


def test_there_are_at_least_eight_classes_each_with_a_builder() -> None:
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) >= 8
    for category in CLASS_NAMES[3:]:
        parts = Workshop(np.random.default_rng(0)).build(category)
        assert parts, category
        assert Workshop(np.random.default_rng(0)).texture(category).pattern
    assert tuple(LOOKS) == CLASS_NAMES


@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5])
@pytest.mark.parametrize("pitch", [0.0, 0.4, -0.2])
def test_camera_axes_are_a_right_handed_frame(yaw: float, pitch: float) -> None:
    right, down, forward = Camera(vector(0, 0, 0), yaw, pitch, 1.0).axes
    np.testing.assert_allclose(np.cross(right, down), forward, atol=1e-6)
    assert right[2] == 0
    assert down[2] <= 0
    assert forward[2] == pytest.approx(-np.sin(pitch), abs=1e-6)
