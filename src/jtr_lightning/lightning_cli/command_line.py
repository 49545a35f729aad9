"""``jtr fit | validate | test | predict``: a LightningCLI with our defaults, run folder and messages."""

from __future__ import annotations

from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from jtr_lightning.callbacks.best_metrics import BestMetrics
from jtr_lightning.callbacks.guard import NonFiniteGuard
from jtr_lightning.callbacks.prediction_writer import PredictionWriter
from jtr_lightning.callbacks.progress import loss_bar
from jtr_lightning.callbacks.report import publish
from jtr_lightning.callbacks.summary import TrainingSummary
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.console import console, quiet
from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.errors import ConfigError
from jtr_lightning.lightning_cli import reporting
from jtr_lightning.lightning_cli.configs import (
    SaveWholeConfig,
    asks_for_text,
    check_names,
    forget_replaced_classes,
    option,
    read_config,
    with_config_of_run,
)
from jtr_lightning.lightning_cli.messages import sentence
from jtr_lightning.lightning_cli.mistakes import mistakes_as_user_errors
from jtr_lightning.lightning_cli.parts import find_parts
from jtr_lightning.lightning_cli.resuming import (
    RESUME,
    given_beside_the_run,
    near,
    restoring,
    resumed,
    stopping_with_a_checkpoint,
)
from jtr_lightning.lightning_cli.tables import metrics_table
from jtr_lightning.lightning_cli.trainer import Trainer, checkpoints, expect_a_validation, loggers
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.run_folder import (
    CONFIG,
    add_metrics,
    new_run_folder,
    remove_unused,
    run_of_checkpoint,
)

LARGEST_SEED = 2**32 - 1
"""Numpy's, which Lightning seeds, too."""


def run(arguments: list[str]) -> None:
    """Runs one of Lightning's subcommands.

    Args:
        arguments: The subcommand's name and what follows it.

    Raises:
        UserError: Something in the arguments, the config files or the data does not fit.
    """
    command_line(arguments)


def command_line(
    arguments: Sequence[str],
    folder: Path | None = None,
    callbacks: Sequence[L.Callback] = (),
    kind: type[CommandLine] | None = None,
) -> CommandLine:
    """Runs a subcommand and returns what it was run with.

    Args:
        arguments: The subcommand's name and what follows it.
        folder: The run folder of a training, in place of a new one.
        callbacks: More callbacks for the trainer.
        kind: A class that does it in another way.

    Returns:
        The command line, with ``trainer``, ``model``, ``datamodule``, ``metrics`` and ``folder``.

    Raises:
        UserError: Something in the arguments, the config files or the data does not fit.
    """
    find_parts()
    given, old_folder = resumed(list(arguments))
    with quiet(), mistakes_as_user_errors(), restoring():
        return (kind or CommandLine)(with_config_of_run(given), old_folder or folder, callbacks)


