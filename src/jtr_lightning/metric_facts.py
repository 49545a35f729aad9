"""What tables of results say of a metric. Here, so that tables of finished runs are made without torch."""

from __future__ import annotations

from typing import NamedTuple


class MetricFacts(NamedTuple):
    """What a table says of a metric beside its name.

    Attributes:
        unit: Unit of the values; empty for a fraction or a ratio.
        higher_is_better: Its better direction.
    """

    unit: str = ""
    higher_is_better: bool = False

    def head(self, name: str) -> str:
        """The metric for people, e.g. ``abs_err [m] ↓``."""
        return f"{name}{f' [{self.unit}]' if self.unit else ''} {'↑' if self.higher_is_better else '↓'}"
