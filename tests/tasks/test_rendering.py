"""What colours stand for: the pictures of each kind of task, value by value."""

import colorsys
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
    rendering,
)

GREY = [64, 64, 64]


def scale(colours: int, *steps: int) -> list[list[int]]:
    """OpenCV's colours at some of the 256 steps of a scale, RGB."""
    table = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], colours)[:, 0, ::-1]
    return table[list(steps)].tolist()


def pixels(picture: Tensor) -> list[list[int]]:
    """The colours of a picture of one row."""
    assert picture.dtype == torch.uint8
    assert picture.shape[:3] == (1, 3, 1)
    return picture[0, :, 0].T.tolist()


def row(*values: list[float]) -> Tensor:
    """Values of some channels, ``[1, C, 1, W]``."""
    return torch.tensor(values).T[None, :, None]


def test_three_channels_are_red_green_and_blue() -> None:
    values = row([-1.0, 0.0, 0.2], [0.5, 1.0, 2.0], [float("nan"), 0.0, 1.0], [0.1, 0.1, 0.1])
    valid = torch.tensor([True, True, True, False]).view(1, 1, 1, 4)
    assert pixels(rendering.as_rgb(values, valid)) == [[0, 0, 51], [128, 255, 255], [0, 0, 255], GREY]


@pytest.mark.parametrize(("error", "colours"), [(False, cv2.COLORMAP_TURBO), (True, cv2.COLORMAP_INFERNO)])
def test_one_channel_is_a_scale_of_256_colours(error: bool, colours: int) -> None:
    values = torch.tensor([[[-3.0, 0.0, 0.4, 1.0, 7.0, float("nan"), 0.4]]])
    valid = torch.tensor([[[True] * 6 + [False]]])
    expected = [*scale(colours, 0, 0, 102, 255, 255, 0), GREY]
    assert pixels(rendering.colour_map(values, valid, error=error)) == expected


def test_the_colours_of_errors_are_even_steps_of_their_scale() -> None:
    assert rendering.error_colours(2) == scale(cv2.COLORMAP_INFERNO, 0, 255)
    assert rendering.error_colours(4) == scale(cv2.COLORMAP_INFERNO, 0, 85, 170, 255)


def test_the_colours_of_classes() -> None:
    found = [colorsys.rgb_to_hsv(*(c / 255 for c in rgb)) for rgb in rendering.distinct_colours(12)]
    for i, (_, saturation, value) in enumerate(found):
        # Every class differs from its neighbours in saturation, and each third one in brightness.
        assert saturation == pytest.approx((0.75, 0.45, 0.95)[i % 3], abs=0.02)
        assert value == pytest.approx((0.95, 0.8, 0.6)[i // 3 % 3], abs=0.01)
    assert found[0][0] == pytest.approx(0.08, abs=0.01)
    for (before, *_), (after, *_) in pairwise(found):
        assert (after - before) % 1 == pytest.approx(0.618, abs=0.02)


def test_texts_are_dark_on_white() -> None:
    cards = rendering.text_cards(["", "two words", "twowords"], torch.device("cpu"))
    assert cards.shape == (3, 3, 48, 96)
    empty, two, one = (card.amin(0) for card in cards)
    assert (empty == 255).all()
    assert 20 <= int(cards.min()) < 60
    for text in (two, one):
        dark = (text < 128).nonzero()
        assert dark[:, 1].min() >= 4
        assert dark[:, 0].min() >= 16
    # The second word stands below the first.
    assert (two < 128).nonzero()[:, 0].max() > (one < 128).nonzero()[:, 0].max() + 8
    assert (two < 128).nonzero()[:, 1].max() < (one < 128).nonzero()[:, 1].max()
    assert rendering.text_cards(["a"], torch.device("cpu"), height=20, width=30).shape == (1, 3, 20, 30)


# The kinds of tasks


def test_a_depth_spreads_its_display_range_over_the_scale() -> None:
    picture = Depth(display_range=(2.0, 7.0)).render(row([1.0], [2.0], [4.0], [7.0], [9.0], [0.0]))
    assert pixels(picture) == [*scale(cv2.COLORMAP_TURBO, 0, 0, 102, 255, 255), GREY]
    assert Depth().legend().scale == (0.0, 8.0), "metres, of a room"


def test_a_value_spreads_its_range_over_the_scale() -> None:
    picture = DenseRegression(1, low=-1.0, high=4.0).render(row([-2.0], [-1.0], [1.0], [4.0], [float("nan")]))
    assert pixels(picture) == [*scale(cv2.COLORMAP_TURBO, 0, 0, 102, 255), GREY]


def test_two_and_three_values_are_colours_and_of_more_the_first_is_a_scale() -> None:
    values = [-1.0, 0.0, 4.0, 1.0, 1.0]
    for channels, expected in (
        (2, [0, 51, 128]),
        (3, [0, 51, 255]),
        (4, scale(cv2.COLORMAP_TURBO, 0)[0]),
    ):
        picture = DenseRegression(channels, low=-1.0, high=4.0).render(row(values[:channels]))
        assert pixels(picture) == [expected]


def test_a_normal_is_a_colour() -> None:
    picture = Normals().render(row([1.0, -1.0, 0.0], [0.0, 0.6, -0.8], [0.0, 0.0, 0.0]))
    assert pixels(picture) == [[255, 0, 128], [128, 204, 25], GREY]


def test_the_legend_of_normals_shows_both_ends_of_each_axis() -> None:
    colours = Normals().legend().colours
    assert list(colours) == ["+x (right)", "+y", "+z", "-x (left)", "-y", "-z"]
    ends = [[255, 128, 128], [128, 255, 128], [128, 128, 255], [0, 128, 128], [128, 0, 128], [128, 128, 0]]
    assert list(colours.values()) == ends


@pytest.mark.parametrize(("unit", "name"), [("m", "0 m or less"), ("", "0 or less")])
def test_the_legend_of_a_depth_says_what_grey_is(unit: str, name: str) -> None:
    legend = Depth(unit=unit, display_range=(1.0, 5.0)).legend()
    assert {key: list(colour) for key, colour in legend.colours.items()} == {name: GREY}
    assert (legend.scale, legend.unit) == ((1.0, 5.0), unit)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_legend_of_values_is_a_scale_where_their_picture_has_one(channels: int) -> None:
    legend = DenseRegression(channels, low=-1.0, high=4.0, unit="u").legend()
    assert legend.scale == (None if channels in (2, 3) else (-1.0, 4.0))
    assert (legend.colours, legend.unit) == ({}, "u")


def test_the_legend_of_classes_is_their_palette() -> None:
    task = Segmentation(["floor", "wall"], palette=[[1, 2, 3], [4, 5, 6]])
    assert task.legend().colours == {"floor": [1, 2, 3], "wall": [4, 5, 6]}
    right, wrong = scale(cv2.COLORMAP_INFERNO, 0, 255)
    assert task.error_legend().colours == {"right": right, "wrong": wrong}


@pytest.mark.parametrize(
    ("task", "target", "text"),
    [
        (Classification(["attic", "hall"]), torch.tensor([1]), "hall"),
        (Classification(["attic", "hall"]), torch.tensor([-1]), "no label"),
        (Regression(2, unit="deg"), torch.tensor([[1.0, 2.345]]), "1.00 2.35 deg"),
        (Regression(2, unit="deg"), torch.tensor([[1.0, float("nan")]]), "no label"),
    ],
)
def test_a_task_without_pixels_writes_its_value(task: Task, target: Tensor, text: str) -> None:
    assert torch.equal(task.render(target), rendering.text_cards([text], target.device))
