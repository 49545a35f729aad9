"""``jtr data make | check | split | pack``: what is done to a dataset outside of training."""

from __future__ import annotations

from importlib import import_module

from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.exits import EXIT_USAGE

ACTIONS = {
    "make": ("jtr_lightning.cli.data_make", "generate a dataset, in any of the supported layouts"),
    "check": ("jtr_lightning.cli.data_check", "read every file before any training and say what is wrong"),
    "split": ("jtr_lightning.cli.data_split", "draw which sample may use which label, and write it as CSV"),
    "pack": (
        "jtr_lightning.cli.data_pack",
        "decode and resize a dataset once, so that training reads it faster",
    ),
}


def run(arguments: list[str]) -> int | None:
    """Runs one action.

    Args:
        arguments: The action and its options.

    Returns:
        The exit code, or None for 0.

    Raises:
        UserError: Something in the arguments or the data does not fit.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return None if arguments else EXIT_USAGE
    action, *rest = arguments
    if action not in ACTIONS:
        raise ConfigError(f"jtr data has no action '{action}': {did_you_mean(action, ACTIONS)}")
    code: int | None = import_module(ACTIONS[action][0]).run(rest)
    return code


def _help() -> str:
    return "\n".join(
        [
            "usage: jtr data [-h] {make,check,split,pack} ...",
            "",
            "actions:",
            *(f"  {name:<6} {summary}" for name, (_, summary) in ACTIONS.items()),
            "",
            "'jtr data ACTION --help' explains one of them.",
        ]
    )
