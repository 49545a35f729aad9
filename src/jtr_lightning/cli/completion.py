"""``jtr completion``: what lets a shell complete subcommands, options and class names."""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import os
import re
from collections.abc import Iterable
from typing import Any
from unittest.mock import patch

from jtr_lightning.cli.main import COMMANDS, main
from jtr_lightning.cli.parser import Parser
from jtr_lightning.errors import ConfigError

_OPTION = re.compile(r"^  (?:-\w(?: \w+)?, )?(--[\w.-]+)(?: (\{[\w.,-]+\}|[A-Z_]+))?", re.MULTILINE)
_FILES = ("FILE", "DIR", "CONFIG", "CKPT_PATH", "RESUME", "RUNS")
"""What the value of an option is called in a help where it is a file or a folder."""


def run(arguments: list[str]) -> None:
    """Prints the script for a shell.

    Args:
        arguments: The shell.

    Raises:
        ConfigError: There is no such shell, or shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise ConfigError("jtr completion needs shtab; pip install 'jtr-lightning[completion]'.") from error
    parser = Parser(
        prog="jtr completion",
        description="Prints a script with which a shell completes subcommands, options and class names of jtr.",
        epilog="bash: jtr completion bash > ~/.local/share/bash-completion/completions/jtr",
    )
    parser.add_argument(
        "shell", choices=shtab.SUPPORTED_SHELLS, metavar=f"{{{','.join(shtab.SUPPORTED_SHELLS)}}}"
    )
    shell = parser.parse_args(arguments).shell
    print(shtab.complete(_whole_parser(), shell))


def _whole_parser() -> argparse.ArgumentParser:
    """A parser of everything, made of what each subcommand's help lists.

    The subcommands have parsers of several kinds. That of ``jtr fit`` knows the arguments of a class only once the
    class has been chosen, and a script with those of every class that could be has a hundred megabytes.
    """
    from jtr_lightning.cli.data import ACTIONS

    parser = argparse.ArgumentParser("jtr")
    parser.add_argument("--version", action="store_true", help="the version")
    commands = parser.add_subparsers()
    for name, command in COMMANDS.items():
        one = commands.add_parser(name, help=command.summary)
        if name == "data":
            actions = one.add_subparsers()
            for action, (_, summary) in ACTIONS.items():
                _add_options(actions.add_parser(action, help=summary), _help_of(name, action))
        else:
            _add_options(one, _help_of(name))
            _add_options(one, _help_of(name, "--images") if name == "predict" else "")
        if name in ("fit", "validate", "test", "predict", "compare", "bench"):
            _add_arguments_of_classes(one)
    return parser


def _help_of(*command: str) -> str:
    out = io.StringIO()
    with (
        patch.dict(os.environ, {"COLUMNS": "200", "NO_COLOR": "1"}),
        contextlib.redirect_stdout(out),
        contextlib.suppress(SystemExit),
    ):
        main([*command, "--help"])
    return out.getvalue()


def _add_options(parser: argparse.ArgumentParser, text: str) -> None:
    import shtab

    known = parser._option_string_actions  # noqa: SLF001  argparse has no other way to ask
    for name, value in _OPTION.findall(text):
        if name in known:
            continue
        choices = value[1:-1].split(",") if value.startswith("{") else None
        action = parser.add_argument(name, choices=choices)
        if value in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    if re.search(r"^  (?:CONFIG|FILE|DIR) ", text, re.MULTILINE):
        parser.add_argument("files", nargs="*").complete = shtab.FILE  # type: ignore[attr-defined]


def _add_arguments_of_classes(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data.…`` and ``--model.…``, with the classes of this package where one is to be chosen."""
    import jtr_lightning as jl

    classes = [value for name in jl.__all__ if inspect.isclass(value := getattr(jl, name))]
    chosen: dict[str, type[Any]] = {
        "--data": jl.PartialLabelDataModule,
        "--data.scenario": jl.Scenario,
        "--data.augmentation": jl.Augmentation,
        "--model.network": jl.Network,
        "--model.regularizer": jl.Regularizer,
        "--model.balancing": jl.Balancing,
    }
    data = [cls for cls in classes if issubclass(cls, jl.PartialLabelDataModule)]
    names = [f"--data.{name}" for cls in data for name in inspect.signature(cls).parameters]
    names += [
        f"--model.{name}" for name in inspect.signature(jl.PartialLabelModule).parameters if name != "tasks"
    ]
    known = parser._option_string_actions  # noqa: SLF001
    for name in dict.fromkeys([*names, *chosen]):
        choices = _concrete(classes, chosen[name]) if name in chosen else None
        if name in known:
            known[name].choices = choices
        else:
            parser.add_argument(name, choices=choices)


def _concrete(classes: Iterable[type], base: type) -> list[str]:
    return [cls.__name__ for cls in classes if issubclass(cls, base) and not inspect.isabstract(cls)]
