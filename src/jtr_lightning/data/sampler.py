"""The order of samples, which tells every worker the epoch as well."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset, DistributedSampler

SampleKey = tuple[int, int]
"""Epoch and number of the sample."""


class EpochSampler(DistributedSampler[Any]):
    """Gives ``(epoch, index)``, so that what is drawn for a sample depends on nothing but seed, epoch and index.

    Workers that live over several epochs still draw anew in each. Lightning calls ``set_epoch``, and leaves a
    ``DistributedSampler`` as it is. Training sets are shuffled and cut to a multiple of the number of ranks by
    repeating a few samples; evaluation sets are not shuffled, and no sample is repeated or lost.

    Args:
        dataset: Anything with a length.
        training: Shuffle and even out, or neither.
        seed: Seed of the order.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self, dataset: Dataset[Any], training: bool, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=training, seed=seed)
        self.training = training
        if not training:
            self.num_samples = len(range(rank, len(dataset), world_size))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[SampleKey]:  # type: ignore[override]
        if self.training:
            indices: Iterator[int] = super().__iter__()
        else:
            indices = iter(range(self.rank, len(self.dataset), self.num_replicas))  # type: ignore[arg-type]
        return ((self.epoch, int(index)) for index in indices)


def sample_seed(seed: int, key: SampleKey) -> int:
    """A 32-bit seed for all that is random about one sample in one epoch."""
    return zlib.crc32(f"{seed}/{key[0]}/{key[1]}".encode())
