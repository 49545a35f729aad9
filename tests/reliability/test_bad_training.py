"""States of a training that cannot be right, or that are as far from the usual as they may be."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from jtr_lightning.balancing import DynamicWeightAverage
from jtr_lightning.batch import Batch
from jtr_lightning.callbacks.guard import MOST_PENDING, NonFiniteGuard, _Check
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.cli.lightning import command_line
from jtr_lightning.cli.main import main
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.errors import ConfigError, TrainingError
from jtr_lightning.module import PartialLabelModule, StepLosses
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.networks.smp import SMPNetwork
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.tasks import DenseRegression, Depth, Segmentation, Task
from tests.reliability.trainings import QUIET, TinyData
from tests.tiny import SIZE
from tests.toy import Given, ToyNetwork

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


def train(
    module: PartialLabelModule, data: L.LightningDataModule, *callbacks: L.Callback, **options: Any
) -> L.Trainer:
    trainer = L.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": 1,
            "limit_val_batches": 0,
            "logger": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": any(isinstance(c, Resume) for c in callbacks),
            "callbacks": list(callbacks),
            **options,
        }
    )
    trainer.fit(module, data)
    return trainer


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


def test_a_skipped_step_is_not_in_the_epochs_means() -> None:
    data = OneBad(tasks={"segmentation": Segmentation(3), "depth": BadLoss()}, batch_size=1)
    module = PartialLabelModule(data.tasks, ToyNetwork())
    trainer = train(module, data, NonFiniteGuard("skip"))
    assert 0 < float(trainer.callback_metrics["train/depth/loss"]) < 10


def test_a_gradient_that_is_no_number_is_skipped_too() -> None:
    class Root(Depth):
        def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
            return super().loss(prediction, target) + (prediction.flatten(1)[:, 0] * 0).sqrt()

    data = TinyData(tasks=["depth"])
    module = PartialLabelModule({"depth": Root()}, ToyNetwork())
    before = weights(module)
    guard = NonFiniteGuard("skip")
    train(module, data, guard)
    assert guard.skipped == 3
    assert unlike(before, weights(module)) == []


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


@pytest.mark.parametrize("when", ["many steps later", "at a checkpoint", "at the end of the epoch"])
def test_a_check_that_is_under_way_is_not_waited_for_before_it_must_be(when: str) -> None:
    module = PartialLabelModule({"depth": Depth()}, ToyNetwork())
    trainer = L.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.strategy._lightning_module = module
    losses = StepLosses(torch.tensor(math.nan), torch.tensor([[math.nan]]), {}, torch.tensor([4]))
    events = [Slow() for _ in range(MOST_PENDING + 1)]
    guard = NonFiniteGuard()
    for step, event in enumerate(events[:MOST_PENDING]):
        guard._pending.append(_Check(step, 0, losses, torch.tensor(step > 0), event))  # type: ignore[arg-type]
    guard._look(trainer, wait=False)
    assert not any(event.waited for event in events)
    if when == "many steps later":
        guard._pending.append(_Check(99, 0, losses, torch.tensor(True), events[-1]))  # type: ignore[arg-type]
    looks = {
        "many steps later": lambda: guard._look(trainer, wait=False),
        "at a checkpoint": lambda: guard.on_save_checkpoint(trainer, module, {}),
        "at the end of the epoch": lambda: guard.on_train_epoch_end(trainer, module),
    }
    with pytest.raises(TrainingError, match=r"found nan in step 0 .* task 'depth' at the samples number 4\."):
        looks[when]()
    assert not events[-1].waited


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_not_waited_for_and_no_checkpoint_is_written(tmp_path: Path) -> None:
    data = TinyData(tasks=TASKS, number=40, batch_size=2)
    module = PartialLabelModule(data.tasks, ToyNetwork(), Term(step=15))
    with pytest.raises(TrainingError, match=r"in step 15 .*the regularizer's term 'term'"):
        train(module, data, NonFiniteGuard(), Resume(tmp_path), accelerator="gpu", devices=1)
    assert list(tmp_path.iterdir()) == []


# Labels that are not there


REGULARIZERS = {
    "none": lambda: None,
    "jtr": lambda: JTR(widths=(4, 4), depths=(1, 1)),
    "consistency": ConsistencyRegularization,
    "mtpsl": lambda: MTPSL(widths=(4, 4), depths=(1, 1)),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_batches_without_any_label_train_on(name: str) -> None:
    rows = [[0, 0]] * 4 + [[1, 0], [0, 1]]
    data = TinyData(tasks=TASKS, scenario=Given(rows), batch_size=1)
    module = PartialLabelModule(data.tasks, ToyNetwork(), REGULARIZERS[name]())
    trainer = train(module, data, NonFiniteGuard())
    assert trainer.global_step == 6
    assert all(value.isfinite().all() for value in module.parameters())


def test_a_batch_without_a_label_moves_nothing_by_itself() -> None:
    data = TinyData(tasks=TASKS, scenario=Given([[1, 1]] + [[0, 0]] * 5), batch_size=1)
    data.setup("fit")
    module = PartialLabelModule(data.tasks, ToyNetwork())
    (empty, *_) = [batch for batch in data.train_dataloader() if not batch.available.any()]
    losses = module.supervised_losses(module(empty.image), empty)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    assert losses.tolist() == [[0.0, 0.0]]
    assert all((parameter.grad == 0).all() for parameter in module.parameters() if parameter.grad is not None)


def test_a_task_that_never_has_a_label_is_refused_before_the_training() -> None:
    data = TinyData(tasks=TASKS, scenario=Given([[1, 0]] * 6))
    module = PartialLabelModule(data.tasks, ToyNetwork())
    with pytest.raises(ConfigError, match="leaves none for task 'depth'"):
        train(module, data)


class Invalid(TinyData):
    """Every label exists and has not one valid pixel."""

    def source(self, split: Any) -> SampleSource:
        source = super().source(split)
        nothing = {"segmentation": np.full(SIZE, -1, np.int16), "depth": np.zeros(SIZE, np.float32)}
        source.read_label = lambda index, task: nothing[task].copy()  # type: ignore[method-assign]
        return source


@pytest.mark.parametrize("name", REGULARIZERS)
def test_labels_without_a_valid_pixel_train_and_evaluate(name: str) -> None:
    data = Invalid(tasks=TASKS)
    module = PartialLabelModule(data.tasks, ToyNetwork(), REGULARIZERS[name]())
    trainer = train(module, data, NonFiniteGuard(), limit_val_batches=1.0)
    assert all(value.isfinite().all() for value in module.parameters())
    assert not any(
        math.isnan(float(value)) for key, value in trainer.callback_metrics.items() if "/loss" in key
    )


# Sizes


@pytest.mark.parametrize("network", [lambda: SMPNetwork("resnet18"), SegNet])
def test_a_last_batch_of_one_sample_is_left_out_of_training_and_evaluated(network: Any) -> None:
    """BatchNorm has no statistics of one value."""
    data = TinyData(tasks=["depth"], number=3, batch_size=2)
    module = PartialLabelModule(data.tasks, network())
    trainer = train(module, data, limit_val_batches=1.0)
    assert trainer.global_step == 1
    assert float(trainer.callback_metrics["val/depth/abs_err"]) > 0


@pytest.mark.parametrize("network", [lambda: SMPNetwork("resnet18"), SegNet])
def test_an_image_smaller_than_the_stride_gets_a_prediction_of_its_size(network: Any) -> None:
    module = PartialLabelModule({"depth": Depth()}, network()).eval()
    assert module(torch.rand(1, 3, 5, 3))["depth"].shape == (1, 1, 5, 3)


@pytest.mark.parametrize("number", [1, 16])
def test_one_task_and_sixteen(number: int) -> None:
    tasks: dict[str, Task] = {f"edges_{i}": DenseRegression() for i in range(number)}
    labels = torch.rand(2, 1, *SIZE)
    batch = Batch(
        torch.rand(2, 3, *SIZE),
        dict.fromkeys(tasks, labels),
        torch.ones(2, number, dtype=torch.bool),
        torch.zeros(2, dtype=torch.int64),
        torch.arange(2),
    ).validate(tasks)
    regularizer = JTR(widths=(4, 4), depths=(1, 1)) if number > 1 else None
    module = PartialLabelModule(tasks, ToyNetwork(), regularizer, DynamicWeightAverage())
    losses = module.supervised_losses(module(batch.image), batch)
    assert losses.shape == (2, number)
    views: Sequence[View] = () if regularizer is None else regularizer.sample_views(batch)
    predictions, features = module._run_views(batch, views)
    if regularizer is not None:
        terms = regularizer(predictions, [batch, *(view.batch for view in views)], features, 0.5)
        assert all(float(term.detach()) > 0 for term in terms.values())


def test_jtr_with_one_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="JTR should have at least 2 tasks"):
        PartialLabelModule({"depth": Depth()}, ToyNetwork(), JTR())


def test_a_thousand_classes() -> None:
    tasks: dict[str, Task] = {"segmentation": Segmentation(1000), "depth": Depth()}
    labels = {"segmentation": torch.randint(0, 1000, (2, *SIZE)), "depth": torch.rand(2, 1, *SIZE) + 0.1}
    batch = Batch(
        torch.rand(2, 3, *SIZE),
        {name: label.to(tasks[name].target_dtype) for name, label in labels.items()},
        torch.tensor([[True, False], [True, True]]),
        torch.zeros(2, dtype=torch.int64),
        torch.arange(2),
    ).validate(tasks)
    module = PartialLabelModule(tasks, ToyNetwork(), JTR(widths=(4, 4), depths=(1, 1)))
    assert isinstance(module.regularizer, JTR)
    views = module.regularizer.sample_views(batch)
    predictions, features = module._run_views(batch, views)
    terms = module.regularizer(predictions, [batch, *(view.batch for view in views)], features, 0.5)
    (sum(terms.values(), torch.zeros(())) + module.supervised_losses(predictions[0], batch).sum()).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.network.parameters())
    metrics = tasks["segmentation"].metrics()
    metrics.update(predictions[0]["segmentation"].detach(), batch.labels["segmentation"])
    assert all(math.isfinite(float(value)) for value in metrics.compute().values())
