from pathlib import Path

import lightning as L
import pytest
from lightning.pytorch.callbacks import TQDMProgressBar

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


@pytest.mark.parametrize(("own", "enabled", "bars"), [([], None, 1), ([], True, 1), ([], False, 0)])
def test_a_bar_that_is_switched_off_stays_off(own: list[L.Callback], enabled: bool | None, bars: int) -> None:
    assert len(loss_bar(own, enabled)) == bars


def test_a_bar_of_ones_own_is_the_only_one() -> None:
    assert loss_bar([TQDMProgressBar()], True) == []
