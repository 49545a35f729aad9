"""Who gets which sample in which epoch."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jtr_lightning.data.sampler import EpochSampler, sample_seed

numbers = st.integers(1, 40)
worlds = st.integers(1, 5)


def ranks(
    number: int, training: bool, world: int, seed: int = 0, epoch: int = 0
) -> list[list[tuple[int, int]]]:
    samplers = [EpochSampler(range(number), training, seed, rank, world) for rank in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    keys = [list(sampler) for sampler in samplers]
    assert [len(sampler) for sampler in samplers] == [len(k) for k in keys]
    return keys


@given(number=numbers, world=worlds)
def test_evaluation_has_every_label_once_and_equally_many_samples_per_rank(number: int, world: int) -> None:
    keys = ranks(number, False, world)
    assert len({len(k) for k in keys}) == 1
    everything = [index for k in keys for _, index in k]
    assert sorted(index for index in everything if index >= 0) == list(range(number))
    fillers = [-1 - index for index in everything if index < 0]
    assert len(fillers) == -number % world
    assert all(0 <= index < number for index in fillers)


def test_evaluation_in_one_process_is_in_order() -> None:
    assert ranks(5, False, 1, epoch=3) == [[(3, i) for i in range(5)]]


@given(number=numbers, world=worlds, seed=st.integers(0, 1000), epoch=st.integers(0, 50))
def test_training_has_every_sample_in_every_epoch(number: int, world: int, seed: int, epoch: int) -> None:
    keys = ranks(number, True, world, seed, epoch)
    assert len({len(k) for k in keys}) == 1
    counts = Counter(index for k in keys for _, index in k)
    assert sorted(counts) == list(range(number))
    assert sum(counts.values()) - number == -number % world
    assert {e for k in keys for e, _ in k} == {epoch}
    assert keys == ranks(number, True, world, seed, epoch)


def test_the_order_depends_on_seed_and_epoch() -> None:
    orders = [[i for _, i in ranks(30, True, 1, seed, epoch)[0]] for seed, epoch in ((0, 0), (0, 1), (7, 0))]
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_sample_seeds_differ_in_every_part() -> None:
    seeds = {sample_seed(s, (e, i)) for s in range(5) for e in range(20) for i in range(50)}
    assert len(seeds) > 0.999 * 5 * 20 * 50
    assert all(0 <= seed < 2**32 for seed in seeds)
    # The same on every machine and in every version of Python, unlike hash().
    assert sample_seed(3, (1, 2)) == 663776361


@pytest.mark.parametrize("pair", [((1, 11), (11, 1)), ((0, 10), (1, 0))])
def test_epoch_and_number_are_not_mixed_up(pair: tuple[tuple[int, int], tuple[int, int]]) -> None:
    assert sample_seed(1, pair[0]) != sample_seed(1, pair[1])
