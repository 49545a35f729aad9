"""``jtr report``: makes the page of a run again."""

from __future__ import annotations

from pathlib import Path

from jtr_lightning.cli.parser import Parser
from jtr_lightning.console import console
from jtr_lightning.errors import ConfigError


def run(arguments: list[str]) -> None:
    """Writes ``report.html`` into run folders.

    Args:
        arguments: The folders.

    Raises:
        UserError: A folder is not that of a run, or is read-only.
    """
    parser = Parser(
        prog="jtr report",
        description="Make report.html of a run again: one page with results, pictures, curves and the label table.",
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="RUN", help="a run folder: runs/<name>/<number>"
    )
    given = parser.parse_args(arguments)
    # After the parser, whose --help should answer at once.
    from jtr_lightning.reporting.page import write_report

    for folder in given.folders:
        try:
            written = write_report(folder)
        except PermissionError as error:
            raise ConfigError(
                f"The folder of a run should be writable, for its report; found '{folder}': {error.strerror}. Give a "
                "copy of it."
            ) from error
        console().print(f"Report: {written}", soft_wrap=True, markup=False)
