"""What several config files and options together mean where they name different classes for one part.

jsonargparse keeps those arguments of the earlier class that the later one happens to have as well: AdamW in one file
and SGD in the next, or on the command line, would silently train SGD with AdamW's weight decay. Here the arguments of
the earlier class are dropped before anything is parsed. Only ``model`` and ``data`` themselves keep theirs, since
their classes derive from one another.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback

from jtr_lightning.disk import read_yaml, write_text
from jtr_lightning.errors import ConfigError

PartPath = tuple[str, ...]


def option(arguments: Sequence[str], *flags: str) -> list[str]:
    """The values given to an option, as ``--flag value`` or ``--flag=value``, in order."""
    return [value for flag, value, _ in _options(arguments) if flag in flags]


def forget_replaced_classes(arguments: Sequence[str]) -> list[str]:
    """Drops from each config file the arguments of classes that a later file or option replaces.

    Args:
        arguments: The subcommand's name and what follows it.

    Returns:
        The arguments; a config file that lost something is given by its content.
    """
    result = list(arguments)
    configs: list[tuple[int, Any]] = []
    changed: set[int] = set()
    for flag, value, position in _options(arguments):
        if flag in ("--config", "-c"):
            tree = _read(value)
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


def _read(path: str) -> Any:
    """A config's content; None where the parser itself will tell what is wrong with it.

    Raises:
        ConfigError: The parser would wait for ever, run out of memory, or fail with a traceback.
    """
    try:
        return read_yaml(path)
    except (FileNotFoundError, yaml.YAMLError):
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            return None  # the content itself, in place of a file's name
        raise ConfigError(
            f"The config file '{path}' should be readable YAML; found: {' '.join(str(error).split())}."
        ) from error


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
