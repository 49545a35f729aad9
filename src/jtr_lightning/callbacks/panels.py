"""Pictures of a batch: each image with every task's label and prediction side by side, headed and with legends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.legends import INK, MARGIN, PALE, PAPER, SWATCH, Strip, as_picture, font, legend_strip
from jtr_lightning.tasks import Task
from jtr_lightning.tasks.rendering import INVALID, Legend, colour_map

CARD = (238, 240, 243)
HATCH = (104, 104, 104)
CELL = 160
"""Smallest height of a cell in pixels; smaller images are enlarged by a whole factor."""
LARGEST_CELL = 256
"""Largest height of a cell in pixels; larger images are made smaller."""
GAP = 6
GROUP_GAP = 18
HEADER = 46


def panels(
    batch: Batch,
    predictions: Mapping[str, Tensor],
    tasks: Mapping[str, Task],
    names: Sequence[str] = (),
    title: str = "",
    errors: bool = False,
) -> Image.Image:
    """Draws a row for each sample: the image, then each task's label and prediction, and the error if wanted.

    A label that the sample does not have is a grey card that says so. Pixels without a valid label are dark and
    hatched. Legends below name the classes and give the colours' values in the task's unit.

    Args:
        batch: The samples, at least one.
        predictions: Task name to prediction ``[B, C, ...]``, of the batch.
        tasks: Task name to task.
        names: A name for each sample, written over its image.
        title: Written over everything.
        errors: Draw where the predictions are wrong, too, for the tasks that can tell (``Task.error``).

    Returns:
        The picture.
    """
    cell = _cell_size(*batch.size)
    maps = {name: _ErrorMap(task, name, batch, predictions) for name, task in tasks.items()} if errors else {}
    columns = {
        name: ["label", "prediction", *(["error"] if name in maps and maps[name].drawn is not None else [])]
        for name in tasks
    }
    sheet = _Sheet(cell, [1, *(len(names) for names in columns.values())], len(batch), title)
    sheet.head(0, "image")
    images = (batch.image.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    for row in range(len(batch)):
        sheet.paste(row, 0, 0, as_picture(images[row]).resize(cell, _resampling(batch.size, cell)))
        if names:
            sheet.caption(row, names[row])
    for group, (name, task) in enumerate(tasks.items(), start=1):
        sheet.head(group, name, task.legend().unit, columns[name])
        for row, pictures in enumerate(_cells(task, name, batch, predictions, cell, maps.get(name))):
            for column, picture in enumerate(pictures):
                sheet.paste(row, group, column, picture)
    legends = {name: task.legend() for name, task in tasks.items()}
    return sheet.with_legends(legends, {name: each.legend for name, each in maps.items()})


def _cell_size(height: int, width: int) -> tuple[int, int]:
    """Width and height of a cell for an image."""
    factor = -(-CELL // height) if height < CELL else min(1.0, LARGEST_CELL / height)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _resampling(size: tuple[int, int], cell: tuple[int, int]) -> Image.Resampling:
    """Images are smoothed where they are made smaller, and show their pixels where they are enlarged."""
    return Image.Resampling.BOX if cell[1] < size[0] else Image.Resampling.NEAREST


class _ErrorMap:
    """One task's errors in a batch.

    Attributes:
        drawn: RGB uint8 ``[B, 3, H, W]``; None where the task cannot tell.
        legend: What the colours mean.
    """

    def __init__(self, task: Task, name: str, batch: Batch, predictions: Mapping[str, Tensor]) -> None:
        target = batch.labels[name].detach().cpu()
        error = task.error(predictions[name].detach().float().cpu(), target)
        self.drawn: Tensor | None = None
        self.legend = Legend()
        if error is None:
            return
        valid = task.valid(target)[:, 0]
        self.legend = task.error_legend()
        if self.legend.scale is None:
            found = error[:, 0][valid]
            largest = float(f"{float(found.max()):.2g}") if len(found) else 0.0
            self.legend = replace(self.legend, scale=(0.0, largest or 1.0))
        low, high = self.legend.scale or (0.0, 1.0)
        self.drawn = colour_map((error[:, 0] - low) / (high - low), valid, error=True)


def _cells(
    task: Task,
    name: str,
    batch: Batch,
    predictions: Mapping[str, Tensor],
    cell: tuple[int, int],
    errors: _ErrorMap | None,
) -> list[list[Image.Image]]:
    """Label and prediction of each sample, and its error if it is drawn."""
    target = batch.labels[name].detach().cpu()
    labels = task.render(target)
    drawn = task.render(task.decode(predictions[name].detach().float().cpu()))
    valid = task.valid(target)
    cells = []
    for row, available in enumerate(batch.labelled(name).tolist()):
        if not available:
            label = _no_label(cell)
        elif task.dense:
            label = _hatched(_enlarged(labels[row], cell), _enlarged(valid[row].to(torch.uint8) * 255, cell))
        else:
            label = _centred(labels[row], cell)
        pictures = [label, _enlarged(drawn[row], cell) if task.dense else _centred(drawn[row], cell)]
        if errors is not None and errors.drawn is not None:
            mask = _enlarged(valid[row].to(torch.uint8) * 255, cell)
            pictures.append(_hatched(_enlarged(errors.drawn[row], cell), mask) if available else label)
        cells.append(pictures)
    return cells


class _Sheet:
    """A grid of cells in groups of columns, with headers."""

    def __init__(self, cell: tuple[int, int], groups: Sequence[int], rows: int, title: str) -> None:
        self.cell = cell
        self.groups = groups
        self.top = MARGIN + (34 if title else 0) + HEADER
        width = self._x(len(groups) - 1, groups[-1] - 1) + cell[0] + MARGIN
        self.height = self.top + rows * (cell[1] + GAP)
        self.image = Image.new("RGB", (width, self.height), PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.draw.text((MARGIN, MARGIN - 2), title, INK, font(20))

    def _x(self, group: int, column: int) -> int:
        before = sum(self.groups[:group]) + column
        return MARGIN + before * (self.cell[0] + GAP) + group * (GROUP_GAP - GAP)

    def head(self, group: int, name: str, unit: str = "", columns: Sequence[str] = ()) -> None:
        x, y = self._x(group, 0), self.top - HEADER
        right = self._x(group, self.groups[group] - 1) + self.cell[0]
        self.draw.text((x, y), name, INK, font(16))
        if unit:
            self.draw.text(
                (x + self.draw.textlength(name + "  ", font(16)), y + 2), f"in {unit}", PALE, font(13)
            )
        for i, text in enumerate(columns):
            self.draw.text((self._x(group, i), y + 22), text, PALE, font(13))
        self.draw.line((x, self.top - 4, right - 1, self.top - 4), INK, 1)

    def paste(self, row: int, group: int, column: int, picture: Image.Image) -> None:
        self.image.paste(picture, (self._x(group, column), self.top + row * (self.cell[1] + GAP)))

    def caption(self, row: int, text: str) -> None:
        """A sample's name in the lower left corner of its image, its end where it is too long."""
        small = font(11)
        while text and self.draw.textlength(text, small) > self.cell[0] - 10:
            text = "…" + text[2:] if len(text) > 1 else ""
        x, bottom = self._x(0, 0), self.top + row * (self.cell[1] + GAP) + self.cell[1]
        self.draw.rectangle((x, bottom - 17, x + self.draw.textlength(text, small) + 9, bottom - 1), INK)
        self.draw.text((x + 4, bottom - 16), text, PAPER, small)

    def with_legends(self, legends: Mapping[str, Legend], errors: Mapping[str, Legend]) -> Image.Image:
        """The sheet with a line of legends for each task that has one, and for the marks of missing labels."""
        nothing = Legend()
        strips = [
            legend_strip(name, legend, errors.get(name, nothing), self.image.width)
            for name, legend in legends.items()
            if legend.colours or legend.scale or errors.get(name, nothing).scale
        ]
        strips.append(_marks_strip(self.image.width))
        height = self.height + 12 + sum(strip.height for strip in strips) + MARGIN // 2
        whole = Image.new("RGB", (self.image.width, height), PAPER)
        whole.paste(self.image)
        y = self.height + 12
        for strip in strips:
            whole.paste(strip, (0, y))
            y += strip.height
        return whole


