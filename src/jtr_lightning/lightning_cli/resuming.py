"""Going on with a run that was stopped: ``jtr fit --resume runs/<name>/<number>``."""

from __future__ import annotations

import csv
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.trainer.connectors import checkpoint_connector
from lightning.pytorch.utilities.exceptions import SIGTERMException

from jtr_lightning.callbacks.checkpoint_files import LAST, newest_whole_checkpoint
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.disk import make_folder, read_yaml
from jtr_lightning.errors import ConfigError, UserError
from jtr_lightning.exits import EXIT_INTERRUPTED, EXIT_TERMINATED
from jtr_lightning.lightning_cli.configs import option
from jtr_lightning.run_folder import CHECKPOINTS, CONFIG, METRICS_LOG

RESUME = "--resume"


def resumed(arguments: list[str]) -> tuple[list[str], Path | None]:
    """Replaces ``--resume FOLDER`` by the run's config and its newest whole checkpoint.

    Args:
        arguments: The subcommand's name and what follows it.

    Returns:
        The arguments, and the folder to go on in; None where nothing is resumed.

    Raises:
        ConfigError: There is no run in the folder, it is read-only, or another checkpoint is asked for as well.
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
    try:
        make_folder(folder)
    except OSError as error:
        raise ConfigError(
            f"{RESUME} goes on in the run's folder, which should be writable; found '{folder}': {error.strerror}. Give "
            "a copy of it."
        ) from error
    rest = [argument for argument in arguments[1:] if not argument.startswith(f"{RESUME}=")]
    while RESUME in rest:
        del rest[rest.index(RESUME) : rest.index(RESUME) + 2]
    if option(rest, "--ckpt_path"):
        raise ConfigError(f"{RESUME} finds the checkpoint itself; give either {RESUME} or --ckpt_path.")
    checkpoint = newest_whole_checkpoint(folder / CHECKPOINTS)
    start = [] if checkpoint is None else ["--ckpt_path", str(checkpoint)]
    return ["fit", "--config", str(folder / CONFIG), *start, *rest], folder


def given_beside_the_run(arguments: list[str], folder: Path | None) -> list[str]:
    """The options beside ``--resume FOLDER``, which no file of the run keeps.

    Args:
        arguments: What ``resumed`` made.
        folder: The folder that it gave.
    """
    if folder is None or arguments[:3] != ["fit", "--config", str(folder / CONFIG)]:
        return []
    rest = arguments[3:]
    return rest[2:] if rest[:1] == ["--ckpt_path"] else rest


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

    Raises:
        ConfigError: A part cannot be restored.
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
def stopping_with_a_checkpoint(
    folder: Path | None, looked_at: Callable[[], None], beside: Sequence[str] = ()
) -> Iterator[None]:
    """Ends a training that is told to stop between two steps, says how to go on, and leaves as shells expect it.

    Ctrl-C (SIGINT) ends it as SIGTERM does, which Lightning notices at the end of a step and ``Resume`` answers with
    ``last.ckpt``. A second Ctrl-C does not wait for the step, and leaves the checkpoint of the last epoch.

    Args:
        folder: The run folder; None where nothing is kept.
        looked_at: Is called when a person has ended the training.
        beside: Options that the training was gone on with, which have to be given again.

    Raises:
        SystemExit: The training was stopped, with the code that shells give to the signal.
    """
    by_hand = False

    def stop(*_: object) -> None:
        nonlocal by_hand
        begun = signal.getsignal(signal.SIGTERM) not in (signal.SIG_DFL, signal.SIG_IGN, None)
        # Not left to the earlier handler the second time: whoever calls this may have made it one that does not raise.
        if by_hand or not begun:
            raise KeyboardInterrupt
        by_hand = True
        _tell("stopping after this step; Ctrl-C once more stops at once.")
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGINT)
    in_main_thread = threading.current_thread() is threading.main_thread()  # no other one may set a handler
    if in_main_thread:
        signal.signal(signal.SIGINT, stop)
    try:
        yield
    except SIGTERMException:
        if by_hand:
            looked_at()
        _tell(f"stopped by {'Ctrl-C' if by_hand else 'SIGTERM'}; {_how_to_go_on(folder, beside)}")
        raise SystemExit(EXIT_INTERRUPTED if by_hand else EXIT_TERMINATED) from None
    except SystemExit as leave:  # what Lightning makes of a KeyboardInterrupt
        if not isinstance(leave.__context__, KeyboardInterrupt):
            raise
        _tell(f"interrupted; {_how_to_go_on(folder, beside)}")
        raise SystemExit(EXIT_INTERRUPTED) from None
    finally:
        if in_main_thread:
            signal.signal(signal.SIGINT, before)


def _how_to_go_on(folder: Path | None, beside: Sequence[str]) -> str:
    if folder is None or not (folder / CONFIG).is_file():
        return "there is nothing to go on from."
    command = shlex.join(["jtr", "fit", RESUME, str(near(folder)), *beside])
    if not (folder / CHECKPOINTS / LAST).is_file():
        return f"no checkpoint was written yet; begin anew with: {command}"
    return f"go on with: {command}"


def near(folder: Path) -> Path:
    """A folder as seen from the current one, if it lies below."""
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def _tell(text: str) -> None:
    if getattr(rank_zero_only, "rank", 0) == 0:
        print(f"\n{text}", file=sys.stderr)


def csv_log(folder: Path, checkpoint: str | None) -> CSVLogger:
    """The log of a run folder; one that is there goes on behind the rows of before the checkpoint.

    Args:
        folder: The run folder.
        checkpoint: What the training goes on from, if it does.
    """
    path = folder / METRICS_LOG
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
