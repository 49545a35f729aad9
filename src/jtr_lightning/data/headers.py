"""What the first bytes of a file say about its values, where OpenCV would not tell or would change them."""

from __future__ import annotations

import contextlib
import struct
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_DEPTH, PNG_COLOUR = 24, 25  # where the header chunk keeps the bit depth and the colour type
PNG_GREY, PNG_PALETTE, PNG_GREY_ALPHA = 0, 3, 4
_PNG_CHUNK = struct.Struct(">I4s")  # length and name; the chunk's data and a checksum of 4 bytes follow

_TIFF_BITS, _TIFF_MEANING, _TIFF_ORIENTATION, _TIFF_FORMAT = 258, 262, 274, 339
_TIFF_EXTRA = 338
_TIFF_PALETTE, _TIFF_UPRIGHT = 3, 1
_TIFF_ALPHA, _TIFF_UNSPECIFIED = 2, 0
_TIFF_KINDS = {2: "int", 3: "float"}  # values of _TIFF_FORMAT; unsigned integers otherwise
_BMP_BITS = 28  # where the header keeps the bits of a pixel
_OTHERS = (b"II", b"MM", b"BM", b"\xff\xd8", b"RIFF")  # TIFF, BMP, JPEG, WebP
_BYTE = 8
_TURNS = {
    2: (True, 0), 3: (False, 2), 4: (True, 2), 5: (True, 1), 6: (False, 3), 7: (True, 3), 8: (False, 1),
}  # fmt: skip
"""EXIF orientation to whether the picture is first mirrored, and by how many quarters it is then turned to the left."""


def is_truncated_png(content: bytes) -> bool:
    """Whether a PNG file ends before its last chunk does, found without decoding it."""
    at = len(PNG_SIGNATURE)
    while at + _PNG_CHUNK.size <= len(content):
        length, name = _PNG_CHUNK.unpack_from(content, at)
        at += _PNG_CHUNK.size + length + 4
        if name == b"IEND":
            return bool(at > len(content))
    return True


def few_bits(content: bytes) -> int | None:
    """How many bits a pixel of a TIFF or BMP file has, where these are single bits or places in a palette.

    Args:
        content: The whole file.

    Returns:
        The number; None where every pixel has whole bytes that are values, and for all other kinds of files.
    """
    if content[:2] == b"BM":
        bits = int.from_bytes(content[_BMP_BITS : _BMP_BITS + 2], "little")
        return bits if bits <= _BYTE else None
    tags = _tiff_tags(content)
    bits = tags.get(_TIFF_BITS, (0, 1))[1] if tags else 2 * _BYTE
    return bits if bits < _BYTE or tags.get(_TIFF_MEANING, (0, 0))[1] == _TIFF_PALETTE else None


def turned(pixels: NDArray[Any], content: bytes) -> NDArray[Any]:
    """Turns pixels as the EXIF note asks; for which formats OpenCV would do it differs from release to release."""
    from PIL import ExifTags, Image

    orientation = 1
    with (
        contextlib.suppress(Exception),
        Image.open(BytesIO(content)) as picture,
    ):  # a note that is damaged is none
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    mirrored, quarters = _TURNS.get(orientation, (False, 0))
    return np.ascontiguousarray(np.rot90(pixels[:, ::-1] if mirrored else pixels, quarters))


def as_stored(content: bytes) -> bytes:
    """A file without the notes of a TIFF that OpenCV would obey.

    They say that its picture should be turned or mirrored, and that there is an alpha, by which OpenCV multiplies the
    colours.
    """
    tags = _tiff_tags(content)
    order = "little" if content[:1] == b"I" else "big"
    for tag, obeyed, instead in (
        (_TIFF_ORIENTATION, range(2, 9), _TIFF_UPRIGHT),
        (_TIFF_EXTRA, (_TIFF_ALPHA,), _TIFF_UNSPECIFIED),
    ):
        place, value = tags.get(tag, (0, None))
        if value in obeyed:
            content = content[:place] + instead.to_bytes(2, order) + content[place + 2 :]  # type: ignore[arg-type]
    return content


def _tiff_tags(content: bytes) -> dict[int, tuple[int, int]]:
    """Place and first value of the short tags of a TIFF's first picture; nothing for other or damaged files."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2], "")
    tags: dict[int, tuple[int, int]] = {}
    try:
        version = struct.unpack_from(order + "H", content, 2)[0] if order else 0
        # Classic files have 32-bit places, big ones 64-bit: of the first entry, of how many there are, of values.
        if version == 42:
            first, count, entry, value = "I", "H", 12, 8
        elif version == 43:
            first, count, entry, value = "Q", "Q", 20, 12
        else:
            return {}
        start = struct.unpack_from(order + first, content, struct.calcsize("<" + first))[0]
        number = struct.unpack_from(order + count, content, start)[0]
        at = start + struct.calcsize("<" + count)
        for place in range(at, min(at + entry * number, len(content)), entry):
            tag, kind = struct.unpack_from(order + "HH", content, place)
            number_of_values = struct.unpack_from(order + first, content, place + 4)[0]
            if kind == 3 and number_of_values * 2 <= entry - value:
                tags[tag] = place + value, struct.unpack_from(order + "H", content, place + value)[0]
            elif kind == 3 and tag in (
                _TIFF_BITS,
                _TIFF_FORMAT,
            ):  # one for each channel, all alike, elsewhere
                where = struct.unpack_from(order + first, content, place + value)[0]
                tags[tag] = where, struct.unpack_from(order + "H", content, where)[0]
    except struct.error:
        return {}
    return tags


def stored_dtype(path: Path, key: str | None = None) -> str:
    """The type in which a file keeps its values, for people.

    Args:
        path: Any of ``files.SUFFIXES``.
        key: Which array of an ``.npz`` file with several.

    Returns:
        A dtype's name such as ``uint16``; ``1 bit``, ``4 bits`` or ``palette`` for pictures of such pixels; '' where
        it cannot be told.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            with path.open("rb") as file:
                return _npy_dtype(file)
        if suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                name = archive.namelist()[0] if key is None else f"{key}.npy"
                with archive.open(name) as member:
                    return _npy_dtype(member)  # type: ignore[arg-type]
        return _picture_dtype(path)
    except (OSError, ValueError, LookupError, zipfile.BadZipFile):
        return ""


def _npy_dtype(file: BinaryIO) -> str:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    return str(readers[np.lib.format.read_magic(file)](file)[2])


def _picture_dtype(path: Path) -> str:
    with path.open("rb") as file:
        content = file.read(64)
        if content[:2] in (b"II", b"MM"):  # its tags may be anywhere
            content += file.read()
    if content.startswith(PNG_SIGNATURE):
        bits, palette, kind = content[PNG_DEPTH], content[PNG_COLOUR] == PNG_PALETTE, "uint"
    elif not content.startswith(_OTHERS):
        return ""
    else:
        tags = _tiff_tags(content)
        few = few_bits(content)
        bits = few or tags.get(_TIFF_BITS, (0, _BYTE))[1]
        palette = tags.get(_TIFF_MEANING, (0, 0))[1] == _TIFF_PALETTE or (few is not None and not tags)
        kind = _TIFF_KINDS.get(tags.get(_TIFF_FORMAT, (0, 0))[1], "uint")
    if palette:
        return "palette"
    return f"{kind}{bits}" if bits >= _BYTE else f"{bits} bit{'s' if bits > 1 else ''}"
