"""A picture of some samples of a dataset: each image beside every label, with missing labels shown as missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from jtr_lightning.data.source import SampleSource
from jtr_lightning.errors import DataError
from jtr_lightning.legends import INK, PAPER, SWATCH, Strip, font, legend_strip
from jtr_lightning.tasks import Task
from jtr_lightning.tasks.rendering import INVALID, Legend

_WIDTH, _GAP, _LINE = 200, 8, 18
_FAINT, _ALARM = (222, 222, 222), (170, 20, 20)


@dataclass(frozen=True)
class Part:
    """Samples of a split to draw.

    Attributes:
        title: The split.
        source: Its samples.
        on_disk: Which labels exist, bool ``[N, K]``.
        chosen: Numbers of the samples to draw.
    """

    title: str
    source: SampleSource
    on_disk: NDArray[np.bool_]
    chosen: Sequence[int]


def choose(on_disk: NDArray[np.bool_], number: int) -> list[int]:
    """Samples to show: every combination of labels in turn, the frequent ones first, and within it evenly spaced.

    Args:
        on_disk: Which labels exist, bool ``[N, K]``.
        number: How many to choose at most.

    Returns:
        Their numbers, ascending.
    """
    _, which, counts = np.unique(on_disk, axis=0, return_inverse=True, return_counts=True)
    groups = [np.flatnonzero(which.ravel() == g) for g in np.argsort(-counts, kind="stable")]
    quota = [0] * len(groups)
    while sum(quota) < min(number, len(on_disk)):
        for g, group in enumerate(groups):
            quota[g] += quota[g] < len(group) and sum(quota) < number
    rows = [g[np.arange(q) * len(g) // q] for g, q in zip(groups, quota, strict=True) if q]
    return sorted(int(row) for row in np.concatenate(rows))


def contact_sheet(parts: Sequence[Part], tasks: Mapping[str, Task]) -> Image.Image:
    """Draws samples as rows: image, then each task's label as the task renders it; below, what the colours mean.

    Args:
        parts: The samples of each split to draw.
        tasks: Task name to task.

    Returns:
        The sheet.
    """
    rows = [
        (f"{part.title}: {part.source.name(index)}", _row(part.source, tasks, part.on_disk[index], index))
        for part in parts
        for index in part.chosen
    ]
    heights = [max(cell.height for cell in cells) for _, cells in rows]
    width = _GAP + (1 + len(tasks)) * (_WIDTH + _GAP)
    legends = _legends(tasks, width)
    height = _LINE + _GAP + sum(h + _LINE + _GAP for h in heights)
    sheet = Image.new("RGB", (width, height + sum(legend.height for legend in legends)), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(("image", *tasks)):
        draw.text((_GAP + column * (_WIDTH + _GAP), _GAP // 2), title, fill=INK, font=font(13))
    top = _LINE + _GAP
    for (name, cells), tallest in zip(rows, heights, strict=True):
        for column, cell in enumerate(cells):
            sheet.paste(cell, (_GAP + column * (_WIDTH + _GAP), top))
        draw.text((_GAP, top + tallest), name, fill=INK, font=font(13))
        top += tallest + _LINE + _GAP
    for legend in legends:
        sheet.paste(legend, (0, top))
        top += legend.height
    return sheet


def _legends(tasks: Mapping[str, Task], width: int) -> list[Image.Image]:
    """A line for each task whose colours have a meaning, and one for pixels without a value."""
    legends = {name: task.legend() for name, task in tasks.items()}
    strips = [
        legend_strip(name, legend, Legend(), width)
        for name, legend in legends.items()
        if legend.colours or legend.scale
    ]
    marks = Strip("labels", width)
    marks.swatch("no value at this pixel", Image.new("RGB", (3 * SWATCH, SWATCH), INVALID))
    return [*strips, marks.done()]


def _row(
    source: SampleSource, tasks: Mapping[str, Task], on_disk: NDArray[np.bool_], index: int
) -> list[Image.Image]:
    try:
        image = _picture(source.read_image(index))
    except DataError:
        image = _card("unreadable", (_WIDTH, _WIDTH * 3 // 4), _ALARM)
    cells = [image]
    for (name, task), exists in zip(tasks.items(), on_disk, strict=True):
        if not exists:
            cells.append(_card("no label", image.size, INK))
            continue
        try:
            target = task.to_target(source.read_label(index, name))
        except DataError:
            cells.append(_card("unreadable", image.size, _ALARM))
            continue
        cells.append(_picture(task.render(torch.unsqueeze(target, 0))[0].permute(1, 2, 0).numpy()))
    return cells


def _picture(pixels: NDArray[Any]) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    height = max(1, round(picture.height * _WIDTH / picture.width))
    # Colours stand for values, so they are not mixed when enlarged.
    method = Image.Resampling.BOX if picture.width > _WIDTH else Image.Resampling.NEAREST
    return picture.resize((_WIDTH, height), method)


def _card(text: str, size: tuple[int, int], colour: tuple[int, int, int]) -> Image.Image:
    """A hatched card, which no label can be taken for."""
    card = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(card)
    for start in range(-size[1], size[0], 12):
        draw.line((start, size[1], start + size[1], 0), fill=_FAINT, width=2)
    draw.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=_FAINT)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font(13))
    box = (size[0] - right - left) / 2, (size[1] - bottom - top) / 2
    draw.rectangle((box[0] - 6, box[1] - 2, box[0] + right + 6, box[1] + bottom + 4), fill=PAPER)
    draw.text(box, text, fill=colour, font=font(13))
    return card