class CommandLine(LightningCLI):
    """Tasks are given once, on the data, and linked to the model.

    Args:
        arguments: The subcommand's name and what follows it.
        folder: The run folder of a training, in place of a new one.
        callbacks: More callbacks for the trainer.

    Attributes:
        folder: The run folder; None where nothing is kept (``fast_dev_run``).
        metrics: Results by key: the best epoch's after ``fit``, else the stage's.
    """

    folder: Path | None
    metrics: dict[str, float]

    def __init__(
        self, arguments: list[str], folder: Path | None = None, callbacks: Sequence[L.Callback] = ()
    ) -> None:
        configs = option(arguments, "--config", "-c")
        self.default_name = Path(configs[-1]).stem if configs else "run"
        self.given_configs = {path: read_config(path) for path in configs}
        self.folder = None
        self.given_folder = folder
        self.given_beside = given_beside_the_run(arguments, folder)
        self.made_folder: Path | None = None
        self.more_callbacks = list(callbacks)
        self.metrics = {}
        strict = {"exit_on_error": False, "allow_abbrev": False}
        with self._leaving_no_empty_folder():
            super().__init__(
                PartialLabelModule,
                PartialLabelDataModule,
                SaveWholeConfig,
                trainer_class=Trainer,
                subclass_mode_model=True,
                subclass_mode_data=True,
                # The module has an optimizer of its own; its checkpoint describes itself.
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                seed_everything_default=0,
                trainer_defaults={"log_every_n_steps": 10, "enable_model_summary": False},
                parser_kwargs={
                    "prog": "jtr",
                    **strict,
                    **{name: dict(strict) for name in self.subcommands()},
                },
                args=forget_replaced_classes(reporting.write_out_logger(arguments)),
            )

    @contextmanager
    def _leaving_no_empty_folder(self) -> Iterator[None]:
        """Removes a new run folder again if the run fails before it has written anything."""
        try:
            yield
        except BaseException:
            if self.made_folder is not None:
                remove_unused(self.made_folder)
            raise

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's own, without the arguments that are decided here."""
        decided = {"model", "datamodule", "weights_only"}
        return {
            "fit": decided | {"train_dataloaders", "val_dataloaders"},
            "validate": decided | {"dataloaders", "verbose"},
            "test": decided | {"dataloaders", "verbose"},
            "predict": decided | {"dataloaders", "return_predictions"},
        }

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run's name, the options of written predictions, and the link of the tasks."""
        parser.add_argument(
            "--name",
            type=str | None,
            default=None,
            help="The run's name; by default that of the config file.",
        )
        parser.add_argument("--runs", type=str, default="runs", help="The folder of all runs.")
        parser.add_argument(
            RESUME,
            type=str | None,
            default=None,
            help="The folder of a stopped run: goes on in it, from its newest whole checkpoint, with its config.",
        )
        parser.add_argument(
            "--checkpoint_every_n_steps",
            type=int,
            default=0,
            help="Write last.ckpt during an epoch, too, every so many steps; 0 for at its end and when told to stop.",
        )
        parser.add_class_arguments(PredictionWriter, "predictions", instantiate=True)
        parser.add_class_arguments(NonFiniteGuard, "guard", instantiate=True)
        reporting.add_options(parser)
        parser.set_defaults({"model": {"class_path": "jtr_lightning.module.PartialLabelModule"}})
        parser.link_arguments("data.tasks", "model.init_args.tasks", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses; looks first at what explains more than the parser's own messages would.

        Raises:
            ConfigError: An argument or a config file does not fit.
        """
        arguments = cast(list[str], args)
        subcommand = arguments[0]
        options = [key for key, _ in self._parser(subcommand).get_defaults().items()]
        if not asks_for_text(arguments):
            names = {name.partition(".")[0] for name in options}
            for path, tree in self.given_configs.items():
                check_names(path, tree, names, f"jtr {subcommand}")
            self._check_checkpoint(subcommand, arguments)
        try:
            self.config = parser.parse_args(arguments)
        except ArgumentError as error:
            raise ConfigError(sentence(str(error), options)) from error
        seed = self.config[subcommand].seed_everything
        if seed is not None and not 0 <= seed <= LARGEST_SEED:
            raise ConfigError(f"Option --seed_everything should be from 0 to {LARGEST_SEED}; found {seed}.")
        model = self.config[subcommand].model
        if model is not None and model.init_args.get("tasks") is not None:
            raise ConfigError(
                "The tasks should be given on the data alone, from which the model has them; found tasks in "
                "`model.init_args.tasks`, too. Give all of them as `data.init_args.tasks` (--data.tasks)."
            )

    def _check_checkpoint(self, subcommand: str, arguments: Sequence[str]) -> None:
        in_configs = [tree["ckpt_path"] for tree in self.given_configs.values() if tree.get("ckpt_path")]
        given = option(arguments, "--ckpt_path") or in_configs
        if given:
            read_checkpoint(given[-1])
        elif subcommand != "fit":
            raise ConfigError(
                f"jtr {subcommand} should be given a trained model; give --ckpt_path "
                "runs/<name>/<number>/checkpoints/best.ckpt."
            )

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Adds the run folder, the CSV log and the checkpoints to what the user asks for.

        Raises:
            ConfigError: The trainer's options do not fit.
        """
        config = self._get(self.config_init, "trainer")
        callbacks = config["callbacks"] or []
        config["callbacks"] = callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        callbacks.extend(self.more_callbacks)
        training = self.subcommand == "fit"
        if not training:
            self.save_config_callback = None
        else:
            expect_a_validation(config)
            callbacks.append(TrainingSummary())
            callbacks.append(self._get(self.config_init, "guard"))
            callbacks.extend(loss_bar(callbacks, config["enable_progress_bar"]))
        if config["fast_dev_run"]:
            config["logger"] = config["logger"] or False  # or Lightning makes one of its own
        else:
            self.folder = self._run_folder()
            self.save_config_kwargs = {"path": self.folder / CONFIG}
            if (self.folder / CONFIG).is_file():
                self.save_config_callback = None  # what a resumed run was started with
            config["default_root_dir"] = config["default_root_dir"] or str(self.folder)
            if training:
                config["logger"] = loggers(config["logger"], self.folder, self._get(self.config, "ckpt_path"))
                every = self._get(self.config_init, "checkpoint_every_n_steps")
                callbacks.extend(checkpoints(config, self.folder, every))
                callbacks.append(BestMetrics(self.folder))
                callbacks.extend(self.looked_at(self.folder))
            else:
                config["logger"] = config["logger"] or False
            reporting.settle_loggers(self.folder, config["logger"])
        if self.subcommand == "predict":
            callbacks.append(self._get(self.config_init, "predictions"))
        try:
            return super().instantiate_trainer(**kwargs)
        except (TypeError, ValueError, MisconfigurationException) as error:
            raise ConfigError(
                f"The options of the trainer do not fit: {' '.join(str(error).split())}"
            ) from error

    def looked_at(self, folder: Path) -> list[L.Callback]:
        """Callbacks that draw a training and write its page; a subclass whose runs nobody looks at has none.

        Args:
            folder: The run folder.

        Returns:
            Callbacks that come behind those that write metrics.
        """
        report = self._get(self.config_init, "report")
        report.folder = folder
        return [self._get(self.config_init, "panels"), report]

    def _run_folder(self) -> Path:
        """The folder of the checkpoint's run for evaluation, a new one for training."""
        checkpoint = self._get(self.config, "ckpt_path")
        known = None if self.subcommand == "fit" else run_of_checkpoint(checkpoint)
        if known is not None:
            return known
        if self.given_folder is not None:
            self.given_folder.mkdir(parents=True, exist_ok=True)
            return self.given_folder
        name = self._get(self.config, "name") or self.default_name
        root = self._get(self.config, "runs")
        if getattr(rank_zero_only, "rank", 0) != 0:
            # Other ranks never write; Lightning tells them the folder of rank 0.
            return Path(root) / name
        self.made_folder = new_run_folder(root, name)
        return self.made_folder

    # The trainer's methods, called by LightningCLI by their names.

    def before_fit(self) -> None:
        """Gives the configuration to the loggers that keep it."""
        config = self._parser("fit").dump(self.config["fit"], skip_link_targets=False, skip_unset=False)
        reporting.log_config(self.trainer.loggers, config)

    def fit(self, **kwargs: Any) -> None:
        """Trains, and prints the metrics of the best epoch."""
        with stopping_with_a_checkpoint(self.folder, self._publish, self.given_beside):
            self.trainer.fit(**kwargs, weights_only=True)
        folders = [c for c in self.trainer.callbacks if isinstance(c, BestMetrics)]  # type: ignore[attr-defined]
        best = folders[0].best if folders else {}
        self.metrics = best or _logged(self.trainer, "val")
        # In files epochs count from 0, on the progress bar from 1.
        when = f" after epoch {best['best_epoch'] + 1:.0f}, the best" if best else ""
        self._report("val", f"Validation{when}")
        reporting.close(self.trainer.loggers)

    def validate(self, **kwargs: Any) -> None:
        """Measures on the validation set, and keeps nothing: a run's metrics.json has the best epoch's numbers."""
        self.trainer.validate(**kwargs, verbose=False, weights_only=True)
        self.metrics = _logged(self.trainer, "val")
        self._report("val", "Validation")
        reporting.close(self.trainer.loggers)

    def test(self, **kwargs: Any) -> None:
        """Measures on the test set and adds the result to the run's metrics.json.

        Raises:
            ConfigError: Nothing can be written into the run's folder.
        """
        self.trainer.test(**kwargs, verbose=False, weights_only=True)
        self.metrics = _logged(self.trainer, "test")
        # First, so that what was measured is not lost where nothing can be written, as in the run of somebody else.
        self._report("test", "Test")
        try:
            if self.trainer.is_global_zero and self.folder is not None:
                add_metrics(self.folder, self.metrics)
            self._publish("test")
        except PermissionError as error:
            raise ConfigError(
                f"The run's folder should be writable, to keep the metrics above; found: {error.strerror} "
                f"('{error.filename}'). Copy the numbers, or test a copy of the folder."
            ) from error
        reporting.close(self.trainer.loggers)

    def predict(self, **kwargs: Any) -> None:
        """Predicts the test set and writes every prediction."""
        self.trainer.predict(**kwargs, return_predictions=False, weights_only=True)
        if self.trainer.is_global_zero:
            folder = self._get(self.config_init, "predictions").folder
            console().print(f"Predictions are in {near(folder)}", soft_wrap=True)

    def _publish(self, stage: str = "val") -> None:
        """Writes the run's page anew."""
        if self.trainer.is_global_zero and self.folder is not None:
            publish(self.folder, self.trainer.loggers, stage)

    def _report(self, stage: str, title: str) -> None:
        if not self.trainer.is_global_zero:
            return
        model = cast(PartialLabelModule, self.model)
        out = console()
        if self.metrics or self.subcommand != "fit":
            out.print(metrics_table(self.metrics, stage, model.tasks, model.baseline, title))
        else:  # a table would say that there are no labels
            out.print("There was no validation, so that no epoch is known as the best.", soft_wrap=True)
        if self.folder is not None:
            out.print(f"Run folder: {near(self.folder)}", soft_wrap=True)


def _logged(trainer: L.Trainer, stage: str) -> dict[str, float]:
    return {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith(f"{stage}/")}
