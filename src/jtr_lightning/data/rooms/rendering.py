"""Renders a scene: the picture of a pinhole camera, and exact labels for every task.

Why closed forms and not meshes: one ray per pixel is intersected with planes, boxes, ellipsoids and cone stumps in
plain numpy. Depth, normals and curvatures are then exact (a mesh has faceted normals and no curvature), nothing new
has to be installed, and at these few dozen shapes it is as fast as a ray tracer for meshes: a shape is only tried
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
import numpy.typing as npt

from jtr_lightning.data.rooms.scene import Scene, Thing
from jtr_lightning.data.rooms.shapes import Array, Part, dot, rotate, vector

_AMBIENT, _FLASH = 0.1, 0.3
_SHADOW_SLACK = 5e-3  # share of the way to the light; hides rounding where a surface would shade itself


def render(scene: Scene, height: int, width: int) -> dict[str, Any]:
    """Renders one view.

    The camera frame is x right, y down, z into the scene. Where a label is undefined (a window's pane looks out to
    nothing) floats are NaN.

    Args:
        scene: what to render.
        height: rows H of the picture.
        width: columns W of the picture.

    Returns:
        A dict with

        * `image`: uint8 `[H, W, 3]`, sRGB.
        * `segmentation`: uint8 `[H, W]`, index into `furniture.CLASS_NAMES`.
        * `depth_zbuffer`: float32 `[H, W]`, metres to the camera plane.
        * `normal`: float32 `[H, W, 3]`, unit length, z < 0.
        * `principal_curvature`: float32 `[H, W, 2]`, 1/m, larger first, positive on convex surfaces.
        * `reshading`: float32 `[H, W]`, 0 to 1, see `reshading`.
        * `edge_texture`, `edge_occlusion`, `keypoints2d`: float32 `[H, W]`, 0 to 1, see the functions of those names.
        * `room_type`: int, index into `scene.ROOM_TYPES`.
        * `camera_pitch`: float, degrees, positive looks down.
    """
    axes, rays = scene.camera.axes, camera_rays(scene, height, width)
    world_rays = rotate(axes.T, rays)
    things = scene.shell + scene.things
    parts = [part for thing in things for part in thing.parts]
    category = np.array([thing.category for thing in things for _ in thing.parts], np.uint8)
    depth, nearest = trace(scene, parts, world_rays)
    points = scene.camera.position[:, None] + world_rays.reshape(3, -1) * depth.ravel()
    normals, albedo, curvature, glow = surfaces(parts, nearest.ravel(), points)
    irradiance = light(scene, points, normals)
    radiance = (albedo * (irradiance + glow)).reshape(3, height, width)
    clean, image = photograph(radiance, np.random.default_rng(scene.noise_seed))

    hole = np.array([part.hole for part in parts])[nearest]
    facing = rotate(axes, normals).reshape(3, height, width)
    undefined = np.where(hole, np.float32(np.nan), np.float32(0))
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
        "camera_pitch": float(np.degrees(scene.camera.pitch)),
    }


def camera_rays(scene: Scene, height: int, width: int) -> Array:
    """Directions `[3, H, W]` through the pixels' centres, camera frame, z = 1: the ray parameter is the z-buffer depth."""
    focal = scene.camera.focal_length(width)
    x, y = (np.arange(width) - (width - 1) / 2) / focal, (np.arange(height) - (height - 1) / 2) / focal
    return np.stack(np.broadcast_arrays(x[None], y[:, None], 1.0)).astype(np.float32)


def trace(scene: Scene, parts: list[Part], rays: Array) -> tuple[Array, npt.NDArray[np.intp]]:
    """Depth `[H, W]` and index `[H, W]` of the nearest part along each world ray `[3, H, W]`."""
    depth = np.full(rays.shape[1:], np.inf, np.float32)
    nearest = np.zeros(rays.shape[1:], np.intp)
    for number, (part, window) in enumerate(zip(parts, _windows(scene, parts, *rays.shape[1:]), strict=True)):
        hit = part.first_hit(scene.camera.position, rays[:, *window])
        closer = hit < depth[window]
        depth[window][closer] = hit[closer]
        nearest[window][closer] = number
    return depth, nearest


