"""Parameters of a search for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def described(values: Mapping[str, Any]) -> str:
    """Parameters in one line, each by the last part of its name where that tells them apart."""
    names = short_names(list(values))
    return ", ".join(
        f"{names[name]}={value:.4g}" if isinstance(value, float) else f"{names[name]}={value}"
        for name, value in values.items()
    )


def short_names(names: Sequence[str]) -> dict[str, str]:
    """For each name its last parts, as many as tell it from the others."""
    short: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        for count in range(1, len(parts) + 1):
            end = parts[-count:]
            if sum(other.split(".")[-count:] == end for other in names) == 1 or count == len(parts):
                short[name] = ".".join(end)
                break
    return short
