"""A training that was killed in any way goes on as if it had not been."""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from jtr_lightning.callbacks import checkpoint_files
from jtr_lightning.callbacks.checkpoint_files import WholeCheckpointIO, newest_whole_checkpoint
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.cli.main import main
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from tests.reliability.trainings import (
    CHECKPOINTS,
    EPOCHS,
    RUN,
    STEPS,
    At,
    Order,
    differences,
    equal,
    fit,
    in_a_process,
    kill_me,
    resume,
)
from tests.tiny import TinyData, ToyNetwork

pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


# Killed


def train_and_die(step: int, *options: str) -> None:
    fit(*options, callbacks=[At(step, kill_me)])


@pytest.mark.parametrize("step", random.Random(7).sample(range(STEPS + 1, EPOCHS * STEPS), 2))
def test_a_killed_training_goes_on_from_the_last_epoch_bit_for_bit(step: int, whole: Any) -> None:
    assert in_a_process(train_and_die, step) == -signal.SIGKILL
    order = Order()
    done = resume(RUN, callbacks=[order])
    assert done.folder == RUN
    assert min(order.samples) == (step - 1) // STEPS * STEPS + 1
    assert differences(done, whole[0]) == []
    assert order.samples == {step: samples for step, samples in whole[1].items() if step in order.samples}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_killed_within_an_epoch_goes_on_within_it_bit_for_bit(workers: int, whole: Any) -> None:
    options = ["--checkpoint_every_n_steps=3", f"--data.num_workers={workers}"]
    assert in_a_process(train_and_die, 8, *options) == -signal.SIGKILL
    order = Order()
    done = resume(RUN, callbacks=[order])
    assert min(order.samples) == 7, "the checkpoint of step 6"
    assert differences(done, whole[0]) == []
    assert order.samples == {step: samples for step, samples in whole[1].items() if step > 6}


def test_a_training_killed_before_its_first_checkpoint_starts_anew_in_its_folder(whole: Any) -> None:
    assert in_a_process(train_and_die, 2) == -signal.SIGKILL
    assert not CHECKPOINTS.exists()
    assert differences(resume(RUN), whole[0]) == []
    assert sorted(p.name for p in RUN.parent.iterdir()) == ["0"]


def test_an_epoch_that_is_not_the_best_is_kept_as_well() -> None:
    fit("--model.optimizer.lr=0")
    steps = {name: read_checkpoint(CHECKPOINTS / name)["global_step"] for name in ("best.ckpt", "last.ckpt")}
    assert steps == {"best.ckpt": STEPS, "last.ckpt": EPOCHS * STEPS}


class Ruin(L.Callback):
    """Makes every epoch from the third on worse than all before."""

    def on_validation_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch >= 2:
            with torch.no_grad():
                for weight in module.parameters():
                    weight.fill_(-3.0)


@pytest.mark.parametrize("best_is_there", [True, False])
def test_a_run_folder_that_was_moved_keeps_its_best_epoch(best_is_there: bool) -> None:
    fit(epochs=2)
    moved = Path("elsewhere", "0")
    shutil.copytree(RUN, moved)
    if not best_is_there:
        (moved / "checkpoints" / "best.ckpt").unlink()
    untouched = (CHECKPOINTS / "best.ckpt").read_bytes()
    done = resume(moved, "--trainer.max_epochs=4", callbacks=[Ruin()])
    best = read_checkpoint(moved / "checkpoints" / "best.ckpt")
    assert best["epoch"] == done.metrics["best_epoch"] == (1 if best_is_there else 2)
    assert json.loads((moved / "metrics.json").read_text())["best_epoch"] == best["epoch"]
    callback: Any = done.trainer.checkpoint_callback
    assert Path(callback.best_model_path) == (moved / "checkpoints" / "best.ckpt").resolve()
    assert (CHECKPOINTS / "best.ckpt").read_bytes() == untouched


