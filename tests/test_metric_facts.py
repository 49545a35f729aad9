"""The delta against its equation, and where there is none."""

from __future__ import annotations

import math

import pytest

from jtr_lightning.metric_facts import delta

UP = {"segmentation": True, "depth": False, "normals": False}
"""The tasks of NYU-v2, and whether higher is better."""


def test_delta_of_a_published_row() -> None:
    # JTR against supervised MTL, NYU-v2 randomlabels, as printed on the authors' poster: +21.92.
    supervised = {"segmentation": 27.05, "depth": 0.6624, "normals": 33.58}
    jtr = {"segmentation": 37.08, "depth": 0.5541, "normals": 29.44}
    assert delta(jtr, supervised, UP) == pytest.approx(21.92, abs=0.01)


def test_delta_of_the_baseline_itself_is_0_and_worse_is_negative() -> None:
    values = {"segmentation": 0.3, "depth": 0.5, "normals": 20.0}
    assert delta(values, values, UP) == 0
    assert delta({**values, "depth": 0.6}, values, UP) == pytest.approx(-100 * 0.2 / 3)


def test_delta_wants_every_task_and_a_baseline_above_zero() -> None:
    better = {"a": True, "b": False}
    assert delta({"a": 2.0, "b": 0.5}, {"a": 1.0, "b": 1.0}, better) == pytest.approx(75)
    assert delta({"a": 2.0}, {"a": 1.0, "b": 1.0}, better) is None
    assert delta({"a": 2.0, "b": 0.5}, {"a": 1.0}, better) is None
    for base in (0.0, -1.0):  # over which a better value would count as worse
        assert delta({"a": 2.0, "b": 0.5}, {"a": base, "b": 1.0}, better) is None
        assert delta({"a": 2.0, "b": 0.5}, {"a": 1.0, "b": base}, better) is None


def test_a_value_that_is_no_number_has_no_delta() -> None:
    better = {"a": True, "b": False}
    for bad in (math.nan, math.inf):
        assert delta({"a": bad, "b": 0.5}, {"a": 1.0, "b": 1.0}, better) is None
        assert delta({"a": 2.0, "b": 0.5}, {"a": bad, "b": 1.0}, better) is None
    assert delta({"a": math.inf, "b": math.inf}, {"a": 1.0, "b": 1.0}, better) is None
