"""What is wrong with labels that their tasks can read: one file at a time, and all of a split together."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from functools import singledispatch
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jtr_lightning.tasks import DenseRegression, Depth, Normals, Segmentation, Task

_EIGHT_BIT_TOP = 255


@dataclass
class LabelFacts:
    """What one label, or all of a split, holds.

    Attributes:
        number: Labels read.
        shapes: How many have which shape.
        dtypes: How many are kept in which type on disk.
        places: Pixels, or images for an image-level task.
        invalid: Places without a value.
        low: Smallest valid value.
        high: Largest valid value.
        total: Sum of the valid values.
        squares: Sum of their squares.
        values: Number of valid values.
        medians: The median of the valid values of each label that has some.
        classes: Places of each class, int64 ``[C]``, for tasks with classes.
        void_ids: How many places without a class have which id.
    """

    number: int = 0
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    dtypes: Counter[str] = field(default_factory=Counter)
    places: int = 0
    invalid: int = 0
    low: float = float("inf")
    high: float = float("-inf")
    total: float = 0.0
    squares: float = 0.0
    values: int = 0
    medians: list[float] = field(default_factory=list)
    classes: NDArray[np.int64] | None = None
    void_ids: Counter[int] = field(default_factory=Counter)

    def add(self, other: LabelFacts) -> None:
        """Takes in the facts of further labels."""
        self.number += other.number
        self.shapes.update(other.shapes)
        self.dtypes.update(other.dtypes)
        self.places += other.places
        self.invalid += other.invalid
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.total += other.total
        self.squares += other.squares
        self.values += other.values
        self.medians += other.medians
        self.void_ids.update(other.void_ids)
        if other.classes is not None:
            self.classes = other.classes if self.classes is None else self.classes + other.classes

    @property
    def mean(self) -> float:
        """Mean of the valid values; NaN where there are none."""
        return self.total / self.values if self.values else float("nan")

    @property
    def std(self) -> float:
        """Standard deviation of the valid values; NaN where there are none."""
        if not self.values:
            return float("nan")
        return math.sqrt(max(self.squares / self.values - self.mean**2, 0.0))


@singledispatch
def expected(task: Task) -> str:
    """Which valid values a label should have, for a table; ``expected.register`` adds a kind of task.

    Args:
        task: The task.

    Returns:
        Such as ``0 to 10 m``; empty where any value will do.
    """
    return f"0 to {task.channels - 1}" if task.target_dtype == torch.int64 else ""


@expected.register
def _(task: Depth) -> str:
    return (
        f"above {_with_unit('0', task)}"
        if task.expected_range is None
        else _range(*task.expected_range, task)
    )


@expected.register
def _(task: Normals) -> str:
    del task
    return "length 1"


@expected.register
def _(task: DenseRegression) -> str:
    return _range(task.low, task.high, task)


@singledispatch
def doubts(task: Task, target: Tensor, valid: Tensor) -> list[str]:
    """What is wrong with the values of a label that its task can read; ``doubts.register`` adds a kind of task.

    Args:
        task: The task.
        target: One target, without the batch.
        valid: Where it is defined, without the batch.

    Returns:
        One sentence each.
    """
    del task, target, valid
    return []


@doubts.register
def _(task: Depth, target: Tensor, valid: Tensor) -> list[str]:
    found = []
    negative = int((target < 0).sum())
    if negative:
        found.append(
            f"a depth should be above 0, or 0 where it is not known; found {negative} negative values."
        )
    if task.expected_range is not None:
        low, high = task.expected_range
        values = target[valid]
        outside = values[(values < low) | (values > high)]
        if len(outside):
            found.append(
                f"a depth should be from {_range(low, high, task)}; found {len(outside)} of {len(values)} values "
                f"from {float(outside.min()):.4g} to {float(outside.max()):.4g}."
            )
    return found


@doubts.register
def _(task: Normals, target: Tensor, valid: Tensor) -> list[str]:
    del task, target
    if valid.any():
        return []
    return ["a normal map should have a normal somewhere; found none: is it coded in another way?"]


@doubts.register
def _(task: DenseRegression, target: Tensor, valid: Tensor) -> list[str]:
    values = target[valid.expand_as(target)]
    slack = 1e-4 * (task.high - task.low)
    outside = int(((values < task.low - slack) | (values > task.high + slack)).sum())
    if not outside:
        return []
    message = (
        f"values should be from {task.low:g} to {task.high:g}; found {outside} of {len(values)} outside, from "
        f"{float(values.min()):g} to {float(values.max()):g}."
    )
    return [message]


class Overall(NamedTuple):
    """What is told of all labels of a split together, one sentence each.

    Attributes:
        wrong: What is wrong.
        notes: What is unusual, but can be trained on.
    """

    wrong: list[str]
    notes: list[str]


@singledispatch
def overall(task: Task, facts: LabelFacts) -> Overall:
    """Looks at all labels of a split together; ``overall.register`` adds a kind of task.

    Args:
        task: The task.
        facts: What its labels hold, at least one.

    Returns:
        What is wrong and what is unusual.
    """
    if facts.classes is None or not facts.classes.any():
        return Overall([], [])
    names = class_names(task)
    absent = [str(names[c]) for c in np.flatnonzero(facts.classes == 0)]
    return Overall(
        [],
        [f"never found: the class{'es' if len(absent) > 1 else ''} {', '.join(absent)}."] if absent else [],
    )


@overall.register
def _(task: Segmentation, facts: LabelFacts) -> Overall:
    """A mask of black and white: 255, the usual id of 'no class', is the second class."""
    found = overall.dispatch(Task)(task, facts)
    if facts.classes is None or len(facts.classes) != 2 or set(facts.void_ids) != {_EIGHT_BIT_TOP}:
        return found
    if not facts.classes[0] or facts.classes[1]:
        return found
    message = (
        f"two classes should have the ids 0 and 1; found 0 and {_EIGHT_BIT_TOP} alone, and {_EIGHT_BIT_TOP} means 'no "
        f"class', so that no pixel is of class '{task.class_names[1]}'. If it is that class, read the files with the "
        f"coding ClassIds and its `ids: [0, {_EIGHT_BIT_TOP}]` (parameter `codings`)."
    )
    return found._replace(wrong=[message])


@overall.register
def _(task: Depth, facts: LabelFacts) -> Overall:
    found = Overall([], [])
    if task.expected_median is not None and facts.medians:
        low, high = task.expected_median
        middle = float(np.median(facts.medians))
        if not low <= middle <= high:
            found.wrong.append(
                f"the median of a depth should mostly be from {_range(low, high, task)}; found {middle:.4g} in the "
                f"middle of {len(facts.medians)} labels. Mend the unit of the files; or say what one step of them is "
                "(`scales` of FolderDataModule; `depth_scale` of TaskonomyDataModule, 0.00012207 for files of the "
                "annotator, whose 65535 is 8 m); or mend the task's `expected_median`."
            )
    as_coded = abs(facts.mean - task.mean) <= 3 * task.std and (
        task.std / 10 <= facts.std + 1e-9 <= 10 * task.std
    )
    if facts.values and not as_coded:
        found.notes.append(
            f"its values have mean {facts.mean:.4g} and standard deviation {facts.std:.4g}, but the task says "
            f"{task.mean:.4g} and {task.std:.4g}, by which JTR codes them. Give the task `mean` and `std`."
        )
    return found


def _range(low: float, high: float, task: Task) -> str:
    return _with_unit(f"{low:g} to {high:g}", task)


def _with_unit(text: str, task: Task) -> str:
    return f"{text} {task.unit}".rstrip()


def class_names(task: Task) -> list[str]:
    """The names of a task's classes, or their numbers where they have no names."""
    return list(getattr(task, "class_names", range(task.channels)))
