"""Methods that train in a second, and made-up results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.comparison.plan import FULL, Labels, Run
from jtr_lightning.comparison.results import Result, Results, TaskFacts
from jtr_lightning.regularizers.base import Regularizer

ONELABEL = Labels("onelabel", "OneLabel")


class StopsOnce(Regularizer):
    """Raises an error in the middle of the training as long as a file is there, and removes the file.

    Args:
        file: The file.
    """

    def __init__(self, file: str) -> None:
        super().__init__()
        self.file = file

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        if progress >= 0.5 and Path(self.file).exists():
            Path(self.file).unlink()
            raise RuntimeError("the power is gone")
        return {"nothing": sum(values.sum() for values in predictions[0].values()) * 0.0}  # type: ignore[dict-item]


def write_config(path: Path, regularizer: Any = None, epochs: int = 2, **data: Any) -> Path:
    """A config file of a toy training: six samples, one convolution."""
    tree = {
        "trainer": {"max_epochs": epochs, "accelerator": "cpu"},
        "data": {
            "class_path": "tests.toy.ToyDataModule",
            "init_args": {"number": 6, "batch_size": 3, "tasks": ["segmentation", "depth"], **data},
        },
        "model": {"init_args": {"network": "tests.toy.ToyNetwork", "regularizer": regularizer}},
    }
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def fake_run(method: str, labels: Labels = ONELABEL, seed: int = 0, **config: Any) -> Run:
    return Run(method, labels, seed, {"method": method, "labels": labels.title, "seed": seed, **config})


TASKS = {"seg": TaskFacts("miou", True, ""), "depth": TaskFacts("abs_err", False, "m")}


def fake_result(values: Mapping[str, float], **changes: Any) -> Result:
    facts: dict[str, Any] = {
        "metrics": {f"test/{name}/{TASKS[name].headline}": value for name, value in values.items()},
        "tasks": TASKS,
        "best_epoch": 3,
        "train_seconds": 60.0,
        "peak_memory": 2**30,
        "device": "x86_64 CPU",
        "threads": 1,
        "commit": "abc",
    }
    return Result(**{**facts, **changes})


def fake_results(numbers: Mapping[tuple[str, Labels], Sequence[tuple[float, float] | None]]) -> Results:
    """Results of supervised MTL, STL and JTR; for each seed the metrics of both tasks, or None if not finished."""
    runs: list[Run] = []
    found: dict[str, Result] = {}
    for (method, labels), seeds in numbers.items():
        for seed, pair in enumerate(seeds):
            run = fake_run(method, labels, seed)
            runs.append(run)
            if pair is not None:
                found[run.name] = fake_result(
                    dict(zip(TASKS, pair, strict=True)), train_seconds=60.0 * (seed + 1)
                )
    methods = {run.method for run in runs}
    roles = {"baseline": "supervised", "single_task": "stl", "reference": "jtr"}
    return Results(runs, found, **{role: name if name in methods else None for role, name in roles.items()})


EXAMPLE: dict[tuple[str, Labels], Sequence[tuple[float, float] | None]] = {
    ("stl", ONELABEL): [(0.4, 1.0), (0.4, 1.0)],
    ("supervised", ONELABEL): [(0.4, 0.9), (0.6, 1.1)],
    ("mtpsl", ONELABEL): [(0.5, 0.8), None],
    ("jtr", ONELABEL): [(0.6, 0.7), (0.7, 0.9)],
    ("perceptual_map", ONELABEL): [None, None],
    ("supervised", FULL): [(1.0, 0.5), (1.0, 0.7)],
}
