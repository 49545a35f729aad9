"""A training that was stopped in any way goes on as if it had not been."""

import contextlib
import ctypes
import errno
import json
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from jtr_lightning import disk
from jtr_lightning.callbacks import checkpoint_files
from jtr_lightning.callbacks.checkpoint_files import WholeCheckpointIO, newest_whole_checkpoint
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.cli.lightning import CommandLine
from jtr_lightning.cli.main import main
from jtr_lightning.errors import ConfigError
from jtr_lightning.testing.comparing import same
from tests.reliability.trainings import EPOCHS, STEPS, At, Order, fit, in_a_process, kill_me, resume, state

RUN = Path("runs/run/0")
CHECKPOINTS = RUN / "checkpoints"


@pytest.fixture(autouse=True)
def _in_a_scratch_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[int, list[int]]]:
    """What the uninterrupted training ends with, and the order of its samples."""
    order = Order()
    done = fit("--runs", str(tmp_path_factory.mktemp("whole")), callbacks=[order])
    return state(done), order.samples


def equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, torch.Tensor):
        return same(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(equal(found[k], expected[k]) for k in expected)
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(equal, found, expected))
    return bool(found == expected)


def differences(done: CommandLine, expected: dict[str, Any]) -> list[str]:
    found = state(done)
    assert found.keys() == expected.keys()
    return [key for key in expected if not equal(found[key], expected[key])]


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


# Full disk


