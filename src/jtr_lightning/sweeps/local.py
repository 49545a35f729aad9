"""Runs a sweep on this machine: each trial is ``jtr fit`` in this process, its results in a SQLite file."""

from __future__ import annotations

import gc
import json
import math
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from filelock import FileLock, Timeout

from jtr_lightning.console import counted
from jtr_lightning.disk import make_folder
from jtr_lightning.errors import ConfigError, UserError, did_you_mean
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from jtr_lightning.lightning_cli.configs import last_given
from jtr_lightning.reporting.wandb_logger import grouped
from jtr_lightning.sweeps.file import Sweep
from jtr_lightning.sweeps.names import described
from jtr_lightning.sweeps.parameters import Choice

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

DATABASE = "sweep.db"
STUDY = "sweep"
ASKED = "asked"
"""The study's attribute that says which sweep it is."""
SEED = "seed"
"""The study's attribute with the seed that numbers the points of its grid."""
VALUES = "values"
"""A trial's attribute with its parameters as they were given to ``jtr fit``."""
SECONDS = "seconds"
FAILURE = "failure.txt"
ALWAYS = {"--trainer.logger": "true", "--trainer.devices": "1"}
"""What each trial is told last: no server is needed here, and a trial is one process."""
NO_OPTUNA = "A local sweep needs Optuna, which is not installed; pip install 'jtr-lightning[optuna]'."


class TrialCommandLine(CommandLine):
    """A training that prints no table: the sweep prints one of all trials."""

    def _report(self, stage: str, title: str) -> None:
        del stage, title


