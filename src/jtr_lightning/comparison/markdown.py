"""Numbers and tables in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from jtr_lightning.comparison.statistics import Paired, Summary, summary

_DIGITS = 4
"""Significant digits of a number whose uncertainty is not known, and the most of one whose is."""


def cell(values: Iterable[float], form: str | None = None) -> str:
    """Mean and standard deviation, e.g. ``0.213 ± 0.014``, or ``0.213 ± 0.014 (2 of 3)`` if one value is NaN.

    Args:
        values: A value for each seed.
        form: How each number is written, e.g. ``+.2f``; by default as far as the deviation's second digit.

    Returns:
        Text; empty without values.
    """
    every = list(values)
    found: Summary | None = summary(every)
    if found is None:
        return f"(0 of {len(every)})" if every else ""
    form = form or _form(found.mean, found.deviation)
    deviation = "" if found.deviation is None else f" ± {found.deviation:{form.lstrip('+')}}"
    lacking = "" if found.number == len(every) else f" ({found.number} of {len(every)})"
    return f"{number(found.mean, form)}{deviation}{lacking}"


def interval(pair: Paired | None, form: str | None = None) -> str:
    """A mean difference with its confidence interval, e.g. ``-0.25 [-0.89, +0.39]``."""
    if pair is None:
        return ""
    half = None if pair.high is None else pair.high - pair.mean
    form = form or f"+{_form(pair.mean, half)}"
    ends = (
        ""
        if pair.low is None or pair.high is None
        else f" [{number(pair.low, form)}, {number(pair.high, form)}]"
    )
    return f"{number(pair.mean, form)}{ends}"


def number(value: float, form: str) -> str:
    """A number; one that is rounded to 0 has no minus."""
    text = f"{value:{form}}"
    return f"{0.0:{form}}" if float(text) == 0 else text


def _form(value: float, uncertainty: float | None) -> str:
    """As many digits as mean something: to the uncertainty's second one."""
    if not uncertainty or not math.isfinite(uncertainty):
        return f".{_DIGITS}g"
    decimals = 1 - math.floor(math.log10(uncertainty))
    if value:
        decimals = min(decimals, _DIGITS - 1 - math.floor(math.log10(abs(value))))
    return f".{max(0, decimals)}f"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left, numbers to the right."""
    lines = [heads, ["---"] + ["---:"] * (len(heads) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
