"""The page of all commands: what each says with `--help`."""

from __future__ import annotations

import contextlib
import io
import os
from unittest.mock import patch

from jtr_lightning.cli.data import _ACTIONS
from jtr_lightning.cli.main import COMMANDS, main

WIDTH = "100"
PAGE = "reference/commands.md"

_INTRODUCTION = """# The command `jtr`

"""
_WITHOUT_IMAGES = "Without `--images` it predicts the test set of the run's data. "
_LIGHTNING = """`jtr {name} --help` lists every option; they are those of [the configuration](configuration.md).
"""


def pages() -> dict[str, str]:
    """The page, by its path below the documentation."""
    lines = [_INTRODUCTION, _block(help_of())]
    for name, command in COMMANDS.items():
        lines.append(f"## `jtr {name}`\n\n{_sentence(command.summary)}\n")
        if name in ("fit", "validate", "test"):
            lines.append(_LIGHTNING.format(name=name))
        elif name == "predict":
            lines.append("For a folder of images:\n\n" + _block(help_of("predict", "--images")))
            lines.append(_WITHOUT_IMAGES + _LIGHTNING.format(name=name))
        elif name == "data":
            lines += [_block(help_of(name, action)) for action in _ACTIONS]
        else:
            lines.append(_block(help_of(name)))
    return {PAGE: "\n".join(lines)}


def help_of(*command: str) -> str:
    """What a subcommand prints with `--help`.

    Args:
        *command: Its name, and an action of it; nothing for `jtr` itself.

    Returns:
        The text, without colours.
    """
    out = io.StringIO()
    with (
        patch.dict(os.environ, {"COLUMNS": WIDTH, "NO_COLOR": "1"}),
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    return out.getvalue()


def _block(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
