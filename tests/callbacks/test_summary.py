"""What is printed at the start of a training."""

import lightning as L
import pytest

from jtr_lightning.callbacks.summary import TrainingSummary
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.scenarios import OneLabel
from tests.tiny import Agreement, TinyData, ToyNetwork


def lines(capsys: pytest.CaptureFixture[str], module: PartialLabelModule, data: TinyData) -> list[str]:
    trainer = L.Trainer(
        accelerator="cpu", max_steps=1, logger=False, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, limit_val_batches=0, callbacks=[TrainingSummary()],
    )  # fmt: skip
    trainer.fit(module, data)
    return capsys.readouterr().out.splitlines()


def test_labels_are_counted_under_the_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    data = TinyData(number=9, scenario=OneLabel())
    module = PartialLabelModule(data.tasks, ToyNetwork(), Agreement())
    first, second = lines(capsys, module, data)
    assert first == "Data: 9 training samples, labelled (OneLabel): segmentation 3, depth 3, normals 3"
    size = sum(p.numel() for p in module.network.parameters())
    assert second == (
        f"Model: ToyNetwork of {size} parameters + Agreement of 1, for training only; on 1 x cpu, precision 32-true"
    )


def test_large_networks_are_counted_in_thousands(capsys: pytest.CaptureFixture[str]) -> None:
    data = TinyData()
    _, second = lines(capsys, PartialLabelModule(data.tasks, ToyNetwork(1000)), data)
    assert second.startswith("Model: ToyNetwork of 35 K parameters; on")
