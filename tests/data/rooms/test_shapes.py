"""Shapes against closed forms, against each other and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from jtr_lightning.data.rooms.scene import turn
from jtr_lightning.data.rooms.shapes import (
    Array,
    Box,
    Ellipsoid,
    Frustum,
    Part,
    Plane,
    Shape,
    dot,
    rotate,
    vector,
)
from jtr_lightning.data.rooms.textures import Texture, checks, dots, horizon, plain, planks, stripes, tiles

SOLIDS = [
    Box(vector(0.5, 0.3, 0.2)),
    Ellipsoid(vector(0.4, 0.4, 0.4)),
    Ellipsoid(vector(0.5, 0.3, 0.2)),
    Frustum(0.3, 0.3, 0.8),
    Frustum(0.5, 0.1, 0.4),
    Frustum(0.1, 0.5, 0.4),
    Frustum(0.3, 0.02, 0.08),  # the flat foot of a lamp
]


def rays_at(shape: Shape, number: int = 4000) -> tuple[Array, Array, Array]:
    """Rays from one point that aim around a shape: origin, directions and t of the first hit."""
    rng = np.random.default_rng(0)
    origin = vector(1.5, -1.2, 1.1)
    aims = rng.uniform(-1.2, 1.2, (3, number)).astype(np.float32) * shape.half[:, None]
    direction = aims - origin[:, None]
    return origin, direction, shape.first_hit(origin, direction)


def inside(shape: Shape, p: Array) -> Array:
    """Whether points are inside, by the definition of each solid."""
    if isinstance(shape, Box):
        return (np.abs(p) <= shape.half[:, None]).all(0)
    if isinstance(shape, Ellipsoid):
        return ((p / shape.half[:, None]) ** 2).sum(0) <= 1
    assert isinstance(shape, Frustum)
    radius = shape.bottom + (shape.top - shape.bottom) * (p[2] / shape.height + 0.5)
    return (np.abs(p[2]) <= shape.height / 2) & (np.hypot(p[0], p[1]) <= radius)


@pytest.mark.parametrize("shape", SOLIDS, ids=repr)
def test_first_hit_is_where_a_march_along_the_ray_enters(shape: Shape) -> None:
    origin, direction, t = rays_at(shape, 400)
    steps = np.linspace(0, 2.5, 5001)
    entered = np.stack([inside(shape, origin[:, None] + s * direction) for s in steps])
    marched = np.where(entered.any(0), steps[entered.argmax(0)], np.inf)
    grazing = entered.sum(0) < 20  # a short way through: a march may miss it
    assert 0.1 < np.isfinite(t).mean() < 1
    assert np.isfinite(t[~grazing]).all()
    assert np.isfinite(t[~entered.any(0)]).mean() < 0.05
    np.testing.assert_allclose(t[~grazing], marched[~grazing], atol=2 * steps[1])


@pytest.mark.parametrize("shape", SOLIDS, ids=repr)
def test_normals_are_unit_vectors_that_face_the_viewer(shape: Shape) -> None:
    origin, direction, t = rays_at(shape)
    hit = np.isfinite(t)
    point = origin[:, None] + t[hit] * direction[:, hit]
    normal, _ = shape.surface(point)
    np.testing.assert_allclose(dot(normal, normal), 1, atol=1e-4)
    facing = dot(normal, direction[:, hit]) / np.sqrt(dot(direction[:, hit], direction[:, hit]))
    assert (facing < 0.05).all()  # at an outline rounding may tip a normal over by a little
    assert (facing < 0).mean() > 0.99


def test_a_sphere_has_the_curvature_of_its_radius() -> None:
    sphere = Ellipsoid(vector(0.25, 0.25, 0.25))
    directions = np.random.default_rng(1).normal(size=(3, 100)).astype(np.float32)
    point = 0.25 * directions / np.sqrt(dot(directions, directions))
    np.testing.assert_allclose(sphere.surface(point)[1], 4.0, rtol=2e-3)


@pytest.mark.parametrize(
    "shape", [Ellipsoid(vector(0.5, 0.3, 0.2)), Frustum(0.5, 0.1, 0.4), Frustum(0.3, 0.3, 0.8)], ids=repr
)
def test_curvatures_agree_with_how_the_normals_turn(shape: Shape) -> None:
    """The sum and the product of the curvatures are trace and determinant of the normals' derivative."""
    origin, direction, t = rays_at(shape)
    point = (origin[:, None] + t * direction)[:, np.isfinite(t)].astype(np.float64)
    on_side = np.abs(point[2]) < shape.half[2] * 0.9 if isinstance(shape, Frustum) else np.abs(point[2]) < 1
    point = point[:, on_side]
    step = 1e-4
    derivative = np.stack(
        [
            (shape.surface(point + step * axis[:, None])[0] - shape.surface(point - step * axis[:, None])[0])
            / (2 * step)
            for axis in np.eye(3)
        ],
        axis=1,
    )  # [3 (normal), 3 (moved along), N]
    curvature = shape.surface(point)[1]
    trace = np.einsum("iin->n", derivative)
    squares = np.einsum("ijn,jin->n", derivative, derivative)
    np.testing.assert_allclose(curvature.sum(0), trace, rtol=0.02, atol=0.01)
    np.testing.assert_allclose((curvature**2).sum(0), squares, rtol=0.03, atol=0.02)
    assert (curvature[0] >= curvature[1]).all()


