"""Checkpoints on disk: a file is there whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.disk import read_tensors, written_whole
from jtr_lightning.errors import ConfigError

LAST = "last.ckpt"
"""The checkpoint that a training goes on from."""

_log = logging.getLogger(__name__)


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint whole or not at all, reads a whole one alone, and never runs code from it.

    Lightning itself writes to the system's folder for temporary files, from where a move to another disk is a copy that
    can stop in the middle.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> None:
        """Writes a checkpoint.

        Args:
            checkpoint: What to write.
            path: Where; its folder is made.
            storage_options: Not used, as in Lightning's own.

        Raises:
            ConfigError: It could not be written, for example because the disk is full.
        """
        if "://" in str(path):  # a store that is no file system has its own rules
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path = Path(path)
        try:
            with written_whole(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            reason = _reason(error)
            if reason is None:
                raise
            kept = (
                "the earlier checkpoint of that name is untouched" if path.exists() else "there is none yet"
            )
            raise ConfigError(
                f"The checkpoint '{path}' should be written; found: {reason} ({kept}). Make room or mend the disk, "
                "then go on with jtr fit --resume and the run's folder."
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = "cpu", weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Reads a checkpoint of tensors and plain values.

        Args:
            path: The file.
            map_location: Where to put its tensors.
            weights_only: False only if the caller says so; by default nothing is unpickled.

        Returns:
            Its content.

        Raises:
            ConfigError: It is damaged, or holds objects.
        """
        safe = True if weights_only is None else weights_only
        if not safe or "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only=safe)
        try:
            content: dict[str, Any] = read_tensors(path, map_location)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"The checkpoint '{path}' should be whole, of plain tensors and values; found: {error}. Take an "
                "earlier one."
            ) from error
        return content


def newest_whole_checkpoint(folder: str | Path, weights_alone: bool = True) -> Path | None:
    """The checkpoint of a folder that is furthest on, among those that can be read from beginning to end.

    Args:
        folder: A run's ``checkpoints``.
        weights_alone: Whether one counts that has no state of an optimizer, from which no training can go on.

    Returns:
        The file of most steps, and of these the one written last; None where there is none. Every damaged one is
        reported.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return None
    by_age = sorted(folder.glob("*.ckpt"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
    # The steps decide: a copy or a backup put back may have changed the times.
    steps = {path: step for path in by_age if (step := _step_of_whole(path, weights_alone)) is not None}
    return max(steps, key=steps.__getitem__, default=None)


def _step_of_whole(path: Path, weights_alone: bool) -> int | None:
    """How many steps a checkpoint has behind it; None where it is damaged or does not count."""
    try:
        checkpoint = read_checkpoint(path)
    except ConfigError as error:
        _log.warning("Passed over: %s", error)
        return None
    if not weights_alone and not checkpoint.get("optimizer_states"):
        return None
    step = checkpoint.get("global_step")
    return step if isinstance(step, int) else 0


def _reason(error: BaseException) -> str | None:
    """What the operating system said, if it was the operating system."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno is not None:
            return seen.strerror or str(seen)
        seen = seen.__cause__ or seen.__context__
    # torch's writer forgets the system's reason.
    if isinstance(error, RuntimeError) and (
        "PytorchStreamWriter" in str(error) or "file write" in str(error)
    ):
        return "the disk took only a part of it"
    return None
