"""The order of a mixed training set."""

from collections import Counter

from jtr_lightning.data.mixing import MixedSampler


def epoch(sampler: MixedSampler, number: int) -> list[int]:
    sampler.set_epoch(number)
    return [index for _, index in sampler]


def test_every_extra_sample_comes_before_any_comes_twice() -> None:
    sampler = MixedSampler(number=4, extra=10, extra_ratio=1.0, seed=0)
    drawn = [index for e in range(5) for index in epoch(sampler, e) if index >= 4]
    assert Counter(drawn[:8]).most_common(1)[0][1] == 1
    assert Counter(drawn) == {4 + i: 2 for i in range(10)}


def test_every_labelled_sample_comes_once_in_each_epoch() -> None:
    sampler = MixedSampler(number=6, extra=100, extra_ratio=0.5, seed=0)
    for e in range(3):
        indices = epoch(sampler, e)
        assert sorted(i for i in indices if i < 6) == list(range(6))
        assert len(indices) == len(sampler) == 9


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first, again, other = (MixedSampler(6, 20, 1.0, seed) for seed in (1, 1, 2))
    assert epoch(first, 3) == epoch(again, 3)
    assert epoch(first, 3) != epoch(first, 4)
    assert epoch(first, 3) != epoch(other, 3)
    assert sorted(epoch(first, 3)) != sorted(epoch(other, 3))  # other extra samples, not just another order


def test_ranks_share_an_epoch() -> None:
    whole = epoch(MixedSampler(5, 30, 1.0, 0), 1)
    parts = [epoch(MixedSampler(5, 30, 1.0, 0, rank, 2), 1) for rank in (0, 1)]
    assert len(parts[0]) == len(parts[1]) == 5
    assert sorted(parts[0] + parts[1]) == sorted(whole)
