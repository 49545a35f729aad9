"""Trainings as far from the usual as they may be: without labels, of one sample, of 16 tasks or 1000 classes."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jtr_lightning.balancing import DynamicWeightAverage
from jtr_lightning.callbacks.guard import NonFiniteGuard
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.cli.main import main
from jtr_lightning.data.source import SampleSource
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.base import Network
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.networks.smp import SMPNetwork
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.scenarios import RandomLabels
from jtr_lightning.tasks import DenseRegression, Depth, Segmentation, Task
from tests.reliability.trainings import QUIET, TinyData, train
from tests.tiny import SIZE
from tests.toy import Given, ToyNetwork

TASKS = ["segmentation", "depth"]

# Labels that are not there


SMALL: dict[str, Any] = {"widths": (4, 4), "depths": (1, 1)}
REGULARIZERS: dict[str, Callable[[], Regularizer | None]] = {
    "none": lambda: None,
    "jtr": lambda: JTR(**SMALL),
    "consistency": ConsistencyRegularization,
    "mtpsl": lambda: MTPSL(**SMALL),
    "direct map": lambda: DirectMap(**SMALL),
    "perceptual map": lambda: PerceptualMap(**SMALL),
}


@pytest.mark.parametrize("name", REGULARIZERS)
def test_batches_without_any_label_train_on(name: str) -> None:
    rows = [[0, 0]] * 4 + [[1, 0], [0, 1]]
    data = TinyData(tasks=TASKS, scenario=Given(rows), batch_size=1)
    module = PartialLabelModule(data.tasks, ToyNetwork(), REGULARIZERS[name]())
    trainer = train(module, data, NonFiniteGuard())
    assert trainer.global_step == len(rows)
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
def test_labels_without_a_valid_pixel_train_and_are_not_measured(name: str) -> None:
    data = Invalid(tasks=TASKS)
    module = PartialLabelModule(data.tasks, ToyNetwork(), REGULARIZERS[name]())
    with pytest.warns(UserWarning, match=r"task '(segmentation|depth)' should have a valid place somewhere"):
        trainer = train(module, data, NonFiniteGuard(), limit_val_batches=1.0)
    assert all(value.isfinite().all() for value in module.parameters())
    found = {key: float(value) for key, value in trainer.callback_metrics.items()}
    assert all(math.isfinite(value) for value in found.values())
    measured = ("val/score", "val/segmentation/", "val/depth/")
    assert not [key for key in found if key.startswith(measured)]


class PartlyInvalid(TinyData):
    """Every second depth has not one valid pixel."""

    def source(self, split: Any) -> SampleSource:
        source = super().source(split)
        read = source.read_label

        def half(index: int, task: str) -> Any:
            return read(index, task) * np.float32(0) if task == "depth" and index % 2 else read(index, task)

        source.read_label = half  # type: ignore[method-assign]
        return source


def test_labels_without_a_valid_pixel_do_not_lower_the_logged_loss_and_are_minimised_as_before() -> None:
    data = PartlyInvalid(tasks=TASKS, number=6)
    balancing = DynamicWeightAverage()
    still = partial(torch.optim.SGD, lr=0.0)
    module = PartialLabelModule(data.tasks, ToyNetwork(), balancing=balancing, optimizer=still)
    trainer = train(module, data)
    with torch.no_grad():
        losses = torch.cat(
            [module.supervised_losses(module(batch.image), batch) for batch in data.train_dataloader()]
        )
    assert sorted((losses[:, 1] == 0).tolist()) == [False] * 3 + [True] * 3
    mean = losses.mean(0).tolist()
    logged = [float(trainer.callback_metrics[f"train/{name}/loss"]) for name in TASKS]
    assert logged == pytest.approx([mean[0], 2 * mean[1]], rel=1e-5)
    assert balancing.means[1].tolist() == pytest.approx(mean, rel=1e-5)


@pytest.mark.usefixtures("in_a_scratch_folder")
@pytest.mark.filterwarnings("ignore:The labels of task")
def test_a_best_epoch_of_nothing_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    tasks = f"--data.tasks={TASKS}".replace("'", "")
    given = ["--data=Invalid", tasks, "--model.network=ToyNetwork", "--trainer.max_epochs=2"]
    assert main(["fit", *given, *QUIET]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "'val/score'" in errors[0]


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


TINY = (5, 3)
"""Height and width, below a stride of 32."""


def train_at_a_tiny_size(network: Network, regularizer: Regularizer | None) -> None:
    data = TinyData(tasks=TASKS, size=TINY, scenario=RandomLabels())
    module = PartialLabelModule(data.tasks, network, regularizer)
    trainer = train(module, data, NonFiniteGuard(), limit_val_batches=1.0)
    assert trainer.global_step == 3
    assert all(value.isfinite().all() for value in module.parameters())
    assert math.isfinite(float(trainer.callback_metrics["val/score"]))


@pytest.mark.parametrize("name", ["none", "consistency", "direct map", "perceptual map"])
def test_images_smaller_than_the_stride_train(name: str) -> None:
    train_at_a_tiny_size(SMPNetwork("resnet18"), REGULARIZERS[name]())


def test_images_smaller_than_the_stride_train_the_papers_network() -> None:
    train_at_a_tiny_size(SegNet(), None)


@pytest.mark.parametrize("regularizer", [JTR, MTPSL])
def test_images_smaller_than_a_mapping_network_needs_are_refused(regularizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"maps of at least two positions.*larger images or fewer stages"):
        train_at_a_tiny_size(ToyNetwork(), regularizer())


class Many(TinyData):
    """Labels for any tasks: noise that ``DenseRegression`` takes, and every class of a segmentation."""

    def source(self, split: Any) -> SampleSource:
        source = super().source(split)

        def label(index: int, name: str) -> Any:
            task, rng = self.tasks[name], np.random.default_rng([index, len(name)])
            if isinstance(task, Segmentation):
                return rng.integers(0, task.channels, SIZE, dtype=np.int16)
            return rng.random((*SIZE, task.channels), dtype=np.float32) + 0.1

        source.read_label = label  # type: ignore[method-assign]
        return source


def check_a_whole_training(
    tasks: Mapping[str, Task], network: Network, regularizer: Regularizer | None, folder: Path
) -> None:
    """Training, validation and checkpoint: every weight learns, every task is measured, all comes back."""
    data = Many(
        tasks=dict(tasks), number=8, batch_size=2, scenario=RandomLabels() if len(tasks) > 1 else None
    )
    module = PartialLabelModule(data.tasks, network, regularizer, DynamicWeightAverage())
    before = {name: value.clone() for name, value in module.named_parameters()}
    trainer = train(module, data, NonFiniteGuard(), Resume(folder), max_epochs=2, limit_val_batches=1.0)
    assert trainer.global_step == 8
    still = [name for name, value in module.named_parameters() if torch.equal(before[name], value)]
    # The mapping network of two tasks that no sample has a label of both learns nothing.
    assert [name for name in still if not name.startswith("regularizer.maps.")] == []
    for name, task in tasks.items():
        value = float(trainer.callback_metrics[f"val/{name}/{task.headline}"])
        assert math.isfinite(value), name
    again = PartialLabelModule.load_from_checkpoint(folder / "last.ckpt")
    image = torch.rand(1, 3, *SIZE)
    expected = module.eval()(image)
    assert all(torch.equal(again(image)[name], expected[name]) for name in tasks)


def edges(number: int) -> dict[str, Task]:
    return {f"edges_{i}": DenseRegression(high=1.1) for i in range(number)}


def test_one_task_trains(tmp_path: Path) -> None:
    check_a_whole_training(edges(1), SMPNetwork("resnet18"), None, tmp_path)


def test_sixteen_tasks_train(tmp_path: Path) -> None:
    check_a_whole_training(edges(16), SMPNetwork("resnet18"), JTR(**SMALL), tmp_path)


def test_a_thousand_classes_train(tmp_path: Path) -> None:
    tasks = {"segmentation": Segmentation(1000), "depth": Depth()}
    check_a_whole_training(tasks, SMPNetwork("resnet18"), JTR(**SMALL), tmp_path)


def test_one_task_trains_with_consistency(tmp_path: Path) -> None:
    check_a_whole_training(edges(1), ToyNetwork(), ConsistencyRegularization(), tmp_path)


MAPS = [pytest.param(name, marks=pytest.mark.slow) for name in ("direct map", "perceptual map")]
"""Of 16 tasks these train 240 networks."""


@pytest.mark.parametrize("name", ["none", "consistency", "mtpsl", *MAPS])
def test_sixteen_tasks_train_with_every_method(name: str, tmp_path: Path) -> None:
    check_a_whole_training(edges(16), ToyNetwork(), REGULARIZERS[name](), tmp_path)


@pytest.mark.parametrize("name", [name for name in REGULARIZERS if name != "jtr"])
def test_a_thousand_classes_train_with_every_method(name: str, tmp_path: Path) -> None:
    tasks = {"segmentation": Segmentation(1000), "depth": Depth()}
    check_a_whole_training(tasks, ToyNetwork(), REGULARIZERS[name](), tmp_path)


@pytest.mark.parametrize("regularizer", [JTR, MTPSL, DirectMap, PerceptualMap])
def test_a_method_that_relates_tasks_is_refused_with_one(regularizer: Any) -> None:
    with pytest.raises(ConfigError, match=rf"{regularizer.__name__} should .* at least (2|two)"):
        PartialLabelModule({"depth": Depth()}, ToyNetwork(), regularizer())
