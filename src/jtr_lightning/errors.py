"""What a user sees when something they gave does not fit.

Every message is one sentence in four parts: what was expected, what was found, where, and what to do. The command
line prints it without a traceback and exits with code 1 or 2.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any


class UserError(Exception):
    """Something given by the user does not fit; the message alone says how to mend it."""


class ConfigError(UserError, ValueError):
    """A parameter has a value that cannot work."""


class KindError(ConfigError, TypeError):
    """A part is an object of another kind, or none."""


class DataError(UserError, ValueError):
    """A file of a dataset is missing, unreadable or has unexpected content."""


class TrainingError(UserError, RuntimeError):
    """A training cannot go on, such as where its loss is no number any more."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ends an error about an unknown name: near matches if there are any, else every known name.

    Args:
        name: The name that was not found.
        known: All names that would have been right.

    Returns:
        A clause such as ``did you mean 'depth'?`` or ``known are 'depth', 'normals'.``
    """
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    return f"known are {', '.join(repr(n) for n in names)}."


def check_kind(name: str, value: object, kind: type, example: str) -> None:
    """Refuses what is of another kind: mostly a name, or a class that was not called, in place of an object.

    Args:
        name: The parameter.
        value: What was given.
        kind: What it should be an instance of.
        example: How one is made.

    Raises:
        KindError: It is of another kind.
    """
    if not isinstance(value, kind):
        raise KindError(f"Parameter `{name}` should be an object such as {example}; found {value!r}.")


def check_number(name: str, value: object) -> None:
    """Refuses what is no number, mostly text, before it is compared with one.

    Args:
        name: The parameter.
        value: What was given.

    Raises:
        KindError: It is no number.
    """
    if not isinstance(value, Real):
        raise KindError(f"Parameter `{name}` should be a number; found {value!r}.")


def check_whole(name: str, value: object, least: int, most: int | None = None) -> None:
    """Refuses what is no whole number, or one out of its range.

    Args:
        name: The parameter.
        value: What was given.
        least: The smallest that is right.
        most: The largest that is right; None for any.

    Raises:
        KindError: It is no whole number.
        ConfigError: It is too small or too large.
    """
    if not isinstance(value, Integral):
        raise KindError(f"Parameter `{name}` should be a whole number; found {value!r}.")
    number = int(value)
    if number < least:
        raise ConfigError(f"Parameter `{name}` should be at least {least}; found {value}.")
    if most is not None and number > most:
        raise ConfigError(f"Parameter `{name}` should be at most {most}; found {value}.")


def height_and_width(name: str, value: Any) -> tuple[int, int]:
    """A parameter as two numbers of pixels.

    Args:
        name: The parameter.
        value: What was given.

    Raises:
        ConfigError: It is something else.
    """
    try:
        height, width = map(operator.index, value)  # int() would take "64" for 6 and 4, and cut 64.7
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ConfigError(f"Parameter `{name}` should be a height and a width in pixels; found {value!r}.")
    return height, width


def check_numbers(name: str, values: object) -> None:
    """Refuses what is no list of numbers.

    Args:
        name: The parameter.
        values: What was given.

    Raises:
        KindError: It is something else, or has something else in it.
    """
    if (
        not isinstance(values, Sequence)
        or isinstance(values, str)
        or not all(isinstance(v, Real) for v in values)
    ):
        raise KindError(f"Parameter `{name}` should be a list of numbers; found {values!r}.")
