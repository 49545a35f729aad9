"""What the subcommands that begin with a checkpoint alone have in common."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

import torch

from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds the options that ``load`` reads."""
    parser.add_argument(
        "--ckpt_path", required=True, help="The trained model, such as runs/<name>/0/checkpoints/best.ckpt."
    )
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="A Python module with tasks or networks of your own; a checkpoint never imports code by itself.",
    )


def load(given: argparse.Namespace, device: torch.device | str = "cpu") -> PartialLabelModule:
    """The module of a checkpoint.

    Args:
        given: Has the options of ``add_checkpoint``.
        device: Where to put it.

    Returns:
        The module, in evaluation mode.

    Raises:
        ConfigError: No such checkpoint or module.
    """
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append("")  # a user's own modules are looked for in the current folder, as `python -m` does
    for name in given.imports:
        _import(name)
    return PartialLabelModule.load_from_checkpoint(given.ckpt_path).to(device)


def _import(name: str) -> None:
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Option --import should name a Python module that can be imported; found '{name}': {error}."
        ) from error


def find_device(name: str) -> torch.device:
    """A device by its name.

    Args:
        name: ``auto`` for the best one here, or a name of torch's (``cpu``, ``cuda:1``, ``mps``).

    Returns:
        The device.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return torch.device("cpu") if here is None else here
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            f"Option --device should be a device of this machine; found '{name}': "
            f"{str(error).splitlines()[0].rstrip('.')}. Give 'auto' or 'cpu'."
        ) from error
    return device
