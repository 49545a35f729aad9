"""How a process ends: its exit code, and a mistake of the user's as one sentence."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from jtr_lightning.errors import UserError

EXIT_OK = 0
EXIT_USER_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells report it
EXIT_TERMINATED = 143  # 128 + SIGTERM

TRACEBACK_VARIABLE = "JTR_TRACEBACK"


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Runs a command, and tells a mistake of the user's (``UserError``) in one sentence.

    Anything else is our mistake and keeps its traceback. The environment variable ``JTR_TRACEBACK=1`` shows that of a
    user's mistake as well.

    Args:
        command: Returns nothing or an exit code.

    Returns:
        The exit code: the command's own or 0; 1 for a user's mistake; 130 when interrupted.
    """
    try:
        return command() or EXIT_OK
    except UserError as error:
        if os.environ.get(TRACEBACK_VARIABLE) == "1":
            raise
        print_error(str(error))
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        print_error("interrupted.")
        return EXIT_INTERRUPTED


def print_error(message: str) -> None:
    """Prints what went wrong where errors go."""
    print(f"error: {message}", file=sys.stderr)
