"""The order of samples, which tells every worker the epoch as well."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from torch.utils.data import Dataset, DistributedSampler

SampleKey = tuple[int, int]
"""Epoch and number of a sample; the number ``-1 - i`` asks for the image of sample ``i`` with every label blank."""


class EpochSampler(DistributedSampler[Any]):
    """Gives ``(epoch, index)``, so that what is drawn for a sample depends on nothing but seed, epoch and index.

    Workers that live over several epochs still draw anew in each. Lightning calls ``set_epoch``, and leaves a
    ``DistributedSampler`` as it is. Every rank gets equally many samples, or some would wait for the others for ever:
    training sets are shuffled and evened out by repeating a few samples; evaluation sets are not shuffled, and evened
    out by images without a label, so that each sample counts exactly once.

    Args:
        dataset: Anything with a length.
        training: Shuffle and repeat, or neither.
        seed: Seed of the order.
        rank: This process.
        world_size: Number of processes.

    Attributes:
        leave_out: How many of this process's samples the next pass, and only that one, begins behind.
    """

    def __init__(
        self, dataset: Dataset[Any], training: bool, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=training, seed=seed)
        self.training = training
        self.leave_out = 0

    def __iter__(self) -> Iterator[SampleKey]:
        indices = super().__iter__() if self.training else self._evaluation()
        leave_out, self.leave_out = self.leave_out, 0
        return ((self.epoch, int(index)) for index in islice(indices, leave_out, None))

    def _evaluation(self) -> Iterator[int]:
        number = len(self.dataset)  # type: ignore[arg-type]
        for position in range(self.rank, self.total_size, self.num_replicas):
            yield position if position < number else -1 - position % number


def sample_seed(seed: int, key: SampleKey) -> int:
    """A 32-bit seed for all that is random about one sample in one epoch."""
    return zlib.crc32(f"{seed}/{key[0]}/{key[1]}".encode())
