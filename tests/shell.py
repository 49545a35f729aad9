"""Runs the commands of a page in their order: a real shell reads them, and `jtr` runs in this process, made small."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jtr_lightning.cli.main import main

ROOT = Path(__file__).parents[1]

SMALL_TRAINING = (
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=1",
    "--trainer.limit_val_batches=1",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--data.num_workers=0",
)
SMALL_ROOMS = (
    "--data.size=[32,40]",
    "--data.batch_size=4",
    "--data.num_train=8",
    "--data.num_val=2",
    "--data.num_test=2",
    "--data.make_workers=1",
)
_PRINT = "() { printf '%s\\0' {program} \"$@\"; printf '\\n\\0'; }"


def read_commands(text: str) -> list[list[str]]:
    """The commands of a block as a shell understands them: with variables, braces and conditions.

    Args:
        text: The block; of programs it may call `jtr` and `python`, which are not run.

    Returns:
        The words of each command that would be run from the current folder as it is.
    """
    functions = "\n".join(name + _PRINT.replace("{program}", name) for name in ("jtr", "python"))
    done = subprocess.run(
        ["bash", "-eu", "-c", f"{functions}\n{text}"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    return [words.split("\0")[:-1] for words in done.stdout.split("\n\0")[:-1]]


def run_commands(text: str, small: Mapping[str, Sequence[str]] | None = None) -> None:
    """Runs a block in the current folder, which sees the repository's experiments.

    Args:
        text: The block.
        small: Options that are added to a subcommand of `jtr`, or to a script.
    """
    for folder in ("experiments", "benchmarks", "tests"):
        if not Path(folder).exists():
            Path(folder).symlink_to(ROOT / folder)
    for program, *words in read_commands(text):
        more = (small or {}).get(words[0], ())
        if program == "python":
            subprocess.run([sys.executable, *words, *more], check=True)
        else:
            _run_jtr([*words, *more])


def _run_jtr(arguments: Iterable[str]) -> None:
    try:
        code: object = main(list(arguments))
    except SystemExit as leave:  # --help and --print_config end like this
        code = leave.code
    assert code in (0, None), arguments
