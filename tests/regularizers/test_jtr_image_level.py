"""An image-level task of one's own in JTR's stack: its code stands at every pixel."""

from __future__ import annotations

import sys
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.scenarios import OneLabel
from jtr_lightning.tasks import Classification, Depth, Segmentation, Task
from jtr_lightning.tasks.base import masked_mean
from jtr_lightning.tasks.dense import gumbel_noise
from jtr_lightning.testing import TaskContract
from tests.regularizers.helpers import (
    inputs,
    noise_of_the_values,
    random_batch,
    random_predictions,
    small_jtr,
    terms,
    value,
)
from tests.tiny import TinyData
from tests.toy import ToyNetwork


class SceneType(Classification):
    """A class of the image with as many channels in the stack."""

    @property
    def joint_channels(self) -> int:
        return self.channels

    def encode_prediction(self, prediction: Tensor, *, hard: bool = False) -> Tensor:
        soft = (prediction + gumbel_noise(prediction) if hard else prediction).softmax(1)
        drawn = F.one_hot(soft.argmax(1), self.channels) + soft - soft.detach() if hard else soft
        return drawn[:, :, None, None]

    def encode_target(self, target: Tensor) -> Tensor:
        classes = torch.arange(self.channels, device=target.device)
        return (target[:, None] == classes).to(torch.get_default_dtype())[:, :, None, None]

    def reconstruction_loss(self, output: Tensor, code: Tensor, mask: Tensor) -> Tensor:
        return masked_mean(F.binary_cross_entropy_with_logits(output, code, reduction="none"), mask)


class TestContract(TaskContract):
    @pytest.fixture
    def task(self) -> Task:
        return SceneType(["kitchen", "office", "bathroom"])


def tasks() -> dict[str, Task]:
    return {"segmentation": Segmentation(4), "depth": Depth(), "scene": SceneType(3)}


EACH = torch.eye(3, dtype=torch.bool)


def test_its_label_or_prediction_stands_at_every_pixel() -> None:
    jtr = small_jtr(tasks())
    batch = random_batch(jtr.tasks, EACH, holes=0.0)
    predictions = random_predictions(jtr.tasks, 3)
    stacks = jtr.stacks(predictions, batch, hard=False)
    assert tuple(stacks.prediction.shape) == tuple(stacks.target.shape) == (3, 4 + 1 + 3, *batch.size)
    assert tuple(stacks.mask.shape) == (3, 1, *batch.size)
    scene = slice(5, 8)
    expected = predictions["scene"].exp()[:, :, None, None].expand(-1, -1, *batch.size)
    torch.testing.assert_close(stacks.prediction[:, scene], expected)
    label = F.one_hot(batch.labels["scene"][2], 3).float()
    torch.testing.assert_close(stacks.target[2, scene], label[:, None, None].expand(-1, *batch.size))


def test_it_learns_where_it_has_no_label_and_there_alone() -> None:
    jtr = small_jtr(tasks())
    predictions, batches = inputs(jtr, EACH, holes=0.0)
    terms(jtr, predictions, batches)["jtr/distance"].backward()
    gradient = predictions[1]["scene"].grad
    assert gradient is not None
    assert gradient.abs().sum(1).ne(0).tolist() == [True, True, False]


def test_samples_stand_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (sys.modules[__name__], sys.modules[Segmentation.__module__]):
        monkeypatch.setattr(module, "gumbel_noise", noise_of_the_values)
    jtr = small_jtr(tasks())
    predictions, batches = inputs(jtr, torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 1]]).bool())
    together = terms(jtr, predictions, batches)
    alone = []
    for i in range(3):
        rows = [{name: values[i : i + 1] for name, values in view.items()} for view in predictions]
        batch = [
            Batch(
                b.image[i : i + 1],
                {name: label[i : i + 1] for name, label in b.labels.items()},
                b.available[i : i + 1],
                b.domain[i : i + 1],
                b.index[i : i + 1],
            )
            for b in batches
        ]
        alone.append(terms(jtr, rows, batch))
    for name, term in together.items():
        assert value(term) == pytest.approx(sum(value(one[name]) for one in alone) / 3, rel=1e-4)


def test_a_training_with_it_runs_and_trains_the_autoencoder_on_it(tmp_path: Path) -> None:
    chosen: dict[str, Task] = {
        "segmentation": Segmentation(3),
        "depth": Depth(),
        "room": SceneType(["kitchen", "office"]),
    }
    data = TinyData(tasks=chosen, scenario=OneLabel(), batch_size=3)
    module = PartialLabelModule(data.tasks, ToyNetwork(), JTR(widths=(4, 6), depths=(1, 1)))
    before = {name: parameter.clone() for name, parameter in module.named_parameters()}
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, data)
    for name, parameter in module.named_parameters():
        assert parameter.isfinite().all()
        assert not torch.equal(parameter, before[name]), name
    assert {"train/room/loss", "val/room/accuracy"} < trainer.callback_metrics.keys()


def test_methods_of_pairs_of_dense_tasks_leave_it_out() -> None:
    mtpsl = MTPSL(widths=(4,), depths=(1,))
    mtpsl.build(tasks(), [8])
    assert list(mtpsl.paired) == ["segmentation", "depth"]
    with pytest.raises(
        ConfigError, match=r"at least two dense tasks.*found \['depth'\] among \['depth', 'scene'\]"
    ):
        MTPSL().build({"depth": Depth(), "scene": SceneType(3)}, [8])
