"""What PartialLabelModule is made of, what it trains by what, and what it logs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from jtr_lightning.balancing import FixedWeights, UncertaintyWeighting
from jtr_lightning.baseline import Baseline
from jtr_lightning.batch import Batch, join
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.scenarios import OneLabel
from jtr_lightning.tasks import Depth
from tests.module.parts import batches, data, loss_and_gradients, model, trainer
from tests.tiny import Agreement, ToyNetwork, tiny_tasks

LR = 0.05


# What it is made of


@pytest.mark.parametrize(
    ("part", "given"),
    [
        ("network", "resnet18"),
        ("network", ToyNetwork),
        ("regularizer", "JTR"),
        ("regularizer", ConsistencyRegularization),
        ("balancing", UncertaintyWeighting),
        ("baseline", "metrics.json"),
    ],
)
def test_a_part_is_an_object_and_no_name_or_class(part: str, given: Any) -> None:
    parts: dict[str, Any] = {"network": ToyNetwork(), part: given}
    with pytest.raises(ConfigError, match=rf"`{part}` should be an object such as .*\); found "):
        PartialLabelModule(tiny_tasks(), **parts)


def test_a_tasks_name_must_name_layers_and_metrics() -> None:
    with pytest.raises(ConfigError, match=r"should be a Python identifier.*found 'my depth'"):
        PartialLabelModule({"my depth": Depth()}, ToyNetwork())
    for name in ("type", "keys", "training"):
        with pytest.raises(ConfigError, match=f"none that torch's modules have.* found '{name}'"):
            PartialLabelModule({name: Depth()}, ToyNetwork())


# The supervised loss


def test_the_loss_of_a_joined_batch_is_the_mean_of_the_losses() -> None:
    module = model()
    a, b = batches(scenario=OneLabel())
    (loss_a, grad_a), (loss_b, grad_b) = (loss_and_gradients(module, batch) for batch in (a, b))
    joined, grad = loss_and_gradients(module, join([a, b]))
    torch.testing.assert_close(joined, (loss_a + loss_b) / 2)
    for name in grad:
        torch.testing.assert_close(grad[name], (grad_a[name] + grad_b[name]) / 2)


def test_the_loss_is_the_weighted_sum_over_tasks_of_each_samples_mean() -> None:
    module = model(balancing=FixedWeights({"depth": 3.0}))
    (batch,) = batches(1, scenario=OneLabel())
    predictions = module(batch.image)
    expected = torch.zeros(())
    for b in range(len(batch)):
        for name, task in module.tasks.items():
            if batch.labelled(name)[b]:
                weight = 3.0 if name == "depth" else 1.0
                expected += (
                    weight * task.loss(predictions[name][b : b + 1], batch.labels[name][b : b + 1])[0] / 4
                )
    loss, _ = loss_and_gradients(module, batch)
    torch.testing.assert_close(loss, expected.detach())


def test_a_task_without_a_label_trains_without_nan_and_gets_no_gradient() -> None:
    module = model()
    (batch,) = batches(1)
    for k, (name, task) in enumerate(module.tasks.items()):
        if name != "depth":
            batch.available[:, k] = False
            batch.labels[name] = torch.stack([task.blank(*batch.size)] * 4)
    loss, gradients = loss_and_gradients(module, batch)
    assert loss.isfinite()
    for name, gradient in gradients.items():
        assert gradient.isfinite().all(), name
        if name.startswith("network.heads") and ".depth." not in name:
            assert (gradient == 0).all(), name
    assert (gradients["network.heads.depth.weight"] != 0).any()


def test_a_label_without_a_valid_place_moves_no_learned_weight() -> None:
    module = model(balancing=UncertaintyWeighting())
    batch = batches(1)[0]
    batch.labels["depth"][:] = 0.0
    assert batch.labelled("depth").any()
    _, gradients = loss_and_gradients(module, batch)
    found = dict(zip(module.tasks, gradients["balancing.log_variance"].tolist(), strict=True))
    assert [name for name, gradient in found.items() if gradient == 0] == ["depth"]


def test_a_label_that_is_not_available_teaches_nothing_even_where_it_is_not_blank() -> None:
    module = model()
    (batch,) = batches(1)
    batch.available[1] = False
    _, expected = loss_and_gradients(module, batch)
    batch.image[1] = 0.5  # whose loss would be another
    loss, gradients = loss_and_gradients(module, batch)
    assert module.supervised_losses(module(batch.image), batch)[1].tolist() == [0.0] * len(module.tasks)
    assert loss > 0
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)


def test_a_batch_of_ones_own_has_its_tasks_in_the_modules_order() -> None:
    module = model()
    (batch,) = batches(1)
    batch.labels = dict(reversed(batch.labels.items()))
    batch.available = batch.available.flip(1)
    for step in (module.training_step, module.validation_step, module.test_step):
        with pytest.raises(
            ConfigError, match=r"the tasks \['segmentation', .* in this order; found \['pitch'"
        ):
            step(batch, 0)


def test_a_batch_without_any_label_changes_nothing() -> None:
    module = model()
    (batch,) = batches(1)
    batch.available[:] = False
    batch.labels = {n: torch.stack([t.blank(*batch.size)] * 4) for n, t in module.tasks.items()}
    loss, gradients = loss_and_gradients(module, batch)
    assert loss == 0
    assert all((gradient == 0).all() for gradient in gradients.values())


# The regularizer


class Recording(Regularizer):
    """Asks for a view without and one with a gradient, and keeps what it is given."""

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        views = []
        for shift, grad in ((0.1, False), (0.2, True)):
            shifted = Batch(batch.image + shift, batch.labels, batch.available, batch.domain, batch.index)
            views.append(View(shifted, grad=grad))
        return tuple(views)

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        self.given = (predictions, batches, features, progress)
        return {"recorded": predictions[2]["depth"].mean() + 0 * predictions[1]["depth"].mean()}


def test_each_view_comes_with_its_own_predictions_and_features() -> None:
    regularizer = Recording()
    module = model(regularizer=regularizer)
    (batch,) = batches(1)
    loss, _ = loss_and_gradients(module, batch)
    predictions, given, features, progress = regularizer.given
    assert progress == 0
    for shift, prediction, view, feature in zip((0, 0.1, 0.2), predictions, given, features, strict=True):
        torch.testing.assert_close(view.image, batch.image + shift)
        raw, expected_features = module.network(view.image)
        for name, task in module.tasks.items():
            torch.testing.assert_close(prediction[name], task.activate(raw[name]))
        torch.testing.assert_close(feature[0], expected_features[0])
    assert [p["depth"].requires_grad for p in predictions] == [True, False, True]
    supervised, _ = loss_and_gradients(model(), batch)
    torch.testing.assert_close(loss, supervised + predictions[2]["depth"].mean().detach())


def watching(seen: list[float]) -> Regularizer:
    """A regularizer that notes the progress of each step."""

    class Watching(Agreement):
        def forward(
            self, predictions: Any, batches: Any, features: Any, progress: float
        ) -> dict[str, Tensor]:
            seen.append(progress)
            return super().forward(predictions, batches, features, progress)

    return Watching()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0, 1 / 4, 2 / 4, 3 / 4]),
        ({"callbacks": [GradientAccumulationScheduler({0: 2, 1: 1})]}, [0, 0, 1 / 3, 2 / 3]),
        ({"callbacks": [GradientAccumulationScheduler({0: 2, 1: 1})], "max_steps": 2}, [0, 0, 1 / 2]),
    ],
)
def test_progress_runs_from_0_to_1(tmp_path: Path, options: dict[str, Any], expected: list[float]) -> None:
    seen: list[float] = []
    watched = model(regularizer=watching(seen))
    trainer(tmp_path, max_epochs=2, enable_checkpointing=False, **options).fit(watched, data())
    assert seen == pytest.approx(expected)


class Endless(IterableDataset[Batch]):
    """A loader's samples without a length."""

    def __iter__(self) -> Iterator[Batch]:
        yield from batches()


