"""Names of samples in two arrays read like a list of texts."""

import numpy as np
import pytest

from jtr_lightning.data.names import Names

TEXTS = ["b/a 1", "", "räum 数", "bytes of no UTF-8 \udcff", *(f"frame_{i}" for i in range(25_000))]


def test_they_read_like_a_list() -> None:
    names = Names(TEXTS)
    assert len(names) == len(TEXTS)
    assert list(names) == TEXTS
    assert [names[i] for i in range(len(names))] == TEXTS
    assert list(Names(iter(()))) == []


@pytest.mark.parametrize("index", [-1, len(TEXTS)])
def test_there_are_no_others(index: int) -> None:
    with pytest.raises(IndexError):
        Names(TEXTS)[index]


def test_some_are_taken() -> None:
    which = np.array([3, 1, 24_000, 3])
    assert list(Names(TEXTS).take(which)) == [TEXTS[i] for i in which]
    assert list(Names(TEXTS).take(np.array([], np.int64))) == []
