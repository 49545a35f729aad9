"""Lightning's average of weights is validated, kept and gone on from wherever a training is stopped."""

import signal
from typing import Any

import lightning as L
import pytest

from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.module import PartialLabelModule
from tests.reliability.trainings import CHECKPOINTS, RUN, At, differences, equal, fit, resume, state

pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")

AVERAGING = ["--trainer.callbacks=EMAWeightAveraging", "--trainer.callbacks.decay=0.8"]


class InValidation(L.Callback):
    """Sends SIGTERM behind the first batch of a validation."""

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == 10 and not trainer.sanity_checking:
            signal.raise_signal(signal.SIGTERM)


def test_the_best_checkpoint_holds_the_average_that_was_validated() -> None:
    done = fit(*AVERAGING)
    checkpoint = read_checkpoint(CHECKPOINTS / "best.ckpt")
    assert not equal(checkpoint["state_dict"], checkpoint["current_model_state"])
    module = PartialLabelModule.load_from_checkpoint(CHECKPOINTS / "best.ckpt")
    data = done.datamodule
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    (found,) = trainer.validate(module, data.val_dataloader(), verbose=False)
    validated = {name: value for name, value in done.metrics.items() if name in found}
    assert "val/score" in validated
    assert found == pytest.approx(validated, abs=1e-5)


@pytest.mark.parametrize("stop", ["step", "validation"])
def test_a_training_that_was_stopped_goes_on_with_both(stop: str) -> None:
    whole = state(fit(*AVERAGING))
    last = read_checkpoint(CHECKPOINTS / "last.ckpt")
    stopping = InValidation() if stop == "validation" else At(8, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit):
        fit(*AVERAGING, callbacks=[stopping])
    stopped = RUN.with_name("1")
    assert read_checkpoint(stopped / "checkpoints" / "last.ckpt")["global_step"] == (
        10 if stop == "validation" else 8
    )
    assert differences(resume(stopped), whole) == []
    gone_on = read_checkpoint(stopped / "checkpoints" / "last.ckpt")
    for kept in ("state_dict", "current_model_state", "averaging_state"):
        assert equal(gone_on[kept], last[kept]), kept
