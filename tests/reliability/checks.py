"""What must be true of a damaged dataset."""

from pathlib import Path
from typing import Any

import pytest

from jtr_lightning.errors import DataError
from tests.reliability.damages import within

LONGEST = 20
"""Seconds within which a file is read or refused on a busy machine."""


def check_refused_and_skipped(raising: Any, skipping: Any, path: Path, part: str, number: int) -> None:
    """One sample's file is refused by name; told to skip it, it is left out and counted, and it alone."""
    with within(LONGEST), pytest.raises(DataError) as error:
        raising.datasets["train"][number]
    assert str(path) in str(error.value)
    assert raising.datasets["train"].source.name(number) in str(error.value)
    dataset = skipping.datasets["train"]
    with within(LONGEST):
        sample = dataset[number]
    assert len(sample.skipped) == 1
    assert str(path) in sample.skipped[0]
    if part == "image":
        assert sample.index != number
        assert not sample.available.any()
    else:
        expected = dataset.available[number].copy()
        expected[list(skipping.tasks).index(part)] = False
        assert sample.available.tolist() == expected.tolist()
        assert not skipping.tasks[part].valid(sample.labels[part][None]).any()
    other = dataset[number + 1]
    assert other.skipped == ()
    assert other.available.tolist() == dataset.available[number + 1].tolist()
