"""Resizing images and labels of any type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtr_lightning.data.resizing import resize, resize_image, resize_label
from jtr_lightning.errors import ConfigError

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(
    before=sizes,
    after=sizes,
    channels=st.sampled_from([None, 1, 2, 5]),
    dtype=st.sampled_from("?bBehHiIfqQd"),
)
def test_a_label_takes_the_nearest_pixels_value(
    before: tuple[int, int], after: tuple[int, int], channels: int | None, dtype: str
) -> None:
    shape = before if channels is None else (*before, channels)
    label = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    found = resize_label(label, after)
    assert found.dtype == label.dtype
    assert found.shape == (*after, *shape[2:])
    # Centres of the new pixels in units of the old: a half may go either way.
    choices = []
    for axis in (0, 1):
        centre = (np.arange(after[axis]) + 0.5) * before[axis] / after[axis]
        choices.append(
            [np.clip(np.floor(centre + e), 0, before[axis] - 1).astype(int) for e in (-1e-4, 1e-4)]
        )
    expected = [label[rows][:, columns] for rows in choices[0] for columns in choices[1]]
    assert np.logical_or.reduce([found == e for e in expected]).all()


def test_an_image_is_averaged_where_it_shrinks() -> None:
    checkered = np.zeros((8, 8, 3), np.uint8)
    checkered[::2, ::2] = checkered[1::2, 1::2] = 200
    assert (resize_image(checkered, (4, 4)) == 100).all()
    assert resize_image(checkered, (16, 12)).shape == (16, 12, 3)


def test_image_and_labels_are_resized_alike() -> None:
    image = np.repeat(np.repeat(np.arange(4, dtype=np.uint8), 6)[None] * 50, 12, 0)
    image = np.stack([image] * 3, -1)
    small, labels = resize(image, {"copy": image[..., :1].astype(np.float64)}, (6, 12))
    assert np.abs(small[..., :1] - labels["copy"]).max() <= 25


def test_too_many_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"at most 128 channels; found 200\. Split it into several tasks"):
        resize_label(np.zeros((4, 4, 200)), (2, 2))
