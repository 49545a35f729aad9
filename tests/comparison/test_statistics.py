"""Numbers over seeds against their closed forms."""

from __future__ import annotations

import math

import pytest

from jtr_lightning.comparison.statistics import Paired, Summary, gap_closed, paired_difference, summary


def test_summary_has_the_deviation_of_a_sample() -> None:
    assert summary([1.0, 2.0, 3.0]) == Summary(2.0, 1.0, 3)
    assert summary([4.0]) == Summary(4.0, None, 1)
    assert summary([]) is None


def test_a_value_that_is_no_number_is_missing() -> None:
    for bad in (math.nan, math.inf):
        assert summary([1.0, bad, 3.0]) == Summary(2.0, math.sqrt(2), 2)
        assert summary([bad, bad]) is None
        assert gap_closed(bad, 0.4, 0.8, True) is None
        assert gap_closed(0.5, bad, 0.8, True) is None
        assert paired_difference({0: bad, 1: 4.0}, {0: 1.0, 1: 1.0}) == Paired(3.0, None, None, 1)


@pytest.mark.parametrize(
    ("value", "baseline", "full", "higher", "expected"),
    [
        (0.5, 0.4, 0.8, True, 0.25),
        (0.3, 0.4, 0.8, True, -0.25),
        (1.0, 0.4, 0.8, True, 1.5),
        (0.7, 0.9, 0.5, False, 0.5),
        (0.7, 0.5, 0.9, False, None),
        (0.5, 0.8, 0.4, True, None),
        (0.5, 0.4, 0.4, True, None),
    ],
)
def test_gap_closed(value: float, baseline: float, full: float, higher: bool, expected: float | None) -> None:
    found = gap_closed(value, baseline, full, higher)
    assert found == (None if expected is None else pytest.approx(expected))


def test_paired_difference_of_three_seeds() -> None:
    found = paired_difference({0: 2.0, 1: 4.0, 2: 6.0, 7: 99.0}, {2: 3.0, 1: 2.0, 0: 1.0, 8: 0.0})
    assert found is not None
    # Differences 1, 2, 3: standard error 1/sqrt(3); Student's t for 2 degrees of freedom has a closed quantile.
    p = 0.975
    t = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    assert (found.mean, found.number) == (2.0, 3)
    assert found.low == pytest.approx(2 - t / math.sqrt(3))
    assert found.high == pytest.approx(2 + t / math.sqrt(3))


def test_paired_difference_of_one_seed_or_none() -> None:
    assert paired_difference({0: 2.0, 1: 4.0}, {1: 1.0}) == Paired(3.0, None, None, 1)
    assert paired_difference({0: 2.0}, {1: 1.0}) is None