def test_a_ramp_needs_a_loader_with_a_length_or_a_number_of_steps(tmp_path: Path) -> None:
    loader = DataLoader(Endless(), batch_size=None)
    options: dict[str, Any] = {"max_epochs": 2, "enable_checkpointing": False}
    with pytest.raises(ConfigError, match=r"`ramp` of ConsistencyRegularization .*; found 0.25"):
        trainer(tmp_path, **options).fit(model(regularizer=ConsistencyRegularization()), loader, loader)
    seen: list[float] = []
    trainer(tmp_path, **options, max_steps=3).fit(model(regularizer=watching(seen)), loader, loader)
    assert seen == pytest.approx([0, 1 / 3, 2 / 3])


def test_a_ramp_needs_an_end_of_the_training(tmp_path: Path) -> None:
    module = model(regularizer=ConsistencyRegularization())
    with pytest.raises(
        ConfigError, match=r"`ramp` of ConsistencyRegularization .*; found 0.25\. Set `max_st"
    ):
        trainer(tmp_path, max_epochs=-1, max_time={"seconds": 30}).fit(module, data())
    # Without one, time alone may end it.
    endless = trainer(tmp_path, max_epochs=-1, max_time={"seconds": 0})
    endless.fit(model(regularizer=ConsistencyRegularization(ramp=0)), data())


