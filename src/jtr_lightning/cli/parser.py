"""The argument parser of subcommands with a few options of their own; imports nothing that takes time."""

from __future__ import annotations

import argparse
import re
from typing import Any, NoReturn

from jtr_lightning.errors import ConfigError, did_you_mean

_UNKNOWN = re.compile(r"unrecognized arguments: (--[^\s=]+)")


class Parser(argparse.ArgumentParser):
    """Tells a wrong argument in one sentence, as every other mistake, and takes no abbreviations."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Raises instead of printing the usage and leaving.

        Raises:
            ConfigError: Always.
        """
        unknown = _UNKNOWN.match(message)
        if unknown:
            hint = did_you_mean(
                unknown.group(1), [o for o in self._option_string_actions if o.startswith("--")]
            )
            raise ConfigError(f"{self.prog} has no option '{unknown.group(1)}'; {hint}")
        text = message[:1].upper() + message[1:]
        raise ConfigError(f"{text}; see '{self.prog} --help'.")
