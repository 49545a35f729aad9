"""Options of a training that takes a second, for the tests of the command line."""

from jtr_lightning.lightning_cli.command_line import CommandLine
from tests.tiny import tiny_tasks

TRAINER = [
    "--trainer.max_epochs",
    "2",
    "--trainer.accelerator",
    "cpu",
    "--trainer.enable_progress_bar",
    "false",
]
BASE = ["--data", "TinyData", "--model.network", "ToyNetwork", *TRAINER]
ALL_TASKS = f"--data.tasks=[{','.join(tiny_tasks())}]"


def best(done: CommandLine) -> str:
    assert done.folder is not None
    return str(done.folder.absolute() / "checkpoints" / "best.ckpt")
