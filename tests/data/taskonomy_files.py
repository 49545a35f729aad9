"""Small trees of Taskonomy files with seeded values, in any of the layouts."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jtr_lightning.data.taskonomy import TaskonomyDataModule

HEIGHT, WIDTH = 12, 16
BUILDINGS = ("allen_ville", "beach", "cauthron")

LAYOUTS = {
    "buildings first": "{building}/{domain}",
    "unpacked archives": "{building}_{domain}/{domain}",
    "domains first": "{domain}/{building}",
    "omnidata": "{domain}/taskonomy/{building}",
}
SUFFIXES = {"segment_semantic": "segmentsemantic"}
"""Where the end of a file's name is not the name of its folder."""

DOMAINS = (
    *("rgb", "depth_zbuffer", "normal", "segment_semantic", "edge_texture", "edge_occlusion", "keypoints2d"),
    *("reshading", "principal_curvature"),
)


def raw(domain: str, seed: int) -> np.ndarray:
    """A file's values, RGB order; a pixel in eight is invalid where the domain knows of invalid pixels."""
    rng = np.random.default_rng(seed)
    hole = rng.random((HEIGHT, WIDTH)) < 1 / 8
    if domain.startswith("depth"):
        return np.where(hole, 65535, rng.integers(500, 5000, (HEIGHT, WIDTH))).astype(np.uint16)
    if domain == "normal":
        vectors = rng.normal(size=(HEIGHT, WIDTH, 3))
        vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
        return np.where(hole[..., None], 128, np.rint(127.5 * (vectors + 1))).astype(np.uint8)
    if domain == "principal_curvature":
        colours = rng.integers(1, 255, (HEIGHT, WIDTH, 3)) * [1, 1, 0]
        return np.where(hole[..., None], 0, colours).astype(np.uint8)
    if domain == "segment_semantic":
        return np.where(hole, 0, rng.integers(1, 18, (HEIGHT, WIDTH))).astype(np.uint8)
    if domain in ("rgb", "albedo", "reshading"):
        grey = rng.integers(0, 256, (HEIGHT, WIDTH, 1 if domain == "reshading" else 3), dtype=np.uint8)
        return np.repeat(grey, 3, -1) if domain == "reshading" else grey
    return rng.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)


def seed_of(building: str, point: int, view: int, domain: str) -> int:
    return zlib.crc32(f"{building}/{point}/{view}/{domain}".encode())


def write_view(folder: Path, building: str, point: int, view: int, domain: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"point_{point}_view_{view}_domain_{SUFFIXES.get(domain, domain)}.png"
    array = raw(domain, seed_of(building, point, view, domain))
    _, data = cv2.imencode(".png", array[..., ::-1] if array.ndim == 3 else array)
    path.write_bytes(data.tobytes())
    return path


def write_tree(
    root: Path,
    layout: str = "buildings first",
    buildings: Sequence[str] = BUILDINGS,
    views: Sequence[tuple[int, int]] = ((0, 1), (0, 12), (7, 0), (1006, 3)),
    domains: Sequence[str] = DOMAINS,
) -> Path:
    """Writes every view of every building in every domain."""
    for building in buildings:
        for domain in domains:
            folder = root / LAYOUTS[layout].format(building=building, domain=domain)
            for point, view in views:
                write_view(folder, building, point, view, domain)
    return root


def names(data: TaskonomyDataModule, split: str) -> list[str]:
    """The samples of a split."""
    return list(data.source(split).names())
