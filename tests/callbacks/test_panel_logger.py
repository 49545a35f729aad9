"""Which samples are shown, when, where, and that showing them leaves the training as it was."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from PIL import Image

from jtr_lightning.callbacks import panel_logger
from jtr_lightning.callbacks.panel_logger import PanelLogger, choose_samples, read_samples
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.scenarios import OneLabel
from tests.tiny import TinyData, ToyNetwork

TABLES = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30).map(np.array)


def fit(
    callback: PanelLogger, loggers: list[Logger], epochs: int = 5, **options: Any
) -> tuple[L.Trainer, PartialLabelModule]:
    torch.manual_seed(0)
    data = TinyData(scenario=OneLabel(), **options)
    module = PartialLabelModule(data.tasks, ToyNetwork())
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=loggers, enable_checkpointing=False,
        enable_model_summary=False, enable_progress_bar=False, callbacks=[callback], log_every_n_steps=1,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer, module


# Which samples


@given(TABLES)
def test_every_availability_occurs_where_there_is_room(available: np.ndarray) -> None:
    chosen = choose_samples(available, 8)
    assert len(chosen) == len(set(chosen)) == min(8, len(available))
    assert {tuple(row) for row in available[chosen]} == {tuple(row) for row in available}


@given(TABLES)
def test_every_task_occurs_with_and_without_a_label_where_there_is_less_room(available: np.ndarray) -> None:
    chosen = available[choose_samples(available, 4)]
    for task in range(3):
        assert set(chosen[:, task].tolist()) == set(available[:, task].tolist())


def test_more_samples_are_of_all_kinds_in_turn() -> None:
    available = np.array([[True, False]] * 5 + [[False, True]] * 3)
    assert choose_samples(available, 4) == [0, 5, 1, 6]
    assert choose_samples(available, 0) == []


def test_no_sample_is_augmented_and_no_hidden_label_is_shown() -> None:
    from jtr_lightning.data.augmentation import Augmentation

    data = TinyData(scenario=OneLabel(), augmentation=Augmentation())
    dataset = data.dataset("train")
    batch, names = read_samples({"train": (dataset, [2, 0])})
    assert names == ["train building/sample_2", "train building/sample_0"]
    assert batch.available.tolist() == dataset.available[[2, 0]].tolist()
    pixels = dataset.source.read_image(2).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(batch.image[0].numpy(), pixels, atol=1e-6)
    for name, task in data.tasks.items():
        valid = task.valid(batch.labels[name]).flatten(1).any(1)
        assert valid.tolist() == batch.labelled(name).tolist()


# When and where


def test_pictures_are_drawn_every_n_epochs_and_at_the_end(tmp_path: Path) -> None:
    fit(PanelLogger(every_n_epochs=2), [CSVLogger(tmp_path, name="", version="")])
    assert sorted(p.name for p in (tmp_path / "panels").iterdir()) == [
        "epoch_0001.png",
        "epoch_0003.png",
        "epoch_0004.png",
    ]


def test_an_end_that_was_drawn_is_not_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    draw = panel_logger.panels
    monkeypatch.setattr(
        panel_logger, "panels", lambda *args, **options: titles.append(args[4]) or draw(*args, **options)
    )
    fit(PanelLogger(every_n_epochs=2), [CSVLogger(tmp_path, name="", version="")], epochs=4)
    assert [title.partition(":")[0] for title in titles] == ["Epoch 1", "Epoch 3"]


def test_the_samples_are_the_same_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], torch.Tensor]] = []
    draw = panel_logger.panels

    def spy(batch: Any, predictions: Any, tasks: Any, names: Any, *args: Any, **options: Any) -> Image.Image:
        seen.append((names, batch.image))
        return draw(batch, predictions, tasks, names, *args, **options)

    monkeypatch.setattr(panel_logger, "panels", spy)
    fit(PanelLogger(1, 3, 1), [CSVLogger(tmp_path, name="", version="")], epochs=3)
    assert len(seen) == 3
    assert all(names == seen[0][0] and torch.equal(image, seen[0][1]) for names, image in seen)
    assert [name.split()[0] for name in seen[0][0]] == ["train"] * 3 + ["val"]


def test_nothing_is_drawn_when_switched_off_or_without_a_logger(tmp_path: Path) -> None:
    fit(PanelLogger(every_n_epochs=0), [CSVLogger(tmp_path, name="", version="")], epochs=1)
    assert not (tmp_path / "panels").exists()
    callback = PanelLogger(every_n_epochs=1)
    fit(callback, [], epochs=1)
    assert callback._samples is None


def test_tensorboard_gets_an_image(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    fit(PanelLogger(1, 2, 1), [TensorBoardLogger(tmp_path, name="", version="")], epochs=1)
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    (image,) = events.Images("panels")
    assert (image.width, image.height) > (600, 300)


def test_a_training_without_a_data_module_is_refused() -> None:
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=1, enable_checkpointing=False, enable_model_summary=False,
        enable_progress_bar=False, logger=False,
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"trainer that fits a PartialLabelDataModule.*found NoneType"):
        PanelLogger(1)._read(trainer)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"every_n_epochs": -1}, "at least 0; found -1"), ({"train_samples": 0, "val_samples": 0}, "both be 0")],
)
def test_numbers_that_make_no_sense_are_refused(options: dict[str, int], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        PanelLogger(**options)


# What stays as it was


def test_the_training_is_the_same_with_and_without(tmp_path: Path) -> None:
    weights = []
    for every in (0, 1):
        folder = tmp_path / str(every)
        _, module = fit(PanelLogger(every), [CSVLogger(folder, name="", version="")], epochs=2)
        weights.append(module.state_dict())
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_frozen_parts_stay_in_evaluation_mode() -> None:
    data = TinyData()
    module = PartialLabelModule(data.tasks, ToyNetwork())
    module.train()
    module.network.encoder.eval()
    with panel_logger._evaluating(module):
        assert not any(part.training for part in module.modules())
    assert module.training
    assert module.network.heads.training
    assert not module.network.encoder.training


def test_no_logger_is_imported_that_is_not_on() -> None:
    code = (
        "import sys, jtr_lightning.callbacks.panel_logger;"
        "print(sorted({'wandb', 'tensorboard', 'matplotlib.figure'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "wandb" not in done.stdout
    assert "tensorboard" not in done.stdout
