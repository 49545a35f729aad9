"""Pages of every key of a config file, written from the parser and the docstrings."""

from __future__ import annotations

import contextlib
import inspect
import io
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from jtr_lightning.cli.lightning import command_line
from jtr_lightning.cli.reporting import SHORT_NAMES
from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.module import PartialLabelModule
from scripts.docs.parts import (
    REQUIRED,
    Option,
    arguments_of,
    fit_parser,
    groups,
    options,
    summary,
)

EXAMPLE = "experiments/rooms/jtr.yaml"

_PLURAL = {
    "PartialLabelDataModule": "Data modules",
    "PartialLabelModule": "The module",
    "Task": "Tasks",
    "Scenario": "Scenarios",
    "Coding": "Codings of label files",
    "Network": "Networks",
    "Decoder": "Decoders",
    "Regularizer": "Regularizers",
    "Balancing": "Balancing",
    "ViewMaker": "Views of a regularizer",
    "Photometric": "Changes of colour",
}
"""Titles of the sections; any other base is its own title."""


def pages() -> dict[str, str]:
    """All pages.

    Returns:
        Path below the documentation to Markdown.
    """
    parser = fit_parser()  # first: it imports every part
    given = options(parser)
    of_trainer = [option for option in given if option.name.startswith("trainer.")]
    of_run = [o for o in given if o not in of_trainer and o.name not in ("data", "model")]
    data, model = groups(PartialLabelDataModule), groups(PartialLabelModule)
    where = {
        cls: page
        for page, found in (("data.md", data), ("model.md", model))
        for base, classes in found.items()
        for cls in (base, *classes)
    }
    return {
        "reference/configuration.md": _overview(of_run, where),
        "reference/trainer.md": _TRAINER + table([_below("trainer", option) for option in of_trainer], where),
        "reference/data.md": _DATA + _sections(data, where, "data.md"),
        "reference/model.md": _MODEL + _sections(model, where, "model.md"),
    }


_TRAINER = """# `trainer`: how to train

The arguments of Lightning's
[Trainer](https://lightning.ai/docs/pytorch/stable/common/trainer.html), with the defaults that `jtr fit` has. On the
command line each is a flag: `--trainer.max_epochs 50`.

"""
_DATA = """# `data`: images and labels

A data module is chosen by `class_path` (its name is enough), and its arguments stand below `init_args`; on the command
line each is a flag: `--data.batch_size 16`. The tasks are given here and linked to the model.

"""
_MODEL = """# `model`: network, method and optimizer

The arguments of the module stand below `model` / `init_args`; on the command line each is a flag:
`--model.regularizer JTR --model.regularizer.distance_weight 2.0`.

"""
_OVERVIEW = """# The configuration of `jtr fit`

A config file is YAML with these parts. Every key is a flag as well, by its place: `--data.batch_size 16`. What stands
later on the command line wins, and several `--config` join: each changes what it names and leaves the rest.

| Key | What it says |
|---|---|
| `data` | [the dataset, its tasks and which labels may be used](data.md) |
| `model` | [network, regularizer, balancing, optimizer, schedule, baseline](model.md) |
| `trainer` | [Lightning's Trainer: length, devices, precision ...](trainer.md) |
| the others | the run, its pictures and its report: below |

A value that is an object is a class with its arguments: `class_path` and `init_args`, or, where no argument differs
from its default, the class's name alone. Classes of this library are found by their names, others by module and name.
`null` is Python's None.

`jtr fit --config FILE --print_config` prints a whole configuration, `jtr fit --model.regularizer.help JTR` the
arguments of a class. These pages are written from the same parser and docstrings.

## The run

"""


def _overview(of_run: Iterable[Option], where: Mapping[type, str]) -> str:
    names = ", ".join(f"`{name}`" for name in SHORT_NAMES)
    return (
        _OVERVIEW
        + table(of_run, where)
        + f"\n`--trainer.logger` takes {names} as well as a logger's class; the CSV file is always written.\n"
        + "\n## A whole configuration\n\n"
        + f"`jtr fit --config {EXAMPLE} --print_config` prints all defaults that are in force:\n\n"
        + "```yaml\n"
        + whole_configuration()
        + "```\n"
    )


def whole_configuration(config: str = EXAMPLE) -> str:
    """What `jtr fit --print_config` prints, without what the trainer leaves open.

    Args:
        config: The config file, below the repository.

    Returns:
        YAML.
    """
    root = Path(__file__).parents[2]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        command_line(["fit", "--config", str(root / config), "--print_config"])
    tree = yaml.safe_load(out.getvalue())
    tree["trainer"] = {key: value for key, value in tree["trainer"].items() if value is not None}
    return yaml.safe_dump(tree, sort_keys=False)


