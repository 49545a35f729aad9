"""Whether JTR's latent still sees a task: the number that tells, and that nothing depends on it."""

from __future__ import annotations

import math
from pathlib import Path

import lightning as L
import pytest
import torch

from jtr_lightning.batch import Batch
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.jtr import JTR
from tests.regularizers.helpers import (
    SOME,
    B,
    K,
    four_tasks,
    random_batch,
    random_label,
    random_predictions,
    small_jtr,
)
from tests.toy import ToyDataModule, ToyNetwork

ALL = torch.ones(B, K, dtype=torch.bool)


def separation(jtr: JTR, batch: Batch, predictions=None) -> dict[str, float]:
    predictions = predictions or random_predictions(jtr.tasks, len(batch))
    with torch.no_grad():
        found = jtr.diagnose(predictions, batch)
    assert all(name.startswith("jtr/separation/") for name in found)
    return {name.removeprefix("jtr/separation/"): float(value) for name, value in found.items()}


def test_it_is_the_distance_to_the_stack_with_another_samples_values() -> None:
    """One sample at a time, from the definition."""
    jtr, batch = small_jtr(), random_batch(four_tasks(), ALL)
    codes = {name: task.encode_target(batch.labels[name]) for name, task in jtr.tasks.items()}
    valid = torch.stack([task.valid(batch.labels[name]) for name, task in jtr.tasks.items()]).all(0)
    blank = jtr.blank_code[0]
    for name, value in separation(jtr, batch).items():
        distances = []
        for b in range(B):
            pair = [torch.cat([code[b] for code in codes.values()])]
            pair.append(torch.cat([code[b - 1 if n == name else b] for n, code in codes.items()]))
            kept = valid[b] & valid[b - 1]
            one, other = (jtr.autoencoder.encoder(torch.where(kept, s, blank)[None])[0] for s in pair)
            distances.append(1 - torch.cosine_similarity(one, other, dim=1).mean().item())
        assert value == pytest.approx(sum(distances) / B, rel=1e-3)
        assert value > 1e-4


@pytest.mark.parametrize("blind", ["depth", "segmentation"])
def test_it_is_0_for_a_task_that_the_latent_does_not_see_and_for_no_other(blind: str) -> None:
    jtr, batch = small_jtr(), random_batch(four_tasks(), ALL, holes=0.0)
    channels = {"segmentation": slice(0, 4), "depth": slice(4, 5)}[blind]
    with torch.no_grad():
        next(p for p in jtr.autoencoder.encoder.parameters() if p.ndim == 4)[:, channels] = 0
    found = separation(jtr, batch)
    assert found.pop(blind) == pytest.approx(0, abs=1e-6)
    assert min(found.values()) > 1e-4


def test_predictions_stand_where_there_is_no_label_and_hidden_labels_never_matter() -> None:
    jtr, batch = small_jtr(), random_batch(four_tasks(), SOME)
    predictions = random_predictions(jtr.tasks, B)
    expected = separation(jtr, batch, predictions)
    for k, (name, task) in enumerate(jtr.tasks.items()):
        batch.labels[name][~SOME[:, k]] = random_label(task, B, batch.size)[~SOME[:, k]]
    assert separation(jtr, batch, predictions) == expected
    assert separation(jtr, batch) != expected


def test_an_empty_mask_is_a_number_and_a_single_sample_has_none() -> None:
    jtr = small_jtr()
    assert set(separation(jtr, random_batch(four_tasks(), ALL, holes=1.0)).values()) == {0.0}
    assert separation(jtr, random_batch(four_tasks(), ALL[:1])) == {}


def test_it_falls_where_the_autoencoder_learns_to_ignore_the_difference() -> None:
    """What it is there to show: without the reconstruction the second distance makes the latent blind."""
    jtr = small_jtr(views=1, reconstruction_weight=0.0)
    batch, predictions = random_batch(four_tasks(), SOME, holes=0.0), random_predictions(four_tasks(), B)
    before = separation(jtr, batch, predictions)
    optimizer = torch.optim.Adam(jtr.parameters(), lr=1e-2)
    for _ in range(60):
        loss = jtr([predictions], [batch], [[]], 1.0)["jtr/autoencoder_distance"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = separation(jtr, batch, predictions)
    # To a twentieth or a quarter, as the draws will have it.
    assert all(after[name] < 0.4 * before[name] for name in before)


def test_it_is_logged_with_each_validation_and_changes_nothing_about_the_training(tmp_path: Path) -> None:
    ends = []
    for diagnosed in (True, False):
        data = ToyDataModule(8, tasks=["segmentation", "depth"], batch_size=4)
        L.seed_everything(0, verbose=False)
        jtr = JTR(widths=(4,), depths=(1,))
        if not diagnosed:
            jtr.diagnose = lambda predictions, batch: {}  # type: ignore[method-assign]
        module = PartialLabelModule(data.tasks, ToyNetwork(), jtr)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = L.Trainer(accelerator="cpu", max_epochs=2, default_root_dir=tmp_path, **quiet)
        trainer.fit(module, data)
        logged = {name for name in trainer.callback_metrics if "separation" in name}
        assert logged == (
            {"val/jtr/separation/segmentation", "val/jtr/separation/depth"} if diagnosed else set()
        )
        assert all(math.isfinite(trainer.callback_metrics[name]) for name in logged)
        ends.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    assert torch.equal(ends[0], ends[1])
