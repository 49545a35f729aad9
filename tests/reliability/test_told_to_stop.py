"""SIGTERM and Ctrl-C end a training between two steps, and it goes on as if they had not."""

import os
import signal
from typing import Any

import lightning as L
import pytest

from jtr_lightning.callbacks import panel_logger
from jtr_lightning.checkpoint import read_checkpoint
from tests.reliability.trainings import (
    CHECKPOINTS,
    RUN,
    STEPS,
    At,
    Order,
    differences,
    fit,
    in_a_process,
    kill_me,
    resume,
    state,
)

pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


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


def test_a_picture_is_of_the_epoch_within_which_the_training_went_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The start of that epoch is not told again; it was drawn as epoch 0, in place of that one's picture."""
    titles: list[str] = []
    draw = panel_logger.panels
    monkeypatch.setattr(
        panel_logger, "panels", lambda *args, **options: titles.append(args[4]) or draw(*args, **options)
    )
    stop = At(8, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        fit("--panels.every_n_epochs=1", callbacks=[stop], epochs=2)
    first = (RUN / "panels" / "epoch_0000.png").read_bytes()
    resume(RUN)
    assert [title.partition(":")[0] for title in titles] == ["Epoch 0", "Epoch 1"]
    assert sorted(path.name for path in (RUN / "panels").iterdir()) == ["epoch_0000.png", "epoch_0001.png"]
    assert (RUN / "panels" / "epoch_0000.png").read_bytes() == first


def test_as_many_batches_are_accumulated_as_before_where_their_number_changes() -> None:
    accumulating = [
        "--trainer.callbacks=lightning.pytorch.callbacks.GradientAccumulationScheduler",
        "--trainer.callbacks.scheduling={0: 1, 1: 2}",
    ]
    whole = state(fit(*accumulating))
    with pytest.raises(SystemExit):
        fit(
            *accumulating, callbacks=[At(6, lambda: signal.raise_signal(signal.SIGTERM))]
        )  # in the second epoch
    order = Order()
    done = resume(RUN.with_name("1"), callbacks=[order])
    assert min(order.samples) == 6, "the third batch of that epoch begins step 7"
    assert differences(done, whole) == []


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


def test_what_a_training_was_gone_on_with_is_in_the_command_that_goes_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The run's config is what it was started with: without the option the next training would end at once."""
    fit(epochs=1)
    stop = At(8, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        resume(RUN, "--trainer.max_epochs", "3", "--name=a b", callbacks=[stop])
    told = "stopped by SIGTERM; go on with: jtr fit --resume runs/run/0 --trainer.max_epochs 3 '--name=a b'"
    assert told in capfd.readouterr().err
    assert resume(RUN, "--trainer.max_epochs", "3").trainer.global_step == 3 * STEPS


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