def test_the_run_folder_tells_one_training_after_a_resume(whole: Any) -> None:
    assert in_a_process(train_and_die, 8) == -signal.SIGKILL
    before = (RUN / "config.yaml").read_text()
    resume(RUN)
    header, *rows = (RUN / "metrics.csv").read_text().splitlines()
    place = header.split(",").index("step")
    # Of each step its losses; of each epoch's last step the metrics and the epoch's means as well.
    steps = sorted(int(row.split(",")[place]) for row in rows)
    assert sorted(set(steps)) == list(range(EPOCHS * STEPS))
    assert len(steps) == EPOCHS * (STEPS + 2)
    kept = json.loads((RUN / "metrics.json").read_text())
    assert {key: kept[key] for key in whole[0]["metrics"]} == whole[0]["metrics"]
    assert (RUN / "config.yaml").read_text() == before
    assert sorted(p.name for p in CHECKPOINTS.iterdir()) == ["best.ckpt", "last.ckpt"]


# Killed while a checkpoint is written


def die_while_writing(name: str, number: int, share: float) -> None:
    """Kills this process when a part of the n-th file of a name is on the disk."""
    save = torch.save
    seen = []

    def save_a_part(content: Any, file: Any) -> None:
        if Path(file.name).name.startswith(f".{name}"):
            seen.append(name)
        save(content, file)
        if len(seen) == number and file.name.startswith(str(Path(file.name).parent / f".{name}")):
            file.flush()
            file.truncate(int(share * file.tell()))
            kill_me()

    checkpoint_files.torch.save = save_a_part  # type: ignore[attr-defined]
    fit()


@pytest.mark.parametrize(("name", "share"), [("best.ckpt", 0.5), ("last.ckpt", 0.5), ("last.ckpt", 1.0)])
def test_a_kill_while_writing_leaves_whole_checkpoints(name: str, share: float, whole: Any) -> None:
    number = 1 if name == "best.ckpt" else 2
    assert in_a_process(die_while_writing, name, number, share) == -signal.SIGKILL
    parts = list(CHECKPOINTS.glob(".*.part"))
    assert len(parts) == 1
    for path in CHECKPOINTS.glob("*.ckpt"):
        read_checkpoint(path)
    assert differences(resume(RUN), whole[0]) == []
    assert not list(CHECKPOINTS.glob(".*.part")), "what the killed process left behind is removed"


