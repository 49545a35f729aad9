"""Writes predictions to files: raw values for programs, pictures for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.callbacks import BasePredictionWriter

from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule, Predictions
from jtr_lightning.prediction.files import IMAGE_LEVEL, PredictionFiles, as_path, write_table

_OPTIONS = ("--predictions.out", "--predictions.overwrite true")


class PredictionWriter(BasePredictionWriter):
    """Writes every prediction under the name of its sample.

    The folder is that of ``PredictionFiles``, with raw values as ``.npy``, and ``image_level.csv``: the values of
    image-level tasks, a row for each sample.

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
        self._files: PredictionFiles

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Makes the folder and describes the tasks."""
        self.folder = Path(
            trainer.strategy.broadcast(self.out or str(Path(trainer.default_root_dir) / "predictions"))
        )
        self._rows = []
        tasks = cast(PartialLabelModule, pl_module).tasks
        self._files = PredictionFiles(self.folder, tasks, self.pictures)
        if trainer.is_global_zero:
            self._files.make_folder(self.overwrite, _OPTIONS)
            self._files.write_description()
        trainer.strategy.barrier()

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
        values = {name: task.decode(prediction[name]).cpu() for name, task in tasks.items()}
        for row, index in enumerate(batch.index.tolist()):
            sample = as_path(source.name(index))
            cells = self._files.write(sample, {name: values[name][row] for name in tasks})
            self._rows.append({"sample": sample.as_posix(), "_index": index, **cells})

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Writes the table of image-level tasks, the samples in the order of the dataset."""
        if all(task.dense for task in cast(PartialLabelModule, pl_module).tasks.values()):
            return
        # Ranks get equal numbers of samples, for which a few may be repeated.
        by_index = {row.pop("_index"): row for row in _from_all_ranks(self._rows)}
        rows = [by_index[index] for index in sorted(by_index)]
        if trainer.is_global_zero:
            write_table(self.folder / IMAGE_LEVEL, rows)


def _from_all_ranks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return list(rows)
    parts: list[list[dict[str, Any]]] = [[] for _ in range(distributed.get_world_size())]
    distributed.all_gather_object(parts, rows)
    return [row for part in parts for row in part]