def mount_a_small_disk(folder: Path, kilobytes: int) -> bool:
    """Mounts a file system of a few KB in this process's own view of the files; False where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private = 0x00020000, 0x40000 | 0x4000
    if libc.unshare(new_namespace) or libc.mount(None, b"/", None, private, None):
        return False
    options = f"size={kilobytes}k".encode()
    return bool(libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, options) == 0)


class AccidentError(Exception):
    """Ends a training, leaving what an accident would."""


def stop() -> None:
    raise AccidentError


def fill_the_disk(told: Path) -> None:
    folder = Path("small")
    folder.mkdir()
    if not mount_a_small_disk(folder, 300):
        sys.exit(77)
    with contextlib.suppress(AccidentError):
        fit("--runs=small", callbacks=[At(STEPS + 1, stop)])
    run = folder / "run/0"
    kept = (run / "checkpoints/last.ckpt").read_bytes()
    ballast = folder / "ballast"
    with ballast.open("wb") as file:  # leaves room for the logs, but for no checkpoint
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        file.write(bytes(max(0, free - len(kept) // 2)))
    with told.open("w") as sys.stderr:
        code = main(["fit", "--resume", str(run)])
    assert code == 1
    assert (run / "checkpoints/last.ckpt").read_bytes() == kept
    assert not list((run / "checkpoints").glob(".*"))
    ballast.unlink()
    order = Order()
    done = resume(run, callbacks=[order])
    assert [min(order.samples), max(order.samples)] == [STEPS + 1, EPOCHS * STEPS]
    torch.save(done.model.state_dict(), told.with_suffix(".pt"))


def test_a_full_disk_keeps_the_last_checkpoint_and_the_training_goes_on_when_there_is_room(
    whole: Any,
) -> None:
    told = Path("told.txt").absolute()
    code = in_a_process(fill_the_disk, told)
    if code == 77:
        pytest.skip("this machine lets nobody mount a small disk")
    assert code == 0
    errors = [line for line in told.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "should be written; found: No space left on device" in errors[0]
    assert "jtr fit --resume" in errors[0]
    found = torch.load(told.with_suffix(".pt"), weights_only=True)
    assert equal(found, whole[0]["weights"])


@pytest.mark.parametrize("call", ["fsync", "save"])
def test_a_disk_that_refuses_leaves_the_earlier_file(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"a": 1}, path)

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = disk.os if call == "fsync" else checkpoint_files.torch  # type: ignore[attr-defined]
    monkeypatch.setattr(target, call, refuse)
    with pytest.raises(ConfigError, match=r"found: No space left on device \(the earlier checkpoint"):
        WholeCheckpointIO().save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_is_no_fault_of_the_disk_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="pickle"):
        WholeCheckpointIO().save_checkpoint({"a": lambda: 0}, tmp_path / "a.ckpt")


# Told to stop


def stop_all() -> None:
    """What a cluster does: the signal goes to every process of the job, loader workers included."""
    os.killpg(0, signal.SIGTERM)


def train_and_stop(step: int, workers: int) -> None:
    os.setpgid(0, 0)
    fit(f"--data.num_workers={workers}", callbacks=[At(step, stop_all)])


@pytest.mark.parametrize(("step", "workers"), [(8, 0), (8, 2), (10, 0)])
def test_sigterm_saves_and_ends_with_143(step: int, workers: int, whole: Any) -> None:
    assert in_a_process(train_and_stop, step, workers) == 143
    assert read_checkpoint(CHECKPOINTS / "last.ckpt")["global_step"] == step
    order = Order()
    done = resume(RUN, callbacks=[order])
    assert min(order.samples) == step + 1
    assert differences(done, whole[0]) == []


class AtFirstValidation(L.Callback):
    """Stops in the short validation that Lightning does before it trains."""

    def on_sanity_check_start(self, trainer: L.Trainer, module: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


def begin_and_stop() -> None:
    fit(callbacks=[AtFirstValidation()])


def resume_and_stop(*callbacks: L.Callback) -> None:
    resume(RUN, callbacks=callbacks)


def test_sigterm_before_the_first_step_leaves_what_there_was(
    whole: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert in_a_process(begin_and_stop) == 143
    assert (
        "stopped by SIGTERM; no checkpoint was written yet; begin anew with: jtr fit --resume runs/run/0"
        in capfd.readouterr().err
    )
    assert not (CHECKPOINTS / "last.ckpt").exists()
    assert in_a_process(resume_and_stop, At(8, kill_me)) == -signal.SIGKILL
    before = (CHECKPOINTS / "last.ckpt").read_bytes()
    assert in_a_process(resume_and_stop, AtFirstValidation()) == 143
    assert (CHECKPOINTS / "last.ckpt").read_bytes() == before
    assert differences(resume(RUN), whole[0]) == []


def interrupt_all() -> None:
    """What a terminal does at Ctrl-C: the signal goes to every process that it has started."""
    os.killpg(0, signal.SIGINT)


def train_and_interrupt(step: int, workers: int) -> None:
    os.setpgid(0, 0)
    fit(f"--data.num_workers={workers}", callbacks=[At(step, interrupt_all)])


@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_saves_and_says_how_to_go_on(
    workers: int, whole: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    assert in_a_process(train_and_interrupt, 8, workers) == 130
    told = capfd.readouterr().err.splitlines()
    assert "stopping after this step; Ctrl-C once more stops at once." in told
    assert "stopped by Ctrl-C; go on with: jtr fit --resume runs/run/0" in told
    assert read_checkpoint(CHECKPOINTS / "last.ckpt")["global_step"] == 8
    assert (RUN / "report.html").is_file()
    assert differences(resume(RUN), whole[0]) == []


def train_and_interrupt_twice(earlier: Any) -> None:
    def twice() -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, earlier)
    fit(callbacks=[At(8, twice)])


@pytest.mark.parametrize("earlier", [signal.default_int_handler, signal.SIG_IGN], ids=["python's", "ignored"])
def test_a_second_ctrl_c_does_not_wait_for_the_step(
    earlier: Any, whole: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever the answer to Ctrl-C was before the training: a shell script ignores it for what it runs behind it."""
    assert in_a_process(train_and_interrupt_twice, earlier) == 130
    assert "interrupted; go on with: jtr fit --resume runs/run/0" in capfd.readouterr().err
    assert read_checkpoint(CHECKPOINTS / "last.ckpt")["global_step"] == STEPS, "of the last epoch's end"
    assert differences(resume(RUN), whole[0]) == []


def test_ctrl_c_before_the_first_checkpoint_says_that_there_is_none(
    capfd: pytest.CaptureFixture[str],
) -> None:
    def interrupt_at_the_start() -> None:
        fit(callbacks=[AtStart()])

    assert in_a_process(interrupt_at_the_start) == 130
    assert "interrupted; there is nothing to go on from." in capfd.readouterr().err


class AtStart(L.Callback):
    """A Ctrl-C before Lightning listens to signals."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        signal.raise_signal(signal.SIGINT)


# The Python interface


def test_the_callback_does_the_same_for_a_trainer_of_ones_own(tmp_path: Path) -> None:
    from jtr_lightning.module import PartialLabelModule
    from tests.tiny import TinyData, ToyNetwork

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
