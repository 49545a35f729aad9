"""Shows the progress of many runs: a bar on a terminal, and a line for each run that ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from jtr_lightning.console import console

if TYPE_CHECKING:
    from jtr_lightning.comparison.plan import Run


class RunDisplay:
    """What ``execute`` tells of runs, on the console.

    Args:
        finished: Is called after each run that has been finished; if it fails, this is said, and training goes on.
    """

    def __init__(self, finished: Callable[[], None]) -> None:
        self.finished = finished
        self.remaining: float | None = None
        self.out = console()
        self.stack = ExitStack()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[rest]}"),
        )
        self.progress = Progress(*columns, console=self.out, disable=not self.out.is_terminal)
        self.bar: TaskID = self.progress.add_task("training", total=None, rest="")

    def __enter__(self) -> RunDisplay:
        self.stack.enter_context(self.progress)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def started(self, run: Run) -> None:
        """Says that a run is begun."""
        self._print(f"begun: {run}")

    def ended(self, run: Run, failed: bool, log: Path) -> None:
        """Says that a run has ended."""
        rest = "" if self.remaining is None else f"; {duration(self.remaining)} left"
        self._print(f"{f'FAILED, see {log}' if failed else 'finished'}: {run}{rest}")
        if failed:
            return
        try:
            self.finished()
        except Exception as error:  # whatever is wrong with a table, the other trainings are worth more
            self._print(f"The tables could not be written for now: {type(error).__name__}: {error}")

    def moved(self, done: float, of: int, active: int, remaining: float | None) -> None:
        """Moves the bar."""
        self.remaining = remaining
        rest = "" if remaining is None else f"{duration(remaining)} left"
        self.progress.update(
            self.bar,
            description=f"{int(done)} of {of} runs, {active} at work",
            completed=done,
            total=of,
            rest=rest,
        )

    def _print(self, text: str) -> None:
        self.progress.console.print(f"{time.strftime('%H:%M')} {text}", soft_wrap=True, markup=False)


def duration(seconds: float) -> str:
    """A time for people, e.g. ``about 2 h 5 min``."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return f"about {minutes} min" if minutes < 60 else f"about {minutes // 60} h {minutes % 60} min"