@pytest.mark.parametrize("half", ["bf16", "16"])
def test_labels_and_sums_in_16_bits_are_refused(half: str, tmp_path: Path) -> None:
    halved = trainer(tmp_path, precision=f"{half}-true")
    with pytest.raises(ConfigError, match=f"found '{half}-true'\\. Take {half}-mixed"):
        halved.fit(model(), data())
    with pytest.raises(ConfigError, match="do not fit into 16 bits"):
        halved.validate(model(), data())
    (first, *_) = halved.predict(model(), data())
    assert first["depth"].dtype == {"bf16": torch.bfloat16, "16": torch.float16}[half]


class Criterion(ConsistencyRegularization):
    """Made with an object."""

    def __init__(self, criterion: torch.nn.Module) -> None:
        super().__init__()
        self.criterion = criterion


def test_what_a_checkpoint_cannot_hold_ends_a_training_before_it_begins(tmp_path: Path) -> None:
    module = model(regularizer=Criterion(torch.nn.L1Loss()))
    with pytest.raises(ConfigError, match=r"Criterion\(criterion=\.\.\.\) .*; found L1Loss"):
        trainer(tmp_path).fit(module, data())
    assert module.global_step == 0
    trainer(tmp_path, enable_checkpointing=False).fit(module, data())


def test_the_regularizers_own_parameters_are_trained_and_unused_when_predicting(tmp_path: Path) -> None:
    module = model(regularizer=Agreement(), optimizer=lambda groups: torch.optim.SGD(groups, lr=LR))
    trainer(tmp_path, enable_checkpointing=False).fit(module, data())
    assert isinstance(module.regularizer, Agreement)
    assert module.regularizer.scale != 1
    image = torch.rand(2, 3, 8, 10)
    before = module(image)
    with torch.no_grad():
        module.regularizer.scale.fill_(float("nan"))
    for name, prediction in module(image).items():
        assert torch.equal(prediction, before[name])


# What is logged


def test_logged_keys_are_those_of_the_documentation(tmp_path: Path) -> None:
    baseline = Baseline("numbers", dict.fromkeys(tiny_tasks(), 1.0))
    module = model(regularizer=Agreement(), baseline=baseline)
    fitting = trainer(tmp_path, enable_checkpointing=False)
    fitting.fit(module, data(scenario=OneLabel()))
    names = list(tiny_tasks())
    expected = {"train/loss", "train/supervised", "train/agreement", *(f"train/{n}/loss" for n in names)}
    assert {key for key in fitting.callback_metrics if key.startswith("train/")} == expected
    validation = {key for key in fitting.callback_metrics if key.startswith("val/")}
    headlines = {f"val/{name}/{task.headline}" for name, task in tiny_tasks().items()}
    assert validation > {"val/score", "val/delta", *headlines}
    assert all(key.split("/")[1] in {*names, "score", "delta"} for key in validation)


def test_a_single_task_is_trained_and_logged(tmp_path: Path) -> None:
    module = PartialLabelModule({"depth": Depth()}, ToyNetwork())
    fitting = trainer(tmp_path, enable_checkpointing=False)
    fitting.fit(module, data(tasks=["depth"]))
    assert {"train/depth/loss", "val/depth/abs_err", "val/score"} <= set(fitting.callback_metrics)


