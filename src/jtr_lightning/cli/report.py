"""``jtr report``: makes the page of a run again."""

from __future__ import annotations

from pathlib import Path

from jtr_lightning.cli.console import console
from jtr_lightning.cli.parser import Parser


def run(arguments: list[str]) -> None:
    """Writes ``report.html`` into run folders.

    Args:
        arguments: The folders.

    Raises:
        UserError: A folder is not that of a run.
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
        console().print(f"Report: {write_report(folder)}", soft_wrap=True, markup=False)
