"""Two processes that train together, of which one dies or falls silent: the other ends with an error."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from jtr_lightning.balancing import DynamicWeightAverage
from jtr_lightning.callbacks.resume import AGREE_EVERY, RANKS, Resume
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.testing.comparing import same
from tests.reliability.trainings import AccidentError
from tests.test_ddp import Noisy
from tests.toy import ToyDataModule, ToyNetwork

pytestmark = pytest.mark.slow

TIMEOUT = 10
"""Seconds that a process waits for one that fell silent."""
LONG = 1800
"""The same where nobody should have to wait."""
START = 600
"""Seconds to import everything in two processes on a busy machine."""
END = 60
"""Seconds to end in, on a busy machine."""

TRAINING = """
import os, signal, sys, time
from datetime import timedelta
import lightning as L
from lightning.pytorch.strategies import DDPStrategy
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.lightning_cli.resuming import stopping_with_a_checkpoint
from jtr_lightning.module import PartialLabelModule
from tests.toy import ToyDataModule, ToyNetwork

def wait_for_the_signal():
    while not os.path.exists("sent"):
        time.sleep(0.01)

class Fate(L.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:
            open(f"at_3_{trainer.global_rank}", "w").close()
            if trainer.global_rank in RANKS:
                FATE

    def on_validation_batch_end(self, trainer, *_):
        open(f"validating_{trainer.global_rank}", "w").close()
        wait_for_the_signal()

data = ToyDataModule(2 * STEPS, tasks=["depth"], batch_size=1)
trainer = L.Trainer(
    accelerator="cpu", devices=2, max_epochs=50, limit_val_batches=VALIDATION, num_sanity_val_steps=0, logger=False,
    strategy=DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=TIMEOUT)),
    enable_progress_bar=False, enable_model_summary=False, callbacks=[Fate(), Resume(".")],
)
with stopping_with_a_checkpoint(None, lambda: None):
    trainer.fit(PartialLabelModule(data.tasks, ToyNetwork()), data)
