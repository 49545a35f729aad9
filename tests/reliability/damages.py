"""What may have become of a file: damages of any file, and those of one kind."""

import io
import os
import signal
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.reliability.forms import SIZE, load, save

Damage = Callable[[Path], Any]


class HangError(BaseException):
    """Something waits for ever; no handler of ordinary errors stops it."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails what takes longer."""

    def end(*_: Any) -> None:
        raise HangError(f"not done within {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def replace(content: Callable[[bytes], bytes]) -> Damage:
    return lambda path: path.write_bytes(content(path.read_bytes()))


def by_link(target: str) -> Damage:
    def damage(path: Path) -> None:
        path.unlink()
        path.symlink_to(target.format(name=path.name))

    return damage


def as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def remove(path: Path) -> None:
    """Removes whatever a damage has put in a file's place."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)


def as_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def unreadable(path: Path) -> None:
    path.chmod(0)


def larger(path: Path) -> None:
    array = load(path)
    save(path, np.concatenate([array, array[:1]]))


ANY_FILE: dict[str, Damage] = {
    "empty": replace(lambda content: b""),
    "cut to a half": replace(lambda content: content[: len(content) // 2]),
    "cut by a byte in the header": replace(lambda content: content[:9]),
    "other content": replace(lambda content: b"<html>not found</html>" * 20),
    "zeros": replace(lambda content: bytes(len(content))),
    "gone": Path.unlink,
    "a folder": as_folder,
    "a pipe": as_pipe,
    "a dangling link": by_link("nowhere"),
    "a link to itself": by_link("{name}"),
    "unreadable": unreadable,
}


# Arrays


def npy(shape: str, dtype: str = "<f4") -> bytes:
    """An NPY file of 64 bytes of values, whatever its header says."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


def of_array(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


NPY = {
    "four dimensions": of_array(np.zeros((*SIZE, 3, 2), np.float32)),
    "text": of_array(np.full(SIZE, "a")),
    "objects": of_array(np.full(SIZE, None)),
    "complex": of_array(np.ones(SIZE, np.complex64)),
    "dates": of_array(np.zeros(SIZE, "datetime64[s]")),
    "more than any memory": npy("(1000000000000,)"),
    "a shape of a huge number": npy("(1180591620717411303424,)"),
    "a shape of truth values": npy("(True,)"),
    "a shape below 0": npy("(-1, 3)"),
    "a shape of text": npy("('a',)"),
    "an unknown dtype": npy("(4,)", "nonsense"),
    "a header without end": b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + b"(" * 118,
    "a header nested deeply": b"\x93NUMPY\x02\x00" + struct.pack("<I", 9000) + b"[" * 9000,
    "an unknown version": b"\x93NUMPY\x09\x00" + b"x" * 200,
    "no value": of_array(np.zeros((0, 0, 3), np.float32)),
}


def archive(member: bytes, compression: int = zipfile.ZIP_STORED) -> bytearray:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as content:
        content.writestr("arr_0.npy", member)
    return bytearray(file.getvalue())


def patched(content: bytearray, local: int, central: int, value: int) -> bytes:
    """An archive with another value in the header of its member, and in the table of contents."""
    content[local] = value
    content[content.find(b"PK\x01\x02") + central] = value
    return bytes(content)


def garbled(content: bytearray) -> bytes:
    content[60:400] = bytes([0x55]) * 340
    return bytes(content)


NOISE = of_array(np.random.default_rng(0).random((100, 8)))
NPZ = {
    **{name: bytes(archive(content)) for name, content in NPY.items()},
    "a password": patched(archive(NOISE), 6, 8, 1),
    "an unknown compression": patched(archive(NOISE), 8, 10, 99),
    "no array": bytes(archive(b"")),
    "damaged LZMA": garbled(archive(NOISE, zipfile.ZIP_LZMA)),
    "damaged BZ2": garbled(archive(NOISE, zipfile.ZIP_BZIP2)),
    "damaged deflate": garbled(archive(NOISE, zipfile.ZIP_DEFLATED)),
    "a wrong checksum": garbled(archive(NOISE)),
}


# Pictures


def png(width: int, height: int, colour: int = 0) -> bytes:
    """A PNG that announces a size and has hardly a pixel; colour 3 is a palette."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + pixels + chunk(b"IEND", b"")


PNG = {
    "10,000,000,000 pixels": png(100_000, 100_000),
    "10,000,000,000 pixels with a palette": png(100_000, 100_000, 3),
    "a wide row": png(2_000_000, 1),
    "a wide row with a palette": png(2_000_000, 1, 3),
    "no pixel": png(0, 5),
    "no pixel with a palette": png(0, 5, 3),
}


# HDF5 files of one frame


def hdf5(change: Callable[[h5py.File, Path], None]) -> Damage:
    """Makes an image that was there into something else."""

    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file["rgb"]
            change(file, path)

    return damage


def external_values(file: h5py.File, path: Path) -> None:
    secret = path.with_name("secret")
    secret.write_bytes(bytes(3 * SIZE[0] * SIZE[1]))
    file.create_dataset("rgb", (3, *SIZE), "u1", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def other_file(path: Path) -> Path:
    other = path.with_name("other.hdf")
    with h5py.File(other, "w") as file:
        file["x"] = np.zeros((3, *SIZE), np.uint8)
    return other


def external_link(file: h5py.File, path: Path) -> None:
    file["rgb"] = h5py.ExternalLink(other_file(path).name, "/x")


def link_to_external_link(file: h5py.File, path: Path) -> None:
    file["there"] = h5py.ExternalLink(other_file(path).name, "/")
    file["rgb"] = h5py.SoftLink("/there/x")


def virtual_values(file: h5py.File, path: Path) -> None:
    layout = h5py.VirtualLayout((3, *SIZE), "u1")
    layout[:] = h5py.VirtualSource(other_file(path), "x", (3, *SIZE))
    file.create_virtual_dataset("rgb", layout)


def links_in_a_circle(file: h5py.File, path: Path) -> None:
    file["a"], file["rgb"] = h5py.SoftLink("/rgb"), h5py.SoftLink("/a")


def text_values(file: h5py.File, path: Path) -> None:
    file["rgb"] = ["a", "b"]


def one_group(file: h5py.File, path: Path) -> None:
    file.create_group("rgb")["x"] = 1


H5: dict[str, Damage] = {
    "values in another file": hdf5(external_values),
    "a link to another file": hdf5(external_link),
    "a link to a link to another file": hdf5(link_to_external_link),
    "a view of another file": hdf5(virtual_values),
    "links in a circle": hdf5(links_in_a_circle),
    "text": hdf5(text_values),
    "a group": hdf5(one_group),
    "no image": hdf5(lambda file, path: None),
    "a link to nothing": hdf5(lambda file, path: file.__setitem__("rgb", h5py.SoftLink("/nothing"))),
    "more than any memory": hdf5(lambda file, path: file.create_dataset("rgb", (10**12,), "u1", chunks=(1,))),
}


def as_written(contents: dict[str, bytes]) -> dict[str, Damage]:
    return {name: replace(lambda _, content=content: content) for name, content in contents.items()}


OF_KIND: dict[str, dict[str, Damage]] = {
    ".npy": as_written(NPY),
    ".npz": as_written(NPZ),
    ".png": as_written(PNG),
    ".h5": H5,
    ".jpg": {},
    ".tif": {},
}
"""Damages of files of one kind, by their ending."""
