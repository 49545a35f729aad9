"""Finds the user's mistake in what the libraries between make of it."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException

from jtr_lightning.errors import ConfigError, UserError
from jtr_lightning.lightning_cli.resuming import RESUME

_OF_EARLY_STOPPING = "Early stopping conditioned on metric"
"""How Lightning begins to say that a monitored metric does not exist; the known ones follow."""


@contextmanager
def mistakes_as_user_errors() -> Iterator[None]:
    """Raises the user's mistake behind an exception, if there is one, in place of it.

    Raises:
        UserError: The mistake; any other exception as it was.
    """
    try:
        yield
    except MisconfigurationException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    except Exception as error:
        mistake = _mistake_behind(error)
        if mistake is None:
            raise
        raise mistake from error


def _mistake_behind(error: BaseException | None) -> UserError | None:
    while error is not None:
        if str(error).startswith(_OF_EARLY_STOPPING):
            return ConfigError(" ".join(str(error).split()))
        if isinstance(error, UserError):
            # A loader worker sends its whole traceback as the message; the last line of it is ours.
            name = f"{type(error).__module__}.{type(error).__qualname__}: "
            return type(error)(str(error).rsplit(name, 1)[-1].strip())
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return ConfigError(
                f"The run should have room on the disk; found: {error.strerror} ({error.filename or 'a log'}). Make "
                f"room, then go on with jtr fit {RESUME} and the run's folder."
            )
        error = error.__cause__ or error.__context__
    return None