class Watch(L.Callback):
    """Tells Optuna the metric after each validation, and stops a trial that is not worth going on.

    Args:
        trial: The trial.
        metric: The metric's name, in our order of its parts or in W&B's.

    Attributes:
        pruned: Whether the trial was stopped.
    """

    def __init__(self, trial: Trial, metric: str) -> None:
        self.trial = trial
        self.metric = metric
        self.validations = 0
        self.pruned = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reports; a step is a validation, as W&B counts."""
        if trainer.sanity_checking:
            return
        self.validations += 1
        value = metric_of({k: float(v) for k, v in trainer.callback_metrics.items()}, self.metric)
        if math.isnan(value):
            return  # neither better nor worse than others
        self.trial.report(value, self.validations)
        if self.trial.should_prune():
            self.pruned = trainer.should_stop = True


def metric_of(values: Mapping[str, float], name: str) -> float:
    """A metric by our name (``val/depth/abs_err``) or by W&B's (``depth/val/abs_err``).

    Raises:
        ConfigError: There is no such metric.
    """
    for key in (name, grouped(name)):
        if key in values:
            return values[key]
    known = [key for key in values if key.startswith("val/")]
    raise ConfigError(
        f"`metric` of the sweep should name something that a validation measures; found '{name}', "
        f"{did_you_mean(grouped(name), known)}"
    )


class LocalSweep:
    """A sweep and its folder.

    Args:
        sweep: What is searched.
        folder: Where trials and results are kept.
        overrides: More arguments for every trial.
        seed: Seed of the search; a trial's own seed is that of its config.

    Raises:
        ConfigError: Optuna is not installed, or a parameter has no grid.
    """

    def __init__(self, sweep: Sweep, folder: Path, overrides: Sequence[str] = (), seed: int = 0) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ConfigError(NO_OPTUNA) from error
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep = sweep
        self.folder = folder
        self.overrides = list(overrides)
        self.seed = self.seed_of_grid = seed
        self.grid = {
            p.name: values for p in sweep.parameters if sweep.method == "grid" and (values := p.grid())
        }

    @property
    def size_of_grid(self) -> int:
        """Number of combinations; 1 without a grid."""
        size = 1
        for values in self.grid.values():
            size *= len(values)
        return size

    def number_of_trials(self, wanted: int | None) -> int:
        """How many trials the sweep has in all.

        Args:
            wanted: What the user asks for; None for what the file says.

        Raises:
            ConfigError: Nobody says.
        """
        number = wanted if wanted is not None else self.sweep.cap
        if self.sweep.method == "grid":
            return self.size_of_grid if number is None else min(number, self.size_of_grid)
        if number is None:
            raise ConfigError(
                f"The sweep '{self.sweep.path}' with `method: {self.sweep.method}` has no end of its own; give "
                "--trials N, or `run_cap` in the file."
            )
        return number

    def run(
        self, wanted: int | None, tell: Callable[[str], None], ended: Callable[[Study], None] = lambda _: None
    ) -> None:
        """Runs the trials that are not done yet.

        Args:
            wanted: Number of trials in all, those of before included; None for what the file says.
            tell: Is told what happens, line by line.
            ended: Is given the study after each trial.

        Raises:
            ConfigError: The folder cannot be made, belongs to another sweep or is in use, or the first trial could not
                be trained.
        """
        number = self.number_of_trials(wanted)
        try:
            make_folder(self.folder)
        except OSError as error:
            raise ConfigError(
                f"--out should be a folder that can be made and written into; found '{self.folder}': "
                f"{error.strerror}. Give another."
            ) from error
        with self._locked(), self.opened() as study:
            self._begin_interrupted_again(study)
            tell(f"{counted(number, 'trial')}, {min(len(done(study)), number)} of them done.")
            if left_out := self._left_out():
                tell(
                    f"Each trial logs to its metrics.csv alone, on one device, without {', '.join(left_out)}."
                )

            def objective(trial: Trial) -> float:
                return self._trial(study, trial, tell)

            while len(done(study)) < number:
                # One at a time: another seed for each, or a sweep that goes on would draw its first values again.
                study.sampler = self._sampler(len(study.trials))
                study.optimize(objective, n_trials=1, catch=(_Failed,))
                ended(study)

    def _left_out(self) -> list[str]:
        """What was asked for that a trial is told otherwise."""
        given = [*self.sweep.fit_arguments({}), *self.overrides]
        asked = [(last_given(given, flag), always) for flag, always in ALWAYS.items()]
        return [place for (value, place), always in asked if place and value != always]

    @contextmanager
    def opened(self) -> Iterator[Study]:
        """The study of the folder, made if it is new.

        Raises:
            ConfigError: It is the study of another sweep.
        """
        import optuna

        storage = optuna.storages.RDBStorage(_address(self.folder / DATABASE))
        self._storage = storage
        try:
            study = self._study(storage)
            asked = self._asked()
            # As objects: earlier text has its keys in another order.
            earlier = json.loads(study.user_attrs.get(ASKED, asked))
            if earlier != json.loads(asked) or self._in_another_order(study):
                if trained(study):
                    raise ConfigError(
                        f"The folder '{self.folder}' should be that of the sweep '{self.sweep.path}' as it is now; "
                        "found results with other parameters, another command or other options. Give another --out."
                    )
                # Nothing was reached yet: the file was mended.
                optuna.delete_study(study_name=STUDY, storage=storage)
                study = self._study(storage)
            study.set_user_attr(ASKED, asked)
            self.seed_of_grid = study.user_attrs.get(SEED, self.seed)
            study.set_user_attr(SEED, self.seed_of_grid)
            yield study
        finally:
            storage.remove_session()
            storage.engine.dispose()

    def _in_another_order(self, study: Study) -> bool:
        """Whether the values of a choice stand in another order than before, by which Optuna knows them."""
        choices = {p.name: tuple(p.kept) for p in self.sweep.parameters if isinstance(p, Choice)}
        before = {n: d for trial in study.get_trials(deepcopy=False) for n, d in trial.distributions.items()}
        return any(
            n in choices and getattr(d, "choices", choices[n]) != choices[n] for n, d in before.items()
        )

    def _study(self, storage: RDBStorage) -> Study:
        import optuna

        return optuna.create_study(
            storage=storage,
            study_name=STUDY,
            load_if_exists=True,
            direction="maximize" if self.sweep.maximize else "minimize",
            pruner=self._pruner(),
        )

    def _asked(self) -> str:
        """What makes the results of two trials comparable, as text."""
        sweep = self.sweep
        parameters = {p.name: {k: v for k, v in vars(p).items() if k != "name"} for p in sweep.parameters}
        facts = [sweep.metric, sweep.maximize, sweep.method, list(sweep.command), parameters, self.overrides]
        return json.dumps(facts)  # not by sorted keys: a choice may be between a number and a text

    def _sampler(self, trials: int) -> BaseSampler:
        from optuna.samplers import GridSampler, RandomSampler, TPESampler

        if self.grid:
            # The seed is the order of the points, and their numbers in it are what the study keeps of those that are
            # done: with another seed than it was begun with, some would be tried again and others never.
            return GridSampler(self.grid, seed=self.seed_of_grid)
        seed = self.seed + trials
        return TPESampler(seed=seed) if self.sweep.method == "bayes" else RandomSampler(seed=seed)

    def _pruner(self) -> BasePruner:
        from optuna.pruners import NopPruner, SuccessiveHalvingPruner

        rungs = self.sweep.rungs
        if rungs is None:
            return NopPruner()
        # What W&B calls hyperband is one bracket of it: successive halving.
        return SuccessiveHalvingPruner(min_resource=rungs.first, reduction_factor=rungs.factor)

    def _begin_interrupted_again(self, study: Study) -> None:
        """Ends trials that a stopped process left behind, and plans their parameters again."""
        from optuna.trial import TrialState

        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            self._forget(study, trial.number, trial.params)
            study.tell(trial.number, state=TrialState.FAIL)

    def _forget(self, study: Study, number: int, params: Mapping[str, Any]) -> None:
        """Lets the parameters of a trial that is not finished be tried again."""
        if not self.grid:
            if params:
                study.enqueue_trial(dict(params))
            return
        # The sampler leaves out the points of finished trials of the same space: this one is of no space.
        storage = self._storage
        study_id = storage.get_study_id_from_name(STUDY)
        trial_id = storage.get_trial_id_from_study_id_trial_number(study_id, number)
        storage.set_trial_system_attr(trial_id, "search_space", {})

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigError(
                f"The sweep in '{self.folder}' is being run by another process; wait for it."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def _trial(self, study: Study, trial: Trial, tell: Callable[[str], None]) -> float:
        import optuna

        values = {p.name: p.suggest(trial) for p in self.sweep.parameters}
        trial.set_user_attr(VALUES, values)
        tell(f"trial {trial.number}: {described(values)}")
        folder = self.folder / trial_name(trial.number)
        watch = Watch(trial, self.sweep.metric)
        begun = time.monotonic()
        try:
            value = self._train(values, folder, watch)
        except KeyboardInterrupt:
            self._forget(study, trial.number, trial.params)
            raise
        except Exception as error:
            if not trained(study):  # not the trial's fault, as long as none has been trained
                self._forget(study, trial.number, {})
                raise
            self._note_failure(trial, _first_line(error), traceback.format_exc(), tell)
            raise _Failed from error
        finally:
            trial.set_user_attr(SECONDS, round(time.monotonic() - begun, 1))
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        if math.isnan(value) and not watch.pruned:
            # Optuna would count it as failed without knowing that it is not to be tried again.
            sentence = f"{self.sweep.metric} of the best epoch is not a number (NaN)"
            self._note_failure(trial, sentence, sentence, tell)
            raise _Failed
        ended = f", stopped after {counted(watch.validations, 'validation')}" if watch.pruned else ""
        tell(f"trial {trial.number}: {self.sweep.metric} {value:.5g}{ended}")
        if watch.pruned:
            raise optuna.TrialPruned
        return value

    def _note_failure(self, trial: Trial, sentence: str, details: str, tell: Callable[[str], None]) -> None:
        """Keeps why a trial failed, which also says that it is not tried again."""
        path = self.folder / trial_name(trial.number) / FAILURE
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{details}\n", encoding="utf-8")
        trial.set_user_attr(FAILURE, sentence)
        tell(f"trial {trial.number} FAILED: {sentence}; see {path}")

    def _train(self, values: Mapping[str, Any], folder: Path, watch: Watch) -> float:
        """Trains, and returns the metric at the best epoch, that of ``best.ckpt``."""
        if folder.exists():  # of a search that reached nothing
            shutil.rmtree(folder)
        arguments = ["fit", *self.sweep.fit_arguments(values), *self.overrides]
        arguments += [f"{flag}={value}" for flag, value in ALWAYS.items()]
        fitted = command_line(arguments, folder, [watch], TrialCommandLine)
        return metric_of(fitted.metrics, self.sweep.metric)


def _address(database: Path) -> str:
    """A SQLite file for Optuna, which fills in what stands in braces, and reads '%3F' and '?' as an address."""
    from sqlalchemy.engine import URL

    address = URL.create("sqlite", database=str(database.absolute())).render_as_string()
    return address.replace("{", "{{").replace("}", "}}")


class _Failed(Exception):  # noqa: N818  says what became of a trial, and is seen by nobody
    """A trial could not be trained; the sweep goes on."""


def trained(study: Study) -> list[FrozenTrial]:
    """The trials that were trained, some of them not to the end."""
    from optuna.trial import TrialState

    return study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


def done(study: Study) -> list[FrozenTrial]:
    """The trials that are not tried again: the trained ones, and those that failed while others did not."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in ("COMPLETE", "PRUNED") or FAILURE in trial.user_attrs
    ]


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    name = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return name + (text[0] if text else "")


def trial_name(number: int) -> str:
    """The name of a trial's run folder."""
    return f"trial_{number:04d}"