def test_plane_is_hit_from_above_at_its_height_only() -> None:
    direction = np.array([[0, 0, 1], [0, 0, 0], [-1, 1, -2]], np.float32)
    np.testing.assert_allclose(Plane().first_hit(vector(0, 0, 3), direction), [3, np.inf, 1.5])


def test_moving_a_part_moves_hits_normals_and_corners() -> None:
    texture = Texture(plain, (vector(0, 0, 0), vector(1, 1, 1)), 1.0)
    part = Part(Box(vector(0.5, 0.1, 0.2)), texture, vector(0, 0, 0.2), np.eye(3, dtype=np.float32))
    moved = part.moved(turn(np.pi / 2), vector(2, 0, 0))
    np.testing.assert_allclose(moved.centre, [2, 0, 0.2], atol=1e-6)
    low, high = moved.corners().min(1), moved.corners().max(1)
    np.testing.assert_allclose(low, [1.9, -0.5, 0], atol=1e-6)
    np.testing.assert_allclose(high, [2.1, 0.5, 0.4], atol=1e-6)
    ray = vector(1, 0, 0)[:, None]
    t = moved.first_hit(vector(0, 0.4, 0.1), ray)
    np.testing.assert_allclose(t, 1.9, atol=1e-5)
    normal, _ = moved.shape.surface(moved.to_local(vector(1.9, 0.4, 0.1)[:, None]))
    np.testing.assert_allclose(rotate(moved.rotation.T, normal)[:, 0], [-1, 0, 0], atol=1e-6)


@pytest.mark.parametrize("pattern", [plain, stripes, checks, tiles, planks, dots, horizon])
def test_patterns_mix_the_two_colours(pattern) -> None:  # type: ignore[no-untyped-def]
    point = np.random.default_rng(2).uniform(-1, 1, (3, 2000)).astype(np.float32)
    texture = Texture(pattern, (vector(0.1, 0.2, 0.3), vector(0.9, 0.8, 0.7)), 4.0, 1.0)
    albedo = texture.albedo(point)
    assert albedo.shape == (3, 2000)
    assert albedo.dtype == np.float32
    assert (albedo >= vector(0.1, 0.2, 0.3)[:, None] - 1e-5).all()
    assert (albedo <= vector(0.9, 0.8, 0.7)[:, None] + 1e-5).all()
    assert albedo[0].std() > 0.05
