"""What is printed at the start of a training."""

from typing import Any

import lightning as L
import pytest
import torch

from jtr_lightning.callbacks.summary import TrainingSummary
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.reporting.facts import devices
from jtr_lightning.scenarios import FractionLabels, OneLabel
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
    training, validation, model = lines(capsys, module, data)
    assert (
        training
        == "Data: 9 training samples, labelled (OneLabel, seed 0): segmentation 3, depth 3, normals 3"
    )
    assert validation == "Validation: 9 samples, labelled: segmentation 9, depth 9, normals 9"
    size = sum(p.numel() for p in module.network.parameters())
    assert model == (
        f"Model: ToyNetwork of {size} parameters + Agreement of 1, for training only; on 1 x cpu, precision 32-true"
    )


def test_large_networks_are_counted_in_thousands(capsys: pytest.CaptureFixture[str]) -> None:
    data = TinyData()
    module = PartialLabelModule(data.tasks, ToyNetwork(1000))
    module.network.requires_grad_(False)
    next(module.network.parameters()).requires_grad = True
    frozen = sum(p.numel() for p in module.network.parameters() if not p.requires_grad)
    assert 1000 < frozen < 10_000
    *_, model = lines(capsys, module, data)
    assert model.startswith(f"Model: ToyNetwork of 35 K parameters ({frozen / 1000:.3g} K frozen); on")


def test_a_scenario_is_told_with_its_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    data = TinyData(number=8, scenario=FractionLabels(0.25), seed=3)
    first, *_ = lines(capsys, PartialLabelModule(data.tasks, ToyNetwork()), data)
    assert "labelled (FractionLabels(fraction=0.25), seed 3): segmentation 2" in first


def test_a_gpu_is_told_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer: Any = type("Trainer", (), {"world_size": 2, "strategy": type("S", (), {})})()
    trainer.strategy.root_device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Card {device.index}")
    assert devices(trainer) == "2 x Card 1"
