"""A view moves the image and every label alike, does to the values what geometry does, and never waits."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.described import rebuild
from jtr_lightning.errors import ConfigError
from jtr_lightning.regularizers.photometric import Photometric
from jtr_lightning.regularizers.views import Geometry, ViewMaker
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Normals, Segmentation, Task
from tests.regularizers.helpers import random_batch

SIZE = H, W = 24, 32
COLOURS_KEPT = Photometric(operations=0)


def coordinates(b: int) -> Tensor:
    """Every pixel's own column and row, in pixels ``[B, 2, H, W]``."""
    rows, columns = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    return torch.stack([columns, rows]).float().expand(b, -1, -1, -1)


def coordinate_batch(b: int) -> tuple[Batch, dict[str, Task]]:
    """Image and all labels say in their own layout where each pixel was."""
    tasks = {
        "columns": Segmentation(W),
        "place": DenseRegression(channels=2, high=W),
        "depth": Depth(),
        "room": Classification(5),
    }
    place = coordinates(b)
    image = torch.cat([place / W, torch.zeros(b, 1, H, W)], 1)
    labels = {
        "columns": place[:, 0].long(),
        "place": place,
        "depth": 1 + place[:, :1],
        "room": torch.randint(5, (b,)),
    }
    available = torch.ones(b, len(tasks), dtype=torch.bool)
    return Batch(image, labels, available, torch.zeros(b).long(), torch.arange(b)), tasks


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), flip=st.sampled_from([0.0, 0.5, 1.0]))
def test_the_image_and_all_labels_move_alike(seed: int, flip: float) -> None:
    torch.manual_seed(seed)
    batch, tasks = coordinate_batch(8)
    view, geometry = ViewMaker(flip=flip, photometric=COLOURS_KEPT)(batch, tasks)
    seen = view.image[:, :2] * W
    place = view.labels["place"]
    # Nearest is at most half a pixel from where bilinear looked.
    assert float((seen - place).abs().max()) <= 0.5 + 1e-3
    assert torch.equal(view.labels["columns"].float(), place[:, 0])
    zoom = geometry.zoom.view(-1, 1, 1, 1)
    assert torch.allclose(view.labels["depth"] * zoom, 1 + place[:, :1], rtol=1e-6)
    assert torch.equal(view.labels["room"], batch.labels["room"])
    steps = torch.sign(seen[:, 0, :, 1:] - seen[:, 0, :, :-1]).mean((1, 2))
    mirrored = torch.zeros(8, dtype=torch.bool) if geometry.mirrored is None else geometry.mirrored
    assert torch.equal(steps < 0, mirrored)


def test_nearest_labels_have_no_bias_against_the_image() -> None:
    batch, tasks = coordinate_batch(64)
    view, geometry = ViewMaker(photometric=COLOURS_KEPT)(batch, tasks)
    difference = (view.image[:, :2] * W - view.labels["place"])[geometry.zoom > 1]
    assert (
        abs(float(difference.mean())) < 0.03
    )  # a pixel's corner in place of its centre would give about 0.2


def test_the_crop_is_one_over_zoom_large_inside_the_image_and_different_for_each_sample() -> None:
    batch, tasks = coordinate_batch(60)
    view, geometry = ViewMaker(scales=(1, 1.2, 1.5), photometric=COLOURS_KEPT)(batch, tasks)
    assert sorted(set(geometry.zoom.tolist())) == pytest.approx([1, 1.2, 1.5])
    place = view.image[:, :2] * W
    width = place[:, 0].amax((1, 2)) - place[:, 0].amin((1, 2))
    # From the first to the last pixel's centre; at the image's edge the outermost pixels are repeated.
    assert torch.allclose(width, (W - 1) / geometry.zoom, atol=0.35)
    assert bool((geometry.left >= 0).all())
    assert bool((geometry.left <= 1 - 1 / geometry.zoom + 1e-6).all())
    cropped = geometry.zoom > 1
    assert len(set(geometry.left[cropped].tolist())) == int(cropped.sum())
    assert len(set((geometry.left - geometry.top)[cropped].tolist())) == int(cropped.sum())


def test_no_zoom_and_no_flip_changes_nothing() -> None:
    batch, tasks = coordinate_batch(3)
    view, _ = ViewMaker(scales=[1.0], photometric=COLOURS_KEPT)(batch, tasks)
    assert torch.allclose(view.image, batch.image, atol=1e-5)
    for name, label in batch.labels.items():
        assert torch.equal(view.labels[name], label)


