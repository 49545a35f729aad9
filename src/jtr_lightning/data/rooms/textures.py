"""Procedural textures: functions of the place on a thing, in its own frame and in repetitions of the pattern."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jtr_lightning.data.source import Array

Pattern = Callable[[Array], Array]
"""Share (0 to 1) ``[N]`` of a texture's second colour at points ``[3, N]``."""


def plain(p: Array) -> Array:
    """Soft clouds, as on plaster or cloth."""
    waves: Array = np.sin(5 * p[0] + 2 * np.sin(4 * p[1])) + np.sin(6 * p[1] + 3 * np.sin(3 * p[2]))
    return 0.5 + 0.25 * waves


def stripes(p: Array) -> Array:
    """Stripes across x."""
    mix: Array = np.sin(2 * np.pi * p[0]) > 0.2
    return mix


def checks(p: Array) -> Array:
    """A checkerboard."""
    mix: Array = np.floor(p).sum(0) % 2
    return mix


def tiles(p: Array) -> Array:
    """Tiles, each of its own tone, with dark joints."""
    mix: Array = np.where(
        (p - np.floor(p))[:2].min(0) < 0.07, 1, 0.15 + 0.15 * np.sin(9 * np.floor(p).sum(0))
    )
    return mix


def planks(p: Array) -> Array:
    """Boards along y, each of its own tone, with grain."""
    board = np.floor(2 * p[0]) + np.floor(2 * p[2])
    mix: Array = 0.5 + 0.3 * np.sin(7.3 * board) + 0.2 * np.sin(40 * (p[0] + p[2]) + 3 * np.sin(p[1] + board))
    return mix


def dots(p: Array) -> Array:
    """Round spots on a grid."""
    mix: Array = ((p - np.floor(p) - 0.5) ** 2).sum(0) < 0.2
    return mix


def horizon(p: Array) -> Array:
    """What a window looks out to: hills below, sky above."""
    mix: Array = np.where(p[2] < 0.1 * np.sin(3 * p[0]), 0, 0.7 + 0.3 * np.clip(p[2], 0, 1))
    return mix


@dataclass(frozen=True)
class Texture:
    """A solid texture: a pattern of local coordinates mixes two linear RGB colours ``[3]``."""

    pattern: Pattern
    colours: tuple[Array, Array]
    scale: float
    phase: float = 0.0

    def albedo(self, point: Array) -> Array:
        """Linear RGB ``[3, N]`` at local points ``[3, N]``."""
        mix = self.pattern(point * np.float32(self.scale) + np.float32(self.phase)).astype(np.float32)
        colours: Array = self.colours[0][:, None] * (1 - mix) + self.colours[1][:, None] * mix
        return colours
