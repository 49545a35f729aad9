"""How ``jtr data`` is told which dataset is meant."""

from __future__ import annotations

import math
import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence
from datetime import date, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser, Namespace

from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.lightning_cli.configs import option, read_config
from jtr_lightning.lightning_cli.messages import sentence
from jtr_lightning.lightning_cli.mistakes import mistakes_as_user_errors

USAGE = (
    "Which dataset: ROOT --dataset NAME, or --config FILE with the `data` of a training; --data.PARAMETER VALUE sets "
    "any parameter of its data module, and --data.help NAME lists them."
)


DATASETS = {
    "nyuv2": "jtr_lightning.data.nyuv2.NYUv2DataModule",
    "cityscapes": "jtr_lightning.data.cityscapes.CityscapesDataModule",
    "taskonomy": "jtr_lightning.data.taskonomy.TaskonomyDataModule",
    "folder": "jtr_lightning.data.folder.FolderDataModule",
    "rooms": "jtr_lightning.data.rooms.datamodule.RoomsDataModule",
    "packed": "jtr_lightning.data.packed.PackedDataModule",
}
"""The data module of each dataset that has a name on the command line."""


def names_a_dataset(arguments: Sequence[str]) -> bool:
    """Whether the arguments say which dataset is meant."""
    return bool(arguments and not arguments[0].startswith("-")) or bool(
        option(arguments, "--dataset", "--config", "-c", "--data", "--data.root")
    )


def parser_of(action: str, does: str, otherwise: str = "") -> ArgumentParser:
    """The parser of an action that is done to a dataset, without options.

    Args:
        action: The action's name.
        does: What it does, in a sentence.
        otherwise: What may be given in place of a dataset.
    """
    text = " ".join(filter(None, (does, USAGE, otherwise)))
    return ArgumentParser(prog=f"jtr data {action}", description=text, exit_on_error=False)


def parse(parser: ArgumentParser, arguments: Sequence[str]) -> Namespace:
    """Parses arguments; a mistake becomes one sentence.

    Args:
        parser: From ``parser_of``.
        arguments: What follows the action's name.

    Returns:
        What was given.

    Raises:
        ConfigError: An argument does not fit.
    """
    try:
        return parser.parse_args(list(arguments))
    except ArgumentError as error:
        raise ConfigError(sentence(str(error), dict(parser.get_defaults()))) from error


def instantiate(parser: ArgumentParser, given: Namespace) -> Namespace:
    """Makes the objects that arguments describe.

    Args:
        parser: The parser that parsed them.
        given: What was given.

    Raises:
        UserError: One cannot be made of its arguments.
    """
    with mistakes_as_user_errors():  # jsonargparse tells of every type that a parameter might have had
        return cast(Namespace, parser.instantiate(given))


def parse_with_dataset(
    parser: ArgumentParser, arguments: Sequence[str], prepare: bool = True
) -> tuple[Namespace, PartialLabelDataModule]:
    """Parses arguments that name a dataset.

    Args:
        parser: Parser of the other options, from ``parser_of``.
        arguments: What follows the action's name.
        prepare: Make what is not there yet, such as generated rooms, instead of refusing it.

    Returns:
        The other options, and the data module, ready for reading.

    Raises:
        UserError: An argument does not fit, or the dataset is not there or cannot be prepared.
    """
    _import_parts()
    parser.add_argument("root", nargs="?", help="The dataset's folder; must come first.")
    parser.add_argument("--dataset", help=f"Its kind: {', '.join(DATASETS)}.")
    parser.add_argument("--config", "-c", help="A config file of `jtr fit`, of which `data` is read.")
    parser.add_subclass_arguments(PartialLabelDataModule, "data", required=False, help=USAGE)
    helps = any(argument == "-h" or argument.startswith(("--help", "--data.help")) for argument in arguments)
    if helps:
        parse(parser, [DATASETS.get(a, a) for a in arguments])
    if not names_a_dataset(arguments):
        raise ConfigError("The command should be told which dataset is meant; found neither. " + USAGE)
    given = parse(parser, _spelled_out(list(arguments)))
    if given.root is not None:  # one in front was taken out; this one nobody would read
        raise ConfigError(
            f"The dataset's folder should stand in front of all options; found '{given.root}' behind some. Move it to "
            "the front, or give it as --data.root."
        )
    data = cast(PartialLabelDataModule, instantiate(parser, given)["data"])
    if prepare:
        data.prepare_data()
    else:
        data.require_data()
    return given, data


def _spelled_out(arguments: list[str]) -> list[str]:
    """The arguments with the data module's class and parameters in front, from where each was told."""
    root = None if arguments[0].startswith("-") else arguments.pop(0)
    before: list[str] = []
    for path in option(arguments, "--config", "-c"):
        before += ["--data", _in_one_line(_data_of(Path(path)))]
    for name in option(arguments, "--dataset"):
        if name not in DATASETS:
            raise ConfigError(
                f"Parameter `dataset` should be the kind of dataset; found '{name}', {did_you_mean(name, DATASETS)}"
            )
        before += ["--data", DATASETS[name]]
    if root is not None:
        if not before:
            config = (
                f" A config file is given as --config {root}." if root.endswith((".yaml", ".yml")) else ""
            )
            raise ConfigError(
                f"The command should be told what kind of dataset is in '{root}'; give --dataset with one of "
                f"{', '.join(DATASETS)}.{config}"
            )
        before += ["--data.root", root]
    return before + arguments


class _Dumper(yaml.SafeDumper):
    """Writes text as text, whatever it looks like, and what is repeated as often as it is."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, value: Any) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", str(value), style='"')


# YAML makes a date of a folder's name such as 2024-05-01.
for _kind in (str, date, datetime):
    _Dumper.add_representer(_kind, _Dumper.text)


def _in_one_line(tree: Any) -> str:
    """A part of a config as the value of an option; not as JSON, which has no ``.inf``."""
    return str(yaml.dump(tree, Dumper=_Dumper, default_flow_style=True, width=math.inf, sort_keys=False))


def _data_of(path: Path) -> Any:
    content = read_config(path)
    if "data" not in content:
        raise ConfigError(
            f"The config file '{path}' should say which `data` is trained on; found {sorted(content)}."
        )
    return content["data"]


def _import_parts() -> None:
    """Imports what a config or option may name without its module; a user's own modules are in the current folder."""
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append("")
    for module in ("tasks", "scenarios", "data.transforms", "data.codings"):
        import_module(f"jtr_lightning.{module}")
    for class_path in DATASETS.values():
        import_module(class_path.rpartition(".")[0])


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
