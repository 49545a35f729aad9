"""HDF5 files (``.h5``, and MATLAB's ``.mat`` since version 7.3), which need the optional package h5py."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from jtr_lightning.data.source import Array
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
        return h5py.File(path, "r")
    except OSError as error:
        found = "no file" if not Path(path).is_file() else f"one that cannot be opened ({error})"
        raise DataError(
            f"The file '{path}' should be a whole HDF5 file; found {found}. Copy it again."
        ) from error


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
            DataError: The file is missing or damaged, or has no such dataset.
        """
        if self._process != os.getpid():
            # A handle that came by a fork is closed first: HDF5 would share the parent's position in the file with us.
            self.close()
            self._file, self._process = open_hdf5(self.path), os.getpid()
        try:
            return self._file[key]
        except KeyError as error:
            raise DataError(
                f"The file '{self.path}' should hold a dataset '{key}'; found {sorted(self._file)}."
            ) from error

    def row(self, key: str, row: int) -> Array:
        """One row of a dataset.

        Raises:
            ConfigError: h5py is not installed.
            DataError: The row cannot be read.
        """
        dataset = self.dataset(key)
        try:
            return np.asarray(dataset[row])
        except (OSError, ValueError, IndexError) as error:
            raise DataError(
                f"Row {row} of '{key}' in the file '{self.path}' should be readable; found: {error}. Copy it again."
            ) from error

    def close(self) -> None:
        """Closes the file in this process; the next read opens it again."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
        self._file, self._process = None, 0
