"""Shapes against closed forms, against each other and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

from jtr_lightning.data.rooms.scene import MATERIALS, PATTERNS, SHAPES, Box, Round, _paint
from jtr_lightning.data.source import Array

SOLIDS = [Box(), Round(0), Round(0.2), Round(0.8), Round(1)]
NAMES = ["box", "cylinder", "drum", "urn", "ball"]
HALVES = [(0.4, 0.4, 0.4), (0.5, 0.3, 0.2), (0.3, 0.3, 0.03)]  # the last is as flat as the foot of a lamp


def inside(shape: Box, p: Array) -> Array:
    """Whether points ``[3, N]`` of the unit frame are inside, by the definition of each solid."""
    in_cube = (np.abs(p) <= 1).all(0)
    if not isinstance(shape, Round):
        return in_cube
    bulge = shape.weight[2, 0]
    return in_cube & (p[0] ** 2 + p[1] ** 2 <= 1 - bulge * p[2] ** 2)


def rays_at(shape: Box, number: int = 4000) -> tuple[Array, Array, Array]:
    """Rays from one point that aim around a shape: origin ``[3, 1]``, directions and t of the first hit (or inf)."""
    origin = np.array([[3.0], [-2.4], [2.2]], np.float32)
    aims = np.random.default_rng(0).uniform(-1.2, 1.2, (3, number)).astype(np.float32)
    enter, leave = shape.span(origin, aims - origin)
    return origin, aims - origin, np.where(enter < leave, enter, np.inf)


def test_the_furniture_is_made_of_the_shapes_tested_here() -> None:
    bulges = {float(shape.weight[2, 0]) if isinstance(shape, Round) else None for shape in SHAPES.values()}
    tested = {float(shape.weight[2, 0]) if isinstance(shape, Round) else None for shape in SOLIDS}
    assert bulges == tested


@pytest.mark.parametrize("shape", SOLIDS, ids=NAMES)
def test_rays_enter_and_leave_where_a_march_along_them_does(shape: Box) -> None:
    origin, direction, t = rays_at(shape, 400)
    steps = np.linspace(0, 2.5, 5001)
    within = np.stack([inside(shape, origin + s * direction) for s in steps])
    entered = np.where(within.any(0), steps[within.argmax(0)], np.inf)
    left = steps[len(steps) - 1 - within[::-1].argmax(0)]
    grazing = within.sum(0) < 20  # a short way through: a march may miss it
    assert 0.1 < np.isfinite(t).mean() < 1
    assert np.isfinite(t[~grazing]).all()
    assert np.isfinite(t[~within.any(0)]).mean() < 0.05
    np.testing.assert_allclose(t[~grazing], entered[~grazing], atol=2 * steps[1])
    np.testing.assert_allclose(shape.span(origin, direction)[1][~grazing], left[~grazing], atol=2 * steps[1])


@pytest.mark.parametrize("shape", SOLIDS, ids=NAMES)
def test_rays_along_an_axis_hit_the_middle_of_a_face(shape: Box) -> None:
    """Their other components are exactly 0, which must not divide."""
    for axis in range(3):
        origin, direction = np.zeros((3, 1), np.float32), np.zeros((3, 1), np.float32)
        origin[axis], direction[axis] = 3, -1
        enter, leave = shape.span(origin, direction)
        np.testing.assert_allclose([enter[0], leave[0]], [2, 4], rtol=1e-5)
        enter, leave = shape.span(
            origin + np.roll([[1.5], [0], [0]], axis + 1, 0).astype(np.float32), direction
        )
        assert enter > leave


def test_a_ray_from_afar_hits_a_thin_pole_precisely() -> None:
    """A pole of 2 cm, 4 m away, is 400 half widths away in the unit frame: float32 needs care there."""
    pole, half = Round(0), np.array([[0.01], [0.01], [0.8]], np.float32)
    origin = np.array([[4.0], [0.3], [0.2]], np.float32)
    aims = np.linspace(-0.009, 0.009, 50, dtype=np.float32) * np.array([[0], [1], [0]], np.float32)
    enter, leave = pole.span(origin / half, (aims - origin) / half)
    assert (enter < leave).all()
    point = origin.astype(np.float64) + enter.astype(np.float64) * (aims - origin)
    np.testing.assert_allclose(np.hypot(point[0], point[1]), 0.01, atol=2e-6)


@pytest.mark.parametrize("half", HALVES, ids=str)
@pytest.mark.parametrize("shape", SOLIDS, ids=NAMES)
def test_normals_are_unit_vectors_that_face_the_viewer(shape: Box, half: tuple[float, ...]) -> None:
    stretch = np.array(half, np.float32)[:, None]
    origin, direction, t = rays_at(shape)
    hit = np.isfinite(t)
    normal, _ = np.split(shape.surface(origin + t[hit] * direction[:, hit], stretch), [3])
    np.testing.assert_allclose((normal**2).sum(0), 1, atol=1e-4)
    seen_along = direction[:, hit] * stretch
    facing = (normal * seen_along).sum(0) / np.linalg.norm(seen_along, axis=0)
    assert (facing < 0.05).all()  # at an outline rounding may tip a normal over by a little
    assert (facing < 0).mean() > 0.99


def test_a_ball_has_the_curvature_of_its_radius_everywhere() -> None:
    directions = np.random.default_rng(1).normal(size=(3, 300)).astype(np.float32)
    directions[:, :5] = [[0, 1e-3, 2e-2, 0, 0], [0, 0, 1e-2, 1e-3, 0], [1, 1, 1, -1, -1]]  # the poles as well
    point = directions / np.linalg.norm(directions, axis=0)
    surface = Round(1).surface(point, np.full((3, 1), 0.25, np.float32))
    np.testing.assert_allclose(surface[3:], 4.0, rtol=2e-3)
    np.testing.assert_allclose(surface[:3], point, atol=1e-6)


def test_a_cylinder_is_curved_around_its_axis_only_and_its_ends_are_flat() -> None:
    angle = np.linspace(0, 6, 20)
    side = np.stack([np.cos(angle), np.sin(angle), np.linspace(-0.9, 0.9, 20)]).astype(np.float32)
    surface = Round(0).surface(side, np.array([[0.2], [0.2], [0.7]], np.float32))
    np.testing.assert_allclose(surface[3], 5.0, rtol=2e-3)
    np.testing.assert_allclose(surface[4], 0.0, atol=5e-3)
    np.testing.assert_allclose(surface[:3], side * [[1], [1], [0]], atol=1e-6)
    end = np.array([[0.3, 0.0], [0.2, 0.5], [1, -1]], np.float32)
    expected = [[0, 0], [0, 0], [1, -1], [0, 0], [0, 0]]
    np.testing.assert_array_equal(Round(0).surface(end, np.full((3, 1), 0.5, np.float32)), expected)


@pytest.mark.parametrize("half", HALVES[:2], ids=str)
@pytest.mark.parametrize("bulge", [0.2, 0.8, 1.0])
def test_curvatures_agree_with_how_the_normals_turn(bulge: float, half: tuple[float, ...]) -> None:
    """The sum and the sum of squares of the curvatures are traces of the normals' derivative and of its square."""
    shape, stretch = Round(bulge), np.array(half)[:, None]
    origin, direction, t = rays_at(shape)
    point = (origin + t * direction)[:, np.isfinite(t)].astype(np.float64)
    point = point[:, np.abs(point[2]) < 0.9]
    step = 1e-5
    derivative = np.stack(
        [
            shape.surface(point + step * axis[:, None] / stretch, stretch)[:3]
            - shape.surface(point - step * axis[:, None] / stretch, stretch)[:3]
            for axis in np.eye(3)
        ],
        axis=1,
    ) / (2 * step)  # [3 (normal), 3 (moved along), N]
    curvature = shape.surface(point, stretch)[3:]
    trace, squares = np.einsum("iin->n", derivative), np.einsum("ijn,jin->n", derivative, derivative)
    np.testing.assert_allclose(curvature.sum(0), trace, rtol=0.01, atol=0.01)
    np.testing.assert_allclose((curvature**2).sum(0), squares, rtol=0.02, atol=0.02)
    assert (curvature[0] >= curvature[1]).all()


@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_mix_two_colours(name: str) -> None:
    mix = np.asarray(PATTERNS[name](np.random.default_rng(2).uniform(-8, 8, (3, 2000)).astype(np.float32)))
    assert mix.shape == (2000,)
    assert mix.min() >= -1e-6
    assert mix.max() <= 1 + 1e-6
    assert mix.astype(float).std() > 0.1


@pytest.mark.parametrize("material", MATERIALS)
def test_materials_have_colours_that_vary_from_place_to_place_and_from_piece_to_piece(material: str) -> None:
    point = np.random.default_rng(3).uniform(-1, 1, (3, 500)).astype(np.float32)
    albedos = [_paint(np.random.default_rng(seed), material)[0](point) for seed in range(8)]
    for albedo in albedos:
        assert albedo.shape == (3, 500)
        assert albedo.dtype == np.float32
        assert (albedo >= 0).all()
        assert albedo.std(axis=1).max() > 1e-3
    assert np.std([albedo.mean(1) for albedo in albedos], axis=0).max() > 0.01
