"""The runs of a comparison or of the search before it: what is planned, trained, and written of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from jtr_lightning.cli.run_display import RunDisplay
from jtr_lightning.console import console
from jtr_lightning.disk import make_folder
from jtr_lightning.errors import ConfigError

if TYPE_CHECKING:
    from jtr_lightning.comparison.plan import Run
    from jtr_lightning.comparison.results import Results
    from jtr_lightning.comparison.search import Chosen


class ComparedRuns(ABC):
    """A plan and its folder.

    Args:
        runs: Every planned run.
        out: The folder of runs and results.
        command: The command that repeats it.

    Attributes:
        runs: Every planned run, those that earlier code has trained with their configuration of that time.
        run_folders: The folder of the runs' folders.
    """

    folder_name: str
    worker_options: tuple[str, ...] = ()

    def __init__(self, runs: Sequence[Run], out: Path, command: str) -> None:
        from jtr_lightning.comparison.earlier import found_again

        self.out = out
        self.command = command
        self.run_folders = out / self.folder_name
        self.runs = found_again(runs, self.run_folders)

    @abstractmethod
    def results(self) -> Results:
        """The results of what is finished."""

    @abstractmethod
    def write(self) -> None:
        """Writes the tables of what is finished."""

    @abstractmethod
    def show_results(self, failed: Collection[Run]) -> None:
        """Writes everything, and says where it is.

        Args:
            failed: Runs that ended with an error.
        """

    def show_plan(self) -> None:
        """Lists every run and how far it is."""
        from jtr_lightning.comparison.execution import is_finished

        counts = {"finished": 0, "to go on": 0, "to do": 0}
        for each in self.runs:
            begun = (self.run_folders / each.name / "training" / "checkpoints" / "last.ckpt").is_file()
            state = "finished" if is_finished(each, self.run_folders) else "to go on" if begun else "to do"
            counts[state] += 1
            console().print(f"{state:<9} {each.name}", soft_wrap=True, markup=False)
        summary = ", ".join(f"{number} {state}" for state, number in counts.items())
        console().print(f"{len(self.runs)} runs: {summary}.")

    def make_folders(self) -> None:
        """Makes the folder of the runs, in that of the results.

        Raises:
            ConfigError: That fails.
        """
        try:
            make_folder(self.run_folders)
        except OSError as error:
            raise ConfigError(
                f"--out should be a folder that can be made and written into; found '{self.out}': {error.strerror}. "
                "Give another."
            ) from error

    def train(self, jobs: int) -> dict[Run, Path]:
        """Trains what is not finished.

        Args:
            jobs: Runs at once.

        Returns:
            Failed runs and their logs.
        """
        from jtr_lightning.comparison.execution import WORKER, execute, is_finished

        waiting = [each for each in self.runs if not is_finished(each, self.run_folders)]
        console().print(f"{len(self.runs)} runs, {len(self.runs) - len(waiting)} of them finished.")
        self._tell_of_other_commits()
        if not waiting:
            return {}
        worker = (*WORKER, *self.worker_options)
        with RunDisplay(self.write) as display:
            return execute(waiting, self.run_folders, jobs, display, self._seconds(), worker)

    def _tell_of_other_commits(self) -> None:
        """A run's key is of its configuration: it does not tell that the code has changed."""
        from jtr_lightning.comparison.commit import current_commit, short

        now = current_commit()
        others = [result.commit for result in self.results().by_name.values() if result.commit != now]
        if others:
            of = ", ".join(short(commit) for commit in dict.fromkeys(others))
            console().print(
                f"{len(others)} of the finished runs are of other code ({of}) than this ({short(now)}) and are not "
                f"repeated; remove their folders in {self.run_folders} to train them again.",
                soft_wrap=True,
                markup=False,
            )

    def _seconds(self) -> dict[str, float]:
        """For each method how long a training took so far."""
        results = self.results()
        times: dict[str, list[float]] = {}
        for each in self.runs:
            if each.name in results.by_name:
                times.setdefault(each.method, []).append(results.by_name[each.name].train_seconds)
        return {method: fmean(values) for method, values in times.items()}


class Comparison(ComparedRuns):
    """The runs of a comparison.

    Args:
        runs: Every planned run.
        out: The folder of runs and results.
        command: The command that repeats it.
        roles: ``baseline``, ``single_task`` and ``reference``: a method's name or None.
        chosen: What a search has chosen for the methods.
    """

    folder_name = "runs"

    def __init__(
        self,
        runs: Sequence[Run],
        out: Path,
        command: str,
        roles: dict[str, str | None],
        chosen: Chosen | None = None,
    ) -> None:
        super().__init__(runs, out, command)
        self.roles = roles
        self.chosen = chosen

    def results(self) -> Results:
        from jtr_lightning.comparison.results import read_results

        return read_results(self.runs, self.run_folders, **self.roles)

    def write(self, plots: dict[str, str] | None = None) -> None:
        from jtr_lightning.comparison.report import report
        from jtr_lightning.comparison.results import write_csv

        results = self.results()
        write_csv(results, self.out / "results.csv")
        text = report(results, self.command, plots, self.chosen)
        (self.out / "results.md").write_text(text, encoding="utf-8")

    def show_results(self, failed: Collection[Run] = ()) -> None:
        from jtr_lightning.comparison.curves import curves_of, write_curves
        from jtr_lightning.comparison.plots import draw
        from jtr_lightning.comparison.results import write_configs

        self.write()
        write_configs(self.runs, self.out)
        curves = curves_of(self.results())
        write_curves(curves, self.out / "curves.csv")
        self.write(draw(self.results(), self.out, curves))
        console().print(f"Results are in {self.out / 'results.md'}", soft_wrap=True, markup=False)


class Search(ComparedRuns):
    """The trials of a search, which are not tested."""

    folder_name = "trials"
    worker_options = ("--validation-only",)

    def results(self) -> Results:
        from jtr_lightning.comparison.results import read_results

        return read_results(self.runs, self.run_folders)

    def write(self, failed: Collection[Run] = ()) -> None:
        from jtr_lightning.comparison.results import write_csv
        from jtr_lightning.comparison.search_report import search_report

        results = self.results()
        write_csv(results, self.out / "search.csv")
        (self.out / "search.md").write_text(search_report(results, self.command, failed), encoding="utf-8")

    def show_results(self, failed: Collection[Run]) -> None:
        from jtr_lightning.comparison.search import choose, write_chosen

        self.write(failed)
        console().print(f"The trials are in {self.out / 'search.md'}", soft_wrap=True, markup=False)
        chosen = choose(self.results(), self.command, failed)
        if chosen is None:
            console().print(
                "Nothing is chosen yet: each method needs all of its trials, one of them without failure."
            )
            return
        path = self.out / "chosen.yaml"
        write_chosen(chosen, path)
        console().print(f"Chosen: {path}, for jtr compare --chosen", soft_wrap=True, markup=False)
