"""The options of JTR."""

from __future__ import annotations

import pytest
import torch
from torch.optim import Adam

from jtr_lightning.described import rebuild
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers.joint_autoencoder import JointAutoencoder
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Task
from tests.regularizers.helpers import (
    ONE_LABEL,
    B,
    K,
    four_tasks,
    gradients,
    inputs,
    random_batch,
    random_predictions,
    small_jtr,
    terms,
    value,
)
from tests.toy import ToyNetwork


class TestOptions:
    @pytest.mark.parametrize("views", [1, 2, 3])
    def test_views(self, views: int) -> None:
        jtr = small_jtr(views=views)
        batch = random_batch(jtr.tasks, ONE_LABEL)
        assert [view.grad for view in jtr.sample_views(batch)] == [True, False][: views - 1]
        predictions, batches = inputs(jtr)
        terms(jtr, predictions, batches)["jtr/distance"].backward()
        trained = [any(float(g.abs().max()) > 0 for g in view.values()) for view in gradients(predictions)]
        assert trained.index(True) == min(1, views - 1)
        assert sum(trained) == 1

    def test_views_are_crops_of_the_batch_drawn_apart(self) -> None:
        jtr = small_jtr(view_maker=ViewMaker(scales=[1.5]))
        batch = random_batch(jtr.tasks, torch.ones(B, K, dtype=torch.bool), holes=0.0)
        first, second = jtr.sample_views(batch)
        assert not torch.equal(first.batch.labels["edges"], second.batch.labels["edges"])
        seen = set(batch.labels["edges"].flatten().tolist())
        assert set(first.batch.labels["edges"].flatten().tolist()) < seen

    def test_the_ramp_raises_the_networks_term_alone(self) -> None:
        jtr = small_jtr(ramp=0.4)
        predictions, batches = inputs(jtr)
        at = {p: terms(jtr, predictions, batches, progress=p) for p in (0.0, 0.1, 0.4, 1.0)}
        full = value(at[1.0]["jtr/distance"])
        assert [value(at[p]["jtr/distance"]) / full for p in at] == pytest.approx([0, 0.25, 1, 1])
        for name in ("jtr/autoencoder_distance", "jtr/reconstruction"):
            assert len({value(found[name]) for found in at.values()}) == 1

    def test_without_a_ramp_progress_does_not_matter(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr)
        values = {value(terms(jtr, predictions, batches, progress=p)["jtr/distance"]) for p in (0.0, 0.5)}
        assert len(values) == 1

    def test_smaller_stacks_hold_the_mean_of_the_valid_pixels(self) -> None:
        tasks: dict[str, Task] = {"a": DenseRegression(), "b": DenseRegression()}
        jtr = small_jtr(tasks=tasks, stack_scale=0.5)
        batch = random_batch(tasks, torch.tensor([[True, False]]), size=(4, 5), holes=0.0)
        label = torch.tensor([[0.1, 0.2, 0, 1, 0.9], [0.3, 0.4, 0, 1, 0.7], *[[0.6] * 5] * 2])
        label[0, 0] = float("nan")
        label[2:, :2] = float("nan")
        batch.labels["a"] = label[None, None]
        target, prediction, mask = jtr.stacks(random_predictions(tasks, 1, (4, 5)), batch, hard=True)
        assert target.shape == prediction.shape == (1, 2, 2, 3)
        assert torch.allclose(target[0, 0], torch.tensor([[0.3, 0.5, 0.8], [0.0, 0.6, 0.6]]))
        assert mask[0, 0].tolist() == [[True, True, True], [False, True, True]]
        assert value(prediction[0, :, 1, 0].abs().max()) == 0

    def test_batch_normalisation_mixes_samples_and_instance_does_not(self) -> None:
        stack = torch.rand(3, 5, 16, 16)
        changed = torch.cat([stack[:1], torch.rand(2, 5, 16, 16)])
        same = {}
        for norm in ("instance", "batch"):
            autoencoder = JointAutoencoder(5, (4, 4), (1, 1), norm)
            same[norm] = torch.allclose(
                autoencoder(stack)[1][0], autoencoder(changed)[1][0], rtol=1e-4, atol=1e-5
            )
        assert same == {"instance": True, "batch": False}

    def test_the_autoencoder_may_have_a_learning_rate_of_its_own(self) -> None:
        tasks = four_tasks()
        jtr = JTR(widths=(4,), depths=(1,), autoencoder_lr=1e-4)
        module = PartialLabelModule(tasks, ToyNetwork(), jtr, optimizer=lambda groups: Adam(groups, lr=1e-3))
        network, autoencoder = module.configure_optimizers().param_groups
        assert (network["lr"], autoencoder["lr"]) == (1e-3, 1e-4)
        assert {id(p) for p in autoencoder["params"]} == {id(p) for p in jtr.parameters()}
        assert all("lr" not in group for group in small_jtr().parameter_groups())

    def test_a_checkpoint_can_make_it_again(self) -> None:
        jtr = JTR(views=1, stack_scale=0.5, widths=(4,), depths=(1,), view_maker=ViewMaker(flip=0.5))
        again = rebuild(jtr.describe())
        assert (again.views, again.cell, again.widths, again.view_maker.flip) == (1, 2, (4,), 0.5)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"distance_weight": -1.0}, "`distance_weight` of JTR should be at least 0 and finite; found -1"),
            ({"reconstruction_weight": float("nan")}, "`reconstruction_weight` of JTR .* found nan"),
            ({"views": 4}, "`views` of JTR should be 1, 2 or 3; found 4"),
            ({"autoencoder_lr": 0.0}, r"`autoencoder_lr` of JTR should be above 0 and finite.*; found 0\.0"),
            ({"stack_scale": 0.4}, r"`stack_scale` of JTR should be 1 over a whole number .* found 0\.4"),
            (
                {"norm": "instanse"},
                "`norm` should be the name of a normalisation; .* did you mean 'instance'",
            ),
            ({"widths": (4, 4), "depths": (1,)}, "`widths` and `depths` should give"),
        ],
    )
    def test_refuses_settings_that_cannot_work(self, settings: dict, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            JTR(**settings).build(four_tasks())

    @pytest.mark.parametrize(
        "tasks",
        [{"depth": Depth()}, {"depth": Depth(), "room": Classification(3)}],
        ids=["one task", "one task in the stack"],
    )
    def test_refuses_fewer_than_two_tasks_in_the_stack(self, tasks: dict[str, Task]) -> None:
        with pytest.raises(ConfigError, match=r"JTR should have at least 2 tasks .* found \['depth'\]"):
            JTR().build(tasks)
