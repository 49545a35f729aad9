"""Losses, gradients and weights that are no numbers: nothing of them reaches a checkpoint."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from jtr_lightning.balancing import DynamicWeightAverage
from jtr_lightning.batch import Batch
from jtr_lightning.callbacks.guard import MOST_PENDING, NonFiniteGuard, OnNonFinite, _Check, _Step
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.cli.main import main
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import ConfigError, TrainingError
from jtr_lightning.lightning_cli.command_line import command_line
from jtr_lightning.module import PartialLabelModule, StepLosses
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.tasks import Depth, Segmentation
from tests.reliability.trainings import QUIET, TinyData, train
from tests.toy import ToyNetwork

TASKS = ["segmentation", "depth"]
BAD = math.nan, math.inf


class Term(Regularizer):
    """A term that is not finite in one step."""

    def __init__(self, step: int = 2, value: float = math.nan) -> None:
        super().__init__()
        self.step = step
        self.value = value
        self.calls = 0

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        level = predictions[0]["depth"].square().mean()
        bad = self.calls == self.step
        self.calls += 1
        return {"term": level * (self.value if bad else 0.1), "fine": level}


class BadLoss(Depth):
    """A depth whose loss is not finite where the target's first pixel is above 4."""

    def __init__(self, value: float = math.nan) -> None:
        super().__init__()
        self.value = value

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        bad = target.flatten(1)[:, 0] > 4
        return super().loss(prediction, target) + torch.where(bad, self.value, 0.0)


class OneBad(TinyData):
    """Sample 3 has the depth of which ``BadLoss`` makes no number."""

    def source(self, split: Any) -> SampleSource:
        source = super().source(split)
        read = source.read_label

        def label(index: int, task: str) -> Array:
            array = read(index, task)
            if task == "depth":
                array[0, 0] = 5 if index == 3 else 1
            return array

        source.read_label = label  # type: ignore[method-assign]
        return source


def weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def unlike(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    return [name for name in before if not torch.equal(before[name], after[name])]


# NaN and infinity


@pytest.mark.parametrize("value", BAD)
def test_a_loss_that_is_no_number_stops_with_its_task_samples_and_step(value: float, tmp_path: Path) -> None:
    data = OneBad(tasks={"segmentation": Segmentation(3), "depth": BadLoss(value)}, batch_size=2)
    module = PartialLabelModule(data.tasks, ToyNetwork())
    data.setup("fit")
    order = torch.cat([batch.index for batch in data.train_dataloader()]).tolist()
    step = order.index(3) // 2
    kept: list[dict[str, Tensor]] = []

    class Keep(L.Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            kept.append(weights(module))

    with pytest.raises(TrainingError) as error:
        train(module, data, NonFiniteGuard(), Keep())
    told = str(error.value)
    assert (
        f"found {value:g} in step {step} (epoch 0), from task 'depth' at the samples 'building/sample_3'."
        in told
    )
    assert "jtr data check" in told
    assert "sample_" not in told.replace("sample_3", "")
    assert unlike(kept[step], weights(module)) == [], "the step changed nothing"


@pytest.mark.parametrize("value", BAD)
def test_an_exploding_regularizer_stops_with_its_terms_name(value: float) -> None:
    data = TinyData(tasks=TASKS)
    module = PartialLabelModule(data.tasks, ToyNetwork(), Term(value=value))
    with pytest.raises(
        TrainingError, match=rf"found {value:g} in step 2 .*, from the regularizer's term 'term'\."
    ):
        train(module, data, NonFiniteGuard())


def test_a_sum_that_overflows_stops_with_the_samples() -> None:
    data = TinyData(tasks=TASKS, batch_size=2)

    class Huge(Depth):
        def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
            return super().loss(prediction, target) * 0 + 2e38

    module = PartialLabelModule({"segmentation": Segmentation(3), "depth": Huge()}, ToyNetwork())
    with pytest.raises(
        TrainingError, match=r"the weighted sum of finite losses, at the samples 'building/sample_\d'"
    ):
        train(module, data, NonFiniteGuard())


def test_a_skipped_step_changes_no_weight_and_no_moment_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = TinyData(tasks=TASKS, batch_size=2)  # 3 steps
    module = PartialLabelModule(
        data.tasks,
        ToyNetwork(),
        Term(step=2),
        DynamicWeightAverage(),
        optimizer=lambda groups: torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5),
    )
    states: list[dict[str, Tensor]] = []

    class Keep(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
            states.append({name: value.clone() for name, value in module.named_parameters()})
            steps = {int(state["step"]) for state in trainer.optimizers[0].state.values()}
            assert steps == {min(len(states), 2)}

    guard = NonFiniteGuard("skip")
    trainer = train(module, data, guard, Keep())
    assert unlike(states[0], states[1]) == list(dict(module.named_parameters()))
    assert unlike(states[1], states[2]) == []
    assert guard.skipped == 1
    assert float(trainer.callback_metrics["train/skipped_steps"]) == 1
    assert "The step is skipped (1 so far)" in caplog.text
    assert all(value.isfinite().all() for value in module.parameters())


def test_a_skipped_step_leaves_nothing_in_running_statistics() -> None:
    """NaN would stay in BatchNorm's running mean for ever, and every validation be NaN while the training goes on."""

    class Overflow(L.Callback):
        """An activation that overflows in one of three steps."""

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            before.update({name: value.clone() for name, value in module.named_buffers()})
            if batch_idx == 1:
                batch.image[0, 0, 0, 0] = math.inf

        def on_train_batch_end(self, trainer: Any, module: Any, out: Any, batch: Any, batch_idx: int) -> None:
            after = dict(module.named_buffers())
            changed.append(unlike({name: before[name] for name in after}, after))

    before: dict[str, Tensor] = {}
    changed: list[list[str]] = []
    data = TinyData(tasks=TASKS, batch_size=2)  # 3 steps
    module = PartialLabelModule(data.tasks, SegNet(widths=(4, 4), depths=(1, 1)))
    guard = NonFiniteGuard("skip")
    trainer = train(module, data, guard, Overflow(), limit_val_batches=1.0)
    assert guard.skipped == 1
    assert [bool(names) for names in changed] == [True, False, True]
    assert math.isfinite(float(trainer.callback_metrics["val/score"]))


def test_a_skipped_step_of_images_without_a_label_leaves_nothing_there_either() -> None:
    """Their loss is 0 whatever was predicted; only its gradient is NaN."""

    class NoNumber(L.Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 1:
                batch.image[0, 0, 0, 0] = math.nan
                batch.available[:] = False

    data = TinyData(tasks=TASKS, batch_size=2)  # 3 steps
    module = PartialLabelModule(data.tasks, SegNet(widths=(4, 4), depths=(1, 1)))
    guard = NonFiniteGuard("skip")
    trainer = train(module, data, guard, NoNumber(), limit_val_batches=1.0)
    assert guard.skipped == 1
    assert all(value.isfinite().all() for value in module.network.buffers())
    assert math.isfinite(float(trainer.callback_metrics["val/score"]))


def test_a_skipped_step_is_not_in_the_epochs_means() -> None:
    data = OneBad(tasks={"segmentation": Segmentation(3), "depth": BadLoss()}, batch_size=1)
    module = PartialLabelModule(data.tasks, ToyNetwork())
    trainer = train(module, data, NonFiniteGuard("skip"))
    assert 0 < float(trainer.callback_metrics["train/depth/loss"]) < 10


class Root(Depth):
    """A depth whose loss is finite and whose gradient is not, in one of the training steps or in all."""

    def __init__(self, step: int | None = None) -> None:
        super().__init__()
        self.step = step
        self.calls = 0

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        loss = super().loss(prediction, target)
        if not torch.is_grad_enabled():
            return loss
        bad = self.step in (None, self.calls)
        self.calls += 1
        # 0, whose slope is 0 times infinity
        return loss + (prediction.flatten(1)[:, 0] * 0).sqrt() if bad else loss


def test_a_gradient_that_is_no_number_is_skipped_too() -> None:
    data = TinyData(tasks=["depth"])
    module = PartialLabelModule({"depth": Root()}, ToyNetwork())
    before = weights(module)
    guard = NonFiniteGuard("skip")
    train(module, data, guard)
    assert guard.skipped == 3
    assert unlike(before, weights(module)) == []


def test_a_gradient_that_is_no_number_stops_before_the_epochs_last_step_reaches_the_checkpoint(
    tmp_path: Path,
) -> None:
    data = TinyData(tasks=["depth"], batch_size=2)  # 3 steps in an epoch
    module = PartialLabelModule({"depth": Root(step=5)}, ToyNetwork())
    orders: list[list[int]] = []

    class Keep(L.Callback):
        def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
            orders.append(batch.index.tolist())

    with pytest.raises(TrainingError) as error:
        train(module, data, NonFiniteGuard(), Resume(tmp_path), Keep(), limit_val_batches=1.0, max_epochs=2)
    first, second = orders[5]
    told = str(error.value)
    assert "The gradient of the loss should be finite; found NaN or infinity in step 5 (epoch 1)" in told
    assert f"at the samples 'building/sample_{first}', 'building/sample_{second}'." in told
    last = read_checkpoint(tmp_path / "last.ckpt")
    assert last["global_step"] == 3
    assert all(value.isfinite().all() for value in last["state_dict"].values())
    assert all(value.isfinite().all() for value in module.parameters()), "the step changed nothing"


def test_an_overflow_of_16_bits_is_left_to_the_scaler_of_the_loss() -> None:
    data = TinyData(tasks=["depth"])
    module = PartialLabelModule({"depth": Root()}, ToyNetwork())
    trainer = train(module, data, plugins=[MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))])
    assert trainer.global_step == 3
    guarded = PartialLabelModule({"depth": Root()}, ToyNetwork())
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    assert train(guarded, data, NonFiniteGuard(), plugins=[plugin]).global_step == 3
    assert all(value.isfinite().all() for value in guarded.parameters())


@pytest.mark.parametrize("mode", get_args(OnNonFinite))
def test_no_checkpoint_gets_weights_that_an_optimizer_made_infinite(
    mode: OnNonFinite, tmp_path: Path
) -> None:
    data = TinyData(tasks=["depth"])
    huge = {"lr": 1e38, "weight_decay": 1e38}
    module = PartialLabelModule(
        data.tasks, ToyNetwork(), optimizer=lambda groups: torch.optim.SGD(groups, **huge)
    )
    told = r"The weights should be finite; found NaN or infinity in 'network\..*' after step 0 \(epoch 0\)"
    with pytest.raises(TrainingError, match=told):
        train(module, data, NonFiniteGuard(mode), Resume(tmp_path), limit_train_batches=1)
    assert list(tmp_path.iterdir()) == []


def test_skipping_for_ever_ends_the_training() -> None:
    data = OneBad(tasks={"depth": BadLoss()}, number=6, batch_size=6)
    module = PartialLabelModule(data.tasks, ToyNetwork())
    with pytest.raises(TrainingError, match=r"Fewer than 3 steps in a row.*sample_3"):
        train(module, data, NonFiniteGuard("skip", patience=3), max_epochs=5)


def test_one_bad_batch_of_several_accumulated_leaves_out_their_step() -> None:
    data = TinyData(tasks=TASKS, number=8, batch_size=2)  # 4 batches, 2 steps
    module = PartialLabelModule(data.tasks, ToyNetwork(), Term(step=0))
    guard = NonFiniteGuard("skip")
    train(module, data, guard, accumulate_grad_batches=2)
    assert guard.skipped == 1
    assert all(value.isfinite().all() for value in module.parameters())


def test_the_command_line_guards_and_keeps_what_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    base = ["fit", "--data=TinyData", "--model.network=ToyNetwork", *QUIET, "--trainer.max_epochs=3"]
    assert main([*base, "--model.regularizer=Term", "--model.regularizer.step=4"]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "in step 4 (epoch 1), from the regularizer's term 'term'" in errors[0]
    last = read_checkpoint("runs/run/0/checkpoints/last.ckpt")
    assert last["global_step"] == 3
    assert all(value.isfinite().all() for value in last["state_dict"].values())
    skip = ["--model.regularizer=Term", "--guard.on_nonfinite=skip"]
    done = command_line([*base, *skip])
    assert done.trainer.current_epoch == 3
    assert "train/skipped_steps" in Path("runs/run/1/metrics.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"on_nonfinite": "ignore"}, "`on_nonfinite` should be 'stop' or 'skip'; found 'ignore'"),
        ({"patience": 0}, "`patience` should be at least 1; found 0"),
    ],
)
def test_the_guard_refuses_what_it_does_not_know(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        NonFiniteGuard(**arguments)


class Slow:
    """A device's event that arrives when it is waited for."""

    def __init__(self) -> None:
        self.waited = False

    def query(self) -> bool:
        return self.waited

    def synchronize(self) -> None:
        self.waited = True


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("when", ["many steps later", "at a checkpoint", "at the end of the epoch"])
def test_a_check_that_is_under_way_is_not_waited_for_before_it_must_be(
    when: str, what: Literal["loss", "gradient"]
) -> None:
    module = PartialLabelModule({"depth": Depth()}, ToyNetwork())
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy._lightning_module = module
    losses = StepLosses(torch.tensor(math.nan), torch.tensor([[math.nan]]), {}, torch.tensor([4]))
    events = [Slow() for _ in range(MOST_PENDING + 1)]
    guard = NonFiniteGuard()

    def pend(step: int, finite: bool, event: Any) -> None:
        guard._pending.append(_Check(what, _Step(step, 0, losses), torch.tensor(finite), event))

    for step, event in enumerate(events[:MOST_PENDING]):
        pend(step, step > 0, event)
    guard._look(trainer, wait=False)
    assert not any(event.waited for event in events)
    if when == "many steps later":
        pend(99, True, events[-1])
    looks = {
        "many steps later": lambda: guard._look(trainer, wait=False),
        "at a checkpoint": lambda: guard.on_save_checkpoint(trainer, module, {}),
        "at the end of the epoch": lambda: guard.on_train_epoch_end(trainer, module),
    }
    told = {
        "loss": r"found nan in step 0 .* task 'depth' at the samples number 4\.",
        "gradient": r"The gradient .* infinity in step 0 \(epoch 0\), at the samples number 4\.",
    }
    with pytest.raises(TrainingError, match=told[what]):
        looks[when]()
    assert not events[-1].waited


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_gpu_is_not_waited_for_and_no_checkpoint_is_written(what: str, tmp_path: Path) -> None:
    data = TinyData(tasks=TASKS, number=40, batch_size=2)
    # The last step but four, and the very last: a check of each that nothing but the checkpoint waits for.
    term = Term(step=15) if what == "loss" else None
    tasks = data.tasks if what == "loss" else {**data.tasks, "depth": Root(step=19)}
    module = PartialLabelModule(tasks, ToyNetwork(), term)
    told = {"loss": r"in step 15 .*the regularizer's term 'term'", "gradient": r"The gradient .* in step 19"}
    with pytest.raises(TrainingError, match=told[what]):
        train(module, data, NonFiniteGuard(), Resume(tmp_path), accelerator="gpu", devices=1)
    assert list(tmp_path.iterdir()) == []
