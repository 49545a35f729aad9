"""Keeps the numbers of a run's best epoch in its folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L

from jtr_lightning.run_folder import MONITOR, add_metrics


def _worst_if_nan(score: float) -> float:
    """A score to compare with: NaN, than which nothing is more, is worse than all others, as for ModelCheckpoint."""
    return -math.inf if math.isnan(score) else score


class BestMetrics(L.Callback):
    """Keeps a run's ``metrics.json`` at the validation metrics of the best epoch so far.

    What the file has of a test is of an earlier best epoch then, and is removed.

    Args:
        path: The run folder.
        monitor: The metric that says which epoch is best; higher is better.
    """

    def __init__(self, path: str | Path, monitor: str = MONITOR) -> None:
        self.path = Path(path)
        self.monitor = monitor
        self.best: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, for a training that goes on in the same folder."""
        return {"folder": str(self.path.absolute()), "best": dict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # In another folder neither this nor ModelCheckpoint knows the earlier epochs: their best.ckpt is not there.
        if state_dict["folder"] == str(self.path.absolute()):
            self.best = dict(state_dict["best"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Compares this epoch with the best so far."""
        if (
            trainer.sanity_checking
            or not trainer.is_global_zero
            or self.monitor not in trainer.callback_metrics
        ):
            return
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")}
        # Not >=: of equal epochs the first is kept, as ModelCheckpoint does.
        if not self.best or _worst_if_nan(values[self.monitor]) > _worst_if_nan(self.best[self.monitor]):
            self.best = {**values, "best_epoch": trainer.current_epoch}
            if trainer.state.fn == "fit":
                # A test before the training went on was of a checkpoint that is replaced now.
                add_metrics(self.path, self.best, forget=("val/", "test/"))
