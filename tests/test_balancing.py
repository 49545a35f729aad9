import pytest
import torch

from jtr_lightning.balancing import FixedWeights
from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Depth, Normals, Task

TASKS: dict[str, Task] = {"depth": Depth(), "normals": Normals()}


def test_the_loss_is_a_weighted_sum_over_tasks_and_mean_over_samples() -> None:
    losses = torch.tensor([[1.0, 2.0], [0.0, 4.0]])
    available = torch.tensor([[True, True], [False, True]])
    assert FixedWeights({"normals": 0.5}).build(TASKS)(losses, available).item() == (1 + 1 + 0 + 2) / 2


def test_the_loss_of_joined_batches_is_the_mean_of_their_losses() -> None:
    balancing = FixedWeights().build(TASKS)
    losses, available = torch.rand(6, 2), torch.ones(6, 2, dtype=torch.bool)
    halves = [balancing(losses[rows], available[rows]) for rows in (slice(3), slice(3, 6))]
    torch.testing.assert_close(balancing(losses, available), sum(halves) / 2)


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ConfigError, match="found 'dept', did you mean 'depth'"):
        FixedWeights({"dept": 1.0}).build(TASKS)
    with pytest.raises(ConfigError, match="at least 0; found -1"):
        FixedWeights({"depth": -1.0}).build(TASKS)
