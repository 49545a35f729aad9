"""The batched JTR equals a loop over samples with a copied auto-encoder: terms and all gradients."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.tasks import dense
from tests.regularizers.helpers import four_tasks, noise_of_the_values, random_batch, random_predictions
from tests.regularizers.reference import LoopJTR

# Both versions add the same numbers in another order in float64; unit_length's epsilons (1e-12 on a squared length of
# about 1 against cosine_similarity's clamp) are the largest difference on purpose.
TOLERANCE = 1e-5

_B, _K = 5, 4
_AVAILABLE = {
    "one_label": torch.eye(_K, dtype=torch.bool)[[0, 1, 2, 3, 0]],
    "random_labels": torch.tensor(
        [[1, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 1]]
    ).bool(),
    "some_without_any": torch.tensor(
        [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 1]]
    ).bool(),
    "none": torch.zeros(_B, _K, dtype=torch.bool),
    "full": torch.ones(_B, _K, dtype=torch.bool),
}


@pytest.fixture(autouse=True)
def _double_precision(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dense, "gumbel_noise", noise_of_the_values)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def both_versions(**settings) -> tuple[JTR, LoopJTR]:
    tasks = four_tasks()
    settings = {"widths": (4, 6), "depths": (2, 1), **settings}
    fast, slow = JTR(**settings).build(tasks), LoopJTR(**settings).build(tasks)
    with torch.no_grad():  # away from the initial scale 1 and shift 0, which would hide some mistakes
        for parameter in fast.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    missing, unexpected = slow.load_state_dict(fast.state_dict(), strict=False)
    assert not unexpected
    assert all("running" in name or "num_batches" in name for name in missing)
    return fast, slow


def terms_and_gradients(jtr: JTR, predictions, batches, progress: float = 0.0) -> dict[str, Tensor]:
    leaves = [{n: p.detach().clone().requires_grad_() for n, p in view.items()} for view in predictions]
    terms = jtr(leaves, batches, [[]] * len(leaves), progress)
    jtr.zero_grad(set_to_none=True)
    sum(terms.values()).backward()
    found = {name: term.detach() for name, term in terms.items()}
    for i, view in enumerate(leaves):
        for name, leaf in view.items():
            found[f"view {i} {name}"] = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    for name, parameter in jtr.autoencoder.named_parameters():
        assert parameter.grad is not None
        found[name] = parameter.grad
    return found


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    # A bias before a normalisation has no effect: its gradient is rounding noise and has no scale of its own.
    floor = 1e-9 * max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        error = float((found[name] - value).abs().max())
        assert error <= TOLERANCE * float(value.abs().max()) + floor, name


@pytest.mark.parametrize("size", [(16, 12), (13, 10)], ids=["even", "odd"])
@pytest.mark.parametrize("labels", _AVAILABLE)
def test_terms_and_gradients_equal_the_loop(labels: str, size: tuple[int, int]) -> None:
    fast, slow = both_versions()
    batches = [random_batch(fast.tasks, _AVAILABLE[labels], size) for _ in range(3)]
    predictions = [random_predictions(fast.tasks, _B, size) for _ in range(3)]
    expected = terms_and_gradients(slow, predictions, batches)
    assert_close(terms_and_gradients(fast, predictions, batches), expected)
    trains_network = max(float(expected[f"view 1 {name}"].abs().max()) for name in fast.tasks)
    assert (trains_network > 1e-6) == (labels not in ("full", "none"))


@pytest.mark.parametrize("invalid", ["segmentation", "depth", "normals", "edges"])
def test_equal_where_one_label_is_nowhere_valid(invalid: str) -> None:
    fast, slow = both_versions()
    batches = [random_batch(fast.tasks, _AVAILABLE["random_labels"]) for _ in range(3)]
    for batch in batches:
        blank = fast.tasks[invalid].blank(*batch.size)
        batch.labels[invalid][:3] = blank.to(batch.labels[invalid].dtype)
    predictions = [random_predictions(fast.tasks, _B) for _ in range(3)]
    expected = terms_and_gradients(slow, predictions, batches)
    assert_close(terms_and_gradients(fast, predictions, batches), expected)


@pytest.mark.parametrize("views", [1, 2])
def test_equal_with_fewer_views_weights_and_a_ramp(views: int) -> None:
    fast, slow = both_versions(
        views=views,
        distance_weight=3.0,
        autoencoder_distance_weight=0.5,
        reconstruction_weight=0.7,
        ramp=0.4,
    )
    batches = [random_batch(fast.tasks, _AVAILABLE["random_labels"]) for _ in range(views)]
    predictions = [random_predictions(fast.tasks, _B) for _ in range(views)]
    expected = terms_and_gradients(slow, predictions, batches, progress=0.1)
    assert_close(terms_and_gradients(fast, predictions, batches, progress=0.1), expected)


def test_the_comparison_notices_a_wrong_mask() -> None:
    """The loop with one label more or less valid is told apart: the tolerance is tight enough to find slips."""
    fast, slow = both_versions()
    batches = [random_batch(fast.tasks, _AVAILABLE["random_labels"]) for _ in range(3)]
    predictions = [random_predictions(fast.tasks, _B) for _ in range(3)]
    found = terms_and_gradients(fast, predictions, batches)
    changed = copy.deepcopy(batches)
    changed[1].labels["normals"][0, :, 0, 0] = 0
    changed[1].labels["normals"][0, :, 5, 5] = 0
    with pytest.raises(AssertionError, match="jtr/distance"):
        assert_close(found, terms_and_gradients(slow, predictions, changed))
