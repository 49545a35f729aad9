"""How much memory a process has, as Linux tells it."""

import os
from pathlib import Path

import pytest

MB = 2**20
NEEDS_PROC = pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="reads the memory from Linux's /proc"
)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def private_memory(process: int | str | None = "self") -> int:
    """Bytes that a process shares with no other."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private"))