def _windows(scene: Scene, parts: list[Part], height: int, width: int) -> list[tuple[slice, slice]]:
    """For each part the rows and columns that its projected bounding box covers."""
    camera, whole = scene.camera, (slice(0, height), slice(0, width))
    windows = []
    for part in parts:
        x, y, z = rotate(camera.axes, part.corners() - camera.position[:, None])
        if not z.min() > 0.05:  # partly behind the camera, as the corners of a plane's huge box always are
            windows.append((slice(0, 0), slice(0, 0)) if z.max() < 0 else whole)
            continue
        column = x / z * camera.focal_length(width) + (width - 1) / 2
        row = y / z * camera.focal_length(width) + (height - 1) / 2
        windows.append(tuple(
            slice(max(int(np.floor(v.min())), 0), max(int(np.ceil(v.max())) + 1, 0)) for v in (row, column)
        ))  # fmt: skip
    return windows


def surfaces(
    parts: list[Part], nearest: npt.NDArray[np.intp], points: Array
) -> tuple[Array, Array, Array, Array]:
    """World normals `[3, N]`, albedo `[3, N]`, curvatures `[2, N]` and glow `[N]` at points `[3, N]` of the given parts."""
    normals, albedo = np.empty_like(points), np.empty_like(points)
    curvature, glow = np.empty_like(points[:2]), np.empty_like(points[0])
    order = np.argsort(nearest, kind="stable")
    counts = np.bincount(nearest, minlength=len(parts))
    for part, mine in zip(parts, np.split(order, np.cumsum(counts)[:-1]), strict=True):
        if mine.size:
            local = part.to_local(points[:, mine])
            normal, curvature[:, mine] = part.shape.surface(local)
            normals[:, mine] = rotate(part.rotation.T, normal)
            albedo[:, mine] = part.texture.albedo(local)
            glow[mine] = part.glow
    return normals, albedo, curvature, glow


def light(scene: Scene, points: Array, normals: Array) -> Array:
    """Irradiance `[3, N]`: ambient light (more from above), point lights with shadows, and the camera's weak flash."""
    total = np.repeat((_AMBIENT * (1 + 0.35 * normals[2]))[None], 3, 0)
    for lamp in scene.lights:
        strength = lambert(lamp.position, points, normals, reach=2.2)
        lit = np.flatnonzero(strength > 0)
        free = ~shadow(scene.things, lamp.position, points[:, lit])
        total[:, lit] += lamp.power[:, None] * (strength[lit] * free)
    return total + _FLASH * lambert(scene.camera.position, points, normals, reach=1.8)


def lambert(source: Array, points: Array, normals: Array, reach: float) -> Array:
    """Cosine of the incident light times 1 / (1 + (distance / reach)^2), `[N]`; 0 on surfaces that face away."""
    way = source.reshape(3, *[1] * (points.ndim - 1)) - points
    square = dot(way, way)
    return np.maximum(dot(way, normals), 0) / np.sqrt(square) / (1 + square / np.float32(reach**2))


def shadow(things: tuple[Thing, ...], source: Array, points: Array) -> npt.NDArray[np.bool_]:
    """Whether something stands between the source `[3]` and each point `[3, N]`."""
    way = points - source[:, None]
    length = np.sqrt(dot(way, way))
    dark = np.zeros(length.shape, bool)
    for thing in things:
        low, high = thing.bounds
        centre, radius = (low + high) / 2 - source, np.linalg.norm(high - low) / 2
        along = dot(centre[:, None], way) / length
        passes = (dot(centre, centre) - along**2 < radius**2) & (along > -radius) & (along - radius < length)
        near = np.flatnonzero(passes & ~dark)
        if near.size:
            rays = way[:, near]
            for part in thing.parts:
                dark[near] |= part.first_hit(source, rays) < 1 - _SHADOW_SLACK
    return dark


