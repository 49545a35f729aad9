from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.photometric import Photometric
from jtr_lightning.regularizers.views import Geometry, ViewMaker
from jtr_lightning.tasks import Classification, Depth, Regression, Task
from tests.regularizers.pair_cases import (
    AVAILABILITY,
    SIZE,
    assert_same_with_gradients,
    batch_of,
    gradients,
    predictions_of,
    tasks,
)


def build(**arguments: Any) -> ConsistencyRegularization:
    regularizer = ConsistencyRegularization(**arguments)
    regularizer.build(tasks())
    return regularizer


def value(
    regularizer: ConsistencyRegularization, first: dict[str, Tensor], second: dict[str, Tensor], batch: Batch
) -> Tensor:
    torch.manual_seed(0)
    (view,) = regularizer.sample_views(batch)
    drawn = regularizer._geometry  # in single precision, which is too little for comparisons
    exact = (part.double() for part in (drawn.zoom, drawn.left, drawn.top))
    regularizer._geometry = Geometry(*exact, drawn.mirrored)
    found: Tensor = regularizer([first, second], [batch, view.batch], [[], []], 1.0)["consistency"]
    return found


def moved_back(regularizer: ConsistencyRegularization, values: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """One sample's prediction in the batch's frame ``[C, H, W]``, and the pixels that the view shows ``[H, W]``."""
    geometry = regularizer._geometry
    zoom, left, top = (float(part[b]) for part in (geometry.zoom, geometry.left, geometry.top))
    sign = -1.0 if bool(geometry.mirrored[b]) else 1.0
    rows = [[sign * zoom, 0, sign * ((1 - 2 * left) * zoom - 1)], [0, zoom, (1 - 2 * top) * zoom - 1]]
    grid = F.affine_grid(torch.tensor([rows], dtype=values.dtype), [1, 1, *SIZE], align_corners=False)
    moved = F.grid_sample(values[None], grid, padding_mode="border", align_corners=False)[0]
    return moved, (grid[0].abs() <= 1).all(-1)


@pytest.mark.parametrize("rows", AVAILABILITY.values(), ids=AVAILABILITY.keys())
def test_the_loss_is_that_of_a_loop_over_samples_and_tasks(rows: list[list[int]]) -> None:
    regularizer, batch = build(weight=3.0, views=ViewMaker(flip=0.5)), batch_of(rows)
    first, second = predictions_of(len(rows), 1), predictions_of(len(rows), 2)
    found = value(regularizer, first, second, batch)
    expected = torch.zeros((), dtype=torch.float64)
    for b in range(len(batch)):
        for k, name in enumerate(tasks()):
            if rows[b][k]:
                continue
            one = first[name][b]
            other, shown = moved_back(regularizer, second[name][b], b)
            zoom = float(regularizer._geometry.zoom[b])
            if name == "segmentation":
                other = other.log_softmax(0)
                loss = cross_entropy(one, other.detach()) + cross_entropy(other, one.detach())
            elif name == "depth":  # each is compared in its own metres
                loss = (one - zoom * other.detach()).abs()[0] + (other - one.detach() / zoom).abs()[0]
            elif name == "normals":
                other = mirrored(unit(other), regularizer, b)  # resampling has shortened it
                loss = 2 - (one * unit(other).detach()).sum(0) - (other * unit(one).detach()).sum(0)
            else:
                other = mirrored(other, regularizer, b)
                loss = ((one - other.detach()).abs() + (other - one.detach()).abs()).mean(0)
            expected = expected + loss[shown].mean() / 2
    tensors = [*first.values(), *second.values()]
    assert_same_with_gradients(found, 3.0 * expected / len(batch), tensors)


def unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.square().sum(0) + 1e-6).sqrt()


def mirrored(values: Tensor, regularizer: ConsistencyRegularization, b: int) -> Tensor:
    """The horizontal component, which comes first, points the other way in a mirrored view."""
    sign = -1.0 if bool(regularizer._geometry.mirrored[b]) else 1.0
    return torch.cat([sign * values[:1], values[1:]])


def cross_entropy(log_p: Tensor, log_q: Tensor) -> Tensor:
    sharp = log_q.exp() ** 2
    return -(sharp / sharp.sum(0) * log_p).sum(0)