"""


@contextlib.contextmanager
def started(
    folder: Path,
    fate: str = "pass",
    ranks: Sequence[int] = (0, 1),
    timeout: int = LONG,
    validation: int = 0,
    steps: int = 4,
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts both processes as a cluster does, so that nobody but they themselves can end them; ends them at last.

    Args:
        folder: Where they work.
        fate: What befalls some of them at step 3.
        ranks: Whom it befalls.
        timeout: Seconds that they wait for each other.
        validation: Batches of each validation.
        steps: Steps of an epoch.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = TRAINING
    for name, value in {
        "FATE": fate,
        "RANKS": tuple(ranks),
        "TIMEOUT": timeout,
        "VALIDATION": validation,
        "STEPS": steps,
    }.items():
        command = command.replace(name, str(value))
    processes = []
    for rank in (0, 1):
        env = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "GROUP_RANK": "0",
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "TORCHELASTIC_RUN_ID": "test",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]),
        }
        arguments = [sys.executable, "-c", command]
        with (folder / f"log_{rank}").open("wb") as log:
            processes.append(subprocess.Popen(arguments, env=env, cwd=folder, stdout=log, stderr=log))
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def wait_for(folder: Path, name: str, processes: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + START
    while not all((folder / f"{name}_{rank}").exists() for rank in (0, 1)):
        ended = any(
            process.poll() is not None and not (folder / f"{name}_{rank}").exists()
            for rank, process in enumerate(processes)
        )
        assert not ended, logs(folder)
        assert time.monotonic() < until, logs(folder)
        time.sleep(0.02)


def logs(folder: Path) -> str:
    return "".join((folder / f"log_{rank}").read_text()[-2000:] for rank in (0, 1))


@pytest.mark.parametrize(
    ("fate", "timeout", "least"),
    [
        # They must not wait for the timeout, which is far away.
        ("os.kill(os.getpid(), signal.SIGKILL)", LONG, 0),
        ("raise RuntimeError('broken')", LONG, 0),
        ("time.sleep(600)", TIMEOUT, TIMEOUT / 2),
    ],
    ids=["killed", "failed", "silent"],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_the_other_ends_with_an_error(
    rank: int, fate: str, timeout: int, least: float, tmp_path: Path
) -> None:
    """The first process also keeps the store through which they have met."""
    other = 1 - rank
    with started(tmp_path, fate, [rank], timeout) as processes:
        wait_for(tmp_path, "at_3", processes)
        begun = time.monotonic()
        code = processes[other].wait(timeout=(timeout if least else 0) + END)
        took = time.monotonic() - begun
    assert code not in (0, None), logs(tmp_path)
    assert took >= least
    assert "Error" in (tmp_path / f"log_{other}").read_text()


@pytest.mark.parametrize(
    ("ranks", "steps"),
    [((0, 1), 4), ((0,), 40), ((1,), 40)],
    ids=["both", "the first", "the second"],
)
def test_sigterm_saves_and_ends_both_wherever_it_arrives(
    ranks: tuple[int, ...], steps: int, tmp_path: Path
) -> None:
    with started(tmp_path, "wait_for_the_signal()", steps=steps) as processes:
        wait_for(tmp_path, "at_3", processes)
        for rank in ranks:
            processes[rank].send_signal(signal.SIGTERM)
        (tmp_path / "sent").touch()
        codes = [process.wait(timeout=END) for process in processes]
    assert codes == [143, 143], logs(tmp_path)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert len(saved[RANKS]) == 2
    assert 3 <= saved["global_step"] <= min(3 + AGREE_EVERY, steps), "eight steps, or the end of the epoch"


@pytest.mark.parametrize("ranks", [(0, 1), (1,)], ids=["both", "the second"])
def test_sigterm_during_the_validation_ends_both_behind_it(ranks: tuple[int, ...], tmp_path: Path) -> None:
    with started(tmp_path, validation=2) as processes:
        wait_for(tmp_path, "validating", processes)
        for rank in ranks:
            processes[rank].send_signal(signal.SIGTERM)
        (tmp_path / "sent").touch()
        codes = [process.wait(timeout=END) for process in processes]
    assert codes == [143, 143], logs(tmp_path)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert len(saved[RANKS]) == 2
    assert saved["global_step"] == 4, "the end of the first epoch"


class RankDraws(Noisy):
    """Trains with numbers drawn by each rank for itself."""

    def forward(self, *arguments: Any) -> dict[str, torch.Tensor]:
        terms = super().forward(*arguments)
        return {name: term * (1 + self.draw) for name, term in terms.items()}


class Stop(L.Callback):
    """Ends the training behind a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            raise AccidentError


def train(folder: Path, *callbacks: L.Callback, resume: bool = False) -> dict[str, torch.Tensor]:
    L.seed_everything(3, verbose=False)
    data = ToyDataModule(8, tasks=["segmentation", "depth"], batch_size=1)  # 4 steps for each rank
    module = PartialLabelModule(data.tasks, ToyNetwork(), RankDraws(), DynamicWeightAverage())
    trainer = L.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_fork",
        max_epochs=3,
        limit_val_batches=0,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Resume(folder, every_n_steps=3), *callbacks],
        default_root_dir=folder,
    )
    trainer.fit(module, data, ckpt_path=str(folder / "last.ckpt") if resume else None)
    return dict(torch.load(folder / "last.ckpt", weights_only=True)["state_dict"])


@pytest.mark.parametrize("step", [5, 7], ids=["at an epoch's end", "within an epoch"])
def test_two_ranks_go_on_bit_for_bit(step: int, tmp_path: Path) -> None:
    expected = train(tmp_path / "whole")
    with contextlib.suppress(Exception):
        train(tmp_path / "stopped", Stop(step))
    stopped = torch.load(tmp_path / "stopped" / "last.ckpt", weights_only=True)
    assert stopped["global_step"] == {5: 4, 7: 6}[step]
    states = [rank["random"]["torch"] for rank in stopped[RANKS]]
    assert not torch.equal(*states)
    found = train(tmp_path / "stopped", resume=True)
    assert found.keys() == expected.keys()
    assert all(same(found[name], expected[name]) for name in expected)
