"""``jtr``: finds the subcommand and imports its module only then.

``jtr --help`` must answer at once, and importing torch alone takes seconds. So nothing is imported here but
the standard library and our own errors; each subcommand's module is imported when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from jtr_lightning._version import __version__
from jtr_lightning.errors import did_you_mean
from jtr_lightning.exits import EXIT_OK, EXIT_USAGE, TRACEBACK_VARIABLE, exit_code_of, print_error


@dataclass(frozen=True)
class Command:
    """One subcommand.

    Attributes:
        target: ``module:function``. The function takes the list of arguments after the subcommand's name and
            returns nothing or an exit code.
        summary: Its line in ``jtr --help``.
        keeps_name: The function gets the subcommand's name as first argument, too (for several subcommands
            that are one parser).
    """

    target: str
    summary: str
    keeps_name: bool = False

    def load(self) -> Callable[[list[str]], int | None]:
        """Imports the module and returns the function."""
        module, _, function = self.target.partition(":")
        loaded: Callable[[list[str]], int | None] = getattr(import_module(module), function)
        return loaded


_LIGHTNING = "jtr_lightning.lightning_cli.command_line:run"

COMMANDS: dict[str, Command] = {
    "fit": Command(_LIGHTNING, "train a network, from a config file", keeps_name=True),
    "validate": Command(_LIGHTNING, "metrics of a checkpoint on the validation set", keeps_name=True),
    "test": Command(_LIGHTNING, "metrics of a checkpoint on the test set", keeps_name=True),
    "predict": Command(
        "jtr_lightning.cli.predict:run", "write a checkpoint's predictions, raw and as pictures"
    ),
    "data": Command("jtr_lightning.cli.data:run", "make a dataset, or check one that you have"),
    "compare": Command("jtr_lightning.cli.compare:run", "train several methods alike and print the table"),
    "sweep": Command("jtr_lightning.cli.sweep:run", "search for good parameters, from a W&B sweep file"),
    "report": Command("jtr_lightning.cli.report:run", "make a run's page again"),
    "export": Command("jtr_lightning.cli.export:run", "write a checkpoint's network for other runtimes"),
    "bench": Command(
        "jtr_lightning.cli.bench:run", "measure how fast a config trains, and where the time goes"
    ),
    "demo": Command(
        "jtr_lightning.cli.demo:run", "train on generated rooms for minutes and look at the result"
    ),
    "completion": Command(
        "jtr_lightning.cli.completion:run", "let a shell complete subcommands, options and class names"
    ),
}


def main(argv: Sequence[str] | None = None, commands: Mapping[str, Command] = COMMANDS) -> int:
    """Runs one subcommand.

    A mistake of the user's (``UserError``) is printed as one sentence; anything else is our mistake and keeps
    its traceback. The environment variable ``JTR_TRACEBACK=1`` shows the traceback of a user's mistake as well.

    Args:
        argv: The arguments after ``jtr``; by default those of the process.
        commands: The subcommands by name.

    Returns:
        The exit code: 0; 1 for a user's mistake; 2 for an unknown subcommand; 130 when interrupted.

    Raises:
        SystemExit: By a subcommand's own parser, for its ``--help`` (code 0) or wrong arguments (code 2).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print(_help(commands), file=sys.stderr)
        return EXIT_USAGE
    name, *rest = arguments
    if name in ("-h", "--help"):
        print(_help(commands))
        return EXIT_OK
    if name == "--version":
        print(f"jtr {__version__}")
        return EXIT_OK
    if name not in commands:
        kind = "option" if name.startswith("-") else "subcommand"
        hint = "see 'jtr --help'." if kind == "option" else did_you_mean(name, commands)
        print_error(f"jtr has no {kind} '{name}': {hint}")
        return EXIT_USAGE
    command = commands[name]
    return exit_code_of(lambda: command.load()(arguments if command.keeps_name else rest))


def _help(commands: Mapping[str, Command]) -> str:
    width = max(map(len, commands), default=0)
    lines = [f"  {name:<{width}}  {command.summary}" for name, command in commands.items()]
    return "\n".join(
        [
            "usage: jtr [-h] [--version] SUBCOMMAND ...",
            "",
            "Partially labelled multi-task training with joint-task regularization.",
            "",
            "subcommands:",
            *lines,
            "",
            "'jtr SUBCOMMAND --help' explains one of them.",
            f"A mistake in what you gave is told in one sentence; {TRACEBACK_VARIABLE}=1 shows where it was found",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
