"""Renders a scene: the picture of a pinhole camera, and exact labels for every task.

Why closed forms and not meshes: one ray per pixel is intersected with planes, boxes, ellipsoids and cone stumps in
plain numpy. Depth, normals and curvatures are then exact (a mesh has faceted normals and no curvature), nothing new
has to be installed, and for these few dozen shapes it is as fast as a ray tracer for meshes: a shape is only tried
on the pixels that its projected bounding box covers, a shadow only on the rays that pass the bounding sphere of the
thing that casts it.

The picture must carry the labels: surfaces are lit by point lights with shadows (orientation), light falls off with
the distance from the lights and from the camera, whose weak flash is always on (near and far), and patterns and
colours depend on the class, though not strictly.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from jtr_lightning.data.rooms.scene import Scene, Thing
from jtr_lightning.data.rooms.shapes import Part, align, dot, rotate, vector
from jtr_lightning.data.source import Array

_AMBIENT, _FLASH = np.float32(0.1), np.float32(0.3)
_SHADOW_SLACK = 5e-3  # share of the way to the light; hides rounding where a surface would shade itself


def render(scene: Scene, height: int, width: int) -> dict[str, Any]:
    """Renders one view.

    The camera frame is x right, y down, z into the scene. Where a label is undefined (a window's pane looks out to
    nothing) floats are NaN.

    Args:
        scene: What to render.
        height: Rows H of the picture.
        width: Columns W of the picture.

    Returns:
        A dict with

        * ``image``: uint8 ``[H, W, 3]``, sRGB.
        * ``segmentation``: uint8 ``[H, W]``, index into ``furniture.CLASS_NAMES``.
        * ``depth_zbuffer``: float32 ``[H, W]``, metres to the camera plane.
        * ``normal``: float32 ``[H, W, 3]``, unit length, z < 0.
        * ``principal_curvature``: float32 ``[H, W, 2]``, 1/m, larger first, positive on convex surfaces.
        * ``reshading``: float32 ``[H, W]``, 0 to 1, see ``reshading``.
        * ``edge_texture``, ``edge_occlusion``, ``keypoints2d``: float32 ``[H, W]``, 0 to 1, see those functions.
        * ``room_type``: int, index into ``scene.ROOM_TYPES``.
        * ``camera_pitch``: float, degrees, positive looks down.
    """
    camera = scene.camera
    rays = camera_rays(camera.focal_length(width), height, width)
    things = scene.shell + scene.things
    parts = [part for thing in things for part in thing.parts]
    category = np.array([thing.category for thing in things for _ in thing.parts], np.uint8)
    world_rays = rotate(camera.axes.T, rays)
    depth, nearest = trace(scene, parts, world_rays)
    points = camera.position[:, None] + world_rays.reshape(3, -1) * depth.ravel()
    normals, albedo, curvature, glow = surfaces(parts, nearest.ravel(), points)
    radiance = (albedo * (light(scene, points, normals) + glow)).reshape(3, height, width)
    clean, image = photograph(radiance, np.random.default_rng(scene.noise_seed))

    hole = np.array([part.hole for part in parts])[nearest]
    undefined = np.where(hole, np.float32(np.nan), np.float32(0))
    facing = rotate(camera.axes, normals).reshape(3, height, width)
    return {
        "image": image,
        "segmentation": category[nearest],
        "depth_zbuffer": depth + undefined,
        "normal": np.moveaxis(facing + undefined, 0, -1),
        "principal_curvature": np.moveaxis(curvature.reshape(2, height, width) + undefined, 0, -1),
        "reshading": reshading(facing, rays * depth) + undefined,
        "edge_texture": edge_texture(clean),
        "edge_occlusion": np.where(hole, np.float32(0), edge_occlusion(depth)),
        "keypoints2d": keypoints2d(clean),
        "room_type": scene.room_type,
        "camera_pitch": float(np.degrees(camera.pitch)),
    }


def camera_rays(focal: float, height: int, width: int) -> Array:
    """Directions ``[3, H, W]`` through the pixels' centres, camera frame, z = 1: their parameter is z-buffer depth."""
    x = (np.arange(width) - (width - 1) / 2) / focal
    y = (np.arange(height)[:, None] - (height - 1) / 2) / focal
    return np.stack(np.broadcast_arrays(x, y, 1.0)).astype(np.float32)


