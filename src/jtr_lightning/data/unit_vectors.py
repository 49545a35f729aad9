"""Whether floating-point values are unit vectors, where each pixel for itself might pass as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.errors import DataError


def check_unit_vectors(vectors: NDArray[np.float32], length: NDArray[np.float32], path: Path) -> None:
    """Refuses a floating-point file that cannot hold unit vectors.

    Args:
        vectors: What it holds, ``[H, W, 3]``.
        length: Their lengths, ``[H, W]``.
        path: The file, for the message.

    Raises:
        DataError: It holds something else.
    """
    # Some thousand pixels: enough for a median, and the whole picture would take as long as reading it.
    known = _positive(length.ravel()[:: max(1, length.size // 4096)])
    if not known.size:
        known = _positive(length)
    if not known.size:
        return
    middle = float(np.median(known))
    # A flat wall may have no negative component, but its vectors are all of length 1, which others' codes are not.
    if 0.9 < middle < 1.1 and (vectors.min() < 0 or (np.abs(_positive(length) - 1) < 0.02).all()):
        return
    found = f"a median length of {middle:.3g}" if not 0.9 < middle < 1.1 else "none, and lengths that differ"
    raise DataError(
        f"The file '{path}' should hold unit vectors with components from -1 to 1, some of them negative, or the zero "
        f"vector; found {found}. Is it (n + 1) / 2, or of 0..255? Save n itself, or 8-bit colours."
    )


def _positive(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Those above 0; NaN is not."""
    return values[values > 0]
