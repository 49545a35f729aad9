"""Reading single files: images and arrays, each problem told in one sentence that names the file.

Nothing is ever unpickled. Colours are in RGB order. The orientation that a camera notes in EXIF or in a TIFF's tag is
ignored, since label files have none: pixels come as they are stored (but see ``upright`` of ``read_image``).
"""

from __future__ import annotations

import math
import threading
import zipfile
from collections.abc import Sequence
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data import headers
from jtr_lightning.data.source import Array
from jtr_lightning.disk import open_regular
from jtr_lightning.errors import DataError

PIXEL_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Files with pixels, which OpenCV decodes."""
ARRAY_SUFFIXES = (".npy", ".npz")
"""Files with one numpy array."""
SUFFIXES = (*PIXEL_SUFFIXES, *ARRAY_SUFFIXES)
"""Every kind of file that ``read_image`` and ``read_array`` take, in lower case."""

_one_at_a_time = threading.Lock()
"""Held while a header, a Python literal, is parsed: Python 3.11 has one count of nesting for all threads."""


def read_image(path: str | Path, key: str | None = None, upright: bool = False) -> NDArray[np.uint8]:
    """Reads a picture of any kind as 8-bit RGB.

    Grey becomes three equal channels, a palette its colours, transparency is dropped, 16 bits become the upper 8. An
    array file should hold uint8, or floating-point values in [0, 1].

    Args:
        path: A file with one of ``SUFFIXES``.
        key: Which array of an ``.npz`` file; needed only where it holds several.
        upright: Turn the picture as its camera notes, for pictures that no label belongs to.

    Returns:
        RGB uint8 ``[H, W, 3]``.

    Raises:
        DataError: The file is missing, empty, truncated, or no picture.
    """
    path = Path(path)
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return _array_as_image(read_array(path, key), path)
    import cv2

    content = _read_bytes(path)
    pixels = _to_rgb(_decode(content, path))
    if upright:
        pixels = headers.turned(pixels, content)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    elif pixels.dtype != np.uint8:
        return _array_as_image(pixels, path)
    return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else pixels)


def read_array(path: str | Path, key: str | None = None) -> Array:
    """Reads a label's raw values from a file of any kind.

    Args:
        path: A file with one of ``SUFFIXES``.
        key: Which array of an ``.npz`` file; needed only where it holds several.

    Returns:
        ``[H, W]`` or ``[H, W, C]`` in the file's own dtype for pixel files, see ``read_pixels``; any shape for arrays.

    Raises:
        DataError: The file is missing, empty, damaged or of another kind.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return read_npy(path)
    if suffix == ".npz":
        return read_npz(path, key)
    return read_pixels(path)


def read_pixels(path: str | Path) -> Array:
    """Reads a pixel file's raw values, for labels.

    A PNG, TIFF or BMP with a palette gives its indices (that is where datasets keep class ids), one of 2 or 4 bits its
    values 0..3 or 0..15, and one of single bits bool: of which type 1 is the largest value. A transparency channel is
    dropped.

    Args:
        path: A file with one of ``PIXEL_SUFFIXES``.

    Returns:
        ``[H, W]``, or RGB ``[H, W, 3]``; bool, uint8, uint16 or, from a TIFF, float32 and others.

    Raises:
        DataError: The file is missing, empty, truncated, or no picture.
    """
    path = Path(path)
    content = _read_bytes(path)
    if not content.startswith(headers.PNG_SIGNATURE) or len(content) <= headers.PNG_COLOUR:
        bits = headers.few_bits(content)
        return _to_rgb(_decode(content, path)) if bits is None else _indices(content, path, bits)
    depth, colour = content[headers.PNG_DEPTH], content[headers.PNG_COLOUR]
    if colour == headers.PNG_PALETTE:
        return _indices(content, path)
    pixels = _to_rgb(_decode(content, path))
    if colour == headers.PNG_GREY_ALPHA and pixels.ndim == 3:
        pixels = np.ascontiguousarray(pixels[..., 0])
    return _unstretched(pixels, depth) if colour == headers.PNG_GREY else pixels


def read_png(path: str | Path, dtype: type[np.generic], channels: int = 1) -> Array:
    """Reads a PNG that must be of one dtype and number of channels.

    Args:
        path: The file.
        dtype: ``np.uint8`` or ``np.uint16``.
        channels: 1 or 3.

    Returns:
        ``[H, W]`` or RGB ``[H, W, 3]`` of that dtype.

    Raises:
        DataError: The file is missing, empty, truncated, or of another dtype or number of channels.
    """
    pixels = read_pixels(path)
    check_array(
        pixels, path, dtypes=(dtype,), shape=(None, None) if channels == 1 else (None, None, channels)
    )
    return pixels