def trace(scene: Scene, parts: list[Part], rays: Array) -> tuple[Array, Array]:
    """Depth ``[H, W]`` and index ``[H, W]`` of the nearest part along each world ray ``[3, H, W]``."""
    depth = np.full(rays.shape[1:], np.inf, np.float32)
    nearest = np.zeros(rays.shape[1:], np.intp)
    for number, part in enumerate(parts):
        rows, columns = _window(scene, part, *rays.shape[1:])
        hit = part.first_hit(scene.camera.position, rays[:, rows, columns])
        closer = hit < depth[rows, columns]
        depth[rows, columns][closer] = hit[closer]
        nearest[rows, columns][closer] = number
    return depth, nearest


def _window(scene: Scene, part: Part, height: int, width: int) -> tuple[slice, slice]:
    """The rows and columns that a part's projected bounding box covers."""
    x, y, z = rotate(scene.camera.axes, part.corners() - scene.camera.position[:, None])
    if z.max() < 0:
        return slice(0), slice(0)
    if z.min() < 0.05:  # partly behind the camera, as the corners of a plane's huge box always are
        return slice(height), slice(width)
    focal = scene.camera.focal_length(width)
    row, column = y / z * focal + (height - 1) / 2, x / z * focal + (width - 1) / 2
    rows, columns = (slice(max(int(v.min()), 0), max(int(v.max()) + 2, 0)) for v in (row, column))
    return rows, columns


def surfaces(parts: list[Part], nearest: Array, points: Array) -> tuple[Array, Array, Array, Array]:
    """What is at points ``[3, N]`` that lie on the given parts.

    Args:
        parts: All parts.
        nearest: Index ``[N]`` of each point's part.
        points: World positions ``[3, N]``.

    Returns:
        World normals ``[3, N]``, albedo ``[3, N]``, principal curvatures ``[2, N]`` and glow ``[N]``.
    """
    normals, albedo = np.empty_like(points), np.empty_like(points)
    curvature, glow = np.empty_like(points[:2]), np.empty_like(points[0])
    counts = np.bincount(nearest, minlength=len(parts))
    for part, mine in zip(
        parts, np.split(np.argsort(nearest, kind="stable"), np.cumsum(counts)[:-1]), strict=True
    ):
        if mine.size:
            local = part.to_local(points[:, mine])
            normal, curvature[:, mine] = part.shape.surface(local)
            normals[:, mine] = rotate(part.rotation.T, normal)
            albedo[:, mine] = part.texture.albedo(local)
            glow[mine] = part.glow
    return normals, albedo, curvature, glow


def light(scene: Scene, points: Array, normals: Array) -> Array:
    """Irradiance ``[3, N]``: ambient light (more from above), point lights with shadows, the camera's weak flash."""
    flash = _FLASH * lambert(scene.camera.position, points, normals, reach=1.8)
    total = np.repeat((_AMBIENT * (1 + np.float32(0.35) * normals[2]) + flash)[None], 3, axis=0)
    for lamp in scene.lights:
        strength = lambert(lamp.position, points, normals, reach=2.2)
        lit = np.flatnonzero(strength > 0)
        free = ~shadow(scene.things, lamp.position, points[:, lit])
        total[:, lit] += lamp.power[:, None] * (strength[lit] * free)
    return total


def lambert(source: Array, points: Array, normals: Array, reach: float) -> Array:
    """Cosine of the light that falls in times 1 / (1 + (distance / reach)^2); 0 on surfaces that face away."""
    way = align(source, points) - points
    square = dot(way, way)
    strength: Array = np.maximum(dot(way, normals), 0) / np.sqrt(square) / (1 + square / np.float32(reach**2))
    return strength


def shadow(things: tuple[Thing, ...], source: Array, points: Array) -> Array:
    """Whether something stands between the source ``[3]`` and each point ``[3, N]``, bool ``[N]``."""
    way = points - source[:, None]
    length = np.sqrt(dot(way, way))
    dark = np.zeros(length.shape, bool)
    for thing in things:
        centre, radius = thing.middle - source, np.linalg.norm(thing.bounds[1] - thing.middle)
        along = dot(centre[:, None], way) / length
        passes = (dot(centre, centre) - along**2 < radius**2) & (along > -radius) & (along - radius < length)
        near = np.flatnonzero(passes & ~dark)
        if near.size:
            rays = way[:, near]
            for part in thing.parts:
                dark[near] |= part.first_hit(source, rays) < 1 - _SHADOW_SLACK
    return dark


