"""Checkpoints without a training."""

from pathlib import Path

import lightning as L

from jtr_lightning.module import PartialLabelModule


def save_checkpoint(module: PartialLabelModule, path: Path) -> Path:
    """Writes the checkpoint that a trainer would write of this module."""
    trainer = L.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.connect(module)
    trainer.save_checkpoint(path)
    return path
