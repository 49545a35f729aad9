"""Rendered labels against closed forms, against each other and against the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jtr_lightning.data.rooms.furniture import CLASS_NAMES
from jtr_lightning.data.rooms.rendering import camera_rays, edge_occlusion, edge_texture, keypoints2d, render
from jtr_lightning.data.rooms.scene import Camera, Light, Scene, Thing
from jtr_lightning.data.rooms.shapes import Box, Ellipsoid, Part, Plane, Shape, vector
from jtr_lightning.data.rooms.textures import Texture, plain

H, W = 60, 80
LAMP = Light(vector(0, 0, 3), vector(1, 1, 1))


def thing(shape: Shape, *centre: float, category: int = 5, hole: bool = False) -> Thing:
    texture = Texture(plain, (vector(0.5, 0.5, 0.5), vector(0.5, 0.5, 0.5)), 1.0)
    part = Part(shape, texture, vector(*centre), np.eye(3, dtype=np.float32), hole=hole)
    return Thing(category, (part,))


def view(*things: Thing, pitch: float = 0.0, light: Light = LAMP) -> dict[str, Any]:
    """A camera 1 m above a floor looks along +y at a far wall; its horizontal field of view is 90 degrees."""
    camera = Camera(vector(0, 0, 1), 0.0, pitch, np.pi / 2)
    shell = (thing(Plane(), 0, 0, 0, category=1), thing(Box(vector(50, 0.1, 50)), 0, 15, 0, category=0))
    return render(Scene(shell, things, (light,), camera), H, W)


@pytest.fixture(scope="module")
def rooms() -> list[dict[str, Any]]:
    return [render(Scene.random(3, index), H, W) for index in range(40)]


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
    labels = view(thing(Ellipsoid(vector(0.5, 0.5, 0.5)), 0.3, 3, 1.2), pitch=0.0)
    x, y = np.meshgrid((np.arange(W) - (W - 1) / 2) / (W / 2), (np.arange(H) - (H - 1) / 2) / (W / 2))
    rays, centre = np.stack([x, y, np.ones_like(x)], -1), np.array([0.3, -0.2, 3])
    a, b, c = (rays**2).sum(-1), rays @ centre, centre @ centre - 0.25
    hit = b**2 - a * c > 0
    depth = (b[hit] - np.sqrt(b[hit] ** 2 - a[hit] * c)) / a[hit]
    seen = labels["segmentation"] == 5
    assert (seen != hit).sum() <= 2  # rounding at the outline
    both = seen[hit]
    np.testing.assert_allclose(labels["depth_zbuffer"][hit][both], depth[both], rtol=2e-3)
    normal = (rays[hit] * depth[:, None] - centre) / 0.5
    np.testing.assert_allclose(labels["normal"][hit][both], normal[both], atol=0.02)
    np.testing.assert_allclose(labels["principal_curvature"][seen], 2.0, rtol=1e-2)


def test_nearer_things_hide_farther_ones_whatever_their_order() -> None:
    near, far = thing(Box(vector(0.2, 0.2, 0.2)), 0, 2, 1, category=6), thing(Box(vector(2, 0.1, 2)), 0, 4, 1)
    for pair in ((near, far), (far, near)):
        labels = view(*pair)
        assert labels["segmentation"][H // 2, W // 2] == 6
        assert labels["depth_zbuffer"][H // 2, W // 2] == pytest.approx(1.8, rel=1e-4)


def test_a_thing_shades_the_floor_behind_it() -> None:
    block = thing(Box(vector(0.3, 0.3, 0.3)), 0, 3.0, 1.5)
    light = Light(vector(0, 3.0, 2.9), vector(4, 4, 4))
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
    labels = view(thing(Box(vector(0.5, 0.05, 0.5)), 0, 2, 1.2, category=3, hole=True), pitch=0.3)
    pane = labels["segmentation"] == CLASS_NAMES.index("window")
    assert pane.any()
    for name in ("depth_zbuffer", "reshading"):
        assert (np.isnan(labels[name]) == pane).all()
    for name in ("normal", "principal_curvature"):
        assert (np.isnan(labels[name]).all(-1) == pane).all()
        assert (np.isnan(labels[name]).any(-1) == pane).all()
    assert (labels["edge_occlusion"][pane] == 0).all()
    for name in ("edge_texture", "edge_occlusion", "keypoints2d"):
        assert np.isfinite(labels[name]).all()


def test_rays_have_unit_depth_and_span_the_field_of_view() -> None:
    rays = camera_rays(focal=40.0, height=H, width=W)
    assert (rays[2] == 1).all()
    np.testing.assert_allclose(rays[0, 0, [0, -1]], [-(W - 1) / W, (W - 1) / W], rtol=1e-5)
    np.testing.assert_allclose(rays[1, [0, -1], 0], [-(H - 1) / 2 / 40, (H - 1) / 2 / 40], rtol=1e-5)


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
        rays = camera_rays(Scene.random(3, index).camera.focal_length(W), H, W)
        facing = (np.moveaxis(labels["normal"], -1, 0) * rays).sum(0)
        assert np.nanmax(facing) < 0.05


def test_normals_agree_with_the_depth_away_from_edges(rooms: list[dict[str, Any]]) -> None:
    for index in range(10):
        labels = rooms[index]
        depth = labels["depth_zbuffer"].astype(np.float64)
        points = camera_rays(Scene.random(3, index).camera.focal_length(W), H, W) * depth
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
    labels = view(thing(Box(vector(20, 0.1, 20)), 0, 2, 0))
    image = labels["image"].astype(float)
    differences = (image[:, 1:] - image[:, :-1]).std() / np.sqrt(2)
    assert 2 < differences < 8


def test_edge_definitions_on_a_step() -> None:
    image = np.zeros((40, 40, 3), np.float32)
    image[:, 20:] = 1
    texture = edge_texture(image)
    assert np.abs(texture[:, :15]).max() < 1e-3
    assert texture[:, 19:21].min() > 0.1
    depth = np.ones((40, 40), np.float32)
    depth[:, 20:] = 4
    occlusion = edge_occlusion(depth)
    # Sobel of sqrt(512 d) / 256 over one step: half of the difference, times sqrt(1/2).
    expected = (np.sqrt(2048) - np.sqrt(512)) / 256 * np.sqrt(0.5)
    np.testing.assert_allclose(occlusion[5:-5, 19:21], expected, rtol=1e-4)
    assert (occlusion[:, :18] == 0).all()


def test_keypoints_are_blobs_and_corners_but_not_edges() -> None:
    image = np.zeros((60, 60, 3), np.float32)
    image[10:13, 10:13] = 1  # a blob
    image[30:, 30:] = 1  # a corner and two edges
    heat = keypoints2d(image)
    assert heat[11, 11] > 0.01
    assert heat[27:33, 27:33].max() > 0.005
    assert heat[50, 25:35].max() < 1e-4
