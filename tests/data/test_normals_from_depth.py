"""Normals from depth against closed forms and the exact normals of rendered rooms."""

import numpy as np
import pytest

from jtr_lightning.data.normals_from_depth import Intrinsics, normals_from_depth
from jtr_lightning.data.rooms.rendering import render
from jtr_lightning.data.rooms.scene import Scene

CAMERA = Intrinsics(fx=60.0, fy=55.0, cx=30.5, cy=21.0)


def rays(height: int, width: int) -> np.ndarray:
    v, u = np.mgrid[:height, :width]
    return np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones((height, width))], -1)


def plane(normal: list[float], height: int = 40, width: int = 60) -> tuple[np.ndarray, np.ndarray]:
    unit = np.array(normal) / np.linalg.norm(normal)
    facing = rays(height, width) @ unit
    return np.where(facing < -0.05, -2 / np.minimum(facing, -0.05), 0), unit


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


@pytest.mark.parametrize("normal", [[0, 0, -1], [0.7, 0.1, -0.7], [0, -0.95, -0.2], [-0.9, 0.3, -0.2]])
def test_a_plane_is_exact_at_any_slant(normal: list[float]) -> None:
    depth, unit = plane(normal)
    normals = normals_from_depth(depth, CAMERA)
    known = (normals != 0).any(-1)
    assert degrees(normals[known], unit).max() < 0.1
    inside = np.zeros_like(known)
    inside[3:-3, 3:-3] = True
    whole_window = depth > 0
    for rows in range(-3, 4):
        for columns in range(-3, 4):
            whole_window &= np.roll(depth > 0, (rows, columns), (0, 1))
    assert known[inside & whole_window].all()


def test_a_sphere() -> None:
    direction, centre, radius = rays(40, 60), np.array([0.0, 0.0, 4.0]), 1.5
    b = direction @ centre
    square = (direction**2).sum(-1)
    inner = b**2 - square * (centre @ centre - radius**2)
    depth = np.where(inner > 0, (b - np.sqrt(np.maximum(inner, 0))) / square, 0)
    exact = (direction * depth[..., None] - centre) / radius
    normals = normals_from_depth(depth, CAMERA, window=5)
    known = (normals != 0).any(-1)
    assert known.sum() > 0.5 * (depth > 0).sum()
    assert np.median(degrees(normals[known], exact[known])) < 1


def test_invalid_where_depth_is_and_at_a_step() -> None:
    depth = np.full((30, 40), 2.0)
    depth[:, 20:] = 3.0
    depth[5, 5] = 0
    depth[25, 8] = np.nan
    normals = normals_from_depth(depth, CAMERA)
    known = (normals != 0).any(-1)
    assert not known[5, 5]
    assert not known[25, 8]
    assert not known[:, 18:22].any()
    # A single hole takes nothing from its neighbours, and nothing is known of the other side of the step.
    assert known[5, 6]
    assert known[4:-4, 4:17].sum() == known[4:-4, 4:17].size - 2
    assert np.allclose(normals[known], [0, 0, -1], atol=1e-4)


def test_quantised_depth_is_smoothed() -> None:
    depth, unit = plane([0.3, -0.2, -0.9])
    steps = np.round(500 / depth)  # a sensor's disparity steps
    normals = normals_from_depth(np.divide(500, steps, out=np.zeros_like(depth), where=steps > 0), CAMERA)
    known = (normals != 0).any(-1)
    assert degrees(normals[known], unit).mean() < 3


def test_agrees_with_rendered_rooms() -> None:
    close = []
    for index in range(12):
        scene = Scene.random(0, index)
        room = render(scene, 96, 128)
        focal = scene.focal * 128
        normals = normals_from_depth(room["depth_zbuffer"], Intrinsics(focal, focal, 63.5, 47.5), window=5)
        both = (normals != 0).any(-1) & np.isfinite(room["normal"]).all(-1)
        error = degrees(normals[both], room["normal"][both])
        assert both.mean() > 0.6
        assert np.median(error) < 0.2
        close.append(np.mean(error < 11.25))
        assert np.allclose(np.linalg.norm(normals[both], axis=-1), 1, atol=1e-5)
    assert min(close) > 0.8  # the finer the things in a room, the more of it is edges
    assert np.mean(close) > 0.88


def test_a_resized_camera_sees_the_same() -> None:
    small = CAMERA.resized(0.5, 0.25)
    assert small.fx == 15
    assert small.fy == 27.5
    # The left edge of the picture, at -0.5, stays where it is.
    assert (-0.5 - small.cx) / small.fx == pytest.approx((-0.5 - CAMERA.cx) / CAMERA.fx)