def photograph(radiance: Array, rng: np.random.Generator) -> tuple[Array, npt.NDArray[np.uint8]]:
    """What a small camera makes of linear RGB radiance `[3, H, W]`: exposure, tone curve, lens blur, shot and read noise.

    Returns:
        The picture without noise (float32 `[H, W, 3]`, 0 to 1) and the picture (uint8 `[H, W, 3]`).
    """
    exposure = 0.5 * rng.uniform(0.8, 1.25) / np.maximum(radiance.mean(), 1e-6)
    tone = (1 - np.exp(-np.float32(exposure) * radiance)) ** np.float32(1 / 2.2)
    clean = cv2.GaussianBlur(np.ascontiguousarray(np.moveaxis(tone, 0, -1)), (0, 0), 0.6)
    noise = rng.standard_normal(clean.shape, np.float32) * (0.008 + 0.018 * np.sqrt(clean))
    return clean, np.rint(255 * np.clip(clean + noise, 0, 1)).astype(np.uint8)


def _sobel(values: Array) -> Array:
    """Gradient magnitude by Sobel filters, scaled so that a unit step gives at most 1."""
    x, y = (cv2.Sobel(values, cv2.CV_32F, dx, 1 - dx, ksize=3, scale=0.25) for dx in (1, 0))
    return np.hypot(x, y) * np.float32(np.sqrt(0.5))


def edge_texture(image: Array) -> Array:
    """Taskonomy's texture edges: the Canny detector without non-maximum suppression.

    This is the Sobel gradient of the grey, Gaussian-blurred picture. Taskonomy blurs 512 pixels by about 3; the blur
    keeps that share of the picture's width, but never falls below one pixel.

    Args:
        image: RGB `[H, W, 3]`, 0 to 1.

    Returns:
        `[H, W]`, 0 to 1.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return _sobel(cv2.GaussianBlur(grey, (0, 0), max(1.0, 3 * grey.shape[1] / 512)))


def edge_occlusion(depth: Array) -> Array:
    """Taskonomy's occlusion edges: Sobel gradient of sqrt(p) / 256, p the z-buffer depth in its unit of 1/512 m.

    Args:
        depth: metres `[H, W]`, defined everywhere.

    Returns:
        `[H, W]`, 0 to 1.
    """
    return _sobel(np.sqrt(depth * np.float32(512)) / np.float32(256))


def keypoints2d(image: Array) -> Array:
    """Taskonomy's 2D keypoints as a heat map: the determinant of the Hessian (as in SURF), where it is positive.

    The Hessian is that of the Gaussian-blurred grey picture (sigma 1 % of the width, at least one pixel), normalised
    for its scale by sigma^4.

    Args:
        image: RGB `[H, W, 3]`, 0 to 1.

    Returns:
        `[H, W]`, 0 to 1.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    sigma = max(1.0, grey.shape[1] / 100)
    smooth = cv2.GaussianBlur(grey, (0, 0), sigma)
    xx, yy, xy = (
        cv2.Sobel(smooth, cv2.CV_32F, dx, dy, ksize=3, scale=0.25) for dx, dy in ((2, 0), (0, 2), (1, 1))
    )  # fmt: skip
    return np.clip((xx * yy - xy**2) * np.float32(sigma**4), 0, 1)


def reshading(normals: Array, points: Array) -> Array:
    """Taskonomy's reshading: the bare geometry, white, lit by one point light at the camera.

    Args:
        normals: unit normals `[3, H, W]`, camera frame.
        points: positions `[3, H, W]`, camera frame, metres.

    Returns:
        `[H, W]`, 0 to 1: the cosine to the light times 1 / (1 + (distance / 4 m)^2).
    """
    return lambert(vector(0, 0, 0), points, normals, reach=4.0)
