"""What results say of a metric, and of several against a baseline. Tables of finished runs need it without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
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


def delta(
    values: Mapping[str, float], baseline: Mapping[str, float], higher_is_better: Mapping[str, bool]
) -> float | None:
    """How much better than a baseline, averaged over the tasks' headline metrics.

    ``(100 / K) sum_k s_k (M_k - B_k) / B_k`` with ``s_k`` 1 where higher is better and -1 else (Maninis et al., CVPR
    2019, equation 4). Only ever meaningful beside the baseline's name.

    Args:
        values: Task to metric.
        baseline: Task to the baseline's metric.
        higher_is_better: The tasks and their metrics' directions.

    Returns:
        Percent, above 0 is better; None where a value is missing, or the baseline's is not above 0, of which nothing
        is a share.
    """
    if not all(task in values and baseline.get(task, 0.0) > 0 for task in higher_is_better):
        return None
    changes = [
        (1 if up else -1) * (values[task] - baseline[task]) / baseline[task]
        for task, up in higher_is_better.items()
    ]
    # Looked at one by one: fmean() refuses infinities of both signs.
    return 100 * fmean(changes) if all(map(math.isfinite, changes)) else None
