"""What a batch checks, and how it moves and joins."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from jtr_lightning.batch import Batch, join
from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Classification, Depth, Regression, Segmentation, Task

TASKS: dict[str, Task] = {
    "segmentation": Segmentation(3),
    "depth": Depth(),
    "room": Classification(2),
    "pitch": Regression(2),
}


def make(number: int = 2, height: int = 4, width: int = 6, first: int = 0) -> Batch:
    blank = {name: torch.stack([task.blank(height, width)] * number) for name, task in TASKS.items()}
    return Batch(
        image=torch.rand(number, 3, height, width),
        labels=blank,
        available=torch.arange(first, first + 4 * number).view(number, 4) % 3 == 0,
        domain=torch.zeros(number, dtype=torch.int64),
        index=torch.arange(first, first + number),
    )


def test_a_batch_that_fits_is_given_back() -> None:
    batch = make()
    assert batch.validate(TASKS) is batch
    assert len(batch) == 2
    assert batch.size == (4, 6)
    assert batch.tasks == tuple(TASKS)
    assert batch.labelled("depth").tolist() == batch.available[:, 1].tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"image": torch.zeros(2, 4, 6, 3)},
            r"image should be a floating-point tensor \[B, 3, H, W\]; found .*\[2, 4, 6, 3\]",
        ),
        ({"image": torch.zeros(2, 3, 4, 6, dtype=torch.uint8)}, r"Batch\.image .* found torch\.uint8"),
        ({"available": torch.ones(2, 4)}, r"available should be bool \[2, 4\]; found torch\.float32"),
        (
            {"available": torch.ones(2, 3, dtype=torch.bool)},
            r"available should be bool \[2, 4\]; found .*\[2, 3\]",
        ),
        ({"domain": torch.zeros(2)}, r"domain should be int64 \[2\]; found torch\.float32"),
        (
            {"index": torch.zeros(3, dtype=torch.int64)},
            r"index should be int64 \[2\]; found torch\.int64 \[3\]",
        ),
    ],
)
def test_a_field_that_does_not_fit_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(make(), **changes).validate(TASKS)


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        (
            "segmentation",
            torch.zeros(2, 1, 4, 6, dtype=torch.int64),
            r"int64 \[2, 4, 6\]; found .*\[2, 1, 4, 6\]",
        ),
        (
            "segmentation",
            torch.zeros(2, 4, 6),
            r"'segmentation' should be torch\.int64.*found torch\.float32",
        ),
        ("depth", torch.zeros(2, 1, 8, 6), r"'depth' should be .*\[2, 1, 4, 6\]; found .*\[2, 1, 8, 6\]"),
        ("room", torch.zeros(2, 1, dtype=torch.int64), r"'room' should be torch\.int64 \[2\]"),
        (
            "pitch",
            torch.zeros(3, 2),
            r"'pitch' should be torch\.float32 \[2, 2\]; found torch\.float32 \[3, 2\]",
        ),
    ],
)
def test_a_label_that_does_not_fit_is_named(name: str, label: torch.Tensor, message: str) -> None:
    batch = make()
    batch.labels[name] = label
    with pytest.raises(ConfigError, match=message):
        batch.validate(TASKS)


@pytest.mark.parametrize(
    "names", [["segmentation", "depth", "room"], ["depth", "segmentation", "room", "pitch"]]
)
def test_other_tasks_or_another_order_are_refused(names: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"Batch\.labels should have the tasks .* in this order; found"):
        make().validate({name: TASKS[name] for name in names})


def test_labels_of_another_precision_are_still_labels() -> None:
    """A trainer in double precision converts a batch before it is moved."""
    batch = make()
    batch.image = batch.image.double()
    batch.labels["depth"] = batch.labels["depth"].double()
    assert batch.validate(TASKS) is batch


def test_moving_takes_every_tensor_along_and_keeps_the_rest() -> None:
    batch = replace(make(), skipped=("a file",))
    moved = batch.to("meta")
    tensors = [moved.image, *moved.labels.values(), moved.available, moved.domain, moved.index]
    assert all(tensor.is_meta for tensor in tensors)
    assert moved.skipped == ("a file",)
    assert not batch.image.is_meta
    assert torch.equal(moved.labelled_on_host(), batch.available)


def test_joining_keeps_the_order() -> None:
    first, second = replace(make(2), skipped=("a",)), replace(make(3, first=2), skipped=("b", "c"))
    joined = join([first, second]).validate(TASKS)
    assert len(joined) == 5
    assert joined.index.tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(joined.image[2:], second.image)
    assert torch.equal(joined.available, torch.cat([first.available, second.available]))
    assert torch.equal(joined.labels["pitch"].isnan(), torch.ones(5, 2, dtype=torch.bool))
    assert joined.skipped == ("a", "b", "c")


def test_what_does_not_fit_together_is_not_joined() -> None:
    with pytest.raises(ConfigError, match=r"join\(\) should be given at least one batch; found none"):
        join([])
    with pytest.raises(ConfigError, match=r"same tasks and image size.*\(4, 6\) and .*\(4, 8\)"):
        join([make(), make(width=8)])
    other = make()
    del other.labels["room"]
    with pytest.raises(ConfigError, match="same tasks and image size"):
        join([make(), other])