def photograph(radiance: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """What a small camera makes of a scene: exposure, tone curve, lens blur, shot and read noise.

    Args:
        radiance: Linear RGB ``[3, H, W]``, 0 or more.
        rng: Source of exposure and noise.

    Returns:
        The picture without noise (float32 ``[H, W, 3]``, 0 to 1) and the picture (uint8 ``[H, W, 3]``).
    """
    exposure = np.float32(0.5 * rng.uniform(0.8, 1.25) / np.maximum(radiance.mean(), 1e-6))
    tone = (1 - np.exp(-exposure * radiance)) ** np.float32(1 / 2.2)
    clean: Array = cv2.GaussianBlur(np.ascontiguousarray(np.moveaxis(tone, 0, -1)), (0, 0), 0.6)
    noise = rng.standard_normal(clean.shape, np.float32) * (0.008 + 0.018 * np.sqrt(clean))
    return clean, np.rint(255 * np.clip(clean + noise, 0, 1)).astype(np.uint8)


def _sobel(values: Array) -> Array:
    """Gradient magnitude by Sobel filters, scaled so that a unit step gives at most 1."""
    x, y = (cv2.Sobel(values, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=0.25) for dx in (1, 0))
    magnitude: Array = np.hypot(x, y) * np.float32(np.sqrt(0.5))
    return magnitude


def _smooth_grey(image: Array, sigma: float) -> Array:
    smooth: Array = cv2.GaussianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), (0, 0), sigma)
    return smooth


def edge_texture(image: Array) -> Array:
    """Taskonomy's texture edges: the Canny detector without non-maximum suppression.

    That is the Sobel gradient of the grey, Gaussian-blurred picture. Taskonomy blurs 512 pixels by about 3; the blur
    keeps that share of the picture's width, but never falls below one pixel.

    Args:
        image: RGB ``[H, W, 3]``, 0 to 1.

    Returns:
        ``[H, W]``, 0 to 1.
    """
    return _sobel(_smooth_grey(image, max(1.0, 3 * image.shape[1] / 512)))


def edge_occlusion(depth: Array) -> Array:
    """Taskonomy's occlusion edges: Sobel gradient of sqrt(p) / 256, p the z-buffer depth in its unit of 1/512 m.

    Args:
        depth: Metres ``[H, W]``, defined everywhere.

    Returns:
        ``[H, W]``, 0 to 1.
    """
    return _sobel(np.sqrt(depth * np.float32(512)) / np.float32(256))


def keypoints2d(image: Array) -> Array:
    """Taskonomy's 2D keypoints as a heat map: the determinant of the Hessian (as in SURF) where it is positive.

    The Hessian is that of the grey, Gaussian-blurred picture (sigma 1 % of the width, at least one pixel), normalised
    for its scale by sigma^4.

    Args:
        image: RGB ``[H, W, 3]``, 0 to 1.

    Returns:
        ``[H, W]``, 0 to 1.
    """
    sigma = max(1.0, image.shape[1] / 100)
    smooth = _smooth_grey(image, sigma)
    xx, yy, xy = (
        cv2.Sobel(smooth, cv2.CV_32F, *order, ksize=3, scale=0.25) for order in ((2, 0), (0, 2), (1, 1))
    )
    heat: Array = np.clip((xx * yy - xy**2) * np.float32(sigma**4), 0, 1)
    return heat


def reshading(normals: Array, points: Array) -> Array:
    """Taskonomy's reshading: the bare geometry, white, lit by one point light at the camera.

    Args:
        normals: Unit normals ``[3, H, W]``, camera frame.
        points: Positions ``[3, H, W]``, camera frame, metres.

    Returns:
        ``[H, W]``, 0 to 1: the cosine to the light times 1 / (1 + (distance / 4 m)^2).
    """
    return lambert(vector(0, 0, 0), points, normals, reach=4.0)
