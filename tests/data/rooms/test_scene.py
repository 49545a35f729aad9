"""What rooms are made of: things apart, in the room, and a camera that stands free."""

from __future__ import annotations

import numpy as np
import pytest

from jtr_lightning.data.rooms.rendering import trace
from jtr_lightning.data.rooms.scene import CLASS_NAMES, CLASSES, ROOM_TYPES, Part, Scene, Thing, _thing

SCENES = [Scene.random(1, index) for index in range(60)]
DOWN = np.array([[0], [0], [-1]], np.float32)


def room_of(scene: Scene) -> np.ndarray:
    """Half edges ``[3]`` of the room."""
    return scene.shell[0].reach


def corners(part: Part) -> np.ndarray:
    """Of a part in the frame of its thing, ``[3, 8]``."""
    signs = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8)
    return part.centre + signs * part.half


def test_things_do_not_overlap() -> None:
    for scene in SCENES:
        for i, thing in enumerate(scene.things):
            for other in scene.things[:i]:
                gap = np.abs(thing.centre - other.centre) - thing.reach - other.reach
                assert gap.max() > -0.001


def test_things_reach_no_farther_than_they_say() -> None:
    """Only rays that pass this box are tried on the parts."""
    for scene in SCENES:
        for thing in scene.things:
            ends = np.concatenate([thing.turned @ corners(part) for part in thing.parts], axis=1)
            assert (np.abs(ends) <= thing.reach[:, None] + 1e-4).all()
            assert np.abs(ends).max(1) == pytest.approx(thing.reach, rel=1e-3)


def test_things_are_inside_the_room() -> None:
    for scene in SCENES:
        for thing in scene.things:
            assert (np.abs(thing.centre) + thing.reach <= room_of(scene) + 0.002).all()


def test_nothing_floats() -> None:
    """What hangs touches a wall, all else stands on the floor or on another thing's top."""
    hung = stacked = 0
    for scene in SCENES:
        for thing in scene.things:
            gaps = room_of(scene) - np.abs(thing.centre) - thing.reach
            if CLASSES[CLASS_NAMES[thing.category]][0] == "hang":
                assert gaps[:2].min() < 0.002
                hung += 1
                continue
            bottom = thing.centre - thing.reach * [0, 0, 1]
            if bottom[2] + room_of(scene)[2] < 0.002:
                continue
            others = tuple(other for other in scene.things if other is not thing)
            t, below = trace(others, (bottom + np.array([0, 0, 0.01])).astype(np.float32), DOWN)
            assert below[0] >= 0
            assert t[0] == pytest.approx(0.01, abs=0.002)
            stacked += 1
    assert hung > 100
    assert stacked > 10


@pytest.mark.parametrize("name", [name for name in CLASS_NAMES if CLASSES[name][0] != "shell"])
def test_the_parts_of_a_piece_hold_together(name: str) -> None:
    for seed in range(6):
        thing = _thing(np.random.default_rng(seed), name, np.array([2.0, 2.0, 1.3]), [])
        boxes = [(part.centre[:, 0], part.half[:, 0]) for part in thing.parts]
        reached = {0}
        for _ in boxes:
            reached |= {
                i
                for i, (centre, half) in enumerate(boxes)
                for j in reached
                if (np.abs(centre - boxes[j][0]) <= half + boxes[j][1] + 1e-4).all()
            }
        assert reached == set(range(len(boxes)))


def test_a_part_given_with_both_signs_is_there_on_both_sides() -> None:
    table = _thing(np.random.default_rng(0), "table", np.array([2.0, 2.0, 1.3]), [])
    seeds = iter(range(20))
    while len(table.parts) != 5:  # the model with four legs
        table = _thing(np.random.default_rng(next(seeds)), "table", np.array([2.0, 2.0, 1.3]), [])
    feet = {tuple(np.sign(part.centre[:2, 0])) for part in table.parts[1:]}
    assert feet == {(-1, -1), (-1, 1), (1, -1), (1, 1)}


