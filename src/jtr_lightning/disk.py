"""Files on the disk: only real ones are opened, nothing in them is run, and ours are written whole or not at all.

Each reader here says what is wrong in a few words (an ``OSError`` or a ``ValueError``); whoever asked for the file
makes a sentence of it that says what the file should have been.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import torch

MOST_YAML_NODES = 100_000
"""Values in a YAML file, those that aliases repeat counted each time; the largest config has some hundred."""


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a regular file, or a link to one, for reading bytes.

    Opening or reading a named pipe waits for somebody to write into it, for ever if nobody does; a device may never
    end. Every file of a dataset, and everything else that is read from where others may have put it, goes through
    here.

    Args:
        path: The file.

    Returns:
        The open file.

    Raises:
        OSError: There is no such file, it may not be read, or it is a folder, a pipe, a socket or a device.
    """
    # Not blocking: without it the open call itself waits at a pipe. For a regular file it means nothing.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, flags)
    try:
        check_regular(os.fstat(handle).st_mode, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def check_regular(mode: int, path: str | Path) -> None:
    """Refuses what is no regular file.

    Args:
        mode: ``st_mode`` of the file, links followed.
        path: The file, for the message.

    Raises:
        OSError: It is a folder, a pipe, a socket or a device.
    """
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        found = "a named pipe" if stat.S_ISFIFO(mode) else "a device or a socket"
        raise OSError(errno.EINVAL, f"{found} instead of a regular file", str(path))


_Identity = tuple[int, int]
"""What tells a folder from all others, whatever way leads to it: the device and the number on it."""


def files_below(
    folder: Path, place: str = "", above: frozenset[_Identity] | None = None
) -> Iterator[tuple[str, str]]:
    """Every file in a folder and below, in order and without hidden ones.

    Links to folders are followed, but not to one that the way has come through, or lies in: there the same files would
    be found again, and again behind each of them.

    Args:
        folder: The folder.
        place: What stands in front of each name's folder.
        above: The folders around this one.

    Yields:
        Where a file is, relative, with '/' behind each folder; and its name.

    Raises:
        OSError: A folder cannot be read.
    """
    status = folder.stat()
    identity = status.st_dev, status.st_ino
    if above is None or folder.is_symlink():
        parents = (parent.stat() for parent in folder.resolve().parents)
        above = (above or frozenset()) | {(parent.st_dev, parent.st_ino) for parent in parents}
    if identity in above:
        return
    with os.scandir(folder) as entries:
        found = [(entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith(".")]
    for name, is_folder in sorted(found):
        if is_folder:
            yield from files_below(folder / name, f"{place}{name}/", above | {identity})
        else:
            yield place, name


def visible(folder: Path) -> Iterator[Path]:
    """What is in a folder, in no order, without what is hidden: macOS leaves a ``._<name>`` beside a file it copies.

    Raises:
        OSError: The folder cannot be read.
    """
    return (path for path in folder.iterdir() if not path.name.startswith("."))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def make_folder(folder: Path) -> None:
    """Makes a folder to write into, and those around it; one that is there is looked at.

    Args:
        folder: The folder.

    Raises:
        OSError: It cannot be made, is something else, or nothing may be written into it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def is_there(path: Path) -> bool:
    """Whether there is anything of a name: also a link that leads nowhere, and what may not be looked at."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # whoever opens it is told what is wrong
    return True


def open_text(path: str | Path, encoding: str = "utf-8") -> io.TextIOWrapper:
    """Opens a regular file for reading text; a line ends with a line feed, whether CR, LF or both end it in the file.

    Raises:
        OSError: See ``open_regular``.
    """
    return io.TextIOWrapper(open_regular(path), encoding=encoding)


def read_text(path: str | Path, encoding: str = "utf-8") -> str:
    """The whole text of a regular file, see ``open_text``.

    Raises:
        OSError: See ``open_regular``.
        UnicodeDecodeError: It is of another encoding.
    """
    with open_text(path, encoding) as file:
        return file.read()


def read_object(path: str | Path) -> dict[str, Any]:
    """The one object of a JSON file.

    Raises:
        OSError: See ``open_regular``.
        ValueError: It is no JSON, or holds something else than an object.
    """
    text = read_text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error})" if text.strip() else "an empty file") from error
    except RecursionError as error:
        raise ValueError("values nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__} instead of an object")
    return content


