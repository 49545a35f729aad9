"""The scenarios against their definitions, for any number of samples and tasks and any seed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import (
    BoolArray,
    DomainSplit,
    FractionLabels,
    FullLabels,
    HalfLabels,
    OneLabel,
    RandomLabels,
    SampleTable,
    Scenario,
    SplitFile,
)
from jtr_lightning.splits import write_split

seeds = st.integers(0, 2**32)


def table(on_disk: BoolArray | tuple[int, int]) -> SampleTable:
    on_disk = np.ones(on_disk, dtype=bool) if isinstance(on_disk, tuple) else on_disk
    number, tasks = on_disk.shape
    return SampleTable(
        [f"sample{i}" for i in range(number)],
        tuple("abcdefgh"[:tasks]),
        on_disk,
        np.zeros(number, dtype=np.int64),
    )


@st.composite
def complete(draw: st.DrawFn) -> SampleTable:
    """A set of which every label exists, large enough that no scenario can leave a task out."""
    tasks = draw(st.integers(2, 7))
    return table((draw(st.integers(tasks, 60)), tasks))


@st.composite
def partial(draw: st.DrawFn) -> SampleTable:
    """A set some labels of which do not exist; every task has at least a few."""
    tasks = draw(st.integers(2, 6))
    number = draw(st.integers(40, 80))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    on_disk = rng.random((number, tasks)) < draw(st.floats(0.5, 1))
    return table(on_disk)


# Definitions


@given(samples=complete(), seed=seeds)
def test_full_labels_are_all(samples: SampleTable, seed: int) -> None:
    assert FullLabels().availability(samples, seed).all()


@given(samples=complete(), seed=seeds)
def test_one_label_is_exactly_one_and_balanced(samples: SampleTable, seed: int) -> None:
    available = OneLabel().availability(samples, seed)
    assert (available.sum(1) == 1).all()
    per_task = available.sum(0)
    assert per_task.max() - per_task.min() <= 1


def test_one_label_gives_the_odd_ones_to_any_task_and_order() -> None:
    draws = [OneLabel().availability(table((4, 3)), seed) for seed in range(60)]
    assert {int(d.sum(0).argmax()) for d in draws} == {0, 1, 2}
    assert len({d.tobytes() for d in draws}) > 20


@given(samples=complete(), seed=seeds)
def test_random_labels_are_some_but_not_all(samples: SampleTable, seed: int) -> None:
    drawn = RandomLabels().draw(samples, np.random.default_rng(seed))
    assert drawn.sum(1).min() >= 1
    assert drawn.sum(1).max() <= len(samples.tasks) - 1


def test_random_labels_draw_the_number_uniformly_and_then_the_subset() -> None:
    number, tasks = 6000, 4
    available = RandomLabels().availability(table((number, tasks)), 0)
    counts = Counter(available.sum(1).tolist())
    # Five standard deviations of a binomial.
    assert all(abs(counts[k] - number / 3) < 5 * (number * 2 / 9) ** 0.5 for k in (1, 2, 3))
    pairs = Counter(row.tobytes() for row in available if row.sum() == 2)
    assert len(pairs) == 6
    expected = counts[2] / 6
    assert all(abs(count - expected) < 5 * expected**0.5 for count in pairs.values())


@given(samples=complete(), seed=seeds)
def test_half_labels_are_half_and_use_every_task(samples: SampleTable, seed: int) -> None:
    tasks = len(samples.tasks)
    available = HalfLabels().availability(samples, seed)
    allowed = {max(1, tasks // 2), -(-tasks // 2)}
    assert set(available.sum(1).tolist()) <= allowed
    assert available.any(0).all()


def test_half_labels_of_an_odd_number_go_both_ways() -> None:
    number = 4000
    sums = HalfLabels().availability(table((number, 5)), 0).sum(1)
    assert set(sums.tolist()) == {2, 3}
    assert abs((sums == 2).sum() - number / 2) < 5 * (number / 4) ** 0.5


@pytest.mark.parametrize("tasks", [2, 4, 6])
def test_half_labels_use_every_task_of_the_smallest_set_that_can(tasks: int) -> None:
    """Two samples, half of the tasks each: only a draw of two complements uses them all."""
    for seed in range(50):
        available = HalfLabels().availability(table((2, tasks)), seed)
        assert available.sum(0).tolist() == [1] * tasks


def test_half_labels_use_every_task_that_exists_anywhere() -> None:
    on_disk = np.ones((12, 4), dtype=bool)
    on_disk[:, 3] = False
    on_disk[7, 3] = True
    for seed in range(40):
        available = HalfLabels().availability(table(on_disk), seed)
        assert available.any(0).all()
        assert available.sum(1).max() <= 2


@given(samples=complete(), seed=seeds, share=st.floats(0.01, 1))
def test_a_fraction_is_that_share_of_each_task(samples: SampleTable, seed: int, share: float) -> None:
    available = FractionLabels(share).availability(samples, seed)
    number = len(samples.names)
    assert available.sum(0).tolist() == [max(1, round(share * number))] * len(samples.tasks)


def test_a_fraction_can_differ_by_task_and_counts_what_exists() -> None:
    on_disk = np.ones((40, 3), dtype=bool)
    on_disk[:20, 1] = False
    available = FractionLabels({"a": 0.25, "b": 0.5}).availability(table(on_disk), 0)
    assert available.sum(0).tolist() == [10, 10, 40]


# What holds for all of them


def test_without_a_share_half_of_each_tasks_labels_are_kept() -> None:
    assert FractionLabels().availability(table((12, 3)), 0).sum(0).tolist() == [6, 6, 6]


SCENARIOS = [FullLabels(), OneLabel(), RandomLabels(), HalfLabels(), FractionLabels(0.4)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: type(s).__name__)
@given(samples=partial(), seed=seeds)
def test_what_is_not_on_disk_is_never_available(scenario: Scenario, samples: SampleTable, seed: int) -> None:
    available = scenario.availability(samples, seed)
    assert available.dtype == np.bool_
    assert available.shape == samples.on_disk.shape
    assert not (available & ~samples.on_disk).any()


@pytest.mark.parametrize("scenario", SCENARIOS[1:], ids=lambda s: type(s).__name__)
def test_a_draw_is_a_pure_function_of_scenario_seed_and_set(scenario: Scenario) -> None:
    samples = table((50, 4))
    first = scenario.availability(samples, 3)
    np.random.seed(99)  # noqa: NPY002
    assert np.array_equal(first, scenario.availability(samples, 3))
    assert not np.array_equal(first, scenario.availability(samples, 4))


def test_a_draw_is_the_same_in_another_process() -> None:
    code = (
        "import numpy as np; from jtr_lightning.scenarios import *;"
        "t = SampleTable([str(i) for i in range(40)], ('a','b','c'), np.ones((40, 3), bool), np.zeros(40, int));"
        "print(RandomLabels().availability(t, 5).astype(int).tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    samples = SampleTable(
        [str(i) for i in range(40)], ("a", "b", "c"), np.ones((40, 3), bool), np.zeros(40, int)
    )
    assert done.stdout.strip() == RandomLabels().availability(samples, 5).astype(int).tobytes().hex()


def test_scenarios_of_one_seed_are_not_drawn_from_the_same_numbers() -> None:
    samples = table((200, 2))
    one, random = OneLabel().availability(samples, 0), RandomLabels().availability(samples, 0)
    assert 0.35 < (one == random).mean() < 0.65


@pytest.mark.parametrize("scenario", [OneLabel(), RandomLabels()], ids=lambda s: type(s).__name__)
def test_a_million_samples_are_drawn_at_once(scenario: Scenario) -> None:
    number = 1_000_000
    many = SampleTable(range(number), ("a", "b", "c"), np.ones((number, 3), bool), np.zeros(number, int))  # type: ignore[arg-type]
    assert scenario.availability(many, 0).sum(0).min() > 0.3 * number


# Errors


@pytest.mark.parametrize(
    "scenario", [OneLabel(), RandomLabels(), HalfLabels()], ids=lambda s: type(s).__name__
)
def test_one_task_is_too_few_to_hide_some(scenario: Scenario) -> None:
    message = (
        rf"{type(scenario).__name__} should be used with at least 2 tasks.*found 1 \(a\)\. Use FullLabels"
    )
    with pytest.raises(ConfigError, match=message):
        scenario.availability(table((5, 1)), 0)


def test_a_task_without_any_label_is_refused_with_its_name() -> None:
    on_disk = np.ones((6, 3), dtype=bool)
    on_disk[:, 1] = False
    with pytest.raises(
        ConfigError, match=r"FullLabels with seed 0 leaves none for task 'b' \(0 of 6 samples have"
    ):
        FullLabels().availability(table(on_disk), 0)
    with pytest.raises(
        ConfigError, match=r"OneLabel with seed 7 leaves none for task '[abc]' \(2 of 2 samples"
    ):
        OneLabel().availability(table((2, 3)), 7)


@pytest.mark.parametrize("fraction", [0, 1.01, -0.5, float("nan"), {"a": 0.5, "b": 0}])
def test_a_share_out_of_range_is_refused(fraction: float | dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="`fraction` should be above 0 and at most 1; found"):
        FractionLabels(fraction)


def test_a_share_for_an_unknown_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="found 'dept', known are 'a', 'b'"):
        FractionLabels({"dept": 0.5}).availability(table((4, 2)), 0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigError, match="`seed` should be at least 0; found -2"):
        FullLabels().availability(table((4, 2)), -2)


class Wrong(Scenario):
    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        return np.ones((len(table.names), 1), dtype=bool)


def test_a_scenario_of_ones_own_that_draws_another_shape_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Wrong\.draw\(\) should give bool \[4, 2\].*found bool \[4, 1\]"):
        Wrong().availability(table((4, 2)), 0)


# Files


def test_a_split_file_is_followed_and_still_anded_with_the_disk(tmp_path: Path) -> None:
    samples = table(np.array([[1, 1], [1, 0], [1, 1]], dtype=bool))
    wanted = np.array([[1, 0], [0, 1], [0, 1]], dtype=bool)
    write_split(tmp_path / "split.csv", samples.names, samples.tasks, wanted)
    available = SplitFile(tmp_path / "split.csv").availability(samples, 0)
    assert available.tolist() == [[True, False], [False, False], [False, True]]


def test_a_split_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found no file '.*none\.csv'"):
        SplitFile(tmp_path / "none.csv").availability(table((2, 2)), 0)


def test_scenarios_say_how_they_were_made() -> None:
    assert SplitFile("a.csv").describe()["init_args"] == {"path": "a.csv"}
    assert FractionLabels({"a": 0.5}).describe()["init_args"] == {"fraction": {"a": 0.5}}


# Task and domain


@given(st.integers(2, 6), st.integers(2, 6), seeds)
def test_domain_split_deals_tasks_and_domains_to_one_another(tasks: int, domains: int, seed: int) -> None:
    samples = table((60, tasks))
    domain = np.arange(60) % domains * 10
    available = DomainSplit().availability(replace(samples, domain=domain), seed)
    by_domain = [available[domain == d] for d in np.unique(domain)]
    assert all((rows == rows[0]).all() for rows in by_domain)
    dealt = np.array([rows[0] for rows in by_domain])
    assert dealt.sum() == max(tasks, domains)
    assert dealt.any(0).all()
    assert dealt.any(1).all()
    if domains >= tasks:
        assert (dealt.sum(1) == 1).all()
    else:
        assert (dealt.sum(0) == 1).all()


def test_another_seed_gives_domains_other_tasks() -> None:
    samples = replace(table((12, 3)), domain=np.arange(12) % 3)
    assert len({DomainSplit().availability(samples, seed).tobytes() for seed in range(20)}) == 6


def test_domain_split_needs_two_domains() -> None:
    with pytest.raises(ConfigError, match=r"at least 2 domains; found one"):
        DomainSplit().availability(table((12, 3)), 0)


def test_domain_split_needs_two_tasks() -> None:
    samples = replace(table((12, 1)), domain=np.arange(12) % 3)
    with pytest.raises(ConfigError, match=r"DomainSplit should be used with at least 2 tasks.*found 1 \(a\)"):
        DomainSplit().availability(samples, 0)


def test_a_negative_seed_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"Parameter `seed` should be at least 0; found -1"):
        OneLabel().availability(table((12, 3)), -1)