def test_the_camera_is_in_the_room_with_space_around_it() -> None:
    for scene in SCENES:
        assert (np.abs(scene.eye) < room_of(scene) - 0.1).all()
        for thing in scene.things:
            assert (np.abs(scene.eye - thing.centre) - thing.reach)[:2].max() > 0.39
    assert np.degrees([np.arcsin(-scene.axes[2, 2]) for scene in SCENES]).std() > 5


def test_camera_axes_are_a_right_handed_level_frame() -> None:
    for scene in SCENES:
        right, down, forward = scene.axes
        np.testing.assert_allclose(scene.axes @ scene.axes.T, np.eye(3), atol=1e-6)
        np.testing.assert_allclose(np.cross(right, down), forward, atol=1e-6)
        assert right[2] == 0
        assert down[2] < 0


def test_every_room_is_furnished_after_its_type() -> None:
    signature = {"bedroom": "bed", "living room": "sofa", "office": "cabinet", "dining room": "table"}
    for scene in SCENES:
        pieces = {CLASS_NAMES[thing.category] for thing in scene.things}
        assert len(scene.things) >= 2
        if signature[ROOM_TYPES[scene.room_type]] not in pieces:
            pytest.fail(f"a {ROOM_TYPES[scene.room_type]} has only {pieces}")


def test_no_piece_gives_the_type_of_room_away() -> None:
    for name in CLASS_NAMES:
        numbers = CLASSES[name][2]
        assert not numbers or (len(numbers) == len(ROOM_TYPES) and np.count_nonzero(numbers) > 1)


def test_chairs_face_the_table_they_stand_at() -> None:
    cosines = []
    for scene in SCENES:
        tables = [thing for thing in scene.things if CLASS_NAMES[thing.category] == "table"]
        for chair in (thing for thing in scene.things if CLASS_NAMES[thing.category] == "chair"):
            if tables:
                nearest = min(tables, key=lambda t: np.linalg.norm((t.centre - chair.centre)[:2]))
                way = (nearest.centre - chair.centre)[:2]
                cosines.append(float(chair.turned[:2, 1] @ way / np.linalg.norm(way)))
    assert len(cosines) > 30
    assert np.mean(np.array(cosines) > 0.8) > 0.8


def test_there_are_at_least_eight_classes_and_looks_do_not_give_them_away() -> None:
    assert len(set(CLASS_NAMES)) == len(CLASS_NAMES) >= 8
    materials = [
        set(CLASSES[name][1].split()) for name in ("bed", "sofa", "cabinet", "table", "chair", "vase")
    ]
    for one in materials:
        assert sum(bool(one & other) for other in materials) > 1


def test_the_shell_encloses_the_room() -> None:
    """From inside, every ray hits a wall, the floor or the ceiling, at the place where the room ends."""
    directions = np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32)
    for scene in SCENES[:10]:
        t, number = trace(scene.shell, scene.eye, directions)
        point = scene.eye[:, None] + t * directions
        assert (number >= 0).all()
        np.testing.assert_allclose((np.abs(point) / room_of(scene)[:, None]).max(0), 1, atol=1e-4)
        classes = np.array([thing.category for thing in scene.shell for _ in thing.parts])[number]
        up = (np.abs(point) / room_of(scene)[:, None]).argmax(0) == 2
        expected = np.where(
            up, np.where(point[2] > 0, CLASS_NAMES.index("ceiling"), CLASS_NAMES.index("floor")), 0
        )
        np.testing.assert_array_equal(classes, expected)


def test_boxes_that_only_touch_are_apart() -> None:
    def cube(*centre: float) -> Thing:
        return Thing(0, np.array(centre, np.float32), np.full(3, 0.5, np.float32), np.eye(3), ())

    assert cube(0, 0, 0).is_apart(cube(1, 0, 0))
    assert not cube(0, 0, 0).is_apart(cube(0.9, 0.9, 0.9))
