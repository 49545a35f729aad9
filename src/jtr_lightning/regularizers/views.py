"""Further views of a batch, made on its device for all samples at once.

A view is a random crop, resized back to the size of the image and perhaps flipped, with colours of its own. What was
drawn is a ``Geometry``: it moves the batch's images and labels, and later may move predictions of the batch into the
view's frame, with a gradient. Everything is drawn and computed on the device, so the host never waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError, check_number, check_numbers
from jtr_lightning.regularizers.photometric import Photometric
from jtr_lightning.tasks import Task
from jtr_lightning.tasks.base import at_least_float32


@dataclass
class Geometry:
    """Where each sample's view lies in its image: a crop, resized back to full size and then perhaps flipped.

    Sizes are relative, so that the same geometry moves values of any resolution.

    Attributes:
        zoom: Magnification, at least 1 ``[B]``; the crop is ``1 / zoom`` of the height and width.
        left: Distance of the crop from the left edge as a share of the width, in ``[0, 1 - 1 / zoom]`` ``[B]``.
        top: Distance from the top edge as a share of the height ``[B]``.
        mirrored: Which samples are flipped left to right, bool ``[B]``; None for none.
    """

    zoom: Tensor
    left: Tensor
    top: Tensor
    mirrored: Tensor | None = None

    def apply(self, values: Tensor, task: Task, *, smooth: bool = False) -> Tensor:
        """Brings values of a task into the view's frame: moves the pixels and does to the values what it should.

        Args:
            values: Predictions or targets of the task in the batch's frame ``[B, ...]``.
            task: What the values are. Values of an image-level task have no pixels to move.
            smooth: Bilinear (with a gradient, for predictions, and what comes between two is one again) instead of
                nearest, which keeps every value and thereby also the blanks of a target exactly.

        Returns:
            Values of the same shape.
        """
        if task.dense:
            values = self.move(values, smooth=smooth)
            values = task.renormalize(values) if smooth else values
        return self._mirror(task.zoomed(values, self.zoom), task)

    def undo(self, values: Tensor, task: Task, *, keep_zoom: bool = False) -> Tensor:
        """Brings predictions of the view into the batch's frame, bilinear and with a gradient.

        Args:
            values: Predictions of the view ``[B, channels, ...]``.
            task: What the values are. Values of an image-level task have no pixels to move.
            keep_zoom: Leave out what undoing the zoom does to the values (``Task.zoomed``).

        Returns:
            Predictions of the same shape; where the view does not show a pixel (``visible``), any.
        """
        if task.dense:
            x, y = self._shown_at(*values.shape[-2:])
            values = task.renormalize(_sample(values, y, x))
        if not keep_zoom:
            values = task.zoomed(values, 1 / self.zoom)
        return self._mirror(values, task)

    def visible(self, height: int, width: int) -> Tensor:
        """Which pixels of the batch the view shows, bool ``[B, 1, H, W]``; at least their centres."""
        x, y = self._shown_at(height, width)
        inside_x, inside_y = (x >= 0) & (x <= 1), (y >= 0) & (y <= 1)
        return (inside_y[:, :, None] & inside_x[:, None, :]).unsqueeze(1)

    def move(self, values: Tensor, *, smooth: bool = False) -> Tensor:
        """Moves pixels alone.

        Args:
            values: ``[B, C, H, W]``, or ``[B, H, W]`` unless ``smooth``.
            smooth: Bilinear instead of nearest.

        Returns:
            Values of the same shape; at least float32 if ``smooth``, else of the same dtype.
        """
        height, width = values.shape[-2:]
        x, y = self._source(width, self.left, self.mirrored), self._source(height, self.top, None)
        return _sample(values, y, x) if smooth else _pick(values, y, x)

    def _mirror(self, values: Tensor, task: Task) -> Tensor:
        if self.mirrored is None:
            return values
        mirrored = self.mirrored.view(-1, *(1,) * (values.ndim - 1))
        return torch.where(mirrored, task.mirrored(values), values)

    def _source(self, size: int, start: Tensor, mirrored: Tensor | None) -> Tensor:
        """Where each of the view's pixels comes from along one axis, as a share of it ``[B, size]``."""
        centre = self._centres(size)
        if mirrored is not None:
            centre = torch.where(mirrored[:, None], 1 - centre, centre)
        return centre / self.zoom[:, None] + start[:, None]

    def _shown_at(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Where in the view the batch's pixels are, as shares ``[B, W]`` and ``[B, H]``; outside of [0, 1] unseen."""
        x = (self._centres(width) - self.left[:, None]) * self.zoom[:, None]
        y = (self._centres(height) - self.top[:, None]) * self.zoom[:, None]
        return (x if self.mirrored is None else torch.where(self.mirrored[:, None], 1 - x, x)), y

    def _centres(self, size: int) -> Tensor:
        centres = (torch.arange(size, device=self.zoom.device) + 0.5) / size
        return centres.to(self.zoom.dtype)[None]


def _sample(values: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Bilinear, at least float32: ``[B, C, h, w]`` at the rows ``[B, H]`` and columns ``[B, W]``, as shares."""
    values = at_least_float32(values)
    # Separable, so no matrix product (as in affine_grid) whose precision autocast would lower.
    across = (2 * x - 1).unsqueeze(1).expand(-1, y.shape[1], -1)
    down = (2 * y - 1).unsqueeze(2).expand(-1, -1, x.shape[1])
    grid = torch.stack([across, down], -1).to(values.dtype)
    return F.grid_sample(values, grid, padding_mode="border", align_corners=False)


def _pick(values: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The nearest pixels, by index: exact for every dtype, and NaN stays in its own pixel."""
    height, width = values.shape[-2:]
    rows = (y * height).floor().long().clamp(0, height - 1)
    columns = (x * width).floor().long().clamp(0, width - 1)
    if values.ndim == 4:
        rows, columns = rows[:, None], columns[:, None]
    rows = rows.unsqueeze(-1).expand_as(values)
    return values.gather(-2, rows).gather(-1, columns.unsqueeze(-2).expand_as(values))


class ViewMaker(Described):
    """Makes views of a batch: a random crop and colours for each sample.

    Args:
        scales: Magnifications to draw from, each at least 1. Default: those of JTR and MTPSL on NYU-v2.
        flip: Probability of a left-right flip; 0 draws none.
        photometric: What happens to the colours; the recipe of JTR by default.

    Raises:
        ConfigError: No scale or one below 1, or ``flip`` outside [0, 1].
    """

    def __init__(
        self,
        scales: Sequence[float] = (1.0, 1.2, 1.5),
        flip: float = 0.0,
        photometric: Photometric | None = None,
    ) -> None:
        check_numbers("scales", scales)
        check_number("flip", flip)
        if not scales or any(not 1 <= scale < float("inf") for scale in scales):
            raise ConfigError(
                f"Parameter `scales` should be a list of finite magnifications of at least 1; found {list(scales)}."
            )
        if not 0 <= flip <= 1:
            raise ConfigError(f"Parameter `flip` should be a probability in [0, 1]; found {flip}.")
        self.scales = tuple(scales)
        self.flip = flip
        self.photometric = Photometric() if photometric is None else photometric

    def __call__(self, batch: Batch, tasks: Mapping[str, Task]) -> tuple[Batch, Geometry]:
        """Draws a view.

        Args:
            batch: The batch to look at once more.
            tasks: The tasks of its labels.

        Returns:
            The view, of the same samples, size and availability; and where it lies in the batch's images.
        """
        geometry = self.draw(batch)
        image = self.photometric(geometry.move(batch.image, smooth=True)).to(batch.image.dtype)
        labels = {name: geometry.apply(batch.labels[name], task) for name, task in tasks.items()}
        return replace(batch, image=image, labels=labels), geometry

    def compilable(self) -> Sequence[nn.Module]:
        """Parts that gain from ``torch.compile``; see ``Regularizer.compilable``."""
        return self.photometric.compilable()

    def draw(self, batch: Batch) -> Geometry:
        """Draws a crop and perhaps a flip for each sample, uniformly over scales and places."""
        b, device = len(batch), batch.image.device
        choice = torch.randint(len(self.scales), (b,), device=device)
        zoom = torch.ones(b, device=device)
        for number, scale in enumerate(self.scales):
            zoom = zoom.masked_fill(choice == number, scale)
        room = 1 - 1 / zoom
        left, top = room * torch.rand(b, device=device), room * torch.rand(b, device=device)
        mirrored = torch.rand(b, device=device) < self.flip if self.flip > 0 else None
        return Geometry(zoom, left, top, mirrored)
