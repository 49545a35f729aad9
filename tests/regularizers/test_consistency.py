import pytest
import torch

from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from tests.regularizers.pair_cases import AVAILABILITY, batch_of, gradients, predictions_of, tasks


def build(**arguments: float) -> ConsistencyRegularization:
    regularizer = ConsistencyRegularization(**arguments)
    regularizer.build(tasks())
    return regularizer


def value(regularizer, first, second, batch, progress: float = 1.0) -> torch.Tensor:
    torch.manual_seed(0)
    (view,) = regularizer.sample_views(batch)
    return regularizer([first, second], [batch, view.batch], [[], []], progress)["consistency"]


@pytest.mark.parametrize("rows", AVAILABILITY.values(), ids=AVAILABILITY.keys())
def test_the_loss_is_that_of_a_loop_over_samples_and_tasks(rows: list[list[int]]) -> None:
    regularizer, batch = build(weight=3.0), batch_of(rows)
    first, second = predictions_of(len(rows), 1), predictions_of(len(rows), 2)
    found = value(regularizer, first, second, batch)
    expected = torch.zeros((), dtype=torch.float64)
    for b in range(len(batch)):
        for k, (name, task) in enumerate(tasks().items()):
            if not rows[b][k]:
                moved = regularizer._geometry.apply(first[name].detach(), task, smooth=True)[b]
                mine = second[name][b]
                if name == "segmentation":
                    q = moved.exp() ** 2
                    expected = expected - (q / q.sum(0) * mine).sum(0).mean()
                elif name == "depth":
                    expected = expected + (mine - moved).abs().mean()
                else:
                    unit = moved / (moved.norm(dim=0) ** 2 + 1e-6).sqrt()
                    expected = expected + (1 - (mine * unit).sum(0)).mean()
    torch.testing.assert_close(found, 3.0 * expected / len(batch))


def test_only_unlabelled_predictions_of_the_view_get_a_gradient() -> None:
    batch = batch_of([[1, 0, 0], [1, 0, 0]])
    first, second = predictions_of(2, 1), predictions_of(2, 2)
    loss = value(build(), first, second, batch)
    reached = [bool(g.any()) for g in gradients(loss, [*first.values(), *second.values()])]
    assert reached == [False, False, False, False, True, True]


def test_equal_predictions_of_an_uncropped_view_cost_nothing_for_depth() -> None:
    regularizer = build()
    regularizer.views.scales = (1.0,)
    batch = batch_of([[1, 0, 1]])
    prediction = predictions_of(1)
    assert value(regularizer, prediction, prediction, batch).item() == pytest.approx(0, abs=1e-6)
