"""Surface normals from a depth map, for datasets that come without normals.

On a plane the inverse depth of a pinhole camera is linear in the pixel coordinates: from ``a X + b Y + c Z = 1``
follows ``1 / Z = a (u - cx) / fx + b (v - cy) / fy + c``. So a plane is fitted to the inverse depths in a small
window around each pixel, by least squares over the window's valid pixels, and ``-(a, b, c)``, brought to unit length,
is the normal. This is exact for flat surfaces at any slant. A cross product of neighbouring points is exact there,
too, but takes every step of the sensor's quantisation for a surface; of structured light and stereo these steps are
even in inverse depth, which is what least squares should be given.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole camera: focal lengths and principal point, in pixels of the depth map."""

    fx: float
    fy: float
    cx: float
    cy: float

    def resized(self, vertical: float, horizontal: float) -> Intrinsics:
        """The camera of the same picture with ``vertical`` times the rows and ``horizontal`` times the columns."""
        return Intrinsics(
            self.fx * horizontal,
            self.fy * vertical,
            # Pixel centres have whole coordinates, so the picture's edge is at -0.5.
            (self.cx + 0.5) * horizontal - 0.5,
            (self.cy + 0.5) * vertical - 0.5,
        )


def normals_from_depth(
    depth: NDArray[np.floating],
    camera: Intrinsics,
    window: int = 7,
    tolerance: float = 0.01,
) -> NDArray[np.float32]:
    """Normals of a depth map, invalid (the zero vector) where they are not known.

    A normal is invalid where the depth is, where less than half of the window has a depth, and at discontinuities:
    where the fitted plane misses the window's inverse depths by more than ``tolerance`` of the pixel's own (root mean
    square).

    Args:
        depth: z-buffer depth ``[H, W]`` in any unit; valid where finite and above 0.
        camera: The camera that the depth map was seen by.
        window: Side of the window in pixels, odd.
        tolerance: How far a plane may miss the inverse depths, relative.

    Returns:
        ``[H, W, 3]`` in the camera's frame, x right, y down, z into the scene: unit vectors towards the camera, or 0.
    """
    known = np.isfinite(depth) & (depth > 0)
    inverse = np.divide(np.float32(1), depth, out=np.zeros(depth.shape, np.float32), where=known)
    fit = _fit_lines(inverse, known.astype(np.float32), window)
    rows, columns = (np.arange(length, dtype=np.float32) for length in depth.shape)
    a, b = fit.slope_u * camera.fx, fit.slope_v * camera.fy
    c = fit.value - fit.slope_u * (columns - camera.cx) - fit.slope_v * (rows[:, None] - camera.cy)
    length = np.sqrt(a**2 + b**2 + c**2)
    good = known & fit.solved & (fit.count >= window**2 / 2) & (length > 0)
    good &= fit.residual <= tolerance * inverse
    scale = np.divide(-1.0, length, out=np.zeros_like(length), where=good)
    return np.stack([a * scale, b * scale, c * scale], axis=-1).astype(np.float32)


@dataclass(frozen=True)
class _Lines:
    """At each pixel the line ``value + slope_u * du + slope_v * dv``; all ``[H, W]``."""

    value: Array
    slope_u: Array
    slope_v: Array
    count: Array
    residual: Array
    solved: NDArray[np.bool_]


def _fit_lines(values: Array, known: Array, window: int) -> _Lines:
    """Least squares over the known values in a window around each pixel (what lies outside the map is not known)."""
    reach = np.arange(window, dtype=np.float32) - window // 2
    powers = [np.ones_like(reach), reach, reach**2]

    def total(of: Array, u: int, v: int) -> Array:
        return np.asarray(
            cv2.sepFilter2D(of, cv2.CV_32F, powers[u], powers[v], borderType=cv2.BORDER_CONSTANT)
        )

    n, su, sv = total(known, 0, 0), total(known, 1, 0), total(known, 0, 1)
    suu, suv, svv = total(known, 2, 0), total(known, 1, 1), total(known, 0, 2)
    q, qu, qv = total(values, 0, 0), total(values, 1, 0), total(values, 0, 1)
    # Centred on the window's known pixels, the 3x3 normal equations fall apart into 1 + 2x2.
    safe = np.maximum(n, 1)
    mu, mv, mean = su / safe, sv / safe, q / safe
    cuu, cuv, cvv = suu - su * mu, suv - su * mv, svv - sv * mv
    cqu, cqv = qu - q * mu, qv - q * mv
    determinant = cuu * cvv - cuv**2
    solved = determinant > 1e-6
    factor = np.divide(np.float32(1), determinant, out=np.zeros_like(n), where=solved)
    slope_u, slope_v = (cqu * cvv - cqv * cuv) * factor, (cqv * cuu - cqu * cuv) * factor
    square = total(values**2, 0, 0) - q * mean - slope_u * cqu - slope_v * cqv
    residual = np.sqrt(np.maximum(square, 0) / safe)
    return _Lines(mean - slope_u * mu - slope_v * mv, slope_u, slope_v, n, residual, solved)
