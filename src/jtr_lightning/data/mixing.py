"""A labelled set joined by further samples that have fewer kinds of labels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.sampler import EpochSampler, SampleKey
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.scenarios import BoolArray, SampleTable, Scenario

MAIN, EXTRA = 0, 1
"""Domain of the labelled samples and of the extra ones."""


class JoinedSource(SampleSource):
    """The labelled samples (domain 0), then the extra ones (domain 1).

    Args:
        main: The labelled samples.
        extra: The extra samples.
    """

    def __init__(self, main: SampleSource, extra: SampleSource) -> None:
        self.main = main
        self.extra = extra

    def _find(self, index: int) -> tuple[SampleSource, int]:
        first = len(self.main)
        return (self.main, index) if index < first else (self.extra, index - first)

    def __len__(self) -> int:
        return len(self.main) + len(self.extra)

    def name(self, index: int) -> str:
        source, number = self._find(index)
        return source.name(number)

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        return np.concatenate([self.main.on_disk(tasks), self.extra.on_disk(tasks)])

    def stored_dtype(self, index: int, task: str | None = None) -> str:
        source, number = self._find(index)
        return source.stored_dtype(number, task)

    def remarks(self) -> Sequence[str]:
        return [*self.main.remarks(), *self.extra.remarks()]

    def problems(self) -> Sequence[str]:
        return [*self.main.problems(), *self.extra.problems()]

    def file_of(self, index: int, task: str | None = None) -> Path | None:
        source, own = self._find(index)
        return source.file_of(own, task)

    def read_image(self, index: int) -> Array:
        source, number = self._find(index)
        return source.read_image(number)

    def read_label(self, index: int, task: str) -> Array:
        source, number = self._find(index)
        return source.read_label(number, task)

    def domains(self) -> NDArray[np.int64]:
        return np.repeat(np.array([MAIN, EXTRA]), [len(self.main), len(self.extra)])


def of_labelled_part(scenario: Scenario, table: SampleTable, seed: int) -> BoolArray:
    """A scenario drawn for the labelled samples alone, as if there were no others; the extra ones keep all they have.

    Args:
        scenario: The scenario of the labelled samples.
        table: The joined training set.
        seed: Another seed gives another draw.

    Returns:
        bool ``[N, K]``.

    Raises:
        ConfigError: The scenario does not fit the labelled samples.
    """
    main = np.flatnonzero(table.domain == MAIN)
    labelled = SampleTable(
        [table.names[int(i)] for i in main], table.tasks, table.on_disk[main], table.domain[main]
    )
    available = np.array(table.on_disk)
    available[main] = scenario.availability(labelled, seed)
    return available


def extra_of_epoch(number: int, extra_ratio: float) -> int:
    """How many extra samples belong to ``number`` labelled ones."""
    return math.floor(extra_ratio * number + 0.5)


class MixedSampler(EpochSampler):
    """All labelled samples and ``extra_ratio`` times as many extra ones in each epoch, shuffled together.

    The extra samples of successive epochs come from a shuffled row of all of them, so that none comes twice before
    every one has come once. What is drawn depends on seed and epoch alone.

    Args:
        number: Number of labelled samples, which come first.
        extra: Number of extra samples.
        extra_ratio: Extra samples for each labelled one in an epoch, as far as there are so many.
        seed: Seed of the order.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(
        self, number: int, extra: int, extra_ratio: float, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.number = number
        self.extra = extra
        self.extra_per_epoch = min(extra, extra_of_epoch(number, extra_ratio))
        slots = range(number + self.extra_per_epoch)
        super().__init__(slots, True, seed, rank, world_size)  # type: ignore[arg-type]  # only its length is used

    def __iter__(self) -> Iterator[SampleKey]:
        chosen = self.extra_of_epoch(self.epoch)
        for epoch, slot in super().__iter__():
            yield epoch, slot if slot < self.number else self.number + int(chosen[slot - self.number])

    def extra_of_epoch(self, epoch: int) -> NDArray[np.int64]:
        """The numbers ``[extra_per_epoch]`` of the extra samples of an epoch."""
        places = epoch * self.extra_per_epoch + np.arange(self.extra_per_epoch)
        chosen = np.empty(self.extra_per_epoch, dtype=np.int64)
        for which in np.unique(places // max(self.extra, 1)):
            row = np.random.default_rng([self.seed, which]).permutation(self.extra)
            mine = places // self.extra == which
            chosen[mine] = row[places[mine] % self.extra]
        return chosen