def read_npy(path: str | Path, mmap: bool = False) -> Array:
    """Reads an ``.npy`` file.

    Args:
        path: The file.
        mmap: Map the file read-only instead of reading it, for taking a few rows of a large one.

    Returns:
        The array in the file's own shape and dtype.

    Raises:
        DataError: The file is missing, empty, truncated, no NPY file, or holds Python objects.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            start = file.read(len(np.lib.format.MAGIC_PREFIX))
            if start != np.lib.format.MAGIC_PREFIX:
                raise DataError(
                    f"The file '{path}' should be a NumPy .npy file; found "
                    f"{'an empty file' if not start else 'other content'}. Write it again with numpy.save."
                )
            file.seek(0)
            if not mmap:
                return _numbers(_read_npy_array(file), path)
        return _numbers(np.lib.format.open_memmap(path, mode="r"), path)
    except DataError:
        raise
    except Exception as error:  # see _array_error
        raise _array_error(path, error) from error


def read_npz(path: str | Path, key: str | None = None) -> Array:
    """Reads one array of an ``.npz`` file.

    Args:
        path: The file.
        key: The array's name; needed only where there are several.

    Returns:
        The array in its own shape and dtype.

    Raises:
        DataError: The file is missing, empty, damaged, has no such array, or holds Python objects.
    """
    path = Path(path)
    try:
        with open_regular(path) as file, zipfile.ZipFile(file) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist()}
            wanted = next(iter(names)) if key is None and len(names) == 1 else key
            if wanted not in names:
                raise DataError(
                    f"The file '{path}' should hold {'one array' if key is None else f'an array {key!r}'}; found "
                    f"{sorted(names)}. Say which one (`keys` of FolderDataModule), or save it alone."
                )
            with archive.open(names[wanted]) as member, _one_at_a_time:
                return _numbers(np.lib.format.read_array(member, allow_pickle=False), path)
    except DataError:
        raise
    except Exception as error:  # see _array_error
        raise _array_error(path, error) from error


def check_array(
    array: Array,
    path: str | Path,
    dtypes: Sequence[type[np.generic]] = (),
    shape: Sequence[int | None] | None = None,
    finite: bool = False,
) -> None:
    """Checks what a file gave.

    Args:
        array: What was read.
        path: Where it was read, for the message.
        dtypes: The dtypes allowed, abstract ones such as ``np.floating`` included; any by default.
        shape: The shape, None for any length of a dimension; any shape by default.
        finite: Whether NaN and infinity are refused.

    Raises:
        DataError: It does not fit, or has no value at all.
    """
    if array.size == 0:
        raise DataError(
            f"The file '{path}' should hold values; found an empty array of the shape {list(array.shape)}. Write it "
            "again or remove it."
        )
    if dtypes and not any(np.issubdtype(array.dtype, dtype) for dtype in dtypes):
        expected = " or ".join(dtype.__name__ for dtype in dtypes)
        raise DataError(f"The file '{path}' should hold {expected} values; found {array.dtype}.")
    if shape is not None and not _shape_fits(array.shape, shape):
        expected = ", ".join("any" if length is None else str(length) for length in shape)
        raise DataError(f"The file '{path}' should have the shape [{expected}]; found {list(array.shape)}.")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        number = int((~np.isfinite(array)).sum())
        raise DataError(
            f"The file '{path}' should hold finite values; found NaN or infinity at {number} of {array.size} places."
        )


def _shape_fits(found: Sequence[int], expected: Sequence[int | None]) -> bool:
    return len(found) == len(expected) and all(
        e is None or e == f for f, e in zip(found, expected, strict=True)
    )


def _read_bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.read()
    except OSError as error:
        raise _missing(path, error) from error
    if not content:
        raise DataError(
            f"The file '{path}' should hold a picture; found an empty file. Copy it again or remove it."
        )
    return content


def _missing(path: Path, error: OSError) -> DataError:
    return DataError(f"The file '{path}' should be readable; found: {error.strerror or error}.")


def _decode(content: bytes, path: Path) -> Array:
    """Decodes pixels as OpenCV gives them: BGR order, any dtype."""
    import cv2

    pixels: Any = None
    given = headers.as_stored(content)
    # What goes wrong is said once, below, and not by OpenCV before (libpng would print a line of its own).
    logging: Any = cv2.utils.logging if hasattr(cv2.utils, "logging") else cv2  # of OpenCV 5, and 4
    level = logging.setLogLevel(0)
    try:
        if not (content.startswith(headers.PNG_SIGNATURE) and headers.is_truncated_png(content)):
            # UNCHANGED also leaves the EXIF orientation alone.
            pixels = cv2.imdecode(np.frombuffer(given, np.uint8), cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError) as error:  # a header that announces billions of pixels
        raise _no_picture(content, path) from error
    finally:
        logging.setLogLevel(level)
    if pixels is None:
        raise _no_picture(content, path)
    return np.asarray(pixels)


def _no_picture(content: bytes, path: Path) -> DataError:
    return DataError(
        f"The file '{path}' should be a whole picture ({', '.join(s[1:] for s in PIXEL_SUFFIXES)}); found "
        f"{len(content)} bytes that cannot be decoded: it is truncated, damaged, of another kind, or announces more "
        "pixels than any camera gives. Copy it again or remove it."
    )


def _to_rgb(pixels: Array) -> Array:
    import cv2

    if pixels.ndim == 3 and pixels.shape[2] in (3, 4):
        code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGB
        return np.asarray(cv2.cvtColor(pixels, code))
    return pixels


def _indices(content: bytes, path: Path, bits: int = 8) -> Array:
    """The places in a palette, or the values of fewer bits than a byte has."""
    from PIL import Image

    try:
        with Image.open(BytesIO(headers.as_stored(content))) as picture:
            pixels: Array = np.array(picture)
            stretched = picture.mode == "L" and picture.format == "TIFF"
    except Exception as error:  # whatever Pillow makes of a damaged file, or of one of billions of pixels
        raise DataError(
            f"The file '{path}' should be a whole picture with a palette or few bits; found one that is truncated or "
            f"damaged ({error}). Copy it again or remove it."
        ) from error
    return _unstretched(pixels, bits) if stretched else pixels


def _unstretched(pixels: Array, bits: int) -> Array:
    """The values of ``bits`` bits, which decoders stretch to 0..255."""
    if bits == 1:
        return pixels > 0
    return pixels // (255 // (2**bits - 1)) if bits < 8 else pixels


def _array_as_image(array: Array, path: Path) -> NDArray[np.uint8]:
    if array.ndim == 2:
        array = np.repeat(array[..., None], 3, axis=2)
    check_array(array, path, (np.uint8, np.floating), (None, None, 3), finite=True)
    if array.dtype == np.uint8:
        return array
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        raise DataError(
            f"The image '{path}' should hold uint8, or floating-point values in [0, 1]; found {array.dtype} from "
            f"{low:g} to {high:g}. Divide it by its maximum, or save it as uint8."
        )
    return np.asarray((array * 255).round().astype(np.uint8))


def _read_npy_array(file: BinaryIO) -> Array:
    """As NumPy's ``read_array``; but the header, a Python literal, is parsed once for all files that share it."""
    if np.lib.format.read_magic(file) != (1, 0):
        file.seek(0)
        with _one_at_a_time:
            return np.lib.format.read_array(file, allow_pickle=False)
    length = file.read(2)
    with _one_at_a_time:
        shape, by_columns, dtype = _npy_header(length + file.read(int.from_bytes(length, "little")))
    if dtype.hasobject:
        raise ValueError("Object arrays are not loaded")
    count = math.prod(shape)
    values: Array = np.fromfile(file, dtype=dtype, count=count)
    if values.size != count:
        raise ValueError(f"{count} values announced, {values.size} found")
    return values.reshape(shape[::-1]).T if by_columns else values.reshape(shape)


