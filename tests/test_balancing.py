import math
from collections.abc import Sequence

import pytest
import torch

from jtr_lightning.balancing import DynamicWeightAverage, FixedWeights, UncertaintyWeighting
from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Depth, Normals, Task

TASKS: dict[str, Task] = {"depth": Depth(), "normals": Normals()}
SOME = torch.tensor([[True, True], [False, True]])


class TestFixedWeights:
    def test_the_loss_is_a_weighted_sum_over_tasks_and_mean_over_samples(self) -> None:
        losses = torch.tensor([[1.0, 2.0], [0.0, 4.0]])
        assert FixedWeights({"normals": 0.5}).build(TASKS)(losses, SOME).item() == (1 + 1 + 0 + 2) / 2

    def test_the_loss_of_joined_batches_is_the_mean_of_their_losses(self) -> None:
        balancing = FixedWeights().build(TASKS)
        losses, available = torch.rand(6, 2), torch.ones(6, 2, dtype=torch.bool)
        halves = [balancing(losses[rows], available[rows]) for rows in (slice(3), slice(3, 6))]
        torch.testing.assert_close(balancing(losses, available), (halves[0] + halves[1]) / 2)

    def test_weights_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="found 'dept', did you mean 'depth'"):
            FixedWeights({"dept": 1.0}).build(TASKS)
        for weight in (-1.0, math.inf, math.nan):
            with pytest.raises(ConfigError, match=f"at least 0 and finite; found {weight}"):
                FixedWeights({"depth": weight}).build(TASKS)


class TestUncertaintyWeighting:
    def test_the_loss_in_closed_form(self) -> None:
        balancing = UncertaintyWeighting().build(TASKS)
        with torch.no_grad():
            balancing.log_variance.copy_(torch.tensor([0.5, -1.0]))
        losses = torch.tensor([[1.0, 2.0], [0.0, 4.0]])
        expected = (math.exp(-0.5) + 0.25) + (math.exp(1) * 2 - 0.5) + (math.exp(1) * 4 - 0.5)
        assert balancing(losses, SOME).item() == pytest.approx(expected / 2)

    def test_a_task_without_a_label_leaves_its_weight_alone_but_in_the_graph(self) -> None:
        balancing = UncertaintyWeighting().build(TASKS)
        available = torch.tensor([[True, False], [True, False]])
        balancing(torch.tensor([[1.0, 0.0], [3.0, 0.0]]), available).backward()
        assert balancing.log_variance.grad.tolist() == [0.5 - 2.0, 0.0]

    def test_the_weight_at_the_start(self) -> None:
        assert torch.equal(UncertaintyWeighting(0).build(TASKS).log_variance, torch.zeros(2))
        for initial in (math.nan, math.inf):
            with pytest.raises(
                ConfigError, match=f"`initial` of UncertaintyWeighting .* finite; found {initial}"
            ):
                UncertaintyWeighting(initial)

    def test_the_best_weight_is_the_inverse_of_the_loss(self) -> None:
        # d/ds (exp(-s) l + s/2) = 0 at s = log(2 l).
        balancing = UncertaintyWeighting().build(TASKS)
        optimizer = torch.optim.SGD(balancing.parameters(), lr=0.3)
        losses, available = torch.tensor([[2.0, 0.1]]), torch.ones(1, 2, dtype=torch.bool)
        for _ in range(300):
            optimizer.zero_grad()
            balancing(losses, available).backward()
            optimizer.step()
        expected = torch.log(2 * losses[0])
        torch.testing.assert_close(balancing.log_variance.detach(), expected, rtol=0, atol=1e-3)


class TestDynamicWeightAverage:
    def weights_after(self, *epochs: Sequence[float]) -> list[float]:
        balancing = DynamicWeightAverage(temperature=2.0).build(TASKS)
        for means in epochs:
            balancing.end_epoch(means)
        return [float(w) for w in balancing.weight]

    def test_the_weights_are_1_in_the_first_two_epochs(self) -> None:
        assert self.weights_after() == [1.0, 1.0]
        assert self.weights_after([2.0, 5.0]) == [1.0, 1.0]

    def test_equation_7(self) -> None:
        found = self.weights_after([2.0, 5.0], [1.0, 5.0])
        depth, normals = math.exp(0.5 / 2), math.exp(1.0 / 2)
        assert found == pytest.approx([2 * depth / (depth + normals), 2 * normals / (depth + normals)])

    def test_a_task_without_a_label_in_an_epoch_keeps_its_ratio(self) -> None:
        before = self.weights_after([2.0, 5.0], [1.0, 5.0])
        assert self.weights_after([2.0, 5.0], [1.0, 5.0], [float("nan"), 5.0]) == pytest.approx(before)
        assert self.weights_after([float("nan"), 5.0], [float("nan"), 5.0]) == [1.0, 1.0]

    def test_the_weights_are_used_and_saved(self) -> None:
        balancing = DynamicWeightAverage().build(TASKS)
        balancing.end_epoch([2.0, 5.0])
        balancing.end_epoch([1.0, 5.0])
        losses = torch.tensor([[1.0, 0.0]])
        assert balancing(losses, SOME[:1]).item() == pytest.approx(float(balancing.weight[0]))
        again = DynamicWeightAverage().build(TASKS)
        again.load_state_dict(balancing.state_dict())
        again.end_epoch([0.5, 5.0])
        assert float(again.means[0, 0]) == 1.0

    def test_the_temperature_must_be_positive(self) -> None:
        with pytest.raises(ConfigError, match="`temperature` should be above 0"):
            DynamicWeightAverage(0.0)
