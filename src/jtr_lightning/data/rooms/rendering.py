"""Renders a scene: the picture of a pinhole camera, and exact labels for every task.

Why closed forms and not meshes: in plain numpy, the ray of each pixel is intersected with boxes and round solids.
Depth, normals and curvatures are then exact (a mesh has faceted normals and no curvature) and nothing new has to be
installed. Only rays that pass a thing's bounding box are tried. The picture must carry the labels: lights and shadows
tell orientation, light that falls off with the distance from them and from the camera's flash tells near from far,
shapes and materials tell the class.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from jtr_lightning.data.rooms.scene import Box, Scene, Thing
from jtr_lightning.data.source import Array


def render(scene: Scene, height: int, width: int) -> dict[str, Any]:
    """Renders H = ``height`` by W = ``width`` pixels; floats are NaN where a window looks out to nothing.

    Returns:
        ``image``, uint8 ``[H, W, 3]``, sRGB; ``segmentation``, uint8 ``[H, W]``, index into ``scene.CLASS_NAMES``;
        ``room_type``, index into ``scene.ROOM_TYPES``; ``camera_pitch``, degrees, positive looks down; and float32
        ``depth_zbuffer`` ``[H, W]``, metres to the camera plane; ``normal`` ``[H, W, 3]``, unit length, x right, y
        down, z into the scene; ``principal_curvature`` ``[H, W, 2]``, 1/m, larger first, positive on convex surfaces;
        and, 0 to 1, ``reshading`` ``[H, W]``, the bare geometry under a light at the camera; ``edge_texture``,
        ``edge_occlusion`` and ``keypoints2d`` ``[H, W]``, never NaN.
    """
    x, y = ((np.arange(size) - (size - 1) / 2) / (scene.focal * width) for size in (width, height))
    ahead = np.stack(np.broadcast_arrays(x, y[:, None], 1)).astype(np.float32).reshape(3, -1)
    things, rays = scene.shell + scene.things, rotate(scene.axes.T, ahead)
    depth, nearest = trace(things, scene.eye, rays)  # z is 1 along each ray, so that t is z-buffer depth
    points = scene.eye[:, None] + depth * rays
    normals, curvature, albedo, (category, glow, hole) = surfaces(things, points, nearest)
    radiance = (albedo * (light(scene, points, normals) + glow)).T.reshape(height, width, 3)
    clean, image = photograph(radiance, np.random.default_rng(scene.noise_seed))
    grey = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY)
    reshading = lambert(scene.eye, points, normals, reach=4)
    geometry = np.concatenate([[depth], rotate(scene.axes, normals), curvature, [reshading]])
    geometry = np.where(hole, np.float32(np.nan), geometry).T.reshape(height, width, 7)
    depth, category, hole = (values.reshape(height, width) for values in (depth, category, hole))
    return {
        "image": image,
        "segmentation": category.astype(np.uint8),
        "depth_zbuffer": geometry[..., 0],
        "normal": geometry[..., 1:4],
        "principal_curvature": geometry[..., 4:6],
        "reshading": geometry[..., 6],
        # Taskonomy's: of the picture, blurred by about 3 of 512 pixels, and of its code for depth, in 1/512 m.
        "edge_texture": edges(cv2.GaussianBlur(grey, (0, 0), max(1, 3 / 512 * width))),
        "edge_occlusion": edges(np.sqrt(512 * depth) / 256) * (1 - hole),
        "keypoints2d": keypoints(grey, sigma=max(1, width / 100)),
        "room_type": scene.room_type,
        "camera_pitch": float(np.degrees(np.arcsin(-scene.axes[2, 2]))),
    }


def rotate(matrix: Array, points: Array) -> Array:
    """Multiplies points ``[3, N]`` by a matrix ``[3, 3]``; unlike ``@``, the same bytes with any number of threads."""
    return np.asarray(np.einsum("ij,jn->in", matrix, points))


def trace(things: tuple[Thing, ...], eye: Array, rays: Array, limit: float = np.inf) -> tuple[Array, Array]:
    """First hits of ``eye [3] + t * rays [3, N]`` before a limit: t ``[N]`` and part numbers ``[N]`` (-1 is none)."""
    if rays.shape[1] > 20000:  # halves fit into the processor's cache
        halves = [trace(things, eye, half, limit) for half in np.array_split(rays, 2, axis=1)]
        return np.concatenate([t for t, _ in halves]), np.concatenate([nearest for _, nearest in halves])
    t, nearest, number = np.full(rays.shape[1], limit, np.float32), np.full(rays.shape[1], -1, np.int16), 0
    for thing in things:
        start, reach = (eye - thing.centre)[:, None], thing.reach[:, None]
        enter, leave = Box().span(start / reach, rays / reach)
        near = np.flatnonzero(np.maximum(enter, 0) < np.minimum(leave, t))
        start, turned = rotate(thing.turned.T, start), rotate(thing.turned.T, rays.take(near, axis=1))
        first, who = t[near], nearest[near]
        for part in thing.parts:
            enter, leave = part.shape.span((start - part.centre) / part.half, turned / part.half)
            hit = (enter > 0) & (enter < np.minimum(first, leave))
            first[hit], who[hit] = enter[hit], number
            number += 1
        t[near], nearest[near] = first, who
    return t, nearest


def surfaces(things: tuple[Thing, ...], points: Array, nearest: Array) -> list[Array]:
    """World normals ``[3, N]``, curvatures ``[2, N]``, albedo ``[3, N]``, and class, glow and hole where rays hit."""
    found, number = np.empty((11, nearest.size), np.float32), 0
    for thing in things:
        for part in thing.parts:
            mine = np.flatnonzero(nearest == number)
            local = rotate(thing.turned.T, points.take(mine, axis=1) - thing.centre[:, None]) - part.centre
            found[:5, mine] = surface = part.shape.surface(local / part.half, part.half)
            found[:3, mine] = rotate(thing.turned, surface[:3])
            found[5:8, mine] = part.albedo(local)
            found[8:, mine] = np.array([[thing.category], [part.glow], [part.hole]])
            number += 1
    return np.split(found, [3, 5, 8])


def light(scene: Scene, points: Array, normals: Array) -> Array:
    """Irradiance ``[3, N]``: ambient light (more from above), the camera's weak flash, point lights with shadows."""
    total = np.tile(0.1 + 0.035 * normals[2] + 0.3 * lambert(scene.eye, points, normals, reach=1.8), (3, 1))
    for position, power in scene.lights:
        strength = lambert(position, points, normals, reach=2.2)
        lit = np.flatnonzero(strength)
        # Only almost up to the surface, which rounding would else let shade itself.
        _, blocker = trace(scene.things, position, points.take(lit, axis=1) - position[:, None], limit=0.995)
        total[:, lit] += power[:, None] * (strength[lit] * (blocker < 0))
    return total


