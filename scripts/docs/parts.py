"""What `jtr fit` can be configured with, read from its own parser: options, and the classes that they may name."""

from __future__ import annotations

import argparse
import functools
import inspect
import re
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from jsonargparse import ArgumentParser
from lightning.pytorch.cli import LightningArgumentParser

from jtr_lightning.cli.lightning import CommandLine, _find_parts

PACKAGE = "jtr_lightning"


@dataclass(frozen=True)
class Option:
    """An option of a parser, or an argument of a class.

    Attributes:
        name: As it is written in a config file.
        hint: Its type.
        default: Its default, or REQUIRED.
        meaning: What it does, as its docstring says.
    """

    name: str
    hint: Any
    default: Any
    meaning: str


class Required:
    """Stands for the default of an argument that has none."""


REQUIRED = Required()


class _Parsed(Exception):  # noqa: N818  not an error: how the parser is brought out
    """Carries the parser out of the command line, which would go on and train."""


class _ParserOnly(CommandLine):
    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> NoReturn:  # type: ignore[override]
        raise _Parsed(self._parser("fit"))


@functools.cache
def fit_parser() -> ArgumentParser:
    """The parser of `jtr fit`."""
    _find_parts()
    try:
        _ParserOnly(["fit"])
    except _Parsed as parsed:
        parser: ArgumentParser = parsed.args[0]
        return parser
    raise AssertionError("the command line should have made its parser")


def options(parser: ArgumentParser) -> list[Option]:
    """The options of a parser that hold a value.

    Args:
        parser: From `fit_parser`, or one with the arguments of a class.

    Returns:
        Them in the parser's order.
    """
    found = []
    for action in parser._actions:  # noqa: SLF001  argparse has no other way to list them
        kind = type(action).__name__
        if kind.startswith(("_Help", "_ActionHelp", "_ActionPrint", "_ActionConfigLoad", "ActionConfigFile")):
            continue
        default = REQUIRED if action.required or action.default is inspect.Parameter.empty else action.default
        hint = getattr(action, "_typehint", None) or action.type or str
        text = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
        found.append(Option(action.dest, hint, default, text))
    return found


def arguments_of(cls: type) -> list[Option]:
    """The arguments that a config may give a class, those that it hands on to its bases included.

    Args:
        cls: A class of this package.

    Returns:
        Them in the order of the signatures.
    """
    parser = ArgumentParser(exit_on_error=False)
    skip = {"tasks"} if cls.__name__ == "PartialLabelModule" else set()
    # `tasks` of a module are linked from the data.
    parser.add_class_arguments(cls, None, skip=skip)
    required = {
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.default is inspect.Parameter.empty and parameter.kind not in (2, 4)
    }
    return [
        Option(o.name, o.hint, REQUIRED if o.name in required else o.default, o.meaning)
        for o in options(parser)
    ]


def classes_in(hint: Any) -> Iterator[type]:
    """The classes of this package that a type names, without their subclasses."""
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        if hint.__module__.partition(".")[0] == PACKAGE:
            yield hint
        return
    for part in typing.get_args(hint):
        if isinstance(part, list):
            for inner in part:
                yield from classes_in(inner)
        else:
            yield from classes_in(part)


def concrete(base: type) -> list[type]:
    """A class and its subclasses, as far as they are of this package, public and complete; by name."""
    found = {base, *_subclasses(base)}
    public = [
        c for c in found if c.__module__.partition(".")[0] == PACKAGE and not c.__name__.startswith("_")
    ]
    return sorted((c for c in public if not inspect.isabstract(c)), key=lambda c: c.__name__)


def _subclasses(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


def groups(root: type) -> dict[type, list[type]]:
    """Every base class that can be reached from one by the types of arguments, with what may stand for it.

    Args:
        root: The class of `model` or of `data`.

    Returns:
        Base to its concrete classes, the root first.
    """
    found: dict[type, list[type]] = {}
    waiting = [root]
    while waiting:
        base = waiting.pop(0)
        if base in found:
            continue
        found[base] = concrete(base)
        for cls in found[base]:
            for option in arguments_of(cls):
                waiting.extend(classes_in(option.hint))
    return found


def summary(cls: type) -> str:
    """The docstring of a class up to its first section, with literal blocks as code."""
    text = inspect.getdoc(cls) or ""
    body = re.split(r"^(?:Args|Attributes|Raises|Returns):$", text, maxsplit=1, flags=re.MULTILINE)[0]
    return body.strip()
