"""HDF5 files (``.h5``, and MATLAB's ``.mat`` since version 7.3), which need the optional package h5py."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jtr_lightning.data.source import Array
from jtr_lightning.disk import open_regular
from jtr_lightning.errors import ConfigError, DataError


def open_hdf5(path: str | Path) -> Any:
    """Opens a file for reading.

    Args:
        path: The file.

    Returns:
        An open ``h5py.File``.

    Raises:
        ConfigError: h5py is not installed.
        DataError: The file is missing, truncated or of another kind.
    """
    h5py = _h5py(path)
    try:
        open_regular(path).close()  # HDF5 would wait at a pipe
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise DataError(
            f"The file '{path}' should be a whole HDF5 file; found no file. Copy it again."
        ) from error
    except OSError as error:
        raise DataError(
            f"The file '{path}' should be a whole HDF5 file; found one that cannot be opened ({error}). Copy it again."
        ) from error


def dataset_of(file: Any, key: str) -> Any:
    """A dataset in an open file, of which nothing is read yet.

    Args:
        file: An open ``h5py.File``.
        key: The dataset's name.

    Returns:
        The ``h5py.Dataset``.

    Raises:
        DataError: There is none, or its values lie in another file: a file of a dataset must not decide what else on
            this machine is read.
    """
    path = file.filename
    try:
        outside = _leads_outside(file, key)
        dataset: Any = None if outside else file[key]
        is_dataset = hasattr(dataset, "is_virtual")
        # Values may be kept in other files, as a whole (external) or in parts (virtual).
        outside = outside or (is_dataset and (bool(dataset.external) or dataset.is_virtual))
    except Exception as error:  # a damaged table of contents may raise anything
        found = sorted(file) if isinstance(error, KeyError) else error
        raise DataError(f"The file '{path}' should hold a dataset '{key}'; found {found}.") from error
    if outside:
        raise DataError(
            f"The file '{path}' should hold '{key}' itself; found a link to another file, which is not followed. Copy "
            "the values into the file (h5repack)."
        )
    if not is_dataset:
        raise DataError(f"The file '{path}' should hold a dataset '{key}'; found a group.")
    return dataset


def _leads_outside(group: Any, key: str, hops: int = 16) -> bool:
    """Whether the way to an object goes through a link to another file; nothing is opened to find out."""
    import h5py

    if hops == 0:
        return True  # a circle of links
    for part in filter(None, key.split("/")):
        link = group.get(part, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            return True
        if isinstance(link, h5py.SoftLink):
            start = group.file if link.path.startswith("/") else group
            if _leads_outside(start, link.path, hops - 1):
                return True
        group = group.get(part)
        if not isinstance(group, h5py.Group):
            return False
    return False


def create_hdf5(path: str | Path) -> Any:
    """Creates an empty file for writing.

    Args:
        path: The file; its folder must exist.

    Returns:
        An open ``h5py.File``.

    Raises:
        ConfigError: h5py is not installed.
    """
    return _h5py(path).File(path, "w")


def _h5py(path: str | Path) -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ConfigError(
            f"The HDF5 file '{path}' needs the package h5py, which is not installed here; install it with "
            "`pip install 'jtr-lightning[h5py]'`."
        ) from error
    return h5py


def read_hdf5(dataset: Any, part: Any = ()) -> Array:
    """Reads numbers from a dataset.

    Args:
        dataset: An ``h5py.Dataset``.
        part: Which of them, as NumPy is asked; all by default.

    Returns:
        They, in the file's dtype.

    Raises:
        DataError: They are damaged, not there, or no numbers.
    """
    where = f"'{dataset.name.lstrip('/')}' in the file '{dataset.file.filename}'"
    try:
        values = np.asarray(dataset[part])
    except Exception as error:  # a damaged block, or a shape that fits in no memory
        raise DataError(
            f"{where} should be readable{f' at {part}' if part != () else ''}; found: {error}. Copy the file again."
        ) from error
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where} should hold real numbers; found dtype {values.dtype}.")
    return values


class Hdf5File:
    """One HDF5 file of which single rows are read.

    The file is opened at the first read in each process and then stays open: a file handle must not be shared by
    processes. It is sent to loader workers as a path.

    Args:
        path: The file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._file: Any = None
        self._process = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_file": None, "_process": 0}

    def dataset(self, key: str) -> Any:
        """The dataset with that name, of which nothing is read yet.

        Raises:
            ConfigError: h5py is not installed.
            DataError: The file is missing or damaged, has no such dataset, or has it in another file.
        """
        if self._process != os.getpid():
            # A handle that came by a fork is closed first: HDF5 would share the parent's position in the file with us.
            self.close()
            self._file, self._process = open_hdf5(self.path), os.getpid()
        return dataset_of(self._file, key)

    def row(self, key: str, row: int) -> Array:
        """One row of a dataset.

        Raises:
            ConfigError: h5py is not installed.
            DataError: The row cannot be read.
        """
        return read_hdf5(self.dataset(key), row)

    def close(self) -> None:
        """Closes the file in this process; the next read opens it again."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file, self._process = None, 0
