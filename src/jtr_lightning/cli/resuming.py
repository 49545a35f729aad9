"""Going on with a run that was stopped: ``jtr fit --resume runs/<name>/<number>``."""

from __future__ import annotations

import csv
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.connectors import checkpoint_connector
from lightning.pytorch.utilities.exceptions import SIGTERMException

from jtr_lightning.callbacks.checkpoint_files import LAST, newest_whole_checkpoint
from jtr_lightning.callbacks.run_folder import CHECKPOINTS, CONFIG
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.cli.configs import option
from jtr_lightning.disk import read_yaml
from jtr_lightning.errors import ConfigError, UserError

RESUME = "--resume"
EXIT_TERMINATED = 143  # 128 + SIGTERM, as shells report it


def resumed(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Replaces ``--resume FOLDER`` by the run's config and its newest whole checkpoint.

    Args:
        arguments: The subcommand's name and what follows it.

    Returns:
        The arguments, and the folder to go on in; None where nothing is resumed.

    Raises:
        ConfigError: There is no run in the folder, or another checkpoint is asked for as well.
    """
    given = option(arguments, RESUME)
    if not given or arguments[0] != "fit":
        return arguments, None
    folder = Path(given[-1])
    if not (folder / CONFIG).is_file():
        raise ConfigError(
            f"{RESUME} should be given the folder of a run, such as runs/<name>/<number>; found no '{folder / CONFIG}'."
        )
    _check_config(folder / CONFIG)
    rest = [argument for argument in arguments[1:] if not argument.startswith(f"{RESUME}=")]
    while RESUME in rest:
        del rest[rest.index(RESUME) : rest.index(RESUME) + 2]
    if option(rest, "--ckpt_path"):
        raise ConfigError(f"{RESUME} finds the checkpoint itself; give either {RESUME} or --ckpt_path.")
    checkpoint = newest_whole_checkpoint(folder / CHECKPOINTS)
    start = [] if checkpoint is None else ["--ckpt_path", str(checkpoint)]
    return ["fit", "--config", str(folder / CONFIG), *start, *rest], folder


def _check_config(path: Path) -> None:
    """Refuses a config that a full disk has left unfinished, which earlier versions did; ours is whole or absent."""
    try:
        content = read_yaml(path)
    except (OSError, ValueError, yaml.YAMLError) as error:
        found = " ".join(str(error).split())
    else:
        if isinstance(content, dict) and content:
            return
        found = "an empty file" if content is None else f"a {type(content).__name__}"
    raise ConfigError(
        f"The config '{path}' that the run was started with should be whole; found: {found}. Put a copy in its place, "
        "or start the run anew."
    )


@contextmanager
def restoring() -> Iterator[None]:
    """Makes one sentence of what Lightning, or a callback, says of a checkpoint whose parts it cannot restore.

    A whole file of a foreign writer may hold anything under the names that are restored; the places that read it are
    Lightning's and any callback's, so it is known by where the error comes from.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
        if any(
            frame.f_globals.get("__name__") == checkpoint_connector.__name__
            and frame.f_code.co_name.startswith("restore")
            for frame in frames
        ):
            raise ConfigError(
                "The checkpoint should hold the states of a training by this configuration; found something else: "
                f"{type(error).__name__} ({' '.join(str(error).split())}). Take an earlier checkpoint, or start anew."
            ) from error
        raise


@contextmanager
def termination_as_exit_code() -> Iterator[None]:
    """Ends a training that was told to stop with the code that shells give it, rather than with that of success."""
    try:
        yield
    except SIGTERMException:
        print(
            f"stopped by SIGTERM; jtr fit {RESUME} with the run's folder goes on from its {LAST}, or begins anew where "
            "no step was done yet.",
            file=sys.stderr,
        )
        raise SystemExit(EXIT_TERMINATED) from None


def csv_log(folder: Path, checkpoint: str | None) -> CSVLogger:
    """The log of a run folder; one that is there goes on behind the rows of before the checkpoint.

    Args:
        folder: The run folder.
        checkpoint: What the training goes on from, if it does.
    """
    path = folder / "metrics.csv"
    rows: list[dict[str, str]] = []
    first = getattr(rank_zero_only, "rank", 0) == 0
    if first and path.is_file() and checkpoint is not None:
        step = int(read_checkpoint(checkpoint)["global_step"])
        with path.open(newline="", encoding="utf-8") as file:
            # A row that was cut off in the middle has no step.
            rows = [row for row in csv.DictReader(file) if (row.get("step") or "").isdigit()]
        rows = [
            {key: value for key, value in row.items() if value} for row in rows if int(row["step"]) < step
        ]
    log = CSVLogger(folder, name="", version="")
    if rows:
        log.experiment.metrics.extend(rows)  # as text, which is written as it was
        log.save()
    return log
