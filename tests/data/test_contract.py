"""The contract of data modules fails on the mistakes that it is there for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jtr_lightning.data.base import PartialLabelDataset
from jtr_lightning.data.loader import SampleLoader
from jtr_lightning.data.sampler import EpochSampler
from jtr_lightning.testing import DataModuleContract
from tests.data.tiny import TinyDataModule, write_tiny


class EveryRankTakesAll(TinyDataModule):
    def sampler(
        self, dataset: PartialLabelDataset, training: bool, rank: int, world_size: int
    ) -> EpochSampler:
        return super().sampler(dataset, training, 0, 1)


class RanksDrawApart(TinyDataModule):
    """Each rank shuffles for itself, so that some samples come twice and others not at all."""

    def sampler(
        self, dataset: PartialLabelDataset, training: bool, rank: int, world_size: int
    ) -> EpochSampler:
        return EpochSampler(dataset, training, self.seed + rank, rank, world_size)


class DeafToItsSeed(TinyDataModule):
    def __init__(self, root: Path, seed: int = 0, **changes: Any) -> None:
        super().__init__(root, seed=0, **changes)


class DropsWhatIsLeft(TinyDataModule):
    def val_dataloader(self) -> SampleLoader:
        loader = super().val_dataloader()
        return SampleLoader(
            loader.dataset,
            batch_size=self.batch_size,
            sampler=loader.sampler,
            collate_fn=loader.collate_fn,
            drop_last=True,
        )


@pytest.mark.parametrize(
    ("wrong", "test", "arguments"),
    [
        (EveryRankTakesAll, "test_ranks_share_the_samples", ()),
        (RanksDrawApart, "test_ranks_share_the_samples", ()),
        (DeafToItsSeed, "test_availability_depends_on_the_seed_alone", ()),
        (DropsWhatIsLeft, "test_an_epoch_of_evaluation_has_each_sample_once_and_in_order", (0,)),
    ],
)
def test_a_mistake_is_found(
    wrong: type[TinyDataModule], test: str, arguments: tuple[int, ...], tmp_path: Path
) -> None:
    root = write_tiny(tmp_path)
    check = getattr(DataModuleContract(), test)
    check(lambda **changes: TinyDataModule(root, **{"batch_size": 2, **changes}), *arguments)
    with pytest.raises(AssertionError):
        check(lambda **changes: wrong(root, **{"batch_size": 2, **changes}), *arguments)
