"""Two processes that train together, of which one dies or falls silent: the other ends with an error."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from jtr_lightning.balancing import DynamicWeightAverage
from jtr_lightning.callbacks.resume import RANKS, Resume
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.testing.comparing import same
from tests.reliability.test_kill_and_resume import AccidentError
from tests.test_ddp import Noisy
from tests.toy import ToyDataModule, ToyNetwork

pytestmark = pytest.mark.slow

TIMEOUT = 10
"""Seconds that a process waits for the other."""

TRAINING = f"""
import os, signal, sys, time
from datetime import timedelta
import lightning as L
from lightning.pytorch.strategies import DDPStrategy
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.module import PartialLabelModule
from tests.toy import ToyDataModule, ToyNetwork

class Fate(L.Callback):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:
            open(f"at_3_{{trainer.global_rank}}", "w").close()
            if trainer.global_rank == 1:
                {{fate}}

data = ToyDataModule(8, tasks=["depth"], batch_size=1)
trainer = L.Trainer(
    accelerator="cpu", devices=2, max_epochs=50, limit_val_batches=0, logger=False,
    strategy=DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds={TIMEOUT})),
    enable_progress_bar=False, enable_model_summary=False, callbacks=[Fate(), Resume(".")],
)
trainer.fit(PartialLabelModule(data.tasks, ToyNetwork()), data)
"""


def start(folder: Path, fate: str) -> list[subprocess.Popen[bytes]]:
    """Starts both processes as a cluster does, so that nobody but they themselves can end them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
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
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        command = [sys.executable, "-c", TRAINING.replace("{fate}", fate)]
        with (folder / f"log_{rank}").open("wb") as log:
            processes.append(subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=log))
    return processes


@pytest.mark.parametrize(
    ("fate", "least"),
    [
        ("os.kill(os.getpid(), signal.SIGKILL)", 0),
        ("raise RuntimeError('broken')", 0),
        ("time.sleep(600)", TIMEOUT / 2),
    ],
    ids=["killed", "failed", "silent"],
)
def test_the_others_end_with_an_error_within_the_timeout(fate: str, least: float, tmp_path: Path) -> None:
    processes = start(tmp_path, fate)
    try:
        until = time.monotonic() + 180  # to import everything on a busy machine
        while not (tmp_path / "at_3_1").exists() and time.monotonic() < until:
            time.sleep(0.1)
        begun = time.monotonic()
        assert (tmp_path / "at_3_1").exists(), (tmp_path / "log_1").read_text()[-2000:]
        code = processes[0].wait(timeout=TIMEOUT + 60)
        took = time.monotonic() - begun
        told = (tmp_path / "log_0").read_text()
        assert code not in (0, None), told[-2000:]
        assert took >= least
        assert "Error" in told
        assert (tmp_path / "at_3_0").exists()
    finally:
        for process in processes:
            process.send_signal(signal.SIGKILL)
            process.wait()


def test_sigterm_to_both_saves_and_ends_both(tmp_path: Path) -> None:
    """As a cluster does it: the signal reaches every process, at whatever it is doing."""
    processes = start(tmp_path, "open('ready', 'w').close()")
    try:
        until = time.monotonic() + 180
        while not (tmp_path / "ready").exists() and time.monotonic() < until:
            time.sleep(0.02)
        for process in processes:
            process.send_signal(signal.SIGTERM)
        codes = [process.wait(timeout=TIMEOUT + 60) for process in processes]
        logs = [(tmp_path / f"log_{rank}").read_text() for rank in (0, 1)]
        assert codes == [0, 0], "".join(log[-2000:] for log in logs)
        saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
        assert len(saved[RANKS]) == 2
        assert saved["global_step"] >= 3
    finally:
        for process in processes:
            process.kill()
            process.wait()


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
