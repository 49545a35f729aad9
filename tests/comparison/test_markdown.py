"""As many digits as mean something."""

from __future__ import annotations

import math

import pytest

from jtr_lightning.comparison.markdown import cell, interval, table
from jtr_lightning.comparison.statistics import Paired


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""),
        ([0.123456], "0.1235"),
        ([0.4, 0.4], "0.4 ± 0"),
        ([0.2, 0.3], "0.250 ± 0.071"),
        ([30.0, 50.0], "40 ± 14"),
        ([1000.0, 3000.0], "2000 ± 1414"),
        ([34.9, 34.90001], "34.90 ± 0.00"),  # no more than four digits
        ([0.0, 0.0], "0 ± 0"),
        ([-0.001, 0.0], "-0.00050 ± 0.00071"),
        ([0.2, math.nan, 0.3], "0.250 ± 0.071 (2 of 3)"),
        ([math.inf, 0.4], "0.4 (1 of 2)"),
        ([math.nan], "(0 of 1)"),
    ],
)
def test_mean_and_deviation(values: list[float], text: str) -> None:
    assert cell(values) == text


def test_a_given_form_wins() -> None:
    assert cell([1.0, 3.0], "+.2f") == "+2.00 ± 1.41"
    assert cell([-0.001], "+.2f") == "+0.00"


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        (None, ""),
        (Paired(-0.25, None, None, 1), "-0.25"),
        (Paired(-0.25, -0.88532, 0.38532, 2), "-0.25 [-0.89, +0.39]"),
        (Paired(0.001, -0.9, 0.902, 2), "+0.00 [-0.90, +0.90]"),
    ],
)
def test_intervals(pair: Paired | None, text: str) -> None:
    assert interval(pair) == text


def test_a_table() -> None:
    assert table(["a", "b"], [["x", "1"]]) == "| a | b |\n| --- | ---: |\n| x | 1 |"
