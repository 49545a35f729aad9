"""Disks without room, in a process of its own: the tests run these functions in a forked one."""

import ctypes
import os
import resource
import sys
from pathlib import Path

FOLDER = Path("small")
"""Where a training writes to."""
DISK, LIMIT = "a small disk", "a limit of the process"
"""Not every machine lets one mount a disk; the limit of a file's size stops what is written beyond it everywhere."""
FOUND = {DISK: "No space left on device", LIMIT: "File too large"}
"""What the system says then."""
NOT_ALLOWED = 77
"""The exit code where nobody may mount a disk."""


def begin(way: str, kilobytes: int) -> None:
    """Makes the folder, with a disk of this size in it where that is the way."""
    FOLDER.mkdir()
    if way == DISK and not _mount_a_small_disk(FOLDER, kilobytes):
        sys.exit(NOT_ALLOWED)


def leave(room: int, way: str) -> None:
    """Leaves so many bytes: on the disk, or to each file."""
    if way == DISK:
        free = os.statvfs(FOLDER).f_bavail * os.statvfs(FOLDER).f_frsize
        (FOLDER / "ballast").write_bytes(bytes(max(0, free - room)))
    else:
        # The files that pytest keeps the output in would be too large as well.
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        _limit_files(room)


def make_room(way: str) -> None:
    """Undoes ``leave``."""
    if way == DISK:
        (FOLDER / "ballast").unlink()
    else:
        _limit_files(resource.getrlimit(resource.RLIMIT_FSIZE)[1])


def _limit_files(size: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, most))


def _mount_a_small_disk(folder: Path, kilobytes: int) -> bool:
    """Mounts a file system of a few KB in this process's own view of the files; False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private = 0x00020000, 0x40000 | 0x4000
    if libc.unshare(new_namespace) or libc.mount(None, b"/", None, private, None):
        return False
    options = f"size={kilobytes}k".encode()
    return bool(libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, options) == 0)
