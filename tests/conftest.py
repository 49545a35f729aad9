"""What holds for every test: no network, nothing written outside a scratch folder, same random numbers."""

import os
import tempfile
from pathlib import Path

# Read when matplotlib, wandb and huggingface_hub are imported: before anything else here.
_SCRATCH = Path(tempfile.mkdtemp(prefix="jtr-tests-"))
os.environ.update(
    XDG_CACHE_HOME=str(_SCRATCH / "cache"),  # where generated datasets go by default
    MPLBACKEND="Agg",
    HF_HUB_OFFLINE="1",
    WANDB_MODE="offline",
    WANDB_SILENT="true",
    **{f"WANDB_{kind}": str(_SCRATCH / "wandb") for kind in ("DIR", "DATA_DIR", "CACHE_DIR", "CONFIG_DIR")},
)

import ipaddress
import random
import shutil
import socket
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import settings

from tests.fuzzing import FUZZ

# Generated examples are the same in every run but where JTR_FUZZ asks for others, and none fails for being slow on a
# busy machine.
settings.register_profile("jtr", deadline=None, derandomize=not FUZZ)
settings.load_profile("jtr")

# The tests run in several processes; more threads would fight over the cores.
torch.set_num_threads(1)


def pytest_unconfigure() -> None:
    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  libraries below us draw from the global state
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test reach its own machine only (processes trained together talk over the loopback)."""
    connect = socket.socket.connect

    def connect_locally(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        local = host == "localhost" or _is_loopback(host)
        if not local:
            raise OSError(f"a test tried to reach {host}; tests do without a network")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect_locally)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == socket.gethostname()


@pytest.fixture
def in_a_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For commands that write below the working folder, as `jtr fit` does."""
    monkeypatch.chdir(tmp_path)