def test_training_lowers_the_loss_of_every_task_that_the_image_tells(tmp_path: Path) -> None:
    tasks = [name for name, task in tiny_tasks().items() if task.dense]
    chosen = {name: tiny_tasks()[name] for name in tasks}
    module = PartialLabelModule(
        chosen, ToyNetwork(), optimizer=lambda groups: torch.optim.Adam(groups, lr=LR)
    )
    (batch,) = batches(1, tasks=tasks)
    before = module.supervised_losses(module(batch.image), batch).mean(0)
    trainer(tmp_path, max_epochs=20, enable_checkpointing=False, limit_val_batches=0).fit(
        module, data(tasks=tasks)
    )
    after = module.supervised_losses(module(batch.image), batch).mean(0)
    assert (after < before).all()


# What is stopped half-way


class Stop(L.Callback):
    """An accident after the first batch."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, self._fail)

    def _fail(self, *args: Any, **kwargs: Any) -> None:
        raise InterruptedError


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_an_evaluation_that_was_stopped_leaves_nothing_to_the_next(stage: str, tmp_path: Path) -> None:
    module = model()
    stop = Stop("on_test_batch_end" if stage == "test" else "on_validation_batch_end")
    with pytest.raises(InterruptedError):
        getattr(trainer(tmp_path, callbacks=[stop]), stage)(module, data(), verbose=False)
    with torch.no_grad():
        module.network.heads["depth"].bias += 5
    first, second = (getattr(trainer(tmp_path), stage)(module, data(), verbose=False) for _ in range(2))
    assert first == second


def test_a_training_that_was_stopped_leaves_no_losses_to_the_next(tmp_path: Path) -> None:
    counts: list[float] = []

    class Count(L.Callback):
        def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
            counts.append(module.train_losses.count[0].item())

    module = model()
    with pytest.raises(InterruptedError):
        trainer(tmp_path, callbacks=[Stop("on_train_batch_end")], enable_checkpointing=False).fit(
            module, data()
        )
    trainer(tmp_path, callbacks=[Count()], enable_checkpointing=False).fit(module, data())
    assert counts == [4, 8]


# Training steps of a subclass's own


class StepOfItsOwn(PartialLabelModule):
    """Makes its loss without the step of the base class."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        predictions, _ = self.run_views(batch, ())
        return self.supervised_losses(predictions[0], batch).sum(1).mean()


class StepBesideTheBases(StepOfItsOwn):
    """Runs the step of the base class for what it logs, and makes its own loss."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        PartialLabelModule.training_step(self, batch, batch_idx)
        return super().training_step(batch, batch_idx)


class FurtherTerm(PartialLabelModule):
    """Halves the loss of the base class and adds a constant."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) / 2 + 1000


class SeenLosses(FixedWeights):
    """Remembers the tasks' losses that the backward pass is given."""

    def backward(self, loss: Tensor, losses: Tensor, available: Tensor, parameters: Sequence[Tensor]) -> None:
        self.seen = losses.detach()
        super().backward(loss, losses, available, parameters)


# Its tasks' mean losses are not known then.
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric TaskLosses was called before")
@pytest.mark.parametrize("kind", [StepOfItsOwn, StepBesideTheBases])
def test_a_subclass_may_make_its_own_loss(kind: type[PartialLabelModule], tmp_path: Path) -> None:
    torch.manual_seed(3)
    module = kind(tiny_tasks(), ToyNetwork())
    before = [p.detach().clone() for p in module.network.parameters()]
    trainer(tmp_path).fit(module, data())
    assert all(not torch.equal(a, b) for a, b in zip(before, module.network.parameters(), strict=True))


@pytest.mark.parametrize("kind", [StepOfItsOwn, StepBesideTheBases])
def test_a_loss_of_its_own_is_refused_where_the_tasks_gradients_are_joined(
    kind: type[PartialLabelModule],
) -> None:
    module = kind(tiny_tasks(), ToyNetwork(), balancing=SeenLosses())
    with pytest.raises(
        ConfigError, match=rf"with SeenLosses should .* found a loss that {kind.__name__} made"
    ):
        loss_and_gradients(module, batches(1)[0])


def test_the_tasks_losses_follow_what_a_subclass_makes_of_the_loss() -> None:
    batch = batches(1)[0]
    seen = []
    for kind in (PartialLabelModule, FurtherTerm):
        torch.manual_seed(3)
        module = kind(tiny_tasks(), ToyNetwork(), balancing=SeenLosses())
        loss_and_gradients(module, batch)
        seen.append(module.balancing.seen)
    torch.testing.assert_close(seen[1], seen[0] / 2)
