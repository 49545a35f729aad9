"""What a training costs, and how far it is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.profiling import peak_memory

_REPORT_EVERY = 5.0  # seconds


class Costs(L.Callback):
    """Measures a training's time and memory, over all of its parts if it was interrupted.

    Args:
        report: A file that says how much of the training is done, in [0, 1], written every few seconds.
        commit: That of the code that trains now.

    Attributes:
        seconds: Wall-clock time from the first training step to the end, validation included.
        device: What it is trained on.
        commits: Those of the code of each part, in their order.
        peak_memory: Bytes: what the process held in memory at most, or on a CUDA device, of that device's memory.
    """

    def __init__(self, report: Path, commit: str = "") -> None:
        self.report = report
        self.commits = [commit]
        self.seconds = 0.0
        self.peak_memory = 0
        self.device = torch.device("cpu")
        self._before = 0.0
        self._started: float | None = None
        self._reported = -_REPORT_EVERY

    def state_dict(self) -> dict[str, Any]:
        """Time, memory and commits so far, kept in every checkpoint."""
        self._measure()
        return {"seconds": self.seconds, "peak_memory": self.peak_memory, "commits": self.commits}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._before = self.seconds = float(state_dict["seconds"])
        self.peak_memory = int(state_dict["peak_memory"])
        self.commits = list(dict.fromkeys([*state_dict.get("commits", []), *self.commits]))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Starts the clock."""
        self._started = time.monotonic()
        self.device = pl_module.device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        """Writes the report, now and then."""
        now = time.monotonic()
        if now - self._reported < _REPORT_EVERY or not isinstance(pl_module, PartialLabelModule):
            return
        self._reported = now
        part = self.report.with_suffix(".part")
        part.write_text(f"{pl_module.progress:.6f}\n", encoding="utf-8")
        part.replace(self.report)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stops the clock."""
        self._measure()
        self._before, self._started = self.seconds, None

    def _measure(self) -> None:
        if self._started is None:
            return
        self.seconds = self._before + time.monotonic() - self._started
        self.peak_memory = max(self.peak_memory, peak_memory(self.device))
