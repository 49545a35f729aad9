"""Rules that hide labels of a labelled set, so that methods for partial labels can be studied on it.

A scenario is drawn once from a seed for all samples of a training set. The result is a pure function of the scenario,
the seed and the set, the same in every worker, process and epoch. What does not exist on disk is never available,
whatever a scenario says.

Definitions: Li et al., "Learning Multiple Dense Prediction Tasks from Partially Annotated Data" (CVPR 2022), and
Nishi et al. (CVPR 2024).
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError, check_number, check_whole, did_you_mean

if TYPE_CHECKING:
    from pathlib import Path

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class SampleTable:
    """What a scenario may know of a training set.

    Attributes:
        names: The samples' names, ``N`` of them.
        tasks: The tasks' names, ``K`` of them.
        on_disk: bool ``[N, K]``, which labels exist.
        domain: int ``[N]``, which of several domains a sample comes from.
    """

    names: Sequence[str]
    tasks: tuple[str, ...]
    on_disk: BoolArray
    domain: NDArray[np.int64]


class Scenario(Described, ABC):
    """Which labels of which samples may be used."""

    @abstractmethod
    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        """Draws a bool ``[N, K]``; what is not on disk is taken away afterwards.

        Args:
            table: The training set.
            rng: Seeded from the user's seed and the scenario's class.

        Returns:
            bool ``[N, K]``, True where a label may be used.

        Raises:
            ConfigError: The scenario needs other tasks or samples than these.
        """

    def availability(self, table: SampleTable, seed: int) -> BoolArray:
        """The label availability of a training set.

        Args:
            table: The training set.
            seed: Another seed gives another draw.

        Returns:
            bool ``[N, K]``.

        Raises:
            ConfigError: The scenario needs more tasks, draws something else than bool ``[N, K]``, or leaves a task
                without any label; or the seed is negative.
        """
        check_whole("seed", seed, 0)
        rng = np.random.default_rng([seed, zlib.crc32(type(self).__name__.encode())])
        drawn = self.draw(table, rng)
        if drawn.dtype != np.bool_ or drawn.shape != table.on_disk.shape:
            raise ConfigError(
                f"{type(self).__name__}.draw() should give bool {list(table.on_disk.shape)}, samples by tasks; found "
                f"{drawn.dtype} {list(drawn.shape)}."
            )
        available = drawn & table.on_disk
        for k, task in enumerate(table.tasks):
            if not available[:, k].any():
                exist = int(table.on_disk[:, k].sum())
                raise ConfigError(
                    f"Every task should have at least one labelled training sample; {type(self).__name__} with seed "
                    f"{seed} leaves none for task '{task}' ({exist} of {len(table.names)} samples have its label on "
                    "disk). Take another scenario or seed, more samples, or leave the task out."
                )
        return available

    def _require_tasks(self, table: SampleTable, least: int) -> int:
        number = len(table.tasks)
        if number < least:
            raise ConfigError(
                f"{type(self).__name__} should be used with at least {least} tasks, since it hides some of each "
                f"sample's; found {number} ({', '.join(table.tasks)}). Use FullLabels or FractionLabels."
            )
        return number


class FullLabels(Scenario):
    """Every label that exists."""

    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        del rng
        return np.ones(table.on_disk.shape, dtype=bool)


class OneLabel(Scenario):
    """Exactly one task per sample, the tasks balanced: their counts differ by at most 1."""

    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        k = self._require_tasks(table, 2)
        which = rng.permutation((np.arange(len(table.names)) + rng.integers(k)) % k)
        return np.asarray(which[:, None] == np.arange(k))


class RandomLabels(Scenario):
    """1 to K-1 tasks per sample: the number is drawn uniformly, then the subset."""

    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        k = self._require_tasks(table, 2)
        number = rng.integers(1, k, size=len(table.names))
        return _subsets(number, k, rng)


class HalfLabels(Scenario):
    """Half of the tasks per sample: K/2, for an odd K its floor or ceiling with equal chance (but at least 1).

    Every task is used where every label exists and that is possible: a small set may leave one out by chance, and then
    another task of one sample, which others have too, makes room for it.
    """

    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        k = self._require_tasks(table, 2)
        number = np.full(len(table.names), k // 2, dtype=np.int64)
        if k % 2:
            number += rng.integers(0, 2, size=len(table.names))
        return _use_every_task(_subsets(number, k, rng), table.on_disk, rng)


class FractionLabels(Scenario):
    """A share of each task's existing labels, drawn for each task by itself.

    A sample may keep any number of labels, none included.

    Args:
        fraction: One share in (0, 1] for all tasks, or a share for each task by name.

    Raises:
        ConfigError: A share outside (0, 1].
    """

    def __init__(self, fraction: float | dict[str, float] = 0.5) -> None:
        shares = fraction.values() if isinstance(fraction, dict) else [fraction]
        for share in shares:
            check_number("fraction", share)
        if not all(0 < share <= 1 for share in shares):
            raise ConfigError(f"Parameter `fraction` should be above 0 and at most 1; found {fraction}.")
        self.fraction = fraction

    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        available = np.zeros(table.on_disk.shape, dtype=bool)
        for k, share in enumerate(self._shares(table.tasks)):
            existing = rng.permutation(np.flatnonzero(table.on_disk[:, k]))
            available[existing[: max(1, round(share * len(existing)))], k] = True
        return available

    def _shares(self, tasks: tuple[str, ...]) -> list[float]:
        if not isinstance(self.fraction, dict):
            return [self.fraction] * len(tasks)
        for name in self.fraction:
            if name not in tasks:
                raise ConfigError(
                    f"Parameter `fraction` of FractionLabels should name tasks of the data; found '{name}', "
                    f"{did_you_mean(name, tasks)}"
                )
        return [self.fraction.get(task, 1.0) for task in tasks]


class DomainSplit(Scenario):
    """Which tasks of a sample are labelled is decided by its domain alone, so that task and domain coincide.

    Domains and tasks are dealt to one another: with at least as many domains as tasks, each domain has labels of one
    task, otherwise each task has labels in one domain. The seed decides which domain gets which. This is what joining
    datasets with one kind of label each looks like, and harder than a scenario that draws sample by sample.
    """

    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        k = self._require_tasks(table, 2)
        domains, domain = np.unique(table.domain, return_inverse=True)
        if len(domains) < 2:
            raise ConfigError(
                "DomainSplit should be used with samples of at least 2 domains; found one in the training set. Use "
                "OneLabel, or a dataset whose source gives `domains()`."
            )
        dealt = np.zeros((len(domains), k), dtype=bool)
        order = rng.permutation(len(domains))
        for i in range(max(len(domains), k)):
            dealt[order[i % len(domains)], i % k] = True
        return np.asarray(dealt[domain])


class SplitFile(Scenario):
    """The availability that a file gives: ours (CSV: id, one 0/1 column per task) or a published ``.pth``.

    Args:
        path: A ``.csv`` or ``.pth`` file, see ``jtr_lightning.splits``.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)

    def draw(self, table: SampleTable, rng: np.random.Generator) -> BoolArray:
        from jtr_lightning.splits import read_split

        del rng
        return read_split(self.path, table.names, table.tasks)


def _subsets(number: NDArray[np.int64], k: int, rng: np.random.Generator) -> BoolArray:
    """For each sample a uniformly drawn subset of ``k`` tasks of the given size, bool ``[N, k]``."""
    ranks = rng.random((len(number), k)).argsort(axis=1).argsort(axis=1)
    return np.asarray(ranks < number[:, None])


def _use_every_task(drawn: BoolArray, on_disk: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Gives each task that was left out the place of one that is used at least twice, in a sample drawn by chance."""
    drawn = drawn.copy()
    for left_out in range(drawn.shape[1]):
        used = drawn & on_disk
        if used[:, left_out].any():
            continue
        # A place costs nothing where the label it was drawn for does not exist.
        spare = drawn & (~on_disk | (used.sum(0) > 1))
        places = np.argwhere(spare & on_disk[:, left_out, None])
        if len(places):
            sample, task = rng.choice(places)
            drawn[sample, [task, left_out]] = drawn[sample, [left_out, task]]
    return drawn
