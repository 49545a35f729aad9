"""Which buildings of a Taskonomy tree are for training, validation and testing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray

from jtr_lightning.data.tables import read_rows
from jtr_lightning.data.taskonomy_index import TreeIndex
from jtr_lightning.errors import ConfigError, DataError, check_number

SPLITS = ("train", "val", "test")
Samples = NDArray[np.int64]


class Splits(ABC):
    """A rule that says which samples of a tree belong to which split."""

    @abstractmethod
    def samples(self, index: TreeIndex, split: str) -> Samples:
        """Numbers of a split's samples, in order.

        Args:
            index: The tree.
            split: ``train``, ``val`` or ``test``.

        Raises:
            DataError: There are none, or the rule does not fit the tree.
        """

    def remarks(self, index: TreeIndex, split: str) -> list[str]:
        """What one should know of how the rule fits the tree, a sentence each."""
        del index, split
        return []


class BuildingLists(Splits):
    """Buildings by name for each split.

    Args:
        buildings: Split to names of buildings.
        origin: Where the names come from, for messages.
    """

    def __init__(self, buildings: Mapping[str, Sequence[str]], origin: str) -> None:
        self.buildings = {split: list(names) for split, names in buildings.items()}
        self.origin = origin
        shared = {
            split: sorted(set(self.buildings["train"]) & set(self.buildings[split]))
            for split in ("val", "test")
        }
        for split, names in shared.items():
            if names:
                rank_zero_warn(
                    f"No training building should be in another split, but in {origin} {len(names)} are in '{split}', "
                    f"too, the first '{names[0]}'; metrics on them flatter."
                )

    @classmethod
    def read(cls, path: Path) -> BuildingLists:
        """Reads a split file as the dataset's authors publish them: ``id,train,val,test``, flags of 0 and 1.

        A building may have several flags. Buildings that are not on disk are left out later, see ``remarks``.

        Raises:
            DataError: The file is missing, unreadable or of another form.
        """
        buildings: dict[str, list[str]] = {split: [] for split in SPLITS}
        known: set[str] = set()
        for line, row in read_rows(path, ("id", *SPLITS)):
            if row["id"] in known:
                raise DataError(
                    f"The split file '{path}' should list each building once; found '{row['id']}' again in line {line}."
                )
            known.add(row["id"])
            for split in SPLITS:
                if row[split] not in ("0", "1"):
                    raise DataError(
                        f"The split file '{path}' should have flags of 0 or 1; found '{row[split]}' for '{row['id']}' "
                        f"in line {line}."
                    )
                if row[split] == "1":
                    buildings[split].append(row["id"])
        return cls(buildings, f"'{path}'")

    def samples(self, index: TreeIndex, split: str) -> Samples:
        wanted = set(self.buildings[split])
        chosen = [i for i, name in enumerate(index.buildings) if name in wanted]
        samples = np.flatnonzero(np.isin(index.building, chosen))
        if not len(samples):
            raise DataError(
                f"The split '{split}' should have at least one sample; found {len(wanted)} buildings for it in "
                f"{self.origin}, none of which is in '{index.root}' (which has {len(index.buildings)}, the first "
                f"'{index.buildings[0]}'). Give `split_file`, or the buildings of each split."
            )
        return samples

    def remarks(self, index: TreeIndex, split: str) -> list[str]:
        wanted, there = set(self.buildings[split]), set(index.buildings)
        listed = {name for names in self.buildings.values() for name in names}
        found = []
        if not wanted <= there:
            absent = sorted(wanted - there)
            found.append(
                f"{len(wanted & there)} of the {len(wanted)} buildings for '{split}' in {self.origin} are in "
                f"'{index.root}'; the first that is not is '{absent[0]}'."
            )
        if not there <= listed:
            unused = sorted(there - listed)
            found.append(
                f"{len(unused)} of the {len(there)} buildings in '{index.root}' are in no split of {self.origin}, the "
                f"first '{unused[0]}'."
            )
        return found


class Shares(Splits):
    """A share of the tree for each split, without any drawing.

    With three buildings or more, whole buildings: sorted by name, the last ones are for testing, those before for
    validation, and at least one for each. With fewer there is no such choice, and points are taken in the same way
    (all views of a point together): then every split sees the same rooms, of which a warning tells.

    Args:
        val: Share for validation.
        test: Share for testing.

    Raises:
        ConfigError: The shares leave nothing for training.
    """

    def __init__(self, val: float, test: float) -> None:
        check_number("val_share", val)
        check_number("test_share", test)
        if not (0 < val < 1 and 0 < test < 1 and val + test < 1):
            raise ConfigError(
                f"Parameters `val_share` and `test_share` should be above 0 and below 1 together; found {val} and "
                f"{test}."
            )
        self.shares = {"val": val, "test": test}
        self.warned = False

    def samples(self, index: TreeIndex, split: str) -> Samples:
        units = index.building.astype(np.int64)
        if len(index.buildings) < len(SPLITS):
            self._warn(index)
            units = units * 2**32 + index.point
        names, unit = np.unique(units, return_inverse=True)
        number = len(names)
        if number < len(SPLITS):
            raise DataError(
                f"The tree '{index.root}' should have at least {len(SPLITS)} points to be split; found {number}. Add "
                "data, or give `split_file`."
            )
        test = max(1, round(number * self.shares["test"]))
        val = max(1, round(number * self.shares["val"]))
        train = max(1, number - val - test)
        val = min(val, number - train - 1)
        ranges = {"train": (0, train), "val": (train, train + val), "test": (train + val, number)}
        start, end = ranges[split]
        return np.flatnonzero((unit >= start) & (unit < end))

    def _warn(self, index: TreeIndex) -> None:
        if not self.warned:
            self.warned = True
            rank_zero_warn(
                f"'{index.root}' has {len(index.buildings)} building(s) and no split file, so points of the same "
                "building are in training, validation and test: metrics flatter. Give `split_file` or the buildings of "
                "each split."
            )