def read_yaml(path: str | Path) -> Any:
    """The content of a YAML file: plain values alone.

    Raises:
        OSError: See ``open_regular``.
        yaml.YAMLError: It is no YAML, or has tags.
        ValueError: It is not in UTF-8, nested too deeply, or grows beyond measure by repeating itself.
    """
    import yaml

    text = read_text(path)
    try:
        # Aliases of aliases are a few lines that stand for billions of values; here they are counted, not made.
        if _yaml_size(yaml.compose(text, Loader=yaml.SafeLoader), {}) > MOST_YAML_NODES:
            raise ValueError(f"more than {MOST_YAML_NODES} values, repeated by aliases")
        return yaml.safe_load(text)
    except RecursionError as error:
        raise ValueError("values nested too deeply") from error


def _yaml_size(node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for when aliases are written out."""
    if node is None:
        return 0
    if id(node) not in known:
        known[id(node)] = MOST_YAML_NODES + 1  # met again before it is counted, it holds itself
        parts = node.value if isinstance(node.value, list) else []
        children = [child for part in parts for child in (part if isinstance(part, tuple) else (part,))]
        known[id(node)] = 1 + sum(_yaml_size(child, known) for child in children)
    return known[id(node)]


def read_tensors(path: str | Path, map_location: torch.device | str | None = None) -> Any:
    """What ``torch.save`` wrote, of tensors and plain values alone; nothing else is unpickled.

    torch itself looks at no checksum: a block that a disk lost would be read as zeros.

    Args:
        path: The file.
        map_location: Where to put its tensors; the CPU by default.

    Returns:
        Its content.

    Raises:
        OSError: See ``open_regular``.
        ValueError: It is damaged, or holds objects.
    """
    import torch

    with open_regular(path) as file:
        damaged = _damaged_part(file)
    if damaged is not None:
        raise ValueError(f"the checksum of its part '{damaged}' does not fit")
    try:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)
    except Exception as error:  # an unpickler may raise anything about half a file
        raise ValueError(type(error).__name__) from error


def _damaged_part(file: BinaryIO) -> str | None:
    """The first part of a zip archive that is not what was written; None for a whole one, and for other files."""
    try:
        if not zipfile.is_zipfile(file):
            return None
        with zipfile.ZipFile(file) as archive:
            return archive.testzip()
    except Exception as error:  # its table of contents is damaged in any way
        raise ValueError(f"{type(error).__name__}: {error}") from error


@contextmanager
def written_whole(path: str | Path) -> Iterator[BinaryIO]:
    """Writes a file beside its place, flushes it to the disk, and moves it there in one step.

    So a kill, a crash of the machine or a full disk leaves the earlier file of that name as it was. What a killed
    process left behind is removed by the next one that writes the same file.

    Args:
        path: The file; its folder is made.

    Yields:
        What to write into.

    Raises:
        OSError: It could not be written, for example because the disk is full.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One process writes; its number keeps what an earlier, killed one left behind out of the way.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    for leftover in path.parent.glob(f".{path.name}.*.part"):
        leftover.unlink(missing_ok=True)
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        _flush_folder(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str) -> None:
    """Writes a text in UTF-8, whole or not at all; see ``written_whole``."""
    with written_whole(path) as file:
        file.write(text.encode())


def _flush_folder(folder: Path) -> None:
    """Makes the new name itself survive a crash of the machine, where the system can do that."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