def test_unlabelled_predictions_of_both_views_get_a_gradient_and_labelled_ones_none() -> None:
    batch = batch_of([[1, 0, 0, 0], [1, 0, 0, 0]])
    first, second = predictions_of(2, 1), predictions_of(2, 2)
    loss = value(build(), first, second, batch)
    reached = [bool(g.any()) for g in gradients(loss, [*first.values(), *second.values()])]
    assert reached == [False, True, True, True] * 2


def test_what_the_view_does_not_show_gets_no_gradient() -> None:
    regularizer = build(views=ViewMaker(scales=[1.5]))
    batch, first, second = batch_of([[1, 0, 1, 1]] * 3), predictions_of(3, 1), predictions_of(3, 2)
    (gradient,) = gradients(value(regularizer, first, second, batch), [first["depth"]])
    shown = regularizer._geometry.visible(*SIZE)
    assert not gradient[~shown].any()
    assert bool((gradient[shown] != 0).all())
    # A crop of two thirds of each side; its edges fall between pixels' centres.
    sides = 16 / 1.5
    assert all(int(sides) ** 2 <= n <= (int(sides) + 1) ** 2 for n in shown.sum((1, 2, 3)).tolist())


def test_predictions_that_follow_the_zoom_and_the_flip_cost_nothing() -> None:
    regularizer = build(views=ViewMaker(scales=[1.2, 1.5], flip=0.5))
    batch = batch_of([[1, 0, 1, 1]] * 4)
    across = (torch.arange(16, dtype=torch.float64) + 0.5).expand(4, 1, 16, 16)
    first = {**predictions_of(4), "depth": 3 + across}
    torch.manual_seed(0)
    regularizer.sample_views(batch)
    second = {**predictions_of(4), "depth": regularizer._geometry.apply(3 + across, Depth(), smooth=True)}
    # Bilinear resampling is exact on a slope but for the pixels at the edges of the view.
    assert value(regularizer, first, second, batch).item() < 0.02
    assert value(regularizer, first, {**second, "depth": 3 + across}, batch).item() > 0.5


def test_image_level_tasks_are_compared_without_pixels() -> None:
    both: dict[str, Task] = {"room": Classification(3), "pitch": Regression()}
    regularizer = ConsistencyRegularization(ramp=0).build(both)
    batch = Batch(
        torch.rand(2, 3, *SIZE),
        {"room": torch.tensor([0, -1]), "pitch": torch.full((2, 1), torch.nan)},
        torch.tensor([[True, False], [False, False]]),
        torch.zeros(2).long(),
        torch.arange(2),
    )
    room = torch.randn(2, 2, 3).log_softmax(2)
    pitch = torch.tensor([[[1.0], [2.0]], [[1.5], [2.0]]])
    views = [{"room": room[v], "pitch": pitch[v]} for v in (0, 1)]
    expected = (
        cross_entropy(room[0, 1], room[1, 1]) + cross_entropy(room[1, 1], room[0, 1])
    ) / 2 + 0.5**2 / 2
    torch.testing.assert_close(value(regularizer, views[0], views[1], batch), expected / 2)


class Blind(nn.Module):
    """Depth by colour alone: what a network does that has not learnt that a zoom brings things nearer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)
        nn.init.constant_(self.conv.weight, 0.5)
        nn.init.constant_(self.conv.bias, 2.0)

    def forward(self, image: Tensor) -> Tensor:
        return self.conv(image)  # type: ignore[no-any-return]


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("colours", [0, 2])
def test_a_network_that_is_blind_to_zooms_does_not_drift(inverse: bool, colours: int) -> None:
    """Without any label of depth. With one fixed reference the depth falls to a fraction within these steps."""
    maker = ViewMaker(photometric=Photometric(operations=colours))
    regularizer = ConsistencyRegularization(ramp=0, views=maker)
    regularizer.build({"depth": Depth(inverse=inverse)})
    network = Blind()
    images = torch.rand(8, 3, *SIZE)
    before = network(images).mean().item()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    for _ in range(150):
        batch = Batch(
            images,
            {"depth": torch.zeros(8, 1, *SIZE)},
            torch.zeros(8, 1).bool(),
            torch.zeros(8),
            torch.arange(8),
        )
        (view,) = regularizer.sample_views(batch)
        predictions = [{"depth": network(b.image)} for b in (batch, view.batch)]
        loss = regularizer(predictions, [batch, view.batch], [[], []], 1.0)["consistency"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert network(images).mean().item() == pytest.approx(before, rel=0.1)