def _below(part: str, option: Option) -> Option:
    return replace(option, name=option.name.removeprefix(f"{part}."))


def _sections(found: Mapping[type, list[type]], where: Mapping[type, str], page: str) -> str:
    parts = []
    for base, classes in found.items():
        if where[base] != page:
            continue
        shared = arguments_of(base) if inspect.isabstract(base) and "__init__" in vars(base) else []
        title = _PLURAL.get(base.__name__, base.__name__)
        parts.append(f"## {title} {{ #{_base_anchor(base, classes)} }}\n")
        if classes != [base]:
            parts.append(_text(summary(base).partition("\n\n")[0]) + "\n")
        if shared:
            parts.append(f"### Arguments of all {title.lower()}\n\n{table(shared, where)}")
        parts += [_class(cls, base, shared, where) for cls in classes]
    return "\n".join(parts)


def _class(cls: type, base: type, shared: list[Option], where: Mapping[type, str]) -> str:
    key = {(option.name, repr(option.default), option.meaning) for option in shared}
    own = [o for o in arguments_of(cls) if (o.name, repr(o.default), o.meaning) not in key]
    lines = [] if cls is base else [f"### {cls.__name__} {{ #{cls.__name__} }}\n"]
    lines += [f"`{cls.__module__}.{cls.__name__}`\n", _text(summary(cls)) + "\n"]
    if own:
        lines.append(table(own, where))
    elif not shared:
        lines.append("No arguments.\n")
    return "\n".join(lines)


def _base_anchor(base: type, classes: list[type]) -> str:
    return base.__name__ if base not in classes or classes == [base] else f"{base.__name__}-all"


def _text(text: str) -> str:
    """A docstring's text as Markdown: a literal block is a block of code."""
    return re.sub(r"::$", ":", text, flags=re.MULTILINE)


def table(rows: Iterable[Option], where: Mapping[type, str]) -> str:
    """A table of options.

    Args:
        rows: Them.
        where: The page of each class that has one.

    Returns:
        Markdown.
    """
    lines = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    for row in rows:
        cells = (f"`{row.name}`", kind(row.hint, where), default(row.default), meaning(row.meaning))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def meaning(text: str) -> str:
    """An argument's description as Markdown in one line; of Lightning's, without roles, lists, notes and defaults."""
    text = re.split(r"\n\s*(?:- |\.\. \w+::|Example)", text, maxsplit=1)[0]
    text = " ".join(text.split())
    text = re.sub(r":\w+:`~[\w.]*?(\w+)`", r"`\1`", text)
    text = re.sub(r":\w+:`([^`]+)`", r"`\1`", text)
    text = re.sub(r"`([^`]+?) <[^`]+>`_", r"\1", text)
    text = re.sub(r"\s*Defaults?: (?:``?[^`]+``?|[\d.]+)\.?$", "", text)
    return text.replace(".Set to", ". Set to")  # lines that Lightning joins without a space


def default(value: Any) -> str:
    """A default as YAML writes it."""
    if value is REQUIRED:
        return "*required*"
    if isinstance(value, str) and value:
        return f"`{value}`"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n").removesuffix("\n...")


def kind(hint: Any, where: Mapping[type, str]) -> str:
    """A type in words, with links to the classes that have a section.

    Args:
        hint: The annotation.
        where: The page of each class that has one.

    Returns:
        Markdown.
    """
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is type(None):
        return "null"
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin is typing.Union or type(hint).__name__ == "UnionType":
        words = [word for part in parts for word in kind(part, where).split(" or ")]
        if Path in parts:  # a text and a path are written alike
            words = [word for word in words if word != "str"]
        return " or ".join(dict.fromkeys(words))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{kind(parts[1], where)} by name"
    if origin is Callable or str(origin).endswith("Callable"):
        return f"class of a {kind(parts[-1], where)}"
    if origin is tuple and Ellipsis not in parts:
        return "[" + ", ".join(kind(part, where) for part in parts) + "]"
    if origin is not None:
        return f"list of {kind(parts[0], where)}"
    return _name(hint, where)


def _name(hint: Any, where: Mapping[type, str]) -> str:
    if hint is Any:
        return "any value"
    if hint is Path:
        return "path"
    if isinstance(hint, type) and hint in where:
        return f"[{hint.__name__}]({where[hint]}#{hint.__name__})"
    if isinstance(hint, type) and hint.__module__ == "builtins":
        return hint.__name__
    return f"`{getattr(hint, '__name__', hint)}`"


def documented() -> dict[type, list[Option]]:
    """Every class that the pages have, bases included, with its arguments."""
    fit_parser()
    return {
        cls: arguments_of(cls)
        for root in (PartialLabelDataModule, PartialLabelModule)
        for base, classes in groups(root).items()
        for cls in (base, *classes)
    }
