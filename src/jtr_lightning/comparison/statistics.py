"""Numbers over seeds: means, the share of a gap that is closed, paired differences.

A training that went astray may have a metric that is NaN or infinite. Such a value counts as missing everywhere here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev


@dataclass(frozen=True)
class Summary:
    """Some values in short.

    Attributes:
        mean: Their mean.
        deviation: Their sample standard deviation (n - 1), None for a single value.
        number: How many finite ones there are.
    """

    mean: float
    deviation: float | None
    number: int


@dataclass(frozen=True)
class Paired:
    """A mean difference over seeds.

    Attributes:
        mean: The mean of the differences.
        low: Lower end of the confidence interval, None with fewer than two seeds.
        high: Upper end.
        number: Number of seeds.
    """

    mean: float
    low: float | None
    high: float | None
    number: int


def summary(values: Sequence[float]) -> Summary | None:
    """Mean and deviation of the finite ones among some values; None if there are none."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    return Summary(fmean(finite), stdev(finite) if len(finite) > 1 else None, len(finite))


def gap_closed(value: float, baseline: float, full: float, higher_is_better: bool) -> float | None:
    """How much of what missing labels cost a method wins back.

    Args:
        value: The method's metric.
        baseline: That of supervised multi-task training with the same labels.
        full: That of supervised multi-task training with all labels.
        higher_is_better: The metric's direction.

    Returns:
        ``(value - baseline) / (full - baseline)``: 0 is the baseline, 1 as good as with all labels; None where a
        value is missing, or all labels were no better, so that there is no gap.
    """
    gap = (full - baseline) * (1 if higher_is_better else -1)
    return (value - baseline) / (full - baseline) if gap > 0 and math.isfinite(value) else None


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], confidence: float = 0.95
) -> Paired | None:
    """The mean difference over the seeds that both have, with Student's t confidence interval.

    Args:
        values: Seed to value.
        reference: Seed to the value it is compared with.
        confidence: Probability that the interval covers the true mean, were the differences normal.

    Returns:
        Values minus reference; None without a common seed.
    """
    found = summary([values[seed] - reference[seed] for seed in values if seed in reference])
    if found is None:
        return None
    if found.deviation is None:
        return Paired(found.mean, None, None, 1)
    from scipy.stats import t

    half = float(t.ppf((1 + confidence) / 2, found.number - 1)) * found.deviation / math.sqrt(found.number)
    return Paired(found.mean, found.mean - half, found.mean + half, found.number)
