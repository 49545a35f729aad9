"""Rendered labels against closed forms, against each other and against the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jtr_lightning.data.rooms.rendering import edges, keypoints, render, trace
from jtr_lightning.data.rooms.scene import CLASS_NAMES, Box, Part, Round, Scene, Thing

H, W = 60, 80
FOCAL = 0.5  # a horizontal field of view of 90 degrees
LAMP = ((0, 0, 3), (1, 1, 1))
GREY = np.full((3, 1), 0.5, np.float32)
ROOMS = 40
WINDOW = CLASS_NAMES.index("window")


def thing(
    shape: Box, half: tuple[float, ...], centre: tuple[float, ...], category: int = 5, hole: bool = False
) -> Thing:
    """A grey thing of one part."""
    middle, edge = np.zeros((3, 1), np.float32), np.array(half, np.float32)
    part = Part(shape, middle, edge[:, None], lambda p: np.broadcast_to(GREY, p.shape), hole=hole)
    return Thing(category, np.array(centre, np.float32), edge, np.eye(3, dtype=np.float32), (part,))


def view(*things: Thing, pitch: float = 0.0, light: tuple[tuple[float, ...], ...] = LAMP) -> dict[str, Any]:
    """A camera 1 m above a floor looks along +y at a far wall."""
    s, c = np.sin(pitch), np.cos(pitch)
    shell = (
        thing(Box(), (50, 50, 0.5), (0, 0, -0.5), category=1),
        thing(Box(), (50, 0.1, 50), (0, 15, 0), category=0),
    )
    eye, axes = np.array([0, 0, 1], np.float32), np.array([[1, 0, 0], [0, -s, -c], [0, c, -s]], np.float32)
    return render(Scene(shell, things, np.array([light], np.float32), eye, axes, FOCAL), H, W)


def camera_rays(focal: float) -> np.ndarray:
    """Directions ``[3, H, W]`` through the pixels of a camera with that focal length in widths; z is 1."""
    v, u = np.mgrid[:H, :W]
    return np.stack([(u - (W - 1) / 2) / (focal * W), (v - (H - 1) / 2) / (focal * W), np.ones((H, W))])


@pytest.fixture(scope="module")
def rooms() -> list[dict[str, Any]]:
    return [render(Scene.random(3, index), H, W) for index in range(ROOMS)]


def test_floor_has_the_depth_and_normal_of_a_plane() -> None:
    pitch = np.radians(50.0)
    labels = view(pitch=pitch)
    focal = W / 2
    slope = (np.arange(H)[:, None] - (H - 1) / 2) / focal
    expected = 1 / (np.sin(pitch) + slope * np.cos(pitch))
    depth = labels["depth_zbuffer"]
    np.testing.assert_allclose(depth, np.broadcast_to(expected, (H, W)), rtol=1e-4)
    np.testing.assert_allclose(
        labels["normal"], np.broadcast_to([0, -np.cos(pitch), -np.sin(pitch)], (H, W, 3)), atol=1e-5
    )
    assert (labels["principal_curvature"] == 0).all()
    assert labels["camera_pitch"] == pytest.approx(50)


def test_sphere_has_the_depth_normal_and_curvature_of_a_sphere() -> None:
    labels = view(thing(Round(1), (0.5, 0.5, 0.5), (0.3, 3, 1.2)))
    rays, centre = np.moveaxis(camera_rays(FOCAL), 0, -1), np.array([0.3, -0.2, 3])
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - 0.25
    hit = b**2 - a * c > 0
    depth = (b[hit] - np.sqrt(b[hit] ** 2 - a[hit] * c)) / a[hit]
    seen = labels["segmentation"] == 5
    assert (seen != hit).sum() <= 2  # rounding at the outline
    both = seen[hit]
    np.testing.assert_allclose(labels["depth_zbuffer"][hit][both], depth[both], rtol=1e-5)
    normal = (rays[hit] * depth[:, None] - centre) / 0.5
    np.testing.assert_allclose(labels["normal"][hit][both], normal[both], atol=1e-3)
    np.testing.assert_allclose(labels["principal_curvature"][seen], 2.0, rtol=1e-2)


def test_nearer_things_hide_farther_ones_whatever_their_order() -> None:
    near = thing(Box(), (0.2, 0.2, 0.2), (0, 2, 1), category=6)
    far = thing(Box(), (2, 0.1, 2), (0, 4, 1))
    for pair in ((near, far), (far, near)):
        labels = view(*pair)
        assert labels["segmentation"][H // 2, W // 2] == 6
        assert labels["depth_zbuffer"][H // 2, W // 2] == pytest.approx(1.8, rel=1e-4)


def test_a_thing_shades_the_floor_behind_it() -> None:
    block = thing(Box(), (0.3, 0.3, 0.3), (0, 3, 1.5))
    light = ((0, 3, 2.9), (4, 4, 4))
    bare, shaded = (view(*things, pitch=0.4, light=light) for things in ((), (block,)))
    column = W // 2
    rows = np.flatnonzero(
        (shaded["segmentation"] == bare["segmentation"])[:, column] & (bare["segmentation"][:, column] == 1)
    )
    depth, slope = bare["depth_zbuffer"][rows, column], (rows - (H - 1) / 2) / (W / 2)
    y = depth * (np.cos(0.4) - slope * np.sin(0.4))  # how far away the floor is
    under, beside = rows[np.abs(y - 3.0) < 0.3], rows[np.abs(y - 3.0) > 1.0]
    assert len(under)
    assert len(beside)
    # The exposure adapts to the whole picture: compare shares of brightness, not brightness.
    ratio = shaded["image"][..., 0].astype(float) / bare["image"][..., 0]
    assert ratio[under, column].mean() < 0.8 * ratio[beside, column].mean()


def test_a_pane_is_undefined_in_geometry_but_has_a_class_and_edges() -> None:
    labels = view(thing(Box(), (0.5, 0.05, 0.5), (0, 2, 1.2), WINDOW, hole=True), pitch=0.3)
    pane = labels["segmentation"] == WINDOW
    assert pane.any()
    for name in ("depth_zbuffer", "reshading"):
        assert (np.isnan(labels[name]) == pane).all()
    for name in ("normal", "principal_curvature"):
        assert (np.isnan(labels[name]).all(-1) == pane).all()
        assert (np.isnan(labels[name]).any(-1) == pane).all()
    assert (labels["edge_occlusion"][pane] == 0).all()
    for name in ("edge_texture", "edge_occlusion", "keypoints2d"):
        assert np.isfinite(labels[name]).all()


def test_the_picture_spans_the_field_of_view() -> None:
    """The distance to a wall ahead is the same everywhere; how far apart two posts appear tells the focal length."""
    posts = [thing(Box(), (0.03, 0.01, 1), (x, 2, 1)) for x in (-1, 0, 1)]
    seen = np.flatnonzero((view(*posts)["segmentation"] == 5)[H // 2])
    np.testing.assert_allclose(seen[[0, -1]], (W - 1) / 2 + np.array([-1, 1]) / 2 * FOCAL * W, atol=0.7)


def test_same_numbers_give_the_same_bytes_and_others_do_not() -> None:
    first, again, other = (render(Scene.random(5, index), H, W) for index in (7, 7, 8))
    for name, values in first.items():
        assert np.asarray(values).tobytes() == np.asarray(again[name]).tobytes(), name
    assert (first["image"] != other["image"]).mean() > 0.5
    assert (render(Scene.random(6, 7), H, W)["image"] != first["image"]).mean() > 0.5


def test_dtypes_shapes_and_ranges(rooms: list[dict[str, Any]]) -> None:
    for labels in rooms:
        assert labels["image"].shape == (H, W, 3)
        assert labels["image"].dtype == np.uint8
        assert labels["segmentation"].shape == (H, W)
        assert labels["segmentation"].dtype == np.uint8
        assert labels["segmentation"].max() < len(CLASS_NAMES)
        for name, shape in (
            ("depth_zbuffer", (H, W)),
            ("normal", (H, W, 3)),
            ("principal_curvature", (H, W, 2)),
            ("reshading", (H, W)),
            ("edge_texture", (H, W)),
            ("edge_occlusion", (H, W)),
            ("keypoints2d", (H, W)),
        ):
            assert labels[name].shape == shape, name
            assert labels[name].dtype == np.float32, name
        depth = labels["depth_zbuffer"]
        assert np.nanmin(depth) > 0.05
        assert np.nanmax(depth) < 8
        for name in ("reshading", "edge_texture", "edge_occlusion", "keypoints2d"):
            assert np.nanmin(labels[name]) >= 0, name
            assert np.nanmax(labels[name]) <= 1, name
        assert -90 < labels["camera_pitch"] < 90


def test_normals_are_unit_and_visible_surfaces_face_the_camera(rooms: list[dict[str, Any]]) -> None:
    for index, labels in enumerate(rooms):
        normal = labels["normal"][~np.isnan(labels["depth_zbuffer"])]
        np.testing.assert_allclose(np.linalg.norm(normal, axis=-1), 1, atol=1e-3)
        rays = camera_rays(Scene.random(3, index).focal)
        facing = (np.moveaxis(labels["normal"], -1, 0) * rays).sum(0)
        assert np.nanmax(facing) < 0.05


def test_normals_agree_with_the_depth_away_from_edges(rooms: list[dict[str, Any]]) -> None:
    for index in range(10):
        labels = rooms[index]
        depth = labels["depth_zbuffer"].astype(np.float64)
        points = camera_rays(Scene.random(3, index).focal) * depth
        across, down = points[:, 1:-1, 2:] - points[:, 1:-1, :-2], points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
        cross = np.cross(down, across, axis=0)
        estimated = cross / np.linalg.norm(cross, axis=0)
        exact = np.moveaxis(labels["normal"], -1, 0)
        # Away from edges: the normals of all four neighbours are those of the pixel.
        smooth = np.ones((H - 2, W - 2), bool)
        for dy, dx in ((0, 1), (2, 1), (1, 0), (1, 2)):
            neighbour = exact[:, dy : H - 2 + dy, dx : W - 2 + dx]
            smooth &= (neighbour * exact[:, 1:-1, 1:-1]).sum(0) > 0.9999
        jump = np.abs(np.stack([across[2], down[2]])).max(0) > 0.3
        smooth &= ~jump
        angle = np.degrees(np.arccos(np.clip((estimated * exact[:, 1:-1, 1:-1]).sum(0), -1, 1)))[smooth]
        assert smooth.mean() > 0.4
        # Flat steps that are parallel (a shelf before a wall) look smooth to the normals alone.
        assert np.percentile(angle, 90) < 0.5
        assert np.median(angle) < 0.1


def test_every_class_and_room_type_occurs_in_forty_rooms(rooms: list[dict[str, Any]]) -> None:
    pixels = sum(np.bincount(labels["segmentation"].ravel(), minlength=len(CLASS_NAMES)) for labels in rooms)
    share = dict(zip(CLASS_NAMES, pixels / pixels.sum(), strict=True))
    assert all(part > 0.002 for part in share.values()), share
    assert max(share.values()) < 0.6, share
    assert {labels["room_type"] for labels in rooms} == {0, 1, 2, 3}


def test_pictures_are_exposed_well(rooms: list[dict[str, Any]]) -> None:
    for labels in rooms:
        assert 80 < labels["image"].mean() < 200
        assert labels["image"].std() > 20


def test_the_noise_is_that_of_a_sensor() -> None:
    """A grey wall without texture: the picture differs from pixel to pixel by about two grey levels."""
    labels = view(thing(Box(), (20, 0.1, 20), (0, 2, 0)))
    image = labels["image"].astype(float)
    differences = (image[:, 1:] - image[:, :-1]).std() / np.sqrt(2)
    assert 2 < differences < 8


def test_edges_of_a_step() -> None:
    """A unit step gives sqrt(1/2) in one direction, so that a diagonal one gives at most 1."""
    values = np.ones((40, 40), np.float32)
    values[:, 20:] = 4
    found = edges(values)
    np.testing.assert_allclose(found[5:-5, 19:21], 3 * np.sqrt(0.5), rtol=1e-4)
    assert (found[:, :18] == 0).all()


def test_texture_edges_are_where_the_picture_changes_and_occlusion_edges_where_the_depth_does() -> None:
    row, middle = H // 2 - 2, slice(W // 2 - 20, W // 2 + 20)  # nothing but the far wall
    poster = view(thing(Box(), (3, 0.001, 3), (0, 14.89, 1)), light=((0, 13, 1), (9, 9, 9)))
    block = view(thing(Box(), (0.3, 0.1, 0.3), (0, 3, 1)))
    assert poster["edge_occlusion"][row, middle].max() < 1e-3
    assert view()["edge_texture"][row, middle].max() < 0.01
    sides = np.flatnonzero(np.diff(block["segmentation"][row].astype(int)))
    assert len(sides) == 2
    # sqrt(512 d) / 256, from 2.9 m to 14.9 m.
    step = (np.sqrt(512 * 14.9) - np.sqrt(512 * 2.9)) / 256 * np.sqrt(0.5)
    np.testing.assert_allclose(block["edge_occlusion"][row, [*sides, *(sides + 1)]], step, rtol=1e-3)
    assert block["edge_texture"][row, sides].min() > 5 * view()["edge_texture"][row, middle].max()


def test_keypoints_are_blobs_and_corners_but_not_edges() -> None:
    grey = np.zeros((60, 60), np.float32)
    grey[10:13, 10:13] = 1  # a blob
    grey[30:, 30:] = 1  # a corner and two edges
    heat = keypoints(grey, sigma=1)
    assert heat[11, 11] > 0.01
    assert heat[27:33, 27:33].max() > 0.005
    assert heat[50, 25:35].max() < 1e-4


@pytest.mark.parametrize("shape", [Box(), Round(0), Round(0.8), Round(1)], ids=["box", "pole", "urn", "ball"])
def test_a_turned_thing_is_the_same_thing_seen_by_a_camera_turned_the_other_way(shape: Box) -> None:
    yaw, plain = 0.7, thing(shape, (0.4, 0.25, 0.3), (0, 0, 1))
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
    turned = replace(plain, turned=turn, reach=np.abs(turn) @ plain.reach)
    axes = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float32)
    eye = np.array([0, -2, 1], np.float32)
    lights = np.zeros((0, 2, 3), np.float32)

    def seen(one: Thing, eye: np.ndarray, axes: np.ndarray) -> dict[str, Any]:
        floor = thing(Box(), (40, 40, 0.1), (0, 0, -9))
        walls = [thing(Box(), (40, 1, 40), (0, y, 0)) for y in (-30, 30)]
        sides = [thing(Box(), (1, 40, 40), (x, 0, 0)) for x in (-30, 30)]
        return render(Scene((floor, *walls, *sides), (one,), lights, eye, axes, FOCAL), H, W)

    first = seen(turned, eye, axes)
    second = seen(plain, turn.T @ eye, axes @ turn)
    both = (first["depth_zbuffer"] < 5) & (second["depth_zbuffer"] < 5)
    assert both.mean() > 0.02
    assert (
        (first["depth_zbuffer"] < 5) != (second["depth_zbuffer"] < 5)
    ).sum() <= 4  # rounding at the outline
    np.testing.assert_allclose(first["depth_zbuffer"][both], second["depth_zbuffer"][both], rtol=1e-4)
    same = np.abs(first["normal"][both] - second["normal"][both]).max(-1) < 1e-3
    assert same.mean() > 0.99  # at an edge between two faces either may be seen


def test_many_rays_give_what_few_give() -> None:
    """Large pictures are traced in pieces: a ray through the same place must not notice."""
    scene = Scene.random(3, 1)
    things = scene.shell + scene.things
    rays = np.random.default_rng(0).normal(size=(3, 45000)).astype(np.float32)
    t, number = trace(things, scene.eye, rays)
    few, few_numbers = trace(things, scene.eye, rays[:, 30000:31000])
    np.testing.assert_array_equal(t[30000:31000], few)
    np.testing.assert_array_equal(number[30000:31000], few_numbers)
