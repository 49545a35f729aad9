"""Processes: several at once, failures, other comparisons at work, interruption, and the estimate of the time left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from jtr_lightning.cli.run_display import RunDisplay
from jtr_lightning.comparison.execution import environment, execute, is_finished, remaining_seconds
from jtr_lightning.comparison.plan import Run
from jtr_lightning.comparison.results import LOCK, write_result
from tests.comparison.parts import fake_result, fake_run

RESULT = fake_result({"seg": 0.5, "depth": 1.0})

WORKER = f"""
import json, sys, time
from pathlib import Path

import yaml

folder = Path(sys.argv[1])
config = yaml.safe_load((folder / "config.yaml").read_text())
print("at work", config["method"])
(folder / "begun").write_text(str(time.time()))
(folder / "progress.txt").write_text("0.5")
time.sleep(config.get("sleep", 0))
if config.get("fails"):
    sys.exit("the disk is full")
(folder / "result.json").write_text(json.dumps({asdict(RESULT)!r}))
"""


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.most_active = 0
        self.moves: list[tuple[float, int, float | None]] = []

    def started(self, run: Run) -> None:
        self.events.append(("started", run.method))

    def ended(self, run: Run, failed: bool, log: Path) -> None:
        self.events.append(("failed" if failed else "finished", run.method))

    def moved(self, done: float, of: int, active: int, remaining: float | None) -> None:
        self.most_active = max(self.most_active, active)
        self.moves.append((done, of, remaining))


@pytest.fixture
def worker(tmp_path: Path) -> list[str]:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    return [sys.executable, str(script)]


def test_runs_one_after_another_and_a_failure_stops_nobody(tmp_path: Path, worker: list[str]) -> None:
    runs = [fake_run("a"), fake_run("b", fails=True), fake_run("c")]
    log = Log()
    failed = execute(runs, tmp_path, 1, log, worker=worker)
    assert log.events == [
        *(("started", "a"), ("finished", "a")),
        *(("started", "b"), ("failed", "b")),
        *(("started", "c"), ("finished", "c")),
    ]
    assert log.most_active == 1
    assert [run.method for run in failed] == ["b"]
    text = failed[runs[1]].read_text()
    assert "at work b" in text
    assert "the disk is full" in text
    assert [is_finished(run, tmp_path) for run in runs] == [True, False, True]
    assert yaml.safe_load((tmp_path / runs[0].name / "config.yaml").read_text()) == runs[0].config
    assert log.moves[-1][:2] == (3.0, 3)


def test_tables_that_cannot_be_written_stop_no_training(
    tmp_path: Path, worker: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def write() -> None:
        raise OSError(28, "No space left on device")

    runs = [fake_run("a"), fake_run("b")]
    with RunDisplay(write) as display:
        assert execute(runs, tmp_path, 1, display, worker=worker) == {}
    assert all(is_finished(run, tmp_path) for run in runs)
    printed = capsys.readouterr().out
    assert printed.count("The tables could not be written for now: OSError: [Errno 28] No space left") == 2


def test_several_at_once(tmp_path: Path, worker: list[str]) -> None:
    runs = [fake_run(name, sleep=1.0) for name in "abc"]
    log = Log()
    assert execute(runs, tmp_path, 2, log, worker=worker) == {}
    assert log.most_active == 2
    a, b, c = (float((tmp_path / run.name / "begun").read_text()) for run in runs)
    assert abs(a - b) < 1.0 <= c - min(a, b)
    assert any(done == 1.0 for done, *_ in log.moves)  # two halves


def test_a_run_of_another_comparison_is_waited_for_and_not_repeated(
    tmp_path: Path, worker: list[str]
) -> None:
    run = fake_run("a")
    folder = tmp_path / run.name
    folder.mkdir()
    lock = FileLock(folder / LOCK, thread_local=False)
    lock.acquire()

    def finish() -> None:
        time.sleep(1)
        write_result(folder, RESULT)
        lock.release()

    other = threading.Thread(target=finish)
    other.start()
    log = Log()
    assert execute([run], tmp_path, 1, log, worker=worker) == {}
    other.join()
    assert log.events == []


def test_a_run_that_another_comparison_was_quicker_to_lock_has_not_failed(tmp_path: Path) -> None:
    run = fake_run("a")
    folder = tmp_path / run.name
    lock = FileLock(folder / LOCK, thread_local=False)
    script = tmp_path / "late.py"
    script.write_text("import sys, time; time.sleep(1); sys.exit('is being trained by another process')")

    def finish() -> None:
        lock.acquire()
        time.sleep(3)
        write_result(folder, RESULT)
        lock.release()

    class Other(Log):
        def started(self, run: Run) -> None:
            super().started(run)
            threads.append(threading.Thread(target=finish))
            threads[-1].start()

    threads: list[threading.Thread] = []
    log = Other()
    assert execute([run], tmp_path, 1, log, worker=[sys.executable, str(script)]) == {}
    threads[0].join()
    assert log.events == [("started", "a")]
    assert is_finished(run, tmp_path)


def test_a_terminated_comparison_ends_its_processes(tmp_path: Path, worker: list[str]) -> None:
    run = fake_run("a", sleep=60)
    script = tmp_path / "compare.py"
    script.write_text(
        textwrap.dedent(f"""
        from pathlib import Path
        from unittest.mock import Mock

        from jtr_lightning.comparison.execution import execute
        from jtr_lightning.comparison.plan import Labels, Run

        run = Run("a", Labels("onelabel", "OneLabel"), 0, {dict(run.config)!r})
        execute([run], Path({str(tmp_path)!r}), 1, Mock(), worker={worker!r})
        """)
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.PIPE)
    begun = tmp_path / run.name / "begun"
    deadline = time.monotonic() + 50
    while not begun.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert begun.exists()
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in error
    assert not _at_work(str(begun.parent))


def _at_work(argument: str) -> bool:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return any(argument in line for line in listed.splitlines())


@pytest.mark.parametrize(
    ("waiting", "active", "seconds", "jobs", "expected"),
    [
        ([], [], {}, 1, None),
        (["a", "b"], [], {"a": 10.0, "b": 30.0}, 1, 40.0),
        (["a", "b"], [], {"a": 10.0, "b": 30.0}, 2, 30.0),
        (["a", "a", "b"], [], {"a": 10.0, "b": 30.0}, 2, 40.0),  # in their order, on what is free first
        (["c"], [], {"a": 10.0, "b": 30.0}, 1, 20.0),  # unknown: the mean of the known
        (["a"], [("a", 0.25, None)], {"a": 40.0}, 1, 70.0),
        (["a"], [("a", 0.25, 80.0)], {"a": 40.0}, 1, 77.5),  # its own pace counts as much as is done of it
        (["a", "a"], [("a", 0.5, 20.0)], {}, 1, 50.0),  # and serves those that wait
        ([], [("a", 0.0, 100.0), ("a", 0.9, 100.0)], {}, 2, 100.0),  # the last one to end
        (["a"], [("a", 1.0, 99.0), ("a", 1.0, 99.0)], {}, 2, 99.0),  # one alone is not spread over two
        (["a"], [("a", 0.0, None)], {}, 2, None),
    ],
)
def test_time_left(
    waiting: list[str],
    active: list[tuple[str, float, float | None]],
    seconds: dict[str, float],
    jobs: int,
    expected: float | None,
) -> None:
    found = remaining_seconds(waiting, active, seconds, jobs)
    assert found == (None if expected is None else pytest.approx(expected))


def test_processes_share_the_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert environment(0, 3)["OMP_NUM_THREADS"] == "2"
    assert environment(0, 20)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert environment(0, 3)["OMP_NUM_THREADS"] == "5"


def test_processes_take_turns_with_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert [environment(slot, 3)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["4", "6", "4"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    assert environment(1, 3)["CUDA_VISIBLE_DEVICES"] == "4"
