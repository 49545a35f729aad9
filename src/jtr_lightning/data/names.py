"""The names of millions of samples, which loader workers share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = (
    10_000  # names of which the bytes are copied when all are looked at, many times faster than one by one
)


class Names(Sequence[str]):
    """Text in two arrays, whatever the number: a string is made when it is asked for.

    Every look at an element of a list changes its count of references. A worker shares its memory with the training's
    process until one of them writes to it, so looking at a list of strings copies it into each worker, page by page.

    Args:
        names: The texts.
    """

    def __init__(self, names: Iterable[str]) -> None:
        # Names of files may have bytes that are no UTF-8; they come back as they were.
        encoded = [name.encode("utf-8", "surrogateescape") for name in names]
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self._starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        text = self._bytes[self._starts[index] : self._starts[index + 1]]
        return text.tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _AT_ONCE):
            starts = self._starts[first : first + _AT_ONCE + 1].tolist()
            text = self._bytes[starts[0] : starts[-1]].tobytes()
            for start, end in pairwise(starts):
                yield text[start - starts[0] : end - starts[0]].decode("utf-8", "surrogateescape")

    def take(self, samples: NDArray[np.int64]) -> Names:
        """Some of them, by number."""
        lengths = np.diff(self._starts)[samples]
        taken = Names(())
        taken._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        shift = np.repeat(self._starts[samples] - taken._starts[:-1], lengths)
        taken._bytes = self._bytes[np.arange(taken._starts[-1]) + shift]
        return taken
