"""Config files before they are parsed: what is wrong with one, and what several of them and options mean together.

jsonargparse keeps those arguments of the earlier class that the later one happens to have as well: AdamW in one file
and SGD in the next, or on the command line, would silently train SGD with AdamW's weight decay. Here the arguments of
the earlier class are dropped before anything is parsed. Only ``model`` and ``data`` themselves keep theirs, since
their classes derive from one another.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from jtr_lightning.disk import read_yaml, write_text
from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.run_folder import CONFIG, run_of_checkpoint

PartPath = tuple[str, ...]


def option(arguments: Sequence[str], *flags: str) -> list[str]:
    """The values given to an option, as ``--flag value`` or ``--flag=value``, in order."""
    return [value for flag, value, _ in _options(arguments) if flag in flags]


def last_given(arguments: Sequence[str], flag: str) -> tuple[str, str]:
    """What an option is given last, by itself or in a config file.

    Args:
        arguments: The arguments.
        flag: The option, such as ``--trainer.logger``.

    Returns:
        The value, as JSON where a file has something else than text, and words that say where it stands; '' for both
        where nothing, or null, is given.

    Raises:
        ConfigError: A config file cannot be read.
    """
    value, place = "", ""
    name = flag.lstrip("-")
    for given, text, _ in _options(arguments):
        if given == flag:
            value, place = text, f"{flag}={text}"
        elif given in ("--config", "-c"):
            found = _value_at(read_config(text), name.split("."))
            if found is not None:
                value = found if isinstance(found, str) else json.dumps(found, default=str)
                place = f"`{name}` of {text}"
    return value, place


def _value_at(tree: Any, path: Sequence[str]) -> Any:
    """What a config has at a path, whose names may be joined by dots; None for nothing."""
    if not path or not isinstance(tree, dict):
        return None if path else tree
    for end in range(len(path), 0, -1):
        found = _value_at(tree.get(".".join(path[:end])), path[end:])
        if found is not None:
            return found
    return None


def read_config(path: str | Path) -> dict[str, Any]:
    """The content of a config file.

    Args:
        path: The file.

    Returns:
        What it says; empty for an empty file.

    Raises:
        ConfigError: It is missing, unreadable, no YAML, or something else than names with values.
    """
    try:
        tree = read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigError(f"The config should be a file; found none at '{path}'.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"The config file '{path}' should be readable YAML; found: {error}.") from error
    except yaml.YAMLError as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        where = "" if mark is None else f" in line {mark.line + 1}, column {mark.column + 1}"
        told = " ".join(str(getattr(error, "problem", error)).split())
        raise ConfigError(f"The config file '{path}' should be YAML; found{where}: {told}.") from error
    if not isinstance(tree, dict | None):
        raise ConfigError(
            f"The config file '{path}' should have names with values, such as `data: ...`; found {tree!r:.40}."
        )
    return tree or {}


def check_names(path: str | Path, tree: Mapping[str, Any], known: Collection[str], command: str) -> None:
    """Refuses a config file with a part that the command does not have, such as a misspelled one.

    Args:
        path: The file, for the message.
        tree: Its content.
        known: The names of all parts.
        command: Who takes them, for the message.

    Raises:
        ConfigError: There is another name.
    """
    for name in tree:
        if str(name).partition(".")[0] not in known:
            raise ConfigError(
                f"The config file '{path}' has `{name}`, which {command} does not take; "
                f"{did_you_mean(str(name), known)}"
            )


def forget_replaced_classes(arguments: Sequence[str]) -> list[str]:
    """Drops from each config file the arguments of classes that a later file or option replaces.

    Args:
        arguments: The subcommand's name and what follows it.

    Returns:
        The arguments; a config file that lost something, or is empty, is given by its content.

    Raises:
        ConfigError: A config file cannot be read.
    """
    result = list(arguments)
    configs: list[tuple[int, Any]] = []
    changed: set[int] = set()
    for flag, value, position in _options(arguments):
        if flag in ("--config", "-c"):
            tree = read_config(value)
            later = dict(_named_classes(tree))
        else:
            tree = None
            parts = [part for part in flag.lstrip("-").split(".") if part not in ("init_args", "class_path")]
            later = {tuple(parts): value}
        for earlier, earlier_tree in configs:
            for path, name in later.items():
                if len(path) > 1 and _forget(earlier_tree, path, name):
                    changed.add(earlier)
        if tree is not None:
            configs.append((position, tree))
            if not tree:
                changed.add(position)  # the parser takes an empty text for no config at all
    for position, tree in configs:
        if position in changed:
            flag = "--config=" if "=" in result[position] else ""
            result[position] = flag + yaml.safe_dump(tree, sort_keys=False)
    return result


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    """Flag, value and the position of the value among the arguments."""
    for i, argument in enumerate(arguments):
        flag, equals, value = argument.partition("=")
        if not flag.startswith("-"):
            continue
        if equals:
            yield flag, value, i
        elif i + 1 < len(arguments):
            yield flag, arguments[i + 1], i + 1


class SaveWholeConfig(SaveConfigCallback):
    """Keeps a run's config: the whole file or none, so that a run that cannot be resumed does not look as if it could.

    Args:
        parser: Writes the config.
        config: The config.
        path: The file.
    """

    def __init__(self, parser: LightningArgumentParser, config: Namespace, path: Path) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.path = path

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Writes it; called on the first rank alone."""
        write_text(self.path, self.parser.dump(self.config, skip_unset=False))


def _named_classes(tree: Any, path: PartPath = ()) -> Iterator[tuple[PartPath, str]]:
    """Every place that may name a class: ``class_path: X``, and any plain text, which short forms are."""
    if isinstance(tree, str):
        yield path, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key == "class_path":
                yield path, str(value)
            else:
                yield from _named_classes(value, path if key == "init_args" else (*path, str(key)))


def _forget(tree: Any, path: PartPath, class_name: str) -> bool:
    """Drops the arguments at a path if they belong to another class; whether there were any."""
    if isinstance(tree, dict) and path and path[0] not in tree and "init_args" in tree:
        return _forget(tree["init_args"], path, class_name)
    if not isinstance(tree, dict):
        return False
    if path:
        return _forget(tree.get(path[0]), path[1:], class_name)
    same = str(tree.get("class_path")).rpartition(".")[2] == class_name.rpartition(".")[2]
    return "class_path" in tree and not same and tree.pop("init_args", None) is not None


def asks_for_text(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for a help or for the config, which need neither data nor checkpoint."""
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
    return any(flag in ("-h", "--print_config") or flag.endswith(("--help", ".help")) for flag in flags)


def with_config_of_run(arguments: list[str]) -> list[str]:
    """Puts the config of the checkpoint's run first when no config is given."""
    if option(arguments, "--config", "-c"):
        return arguments
    checkpoints = option(arguments, "--ckpt_path")
    folder = run_of_checkpoint(checkpoints[-1]) if checkpoints else None
    if folder is None:
        return arguments
    return [arguments[0], "--config", str(folder / CONFIG), *arguments[1:]]
