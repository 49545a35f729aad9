"""The one DataLoader of the library: it can go on within an epoch, and tells errors and what was skipped."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from jtr_lightning.data.dataset import Sample
from jtr_lightning.data.sampler import EpochSampler
from jtr_lightning.errors import UserError

_log = logging.getLogger(__name__)


class SampleLoader(DataLoader[Sample]):
    """Gives batches; at the end of each pass it reports every file that was skipped.

    A pass can go on where an earlier one stopped: Lightning keeps ``state_dict`` in the checkpoint and hands it to
    ``load_state_dict`` before the first batch. With an ``EpochSampler`` the batches that were had are not read again.
    """

    _had: int = 0
    _epoch: int = 0
    _go_on: dict[str, int] | None = None

    def state_dict(self) -> dict[str, int]:
        """The epoch and how many of its batches were given."""
        return {"epoch": self._epoch, "batches": self._had}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Lets the next pass, if it is of the same epoch, begin behind the batches that were given."""
        self._go_on = dict(state)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        # In order, each once: two samples may have met the same unreadable image.
        skipped: dict[str, None] = {}
        self._begin_pass()
        try:
            for batch in super().__iter__():
                skipped.update(dict.fromkeys(batch.skipped))
                self._had += 1
                yield batch
        except UserError as error:
            raise _sentence_of(error) from error
        finally:
            if skipped:
                # Before a training a few validation batches are tried, which is no validation yet.
                part = "" if self._had >= len(self) else f" (its first {self._had} of {len(self)} batches)"
                split = getattr(self.dataset, "split", "")
                where = f"epoch {self._epoch}{f' of split {split!r}' if split else ''}{part}"
                lines = "".join(f"\n  {message}" for message in skipped)
                _log.warning("Unreadable files skipped in %s: %d%s", where, len(skipped), lines)

    def _begin_pass(self) -> None:
        state, self._go_on, self._had = self._go_on, None, 0
        if not isinstance(self.sampler, EpochSampler):
            return
        self._epoch = self.sampler.epoch
        if state is not None and state["epoch"] == self._epoch:
            self._had = state["batches"]
            self.sampler.leave_out = self._had * (self.batch_size or 1)


def _sentence_of(error: UserError) -> UserError:
    """The error as it was raised in a worker: torch puts a traceback in front of its sentence."""
    kind = type(error)
    return kind(str(error).rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")[2].rstrip("\n"))


def use_one_thread(worker: int) -> None:
    """To be run in each loader process: OpenCV's own threads would fight over the cores with the other processes."""
    import cv2

    del worker
    cv2.setNumThreads(0)
    # Clusters send SIGTERM to every process of a job, and terminals SIGINT (Ctrl-C). The training answers between two
    # steps and ends its workers itself; a worker that was gone by then would make it fail instead.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
