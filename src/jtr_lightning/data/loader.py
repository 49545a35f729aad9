"""The one DataLoader of the library: errors from workers in one sentence, and a report of what was skipped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from jtr_lightning.data.dataset import Sample
from jtr_lightning.errors import UserError

_log = logging.getLogger(__name__)


class SampleLoader(DataLoader[Sample]):
    """Gives batches; at the end of each pass it reports every file that was skipped."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # In order, each once: two samples may have met the same unreadable image.
        skipped: dict[str, None] = {}
        try:
            for batch in super().__iter__():
                skipped.update(dict.fromkeys(batch.skipped))
                yield batch
        except UserError as error:
            raise _sentence_of(error) from error
        finally:
            if skipped:
                lines = "".join(f"\n  {message}" for message in skipped)
                _log.warning("Unreadable files skipped in this epoch: %d%s", len(skipped), lines)


def _sentence_of(error: UserError) -> UserError:
    """The error as it was raised in a worker: torch puts a traceback in front of its sentence."""
    kind = type(error)
    return kind(str(error).rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")[2].rstrip("\n"))


def use_one_thread(worker: int) -> None:
    """To be run in each loader process: OpenCV's own threads would fight over the cores with the other processes."""
    import cv2

    del worker
    cv2.setNumThreads(0)