@lru_cache(maxsize=64)
def _npy_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    return np.lib.format.read_array_header_1_0(BytesIO(header))


def _numbers(array: Array, path: Path) -> Array:
    if array.dtype.kind not in "biuf":
        raise DataError(f"The file '{path}' should hold real numbers; found dtype {array.dtype}.")
    check_array(array, path)
    return array


def _array_error(path: Path, error: Exception) -> DataError:
    """What went wrong with an array file, in one sentence.

    A damaged header may raise anything: it is a Python literal (``TokenError``, ``RecursionError``), its shape may be
    of any numbers (``MemoryError``, ``OverflowError``, ``TypeError``), and an archive may ask for a password or an
    unknown compression (``RuntimeError``, ``NotImplementedError``, ``LZMAError``).
    """
    if isinstance(error, OSError) and error.errno is not None:
        return _missing(path, error)
    if "Object arrays" in str(error) or "Python objects" in str(error):
        return DataError(
            f"The file '{path}' should hold numbers; found an array of Python objects, which is never unpickled "
            "because that can run code. Save it again with a numeric dtype."
        )
    kind = path.suffix.lower()
    return DataError(
        f"The file '{path}' should be a whole NumPy {kind} file; found one that is empty, truncated or damaged "
        f"({str(error) or type(error).__name__}). Write it again."
    )
