"""Runs what is not finished yet, several processes at once, and says how long the rest will take."""

from __future__ import annotations

import heapq
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

import yaml
from filelock import FileLock, Timeout

from jtr_lightning.comparison.plan import Run
from jtr_lightning.comparison.results import CONFIG, LOCK, LOG, PROGRESS, RESULT, read_result

WORKER = (sys.executable, "-m", "jtr_lightning.comparison.worker")

_POLL = 0.2  # seconds between two looks at the processes
_PATIENCE = 20.0  # seconds that an interrupted process has to end by itself
_LEAST_SHARE = 0.01  # of a training, from which on its pace says something


class Watcher(Protocol):
    """Is told what happens."""

    def started(self, run: Run) -> None:
        """A run has been started."""

    def ended(self, run: Run, failed: bool, log: Path) -> None:
        """A run has ended."""

    def moved(self, done: float, of: int, active: int, remaining: float | None) -> None:
        """Something has changed.

        Args:
            done: Number of finished runs, with the shares of those that are being trained.
            of: Number of all runs.
            active: Number of processes.
            remaining: Seconds until the last run ends, None as long as nothing is known.
        """


@dataclass
class Job:
    """One process.

    Attributes:
        run: What it trains.
        folder: The run's folder.
        process: The process.
        slot: Which of the processes at once it is.
        first: How much of the training was done when that was first known, and when on the monotonic clock; what is
            before it, an earlier process's work or the compiler's, tells nothing of the pace.
    """

    run: Run
    folder: Path
    process: subprocess.Popen[bytes]
    slot: int
    first: tuple[float, float] | None = None

    def share(self) -> float:
        """How much of the training is done, in [0, 1]."""
        try:
            share = float((self.folder / PROGRESS).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return 0.0
        if self.first is None:
            self.first = share, time.monotonic()
        return share

    def expected_seconds(self) -> float | None:
        """How long the whole training takes at the pace so far."""
        share = self.share()
        first_share, since = self.first or (share, 0.0)
        advance = share - first_share
        return (time.monotonic() - since) / advance if advance > _LEAST_SHARE else None


def is_finished(run: Run, root: Path) -> bool:
    """Whether a run's result is there, which is written last."""
    return (root / run.name / RESULT).is_file()


def execute(
    runs: Sequence[Run],
    root: Path,
    jobs: int,
    watcher: Watcher,
    seconds: Mapping[str, float] | None = None,
    worker: Sequence[str] = WORKER,
) -> dict[Run, Path]:
    """Trains and tests runs; one that fails does not stop the others.

    Args:
        runs: What to run, in this order.
        root: The folder of the runs' folders.
        jobs: Processes at once.
        watcher: Is told what happens.
        seconds: For some methods how long a training takes, from finished runs.
        worker: The command that is given a run's folder.

    Returns:
        The failed runs and their log files.
    """
    return _Execution(list(runs), root, jobs, watcher, dict(seconds or {}), tuple(worker)).execute()


class _Execution:
    def __init__(
        self,
        runs: list[Run],
        root: Path,
        jobs: int,
        watcher: Watcher,
        seconds: dict[str, float],
        worker: tuple[str, ...],
    ) -> None:
        self.number = len(runs)
        self.waiting = runs
        self.root = root
        self.jobs = jobs
        self.watcher = watcher
        self.seconds = seconds
        self.worker = worker
        self.active: list[Job] = []
        self.failed: dict[Run, Path] = {}

    def execute(self) -> dict[Run, Path]:
        try:
            with _terminated_like_interrupted():
                while self.waiting or self.active:
                    self._start()
                    self._collect()
                    self._tell()
                    time.sleep(_POLL)
        finally:
            self._stop()
        return self.failed

    def _start(self) -> None:
        for run in list(self.waiting):
            if len(self.active) >= self.jobs:
                return
            if is_finished(run, self.root):  # by another process, in the meantime
                self.waiting.remove(run)
            elif not self._is_locked(run):
                self.waiting.remove(run)
                slot = min(set(range(self.jobs)) - {job.slot for job in self.active})
                self.active.append(start(run, self.root / run.name, slot, self.jobs, self.worker))
                self.watcher.started(run)

    def _is_locked(self, run: Run) -> bool:
        """Whether another comparison trains the run at this moment; its result will do."""
        folder = self.root / run.name
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(folder / LOCK, timeout=0):
                return False
        except Timeout:
            return True

    def _collect(self) -> None:
        for job in list(self.active):
            if job.process.poll() is None:
                continue
            self.active.remove(job)
            result = read_result(job.folder)
            if result is None and self._is_locked(job.run):
                # Another comparison began it between our look at the lock and the worker's.
                self.waiting.append(job.run)
                continue
            if result is None:
                self.failed[job.run] = job.folder / LOG
            else:
                self.seconds.setdefault(job.run.method, result.train_seconds)
            self._tell()
            self.watcher.ended(job.run, result is None, job.folder / LOG)

    def _tell(self) -> None:
        shares = [job.share() for job in self.active]
        ended = self.number - len(self.waiting) - len(self.active)
        waiting = [run.method for run in self.waiting]
        active = [(job.run.method, job.share(), job.expected_seconds()) for job in self.active]
        remaining = remaining_seconds(waiting, active, self.seconds, self.jobs)
        self.watcher.moved(ended + sum(shares), self.number, len(self.active), remaining)

    def _stop(self) -> None:
        for job in self.active:
            job.process.terminate()
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and any(job.process.poll() is None for job in self.active):
            time.sleep(_POLL)
        for job in self.active:
            job.process.kill()
            job.process.wait()


def start(run: Run, folder: Path, slot: int, jobs: int, worker: Sequence[str] = WORKER) -> Job:
    """Starts a run's process.

    Args:
        run: What to train.
        folder: The run's folder.
        slot: Which of the processes at once it is, from 0.
        jobs: Processes at once, which share the cores.
        worker: The command that is given the folder.

    Returns:
        The process; it writes to the folder's log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(yaml.safe_dump(dict(run.config), sort_keys=False), encoding="utf-8")
    with (folder / LOG).open("ab") as log:
        log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')}\n".encode())
        log.flush()
        process = subprocess.Popen(
            [*worker, str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(slot, jobs),
        )
    return Job(run, folder, process, slot)


def environment(slot: int, jobs: int) -> dict[str, str]:
    """The environment of one of several processes: its share of the cores, and one of the GPUs."""
    variables = dict(os.environ)
    variables.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    gpus = _gpus()
    if len(gpus) > 1:
        variables["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    return variables


def _gpus() -> list[str]:
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]


def remaining_seconds(
    waiting: Sequence[str],
    active: Sequence[tuple[str, float, float | None]],
    seconds: Mapping[str, float],
    jobs: int,
) -> float | None:
    """How long the rest takes, if each run is begun by the process that is free first.

    Args:
        waiting: The method of each run that has not been started.
        active: Method, share that is done, and seconds expected for the whole, of each that has.
        seconds: Seconds of a run of some methods.
        jobs: Processes at once.

    Returns:
        Seconds; a method of which nothing is known counts as the mean of the others, and a run's own pace as much as
        is done of it where its method has finished runs. None if nothing is known.
    """
    known: dict[str, list[float]] = {method: [value] for method, value in seconds.items()}
    for method, _, expected in active:
        if expected is not None and method not in seconds:
            known.setdefault(method, []).append(expected)
    if not known:
        return None
    means = {method: fmean(values) for method, values in known.items()}
    anything = fmean(means.values())
    ends = [0.0] * (jobs - len(active))
    for method, share, expected in active:
        before = means.get(method, anything)
        own = before if expected is None else expected
        ends.append((1 - share) * (share * own + (1 - share) * before))
    heapq.heapify(ends)
    for method in waiting:
        heapq.heapreplace(ends, ends[0] + means.get(method, anything))
    return max(ends)


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """A SIGTERM ends the processes, too, as Ctrl+C does."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    try:
        before: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
