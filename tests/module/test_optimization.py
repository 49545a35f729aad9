"""Optimizers and learning rate schedules of PartialLabelModule."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jtr_lightning.data.base import Split
from jtr_lightning.data.source import SampleSource
from jtr_lightning.errors import ConfigError
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.scenarios import BoolArray
from tests.module.parts import data, model, trainer
from tests.tiny import Agreement, TinyData, TinySource, tiny_tasks

LR = 0.05

PLATEAU = torch.optim.lr_scheduler.ReduceLROnPlateau


def test_the_default_is_adam_and_a_callable_replaces_it() -> None:
    assert isinstance(model().configure_optimizers(), torch.optim.Adam)
    assert model().configure_optimizers().defaults["lr"] == 1e-4
    chosen = model(
        optimizer=lambda groups: torch.optim.SGD(groups, lr=LR),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 7),
    ).configure_optimizers()
    (optimizer,), (schedule,) = chosen
    assert isinstance(optimizer, torch.optim.SGD)
    assert schedule.step_size == 7


def test_a_schedule_that_waits_for_the_score_sees_each_validation(tmp_path: Path) -> None:
    seen: list[int] = []

    class Watched(torch.optim.lr_scheduler.ReduceLROnPlateau):
        def step(self, metrics: Any, epoch: Any = None) -> None:
            seen.append(fit.current_epoch)
            super().step(metrics, epoch)

    # A score cannot rise by this much, so the rate falls whenever it is looked at.
    module = model(lr_scheduler=partial(Watched, mode="max", patience=0, threshold=1e9, factor=0.5))
    fit = trainer(tmp_path, max_epochs=4, check_val_every_n_epoch=2, enable_checkpointing=False)
    fit.fit(module, data())
    assert seen == [1, 3]
    assert fit.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4 / 2)


def test_a_schedule_that_waits_for_the_score_needs_a_label_to_be_measured_with(tmp_path: Path) -> None:
    class Unlabelled(TinySource):
        def on_disk(self, tasks: Sequence[str]) -> BoolArray:
            return np.zeros((self.number, len(tasks)), dtype=bool)

    class Data(TinyData):
        def source(self, split: Split) -> SampleSource:
            return Unlabelled(2, 1, "") if split == "val" else super().source(split)

    module = model(lr_scheduler=partial(PLATEAU, mode="max"))
    fit = trainer(tmp_path, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="val/score to look at; found no label with a valid place"):
        fit.fit(module, Data(tasks=list(tiny_tasks())))


def test_a_score_below_0_that_stands_still_lowers_the_rate() -> None:
    """Which torch's own default, relative to the best, would take for an improvement."""
    (optimizer,), (schedule,) = model(
        lr_scheduler=partial(PLATEAU, mode="max", patience=2)
    ).configure_optimizers()
    for _ in range(4):
        schedule["scheduler"].step(torch.tensor(-1.57))
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-5)


@pytest.mark.parametrize(
    "when",
    [
        {"check_val_every_n_epoch": None, "val_check_interval": 1},
        {"val_check_interval": 0.5},
        {"val_check_interval": 1},  # after every batch, where 1.0 is after an epoch
        {"limit_val_batches": 0},
    ],
)
def test_a_schedule_that_waits_for_a_score_is_refused_where_there_is_none(
    when: dict[str, Any], tmp_path: Path
) -> None:
    module = model(lr_scheduler=partial(PLATEAU, mode="max"))
    with pytest.raises(ConfigError, match="a validation at the end of every or every n-th epoch"):
        trainer(tmp_path, **when).fit(module, data())


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            partial(torch.optim.lr_scheduler.StepLR, step_size=0),
            r"`step_size` of StepLR, .* at least 1; found 0",
        ),
        (
            partial(torch.optim.lr_scheduler.CosineAnnealingLR, T_max=0),
            r"`T_max` of CosineAnnealingLR.* found 0",
        ),
        (
            partial(torch.optim.lr_scheduler.CosineAnnealingWarmRestarts, T_0=0),
            r"schedule should be given arguments",
        ),
        (torch.optim.lr_scheduler.ReduceLROnPlateau, r"`mode` of ReduceLROnPlateau .* 'max'.* found 'min'"),
        (partial(PLATEAU, factor=1.5), r"schedule should be given arguments that it takes; found: Factor"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(schedule: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model(lr_scheduler=schedule).configure_optimizers()


def test_a_schedule_that_waits_for_the_score_has_none_beside_it() -> None:
    regularizer = MTPSL(widths=(4,), depths=(1,))
    with pytest.raises(ConfigError, match=r"the only schedule.*film_step_size null"):
        model(regularizer=regularizer, lr_scheduler=partial(PLATEAU, mode="max")).configure_optimizers()


def test_a_step_has_at_least_one_batch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"accumulate_grad_batches`.* at least 1; found 0"):
        trainer(tmp_path, max_epochs=1, accumulate_grad_batches=0).fit(model(), data())


def test_every_parameter_is_optimized_once() -> None:
    module = model(regularizer=Agreement())
    optimizer = module.configure_optimizers()
    optimized = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(optimized) == sorted(id(p) for p in module.parameters() if p.requires_grad)