def test_values_change_with_the_geometry() -> None:
    tasks = {
        "depth": Depth(),
        "disparity": Depth(inverse=True),
        "normals": Normals(),
        "flow": DenseRegression(channels=2, low=-1, signed_channels=[0]),
    }
    labels = {
        "depth": torch.full((6, 1, H, W), 3.0),
        "disparity": torch.full((6, 1, H, W), 3.0),
        "normals": torch.tensor([0.6, 0.0, -0.8]).view(1, 3, 1, 1).expand(6, -1, H, W),
        "flow": torch.tensor([0.5, 0.25]).view(1, 2, 1, 1).expand(6, -1, H, W),
    }
    batch = replace(coordinate_batch(6)[0], labels=labels)
    view, geometry = ViewMaker(scales=(1.2, 1.5), flip=0.5)(batch, tasks)
    assert geometry.mirrored is not None
    assert 0 < int(geometry.mirrored.sum()) < 6
    sign = 1 - 2 * geometry.mirrored.float()
    middle = {name: label[:, :, H // 2, W // 2] for name, label in view.labels.items()}
    assert torch.allclose(middle["depth"][:, 0], 3 / geometry.zoom)
    assert torch.allclose(middle["disparity"][:, 0], 3 * geometry.zoom)
    assert torch.allclose(middle["normals"][:, 0], 0.6 * sign)
    assert torch.equal(middle["normals"][:, 1:], torch.tensor([0.0, -0.8]).expand(6, -1))
    assert torch.allclose(middle["flow"], torch.stack([0.5 * sign, torch.full((6,), 0.25)], 1))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), flip=st.sampled_from([0.0, 0.5]))
def test_what_is_undone_is_back_in_its_place_with_its_value(seed: int, flip: float) -> None:
    torch.manual_seed(seed)
    tasks: dict[str, Task] = {
        "place": DenseRegression(channels=2, high=W),
        "flow": DenseRegression(channels=2, low=-1, high=W, signed_channels=[0]),
        "depth": Depth(),
        "disparity": Depth(inverse=True),
    }
    geometry = ViewMaker(flip=flip).draw(coordinate_batch(6)[0])
    shown = geometry.visible(H, W)
    share = shown.flatten(1).float().mean(1)
    assert torch.allclose(share, geometry.zoom**-2, atol=0.1)
    # Without the view's outermost pixels, which are repeated where it ends.
    inner = -F.max_pool2d(F.pad(-shown.float(), (2, 2, 2, 2)), 5, stride=1) > 0
    for task in tasks.values():
        values = coordinates(6)[:, : task.channels] + 1
        back = geometry.undo(geometry.apply(values, task, smooth=True), task)
        assert float(((back - values).abs() * inner).max()) < 1e-3
        kept = geometry.undo(geometry.apply(values, task, smooth=True), task, keep_zoom=True)
        assert torch.allclose(kept, task.zoomed(back, geometry.zoom))


