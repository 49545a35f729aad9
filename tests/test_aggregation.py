import pytest
import torch
from torch import Tensor, nn

from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Depth, Normals, Task

pytest.importorskip("torchjd")
from jtr_lightning.aggregation import GradientAggregation

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


def test_a_step_without_any_label_keeps_the_regularizers_gradient() -> None:
    none = torch.zeros(2, 2, dtype=torch.bool)
    found = gradients(GradientAggregation("MGDA").build(TASKS), OPPOSED, none, extra=2.0)
    torch.testing.assert_close(found, torch.tensor([2.0, 2.0, 0.0]))


def test_the_regularizers_gradient_is_added_to_the_aggregated_one() -> None:
    plain = gradients(GradientAggregation("UPGrad").build(TASKS), OPPOSED, ALL)
    with_extra = gradients(GradientAggregation("UPGrad").build(TASKS), OPPOSED, ALL, extra=2.0)
    torch.testing.assert_close(with_extra - plain, torch.tensor([2.0, 2.0, 0.0]))


@pytest.mark.parametrize("name", ["PCGrad", "AlignedMTL", "IMTLG"])
def test_further_aggregators_run(name: str) -> None:
    assert gradients(GradientAggregation(name).build(TASKS), OPPOSED, ALL).isfinite().all()


def test_mistakes_are_refused() -> None:
    with pytest.raises(ConfigError, match="found 'UpGrad', did you mean 'UPGrad'"):
        GradientAggregation("UpGrad")
    with pytest.raises(ConfigError, match="CAGrad could not be made"):
        GradientAggregation("CAGrad")
