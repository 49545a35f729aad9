import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn

from jtr_lightning.aggregation import GradientAggregation
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.tasks import Depth, Normals, Task
from tests.toy import ToyDataModule, ToyNetwork

torchjd = pytest.importorskip("torchjd")

STATEFUL = ("GradVac", "ExcessMTL", "NashMTL", "PCD")
TASKS: dict[str, Task] = {"depth": Depth(), "normals": Normals()}


class Toy(nn.Module):
    """Two losses that pull a shared vector in given directions; a head that only the first uses."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(2))
        self.head = nn.Parameter(torch.zeros(1))

    def losses(self, directions: Tensor, available: Tensor) -> Tensor:
        pulls = directions @ self.shared + torch.stack([self.head[0], self.head[0] * 0])
        return pulls.expand(2, 2) * available


def gradients(
    balancing: GradientAggregation, directions: Tensor, available: Tensor, extra: float = 0.0
) -> Tensor:
    toy = Toy()
    losses = toy.losses(directions, available)
    loss = balancing(losses, available) + extra * toy.shared.sum()
    balancing.backward(loss, losses, available, list(toy.parameters()))
    return torch.cat([toy.shared.grad, toy.head.grad])


ALL = torch.ones(2, 2, dtype=torch.bool)
OPPOSED = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])


def test_a_sum_aggregator_gives_the_ordinary_gradient() -> None:
    found = gradients(GradientAggregation("Sum").build(TASKS), OPPOSED, ALL)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 1.0]))


def test_upgrad_hurts_no_task() -> None:
    found = gradients(GradientAggregation("UPGrad").build(TASKS), 3 * OPPOSED, ALL)
    rows = torch.tensor([[3.0, 0.0, 1.0], [-3.0, 3.0, 0.0]])
    assert (rows @ found >= -1e-4).all()
    assert not torch.allclose(found, rows.sum(0), atol=1e-2)


def test_a_task_without_a_label_has_no_row() -> None:
    only_first = torch.tensor([[True, False], [True, False]])
    found = gradients(GradientAggregation("MGDA").build(TASKS), OPPOSED, only_first)
    # With a row of zeros MGDA's gradient would be 0.
    torch.testing.assert_close(found, torch.tensor([1.0, 0.0, 1.0]))


@pytest.mark.parametrize("name", ["MGDA", "CAGrad", "UPGrad", "Constant"])
def test_labels_without_a_valid_place_have_no_row(name: str) -> None:
    toy = Toy()
    losses = toy.losses(OPPOSED, ALL)
    # Labelled, but what the losses of the second task are made of is nowhere valid.
    losses = torch.stack([losses[:, 0], losses[:, 1] * 0], 1)
    balancing = make(name)
    balancing.backward(balancing(losses, ALL), losses, ALL, list(toy.parameters()))
    only_first = torch.tensor([[True, False], [True, False]])
    expected = gradients(make(name), OPPOSED, only_first)
    assert expected.any()
    torch.testing.assert_close(torch.cat([toy.shared.grad, toy.head.grad]), expected)


def test_a_frozen_parameter_stays_out_of_the_rows() -> None:
    toy = Toy()
    frozen = nn.Parameter(torch.ones(3), requires_grad=False)
    losses = toy.losses(3 * OPPOSED, ALL) + frozen.sum()
    balancing = make("UPGrad")
    balancing.backward(balancing(losses, ALL), losses, ALL, [toy.shared, frozen, toy.head])
    found = torch.cat([toy.shared.grad, toy.head.grad])
    torch.testing.assert_close(found, gradients(balancing, 3 * OPPOSED, ALL))
    assert frozen.grad is None


def test_a_step_without_any_label_keeps_the_regularizers_gradient() -> None:
    none = torch.zeros(2, 2, dtype=torch.bool)
    found = gradients(GradientAggregation("MGDA").build(TASKS), OPPOSED, none, extra=2.0)
    torch.testing.assert_close(found, torch.tensor([2.0, 2.0, 0.0]))


def test_beside_a_frozen_network_the_regularizer_learns() -> None:
    learnt = torch.tensor(3.0, requires_grad=True)
    losses = torch.ones(2, 2) * learnt * 0
    balancing = GradientAggregation("UPGrad").build(TASKS)
    frozen = [torch.ones(2), torch.ones(3)]
    balancing.backward(learnt.square() + losses.sum(), losses, ALL, frozen)
    assert learnt.grad == 6


def test_the_regularizers_gradient_is_added_to_the_aggregated_one() -> None:
    plain = gradients(GradientAggregation("UPGrad").build(TASKS), OPPOSED, ALL)
    with_extra = gradients(GradientAggregation("UPGrad").build(TASKS), OPPOSED, ALL, extra=2.0)
    torch.testing.assert_close(with_extra - plain, torch.tensor([2.0, 2.0, 0.0]))


AGGREGATORS: dict[str, dict[str, Any]] = {
    "UPGrad": {},
    "PCGrad": {},
    "MGDA": {},
    "CAGrad": {"c": 0.5},
    "AlignedMTL": {},
    "IMTLG": {},
    "Constant": {"weights": [2.0, 0.5]},
}


def make(name: str) -> GradientAggregation:
    if name == "CAGrad":
        pytest.importorskip("cvxpy")
    return GradientAggregation(name, AGGREGATORS[name]).build(TASKS)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_the_gradient_is_what_the_aggregator_makes_of_the_rows(name: str) -> None:
    rows = torch.tensor([[1.0, 0.0, 1.0], [-1.0, 1.0, 0.0]])
    arguments = {
        key: torch.tensor(value) if isinstance(value, list) else value
        for key, value in AGGREGATORS[name].items()
    }
    torch.manual_seed(0)
    found = gradients(make(name), OPPOSED, ALL)
    torch.manual_seed(0)
    expected = getattr(torchjd.aggregation, name)(**arguments)(rows)
    assert not torch.allclose(expected, rows.sum(0), atol=1e-3)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", AGGREGATORS)
@pytest.mark.parametrize("labelled", [0, 1])
def test_the_only_labelled_task_keeps_its_direction_whatever_the_other_would_be(
    name: str, labelled: int
) -> None:
    available = torch.zeros(2, 2, dtype=torch.bool)
    available[:, labelled] = True
    row = torch.tensor([[1.0, 0.0, 1.0], [-1.0, 1.0, 0.0]])[labelled]
    found = gradients(make(name), OPPOSED, available)
    factor = {"CAGrad": 1.5, "Constant": AGGREGATORS["Constant"]["weights"][labelled]}.get(name, 1.0)
    torch.testing.assert_close(found, factor * row)


@pytest.mark.parametrize("name", AGGREGATORS)
def test_without_any_label_nothing_moves(name: str) -> None:
    found = gradients(make(name), OPPOSED, torch.zeros(2, 2, dtype=torch.bool))
    torch.testing.assert_close(found, torch.zeros(3))


@pytest.mark.parametrize("name", AGGREGATORS)
def test_an_overflow_is_left_to_the_scaler(name: str) -> None:
    found = gradients(make(name), torch.tensor([[math.inf, 0.0], [0.0, 1.0]]), ALL)
    assert not found.isfinite().all()


def test_a_preference_is_given_for_each_task() -> None:
    plain = GradientAggregation("UPGrad", {"pref_vector": [0.5, 0.5]}).build(TASKS)
    torch.testing.assert_close(
        gradients(plain, OPPOSED, ALL), gradients(GradientAggregation("UPGrad").build(TASKS), OPPOSED, ALL)
    )
    with pytest.raises(ConfigError, match=r"for each of the 2 tasks \(depth, normals\); found \[1, 2, 3\]"):
        GradientAggregation("Constant", {"weights": [1, 2, 3]}).build(TASKS)


def test_an_aggregator_for_more_tasks_than_a_step_has_is_told() -> None:
    krum = GradientAggregation("Krum", {"n_byzantine": 0}).build(TASKS)
    with pytest.raises(
        ConfigError, match=r"Krum could not join .* 2 of 2 tasks have a label: .*Take one for any"
    ):
        gradients(krum, OPPOSED, ALL)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("UpGrad", {}, "found 'UpGrad', did you mean 'UPGrad'"),
        ("CAGrad", {}, "CAGrad could not be made"),
        ("MGDA", {"epsilom": 1}, "MGDA could not be made .*epsilom"),
        ("Krum", {"n_byzantine": -1}, "Krum could not be made .*must be non-negative"),
        ("Constant", {"weights": 2.0}, "Constant could not be made .*'float' object"),
        ("Constant", {"weights": [[1.0], [2.0]]}, "Constant could not be made .*1-dimensional"),
        ("Constant", {"weights": ["a", "b"]}, "Constant could not be made"),
        *((name, {}, f"keeps nothing from step to step.*found '{name}'") for name in STATEFUL),
    ],
)
def test_mistakes_are_refused(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GradientAggregation(name, arguments)


def test_a_checkpoint_of_a_training_can_be_loaded(tmp_path: Path) -> None:
    data = ToyDataModule(number=6, batch_size=3, tasks=["segmentation", "depth"])
    balancing = GradientAggregation("UPGrad", {"pref_vector": [2.0, 1.0]})
    module = PartialLabelModule(data.tasks, ToyNetwork(), balancing=balancing)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    loaded = PartialLabelModule.load_from_checkpoint(tmp_path / "last.ckpt")
    assert loaded.balancing.describe() == balancing.describe()


# torch's own look at every tensor, which it means to hide from warnings but cannot where they are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_a_compiled_network_may_see_a_batch_without_labels_first() -> None:
    balancing = GradientAggregation("UPGrad").build(TASKS)
    layer = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    layer.compile(backend="aot_eager")
    for available in (torch.zeros(2, 2, dtype=torch.bool), ALL):
        losses = layer(torch.rand(2, 3)).square() * available
        balancing.backward(balancing(losses, available), losses, available, list(layer.parameters()))
    assert layer[-1].bias.grad.any()