def test_the_newest_whole_checkpoint_is_found(caplog: pytest.LogCaptureFixture) -> None:
    folder = Path("checkpoints")
    assert newest_whole_checkpoint(folder) is None
    fit(epochs=1)
    folder.mkdir()
    content = (CHECKPOINTS / "last.ckpt").read_bytes()
    for age, (name, data) in enumerate(
        {
            "last.ckpt": content[: len(content) // 2],
            "empty.ckpt": b"",
            "best.ckpt": content,
            "old.ckpt": content,
        }.items()
    ):
        (folder / name).write_bytes(data)
        os.utime(folder / name, (1e9 - age, 1e9 - age))
    assert newest_whole_checkpoint(folder) == folder / "best.ckpt"
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert [("last.ckpt" in line, "empty.ckpt" in line) for line in told] == [(True, False), (False, True)]


def test_the_newest_checkpoint_is_that_of_most_steps_whatever_the_times_of_the_files() -> None:
    fit("--model.optimizer.lr=0")  # so that the first epoch stays the best
    os.utime(CHECKPOINTS / "last.ckpt", (1e9, 1e9))
    assert newest_whole_checkpoint(CHECKPOINTS) == CHECKPOINTS / "last.ckpt"


# The Python interface


def test_the_callback_does_the_same_for_a_trainer_of_ones_own(tmp_path: Path) -> None:
    def train(epochs: int, ckpt_path: str | None = None) -> PartialLabelModule:
        L.seed_everything(1, verbose=False)
        data = TinyData(tasks=["depth", "segmentation"])
        module = PartialLabelModule(data.tasks, ToyNetwork())
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            limit_val_batches=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Resume(tmp_path, every_n_steps=2)],
        )
        trainer.fit(module, data, ckpt_path=ckpt_path)
        assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpointIO)
        return module

    expected = train(2)
    train(1)
    found = train(2, str(tmp_path / "last.ckpt"))
    assert equal(found.state_dict(), expected.state_dict())


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("checkpoint", ["last.ckpt", "best.ckpt"])
def test_a_schedule_that_waits_for_the_score_has_seen_the_validation_of_each_checkpoint(
    checkpoint: str,
) -> None:
    # A score cannot rise by this much, so the rate falls with every validation but the first.
    falling = partial(
        torch.optim.lr_scheduler.ReduceLROnPlateau, mode="max", patience=0, threshold=1e9, factor=0.5
    )

    def train(folder: str, epochs: int, ckpt_path: Path | None = None) -> L.Trainer:
        L.seed_everything(1, verbose=False)
        data = TinyData(tasks=["depth", "segmentation"])
        trainer = L.Trainer(
            accelerator="cpu",
            max_epochs=epochs,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[
                Resume(folder),
                ModelCheckpoint(folder, "best", monitor="val/score", mode="max"),
            ],
        )
        trainer.fit(
            PartialLabelModule(data.tasks, ToyNetwork(), lr_scheduler=falling), data, ckpt_path=ckpt_path
        )
        return trainer

    expected = train("whole", 3)
    assert expected.optimizers[0].param_groups[0]["lr"] == 1e-4 / 4
    train("begun", 1)
    found = train("finished", 3, Path("begun") / checkpoint)
    assert equal(found.lightning_module.state_dict(), expected.lightning_module.state_dict())
    assert found.optimizers[0].param_groups[0]["lr"] == expected.optimizers[0].param_groups[0]["lr"]


# Mistakes


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--resume", "nowhere"], "--resume should be given the folder of a run"),
        (["--resume=nowhere"], "found no 'nowhere/config.yaml'"),
        (["--resume", "run", "--ckpt_path", "x"], "give either --resume or --ckpt_path"),
    ],
)
def test_a_wrong_resume_is_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/config.yaml").write_text("trainer: {}")
    assert main(["fit", *arguments]) == 1
    assert told in capsys.readouterr().err


def test_resume_needs_a_number_of_steps() -> None:
    with pytest.raises(ConfigError, match="`every_n_steps` should be at least 0; found -1"):
        Resume(".", every_n_steps=-1)


# As a user does it


@pytest.mark.slow
def test_kill_dash_nine_of_the_command_at_any_time(whole: Any) -> None:
    # One thread, as in the tests: sums of several threads are rounded differently.
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    slowly = (
        "import time; from tests.reliability.trainings import At, fit; "
        "fit(callbacks=[At(i, lambda: time.sleep(0.2)) for i in range(1, 16)])"
    )
    process = subprocess.Popen([sys.executable, "-c", slowly], env=env, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 600  # to import everything on a busy machine
    while not (CHECKPOINTS / "last.ckpt").exists() and time.monotonic() < until:
        time.sleep(0.05)
    seed = random.SystemRandom().randrange(10**6)  # another time in each run of the test
    print(f"killed by the seed {seed}")
    time.sleep(random.Random(seed).uniform(0, 1.5))
    process.kill()
    assert process.wait() == -signal.SIGKILL
    command = "import tests.reliability.trainings; from jtr_lightning.cli.main import main; raise SystemExit(main())"
    arguments = ["fit", "--resume", str(RUN)]
    subprocess.run([sys.executable, "-c", command, *arguments], check=True, env=env, capture_output=True)
    last = read_checkpoint(CHECKPOINTS / "last.ckpt")
    assert last["global_step"] == whole[0]["step"]
    assert equal(last["state_dict"], whole[0]["weights"])