def lambert(source: Array, points: Array, normals: Array, reach: float) -> Array:
    """Light ``[N]`` from a source ``[3]`` of brightness 1, halved at ``reach`` metres; none from behind."""
    way = source[:, None] - points
    square = (way**2).sum(0)
    return np.asarray(np.maximum((way * normals).sum(0), 0) / np.sqrt(square) / (1 + square / reach**2))


def photograph(radiance: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Exposes linear RGB ``[H, W, 3]``: the picture before (float32, 0 to 1) and after a sensor's noise (uint8)."""
    exposure = np.float32(0.5 * rng.uniform(0.8, 1.25) / np.maximum(radiance.mean(), 1e-6))
    clean = cv2.GaussianBlur((1 - np.exp(-exposure * radiance)) ** np.float32(1 / 2.2), (0, 0), 0.6)
    noise = rng.standard_normal(clean.shape, np.float32) * (0.008 + 0.018 * np.sqrt(clean))
    return clean, np.rint(255 * np.clip(clean + noise, 0, 1)).astype(np.uint8)


def edges(values: Array) -> Array:
    """Sobel gradient magnitude of ``[H, W]``, at most 1 for a unit step."""
    x, y = (cv2.Sobel(values, cv2.CV_32F, dx, 1 - dx, scale=0.25) for dx in (1, 0))
    return np.asarray(np.hypot(x, y) * np.float32(np.sqrt(0.5)))


def keypoints(grey: Array, sigma: float) -> Array:
    """Taskonomy's 2D keypoints ``[H, W]``, 0 to 1: the determinant of the Hessian at the scale sigma, as in SURF."""
    smooth = cv2.GaussianBlur(grey, (0, 0), sigma)
    xx, yy, xy = (cv2.Sobel(smooth, cv2.CV_32F, *order, scale=0.25) for order in ((2, 0), (0, 2), (1, 1)))
    return np.asarray(np.clip((xx * yy - xy**2) * np.float32(sigma**4), 0, 1))
