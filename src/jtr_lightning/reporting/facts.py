"""What was trained on what, in plain values: kept in a run folder, so that its report can be made at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jtr_lightning._version import __version__
from jtr_lightning.baseline import Baseline
from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.described import written_out
from jtr_lightning.disk import read_object, write_text
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.tasks import Task

FACTS = "facts.json"
PARTS = ("tasks", "labels", "data", "model", "baselines")
"""What every file of facts has."""


def gather(
    trainer: L.Trainer,
    module: PartialLabelModule,
    data: PartialLabelDataModule,
    baselines: Mapping[str, Baseline | None],
) -> dict[str, Any]:
    """Everything that a report tells beside numbers and pictures.

    Args:
        trainer: Gives device, precision and length of the training.
        module: What is trained.
        data: What it is trained on, set up for fitting.
        baselines: Role to what the results are compared with; ``supervised`` and ``single_task`` are the usual ones.

    Returns:
        Plain values, in the order in which they are shown.
    """
    return {
        "tasks": {name: _task(task) for name, task in module.tasks.items()},
        "labels": label_facts(data.datasets["train"].available, list(data.tasks)),
        "data": {
            "dataset": type(data).__name__,
            "folder": str(data.root),
            "scenario": written_out(data.scenario),
            "seed": data.seed,
            "samples": ", ".join(f"{len(dataset)} {split}" for split, dataset in data.datasets.items()),
            "validation labels": label_counts(data, "val"),
            "image size": "own" if data.size is None else f"{data.size[0]} x {data.size[1]}",
            "batch size": data.batch_size,
            "augmentation": "none" if data.augmentation is None else type(data.augmentation).__name__,
        },
        "model": {
            "network": f"{type(module.network).__name__}, {_size(module.network)}",
            "regularizer": "none"
            if module.regularizer is None
            else f"{type(module.regularizer).__name__}, {_size(module.regularizer)} of its own",
            "balancing": type(module.balancing).__name__,
            "epochs": trainer.max_epochs,
            "device": devices(trainer),
            "precision": str(trainer.precision),
            "made with": f"jtr-lightning {__version__}, torch {torch.__version__}",
        },
        "baselines": [
            {"role": role, "name": baseline.name, "values": baseline.values}
            for role, baseline in baselines.items()
            if baseline is not None
        ],
    }


def devices(trainer: L.Trainer) -> str:
    """How many devices of which kind: ``2 x NVIDIA A100``, ``1 x cpu``."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{trainer.world_size} x {name}"


def label_counts(data: PartialLabelDataModule, split: Split) -> str:
    """How many samples of a split are labelled for each task: ``segmentation 8, depth 4``."""
    counts = data.datasets[split].available.sum(0).tolist()
    return ", ".join(f"{name} {count}" for name, count in zip(data.tasks, counts, strict=True))


def parameters_of(module: nn.Module) -> tuple[int, int]:
    """How many numbers a module has, and how many of them are frozen."""
    total = sum(p.numel() for p in module.parameters())
    return total, sum(p.numel() for p in module.parameters() if not p.requires_grad)


def label_facts(available: NDArray[np.bool_], tasks: Sequence[str]) -> dict[str, Any]:
    """The availability table of a training set.

    Args:
        available: bool ``[N, K]``.
        tasks: Names of the ``K`` tasks.

    Returns:
        ``samples``; ``counts`` of labelled samples per task; ``pairs[i][j]``, the samples labelled for both tasks; and
        ``patterns``, how many samples have which set of labels, the most frequent first.
    """
    patterns, counts = np.unique(available, axis=0, return_counts=True)
    order = sorted(range(len(patterns)), key=lambda i: (-counts[i], [not v for v in patterns[i].tolist()]))
    numbers = available.astype(np.int64)
    return {
        "samples": len(available),
        "counts": dict(zip(tasks, numbers.sum(0).tolist(), strict=True)),
        "pairs": (numbers.T @ numbers).tolist(),
        "patterns": [{"labelled": patterns[i].tolist(), "samples": int(counts[i])} for i in order],
    }


def write_facts(folder: Path, facts: dict[str, Any]) -> None:
    """Keeps facts in a run folder."""
    write_text(folder / FACTS, json.dumps(facts, indent=2) + "\n")


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts of a run folder.

    Raises:
        ConfigError: There are none, or they cannot be read.
    """
    try:
        facts = read_object(folder / FACTS)
        missing = [part for part in PARTS if part not in facts]
        if missing:
            raise ValueError(f"a file without '{missing[0]}'")
        return facts
    except (OSError, ValueError) as error:
        found = (isinstance(error, OSError) and error.strerror) or error
        raise ConfigError(
            f"A report should be made of a run folder with '{FACTS}', which the training writes; found "
            f"'{folder / FACTS}': {found}. Give the folder of a training, runs/<name>/<number>."
        ) from error


def _task(task: Task) -> dict[str, Any]:
    metrics = {name: facts._asdict() for name, facts in task.metric_facts().items()}
    return {
        "kind": type(task).__name__,
        "channels": task.channels,
        "headline": task.headline,
        "higher_is_better": task.higher_is_better,
        "unit": metrics[task.headline]["unit"],
        "metrics": metrics,
        "classes": list(getattr(task, "class_names", [])),
    }


def _size(module: nn.Module) -> str:
    total, frozen = parameters_of(module)
    return f"{total:,} parameters" + (f" ({frozen:,} frozen)" if frozen else "")
