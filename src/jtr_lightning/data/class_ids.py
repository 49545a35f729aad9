"""Refuses tasks that would silently take the ids of a dataset's classes for those of others."""

from __future__ import annotations

from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Segmentation, Task


def refuse_class_as_void(task: Task | None, reader: str) -> None:
    """Refuses an ``ignore_index`` that is a class, for labels whose ids are no longer those on disk.

    Args:
        task: A task; only of a ``Segmentation`` is anything asked.
        reader: What has numbered the classes anew, for the message.

    Raises:
        ConfigError: It is one: no pixel of that class would ever count.
    """
    if isinstance(task, Segmentation) and 0 <= task.ignore_index < task.channels:
        raise ConfigError(
            f"Parameter `ignore_index` of Segmentation should be left out with {reader}, since classes have the ids "
            f"from 0 on there, and pixels without a class -1, whatever the files hold; found {task.ignore_index}, "
            f"which is class '{task.class_names[task.ignore_index]}' there and would never count."
        )


def refuse_other_classes(task: Task | None, classes: int) -> None:
    """Refuses a task of another number of classes than the labels are read with.

    Args:
        task: A task; only of a ``Segmentation`` is anything asked.
        classes: Parameter ``classes`` of the data module.

    Raises:
        ConfigError: It has: ids of fewer classes would be taken for the first ones of more.
    """
    if isinstance(task, Segmentation) and task.channels != classes:
        raise ConfigError(
            f"Parameter `classes` of the data should be the number of classes of its task 'segmentation', "
            f"{task.channels}; found {classes}. Give both the same."
        )
