import re
from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

from jtr_lightning.baseline import Baseline
from jtr_lightning.callbacks.progress import LossBar, loss_bar
from jtr_lightning.module import PartialLabelModule
from tests.toy import ToyDataModule, ToyNetwork


class Shown(LossBar):
    """Notes what stands behind the bar after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float | None] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, *arguments: object) -> None:
        super().on_train_batch_end(*arguments)
        trainer, module = arguments[:2]
        self.seen.append(self.get_metrics(trainer, module).get("train/loss"))
        self.losses.append(float(module.step_losses.total))


def test_the_bar_shows_the_loss_of_every_nth_step(tmp_path: Path) -> None:
    data = ToyDataModule(7, tasks=["segmentation", "depth"], batch_size=1)
    bar = Shown()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        limit_val_batches=0,
        log_every_n_steps=3,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[bar],
        default_root_dir=tmp_path,
    )
    trainer.fit(PartialLabelModule(data.tasks, ToyNetwork()), data)
    assert len(set(bar.losses)) == 14
    third, sixth, ninth, twelfth = bar.losses[2::3]
    assert bar.seen == [None] * 2 + [third] * 3 + [sixth] * 3 + [ninth] * 3 + [twelfth] * 3


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Standard output is a terminal for rich; its width is that of the variable ``COLUMNS``."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


def train(folder: Path, baseline: Baseline | None = None) -> None:
    """Trains for two epochs with a validation each."""
    data = ToyDataModule(7, tasks=["segmentation", "depth"], batch_size=1)
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=2,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[LossBar(refresh_rate=1)],
        default_root_dir=folder,
    )
    trainer.fit(PartialLabelModule(data.tasks, ToyNetwork(), baseline=baseline), data)


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.parametrize(
    ("baseline", "one", "other"),
    [
        (None, "val/score", "val/delta"),
        (Baseline("b", {"segmentation": 0.5, "depth": 1.0}), "val/delta", "val/score"),
    ],
)
def test_a_narrow_terminal_shows_loss_and_one_number_of_all_tasks(
    tmp_path: Path,
    baseline: Baseline | None,
    one: str,
    other: str,
    terminal: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    terminal.setenv("COLUMNS", "80")
    train(tmp_path, baseline)
    shown = without_colours(capsys.readouterr().out)
    assert "train/loss" in shown
    assert f"{one}:" in shown
    assert other not in shown
    assert "val/depth/abs_err" not in shown


def test_a_wide_terminal_shows_every_task_and_epochs_are_counted_from_1(
    tmp_path: Path, terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setenv("COLUMNS", "200")
    train(tmp_path)
    shown = without_colours(capsys.readouterr().out)
    assert all(f"{name}:" in shown for name in ("train/loss", "val/score", "val/depth/abs_err"))
    assert set(re.findall(r"Epoch \d+/\d+", shown)) == {"Epoch 1/2", "Epoch 2/2"}


@pytest.mark.parametrize(("own", "enabled", "bars"), [([], None, 1), ([], True, 1), ([], False, 0)])
def test_a_bar_that_is_switched_off_stays_off(own: list[L.Callback], enabled: bool | None, bars: int) -> None:
    assert len(loss_bar(own, enabled)) == bars


def test_a_bar_of_ones_own_is_the_only_one() -> None:
    assert loss_bar([TQDMProgressBar()], True) == []