def test_what_comes_between_two_predictions_is_one() -> None:
    geometry = ViewMaker(scales=[1.5]).draw(coordinate_batch(2)[0])
    classes, normals = Segmentation(3), Normals()
    stripes = (torch.arange(W) // 2 % 3).expand(2, H, W)
    one_hot = F.one_hot(stripes, 3).movedim(-1, 1).float()
    # Certain of one class in a stripe and of another in the next; normals at right angles.
    probabilities = geometry.apply(classes.activate(7 * one_hot), classes, smooth=True).exp()
    assert torch.allclose(probabilities.sum(1), torch.ones(2, H, W), atol=1e-5)
    lengths = geometry.apply(normals.activate(one_hot), normals, smooth=True).norm(dim=1)
    assert torch.allclose(lengths, torch.ones(2, H, W), atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_blanks_stay_blank_and_no_value_is_mixed(seed: int) -> None:
    torch.manual_seed(seed)
    tasks: dict[str, Task] = {
        "segmentation": Segmentation(5),
        "depth": Depth(),
        "normals": Normals(),
        "edges": DenseRegression(),
    }
    available = torch.rand(6, 4) < 0.5
    batch = random_batch(tasks, available, SIZE, holes=0.3)
    view, geometry = ViewMaker(flip=0.5)(batch, tasks)
    assert torch.equal(view.available, available)
    for k, (name, task) in enumerate(tasks.items()):
        before, after = batch.labels[name], view.labels[name]
        assert after.dtype == before.dtype
        assert not task.valid(after)[~available[:, k]].any()
        hidden = after[~available[:, k]]
        assert torch.equal(hidden.nan_to_num(nan=-7), task.blank(*SIZE).expand_as(hidden).nan_to_num(nan=-7))
        moved = geometry.move(task.valid(before))
        assert torch.equal(task.valid(after), moved)
    # A flip negates a normal's first component.
    normals = [b.labels["normals"].abs().movedim(1, -1).reshape(-1, 3).tolist() for b in (batch, view)]
    assert {tuple(n) for n in normals[1]} <= {tuple(n) for n in normals[0]}
    edges_before = set(batch.labels["edges"].nan_to_num(nan=-7).flatten().tolist())
    assert set(view.labels["edges"].nan_to_num(nan=-7).flatten().tolist()) <= edges_before


def test_a_view_changes_colours_and_leaves_the_batch_alone() -> None:
    batch, tasks = coordinate_batch(8)
    image, labels = batch.image.clone(), {n: label.clone() for n, label in batch.labels.items()}
    view, geometry = ViewMaker(scales=[1.0])(batch, tasks)
    assert not torch.allclose(view.image, geometry.move(batch.image, smooth=True), atol=1e-3)
    assert torch.equal(batch.image, image)
    assert all(torch.equal(batch.labels[n], label) for n, label in labels.items())
    assert torch.equal(view.index, batch.index)
    view.validate(tasks)


def test_views_repeat_with_the_seed() -> None:
    batch, tasks = coordinate_batch(8)
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(ViewMaker(flip=0.5)(batch, tasks)[0])
    assert torch.equal(views[0].image, views[1].image)
    assert torch.equal(views[0].labels["place"], views[1].labels["place"])
    assert not torch.equal(views[0].image, views[2].image)


class TestPredictionsInTheViewsFrame:
    geometry = Geometry(
        zoom=torch.tensor([1.5, 1.2, 1.0]),
        left=torch.tensor([0.1, 0.0, 0.0]),
        top=torch.tensor([0.3, 0.1, 0.0]),
        mirrored=torch.tensor([True, False, True]),
    )

    def test_a_smooth_map_lands_where_the_image_does(self) -> None:
        batch, tasks = coordinate_batch(3)
        image = self.geometry.move(batch.image, smooth=True)
        place = self.geometry.apply(coordinates(3), tasks["place"], smooth=True)
        assert torch.allclose(place, image[:, :2] * W, atol=1e-4)

    def test_depth_is_divided_and_the_gradient_goes_back_to_the_pixels_looked_at(self) -> None:
        depth = torch.full((3, 1, H, W), 2.0, requires_grad=True)
        moved = self.geometry.apply(depth, Depth(), smooth=True)
        assert torch.allclose(moved[:, 0, 5, 5], 2.0 / self.geometry.zoom)
        moved.sum().backward()
        # Sample 0 looks at a crop of 1 / 1.5 of the height that begins at 0.3: rows 7.2 to 23.2 of 24.
        assert float(depth.grad[0, :, :6].abs().sum()) == 0
        assert float(depth.grad[0, :, 9:22, 5:23].min()) > 0
        # Every pixel of the view is a weighted mean, divided by the zoom.
        assert float(depth.grad[0].sum()) == pytest.approx(H * W / 1.5, rel=1e-4)

    def test_another_resolution_is_the_same_place(self) -> None:
        half = torch.nn.functional.avg_pool2d(coordinates(3), 2)
        place = self.geometry.apply(half, DenseRegression(channels=2), smooth=True)
        full = self.geometry.apply(coordinates(3), DenseRegression(channels=2), smooth=True)
        inner = torch.nn.functional.avg_pool2d(full, 2)[..., 1:-1, 1:-1]
        assert float((place[..., 1:-1, 1:-1] - inner).abs().max()) < 0.5

    def test_lower_precision_is_moved_in_float32(self) -> None:
        values = torch.rand(3, 2, H, W).to(torch.bfloat16)
        moved = self.geometry.move(values, smooth=True)
        assert moved.dtype == torch.float32
        assert torch.allclose(moved, self.geometry.move(values.float(), smooth=True))


def test_autocast_does_not_move_pixels() -> None:
    batch, tasks = coordinate_batch(4)
    torch.manual_seed(0)
    plain, _ = ViewMaker(flip=0.5)(batch, tasks)
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, _ = ViewMaker(flip=0.5)(batch, tasks)
    assert torch.equal(plain.image, low.image)
    assert torch.equal(plain.labels["columns"], low.labels["columns"])


def test_a_checkpoint_can_make_it_again() -> None:
    maker = ViewMaker(scales=(1.0, 2.0), flip=0.25, photometric=Photometric(operations=1, strength=3))
    again = rebuild(maker.describe())
    assert (again.scales, again.flip) == ((1.0, 2.0), 0.25)
    assert (again.photometric.operations, again.photometric.strength) == (1, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scales": []}, r"`scales` should be a list of finite magnifications of at least 1; found \[\]"),
        ({"scales": [1.0, float("inf")]}, r"finite magnifications of at least 1; found \[1\.0, inf\]"),
        ({"scales": [1.0, 0.5]}, r"`scales` should be .* found \[1.0, 0.5\]"),
        ({"flip": 1.5}, r"`flip` should be a probability in \[0, 1\]; found 1.5"),
    ],
)
def test_refuses_settings_that_cannot_work(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ViewMaker(**arguments)