def _marks_strip(width: int) -> Image.Image:
    strip = Strip("labels", width)
    size = (3 * SWATCH, SWATCH)
    strip.swatch("no label for this task", Image.new("RGB", size, CARD))
    dark = Image.new("RGB", size, INVALID)
    strip.swatch("no valid label at this pixel", _hatched(dark, Image.new("L", size, 0)))
    return strip.done()


def _enlarged(pixels: Tensor, cell: tuple[int, int]) -> Image.Image:
    return as_picture(pixels).resize(cell, Image.Resampling.NEAREST)


def _centred(pixels: Tensor, cell: tuple[int, int]) -> Image.Image:
    """A card in the middle of a cell, enlarged as far as it fits."""
    card = as_picture(pixels)
    factor = min(cell[0] / card.width, cell[1] / card.height)
    card = card.resize((round(card.width * factor), round(card.height * factor)), Image.Resampling.BICUBIC)
    whole = Image.new("RGB", cell, PAPER)
    whole.paste(card, ((cell[0] - card.width) // 2, (cell[1] - card.height) // 2))
    ImageDraw.Draw(whole).rectangle((0, 0, cell[0] - 1, cell[1] - 1), outline=CARD)
    return whole


def _no_label(cell: tuple[int, int]) -> Image.Image:
    card = Image.new("RGB", cell, CARD)
    ImageDraw.Draw(card).text((cell[0] / 2, cell[1] / 2), "no label", PALE, font(15), anchor="mm")
    return card


def _hatched(picture: Image.Image, valid: Image.Image) -> Image.Image:
    """Diagonal lines over the pixels that are not valid."""
    lines = Image.new("L", picture.size, 0)
    draw = ImageDraw.Draw(lines)
    width, height = picture.size
    for start in range(-height, width, 7):
        draw.line((start, height, start + height, 0), 255, 2)
    invalid = valid.point([255] + [0] * 255)
    mask = Image.new("L", picture.size, 0)
    mask.paste(lines, mask=invalid)
    hatched = picture.copy()
    hatched.paste(HATCH, mask=mask)
    return hatched
