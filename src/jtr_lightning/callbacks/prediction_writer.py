"""Writes predictions to files: raw values for programs, pictures for people."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import BasePredictionWriter
from PIL import Image
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule, Predictions
from jtr_lightning.tasks import Task

DESCRIPTION = "tasks.json"
IMAGE_LEVEL = "image_level.csv"


class PredictionWriter(BasePredictionWriter):
    """Writes every prediction under the name of its sample.

    * ``raw/<task>/<sample>.npy``: what the task predicts in its unit, ``[H, W]`` for one value per pixel (class ids are
      int16), else ``[H, W, C]``;
    * ``pictures/<task>/<sample>.png``: the same for looking at;
    * ``image_level.csv``: the values of image-level tasks, a row for each sample;
    * ``tasks.json``: each task's kind, settings (class names among them), unit and layout.

    Args:
        out: A folder that is new or empty; by default ``predictions`` in the run folder of the checkpoint.
        pictures: Write pictures as well.
        overwrite: Write into a folder that holds files already; those of the same samples are replaced.

    Raises:
        ConfigError: ``out`` is not empty (when predicting starts).
    """

    def __init__(self, out: str | None = None, pictures: bool = True, overwrite: bool = False) -> None:
        super().__init__("batch")
        self.out = out
        self.pictures = pictures
        self.overwrite = overwrite
        self.folder = Path()
        self._rows: list[dict[str, Any]] = []

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the folder and describes the tasks."""
        self.folder = Path(
            trainer.strategy.broadcast(self.out or str(Path(trainer.default_root_dir) / "predictions"))
        )
        self._rows = []
        if trainer.is_global_zero:
            self._make_folder()
            tasks = cast(PartialLabelModule, pl_module).tasks
            description = {name: _describe(task) for name, task in tasks.items()}
            path = self.folder / DESCRIPTION
            path.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
        trainer.strategy.barrier()

    def _make_folder(self) -> None:
        if self.folder.is_file() or (
            not self.overwrite and self.folder.is_dir() and any(self.folder.iterdir())
        ):
            raise ConfigError(
                f"Parameter `out` of the predictions should be a new or empty folder; '{self.folder}' is not. Give "
                "--predictions.out another folder, or --predictions.overwrite true."
            )
        self.folder.mkdir(parents=True, exist_ok=True)

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        prediction: Predictions,
        batch_indices: Sequence[int] | None,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Writes one batch."""
        del batch_indices, batch_idx, dataloader_idx
        tasks = cast(PartialLabelModule, pl_module).tasks
        source = cast(Any, trainer.predict_dataloaders).dataset.source
        indices = batch.index.tolist()
        names = [_as_path(source.name(i)) for i in indices]
        rows: list[dict[str, Any]] = [
            {"sample": name.as_posix(), "_index": i} for name, i in zip(names, indices, strict=True)
        ]
        for task_name, task in tasks.items():
            values = task.decode(prediction[task_name])
            if task.dense:
                self._write_dense(task_name, task, values, names)
            else:
                for row, value in zip(rows, values.cpu(), strict=True):
                    row.update(_cells(task_name, task, value))
        self._rows.extend(rows)

    def _write_dense(self, task_name: str, task: Task, values: Tensor, names: Sequence[Path]) -> None:
        arrays = [_raw(value) for value in values.cpu()]
        pictures = task.render(values).cpu() if self.pictures else None
        for i, name in enumerate(names):
            path = self.folder / "raw" / task_name / name.with_name(f"{name.name}.npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, arrays[i])
            if pictures is not None:
                path = self.folder / "pictures" / task_name / name.with_name(f"{name.name}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pictures[i].permute(1, 2, 0).numpy()).save(path)

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the table of image-level tasks, the samples in the order of the dataset."""
        if all(task.dense for task in cast(PartialLabelModule, pl_module).tasks.values()):
            return
        rows = _from_all_ranks(self._rows)
        if trainer.is_global_zero:
            rows.sort(key=lambda row: row.pop("_index"))
            with (self.folder / IMAGE_LEVEL).open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


def _describe(task: Task) -> dict[str, Any]:
    one_value = task.target_shape(1, 1) in ((1, 1), (1, 1, 1))
    layout = ("[H, W]" if one_value else "[H, W, C]") if task.dense else f"columns of {IMAGE_LEVEL}"
    return {**task.describe(), "unit": task.unit, "layout": layout}


def _as_path(sample: str) -> Path:
    """A sample's name as a path below the output folder, whatever characters it has."""
    parts = [part for part in sample.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return Path(*parts) if parts else Path("_")


def _raw(value: Tensor) -> np.ndarray[Any, Any]:
    if not value.is_floating_point():
        return value.to(torch.int16).numpy()
    array = value.float().movedim(0, -1).numpy()
    return array[..., 0] if array.shape[-1] == 1 else np.ascontiguousarray(array)


def _cells(task_name: str, task: Task, value: Tensor) -> dict[str, Any]:
    """A value of an image-level task as cells of the table: class names where the task has some."""
    if not value.is_floating_point():
        names = getattr(task, "class_names", None)
        return {task_name: names[int(value)] if names else int(value)}
    numbers = value.flatten().tolist()
    return {task_name if len(numbers) == 1 else f"{task_name}_{i}": n for i, n in enumerate(numbers)}


def _from_all_ranks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return list(rows)
    parts: list[list[dict[str, Any]]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part]
