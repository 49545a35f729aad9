"""What JTR's terms train, what they must not depend on, and its options."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from jtr_lightning.batch import Batch, join
from jtr_lightning.described import rebuild
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.base import Network
from jtr_lightning.regularizers.joint_autoencoder import JointAutoencoder
from jtr_lightning.regularizers.jtr import JTR, cosine_distance
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Normals, Segmentation, Task, dense
from tests.regularizers.helpers import (
    four_tasks,
    noise_of_the_values,
    random_batch,
    random_label,
    random_predictions,
)

B, K = 4, 4
ONE_LABEL = torch.eye(K, dtype=torch.bool)
SOME = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]]).bool()


def small_jtr(tasks: dict[str, Task] | None = None, **settings) -> JTR:
    jtr = JTR(**{"widths": (4, 6), "depths": (1, 2), **settings})
    jtr.build(tasks or four_tasks())
    return jtr


def inputs(jtr: JTR, available: Tensor = ONE_LABEL, **kwargs):
    """Predictions and batches for all of JTR's views."""
    batches = [random_batch(jtr.tasks, available, **kwargs) for _ in range(jtr.views)]
    predictions = [random_predictions(jtr.tasks, len(available), batches[0].size) for _ in range(jtr.views)]
    return predictions, batches


def terms(jtr: JTR, predictions, batches, progress: float = 0.0, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return jtr(predictions, batches, [[]] * len(batches), progress)


def value(term: Tensor) -> float:
    return float(term.detach())


def gradients(predictions) -> list[dict[str, Tensor]]:
    return [
        {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in view.items()}
        for view in predictions
    ]


@pytest.fixture
def _double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """float64, and draws that depend on the prediction alone."""
    monkeypatch.setattr(dense, "gumbel_noise", noise_of_the_values)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class TestWhatEachTermTrains:
    def test_the_distance_trains_the_network_alone(self) -> None:
        """Frozen parameters stand where the authors copy the auto-encoder."""
        jtr = small_jtr()
        predictions, batches = inputs(jtr)
        terms(jtr, predictions, batches)["jtr/distance"].backward()
        assert all(p.grad is None for p in jtr.parameters())
        assert all(p.requires_grad for p in jtr.parameters())
        grads = gradients(predictions)
        assert all(float(g.abs().max()) > 0 for g in grads[1].values())
        assert all(float(g.abs().max()) == 0 for view in (0, 2) for g in grads[view].values())

    @pytest.mark.parametrize("task", range(K))
    def test_the_distance_teaches_unlabelled_tasks_alone(self, task: int) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr)
        terms(jtr, predictions, batches)["jtr/distance"].backward()
        for k, grad in enumerate(gradients(predictions)[1].values()):
            assert (float(grad[task].abs().max()) > 0) == (k != task)  # sample i is labelled for task i

    def test_the_second_distance_trains_the_encoder_and_the_reconstruction_all_of_it(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr)
        found = terms(jtr, predictions, batches)
        found["jtr/autoencoder_distance"].backward(retain_graph=True)
        for name, parameter in jtr.autoencoder.named_parameters():
            assert (parameter.grad is not None) == name.startswith("encoder."), name
        found["jtr/reconstruction"].backward()
        assert all(p.grad is not None for p in jtr.parameters())
        assert all(float(g.abs().max()) == 0 for view in gradients(predictions) for g in view.values())

    @pytest.mark.parametrize("available", [torch.ones(B, K).bool(), torch.zeros(B, K).bool(), SOME])
    def test_every_prediction_and_parameter_has_a_gradient_path_whatever_is_labelled(
        self, available: Tensor
    ) -> None:
        """Else a parameter would be unused on one rank of a distributed training and not on another."""
        jtr = small_jtr()
        predictions, batches = inputs(jtr, available)
        total = sum(terms(jtr, predictions, batches).values())
        total.backward()
        assert bool(total.isfinite())
        used = [*jtr.parameters(), *predictions[1].values()]
        assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in used)

    def test_a_fully_labelled_sample_teaches_the_network_nothing(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, torch.ones(B, K, dtype=torch.bool))
        found = terms(jtr, predictions, batches)
        assert value(found["jtr/distance"]) > 0.01
        sum(found.values()).backward()
        assert all(float(g.abs().max()) == 0 for g in gradients(predictions)[1].values())

    def test_labels_that_are_nowhere_valid_add_nothing(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, holes=1.0)
        found = terms(jtr, predictions, batches)
        assert {name: value(term) for name, term in found.items()} == dict.fromkeys(found, 0.0)
        sum(found.values()).backward()
        assert all(bool(p.grad.isfinite().all()) for p in jtr.parameters())

    def test_zero_latents_of_an_empty_mask_are_no_distance(self) -> None:
        latent = torch.zeros(4, 3, 2, 2)  # two stacks of each of two samples
        latent[1] = latent[3] = torch.tensor([1.0, 0, 0]).view(3, 1, 1)
        latent[3, :, 0] = torch.tensor([0.0, 1, 0]).view(3, 1)
        mask = torch.tensor([False, True]).view(2, 1, 1, 1).expand(-1, -1, 4, 4)
        assert cosine_distance(latent, mask).tolist() == pytest.approx([0, 0.5])

    def test_the_autoencoder_learns_to_reconstruct(self) -> None:
        jtr = small_jtr(views=1, autoencoder_distance_weight=0.0, widths=(8, 8))
        batch = random_batch(jtr.tasks, ONE_LABEL, size=(4, 4), holes=0.0)
        blocks = {
            name: label.repeat_interleave(4, -1).repeat_interleave(4, -2)
            for name, label in batch.labels.items()
        }
        batch = replace(batch, image=torch.rand(B, 3, 16, 16), labels=blocks)
        prediction = {
            name: p.detach().repeat_interleave(4, -1).repeat_interleave(4, -2)
            for name, p in random_predictions(jtr.tasks, B, (4, 4)).items()
        }
        prediction["segmentation"] = (5 * prediction["segmentation"]).log_softmax(1)
        optimizer = torch.optim.Adam(jtr.parameters(), lr=0.01)
        losses = []
        for _ in range(60):
            loss = terms(jtr, [prediction], [batch])["jtr/reconstruction"]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(value(loss))
        assert losses[-1] < 0.5 * losses[0]

    def test_right_predictions_of_labelled_tasks_leave_no_distance(self) -> None:
        tasks: dict[str, Task] = {"a": DenseRegression(), "b": DenseRegression()}
        jtr = small_jtr(tasks, views=1)
        batch = random_batch(tasks, torch.tensor([[True, False]]), holes=0.0)
        wrong = random_predictions(tasks, 1)
        right = {**wrong, "a": batch.labels["a"].clone()}
        assert value(terms(jtr, [wrong], [batch])["jtr/distance"]) > 0.01
        assert value(terms(jtr, [right], [batch])["jtr/distance"]) == pytest.approx(0, abs=1e-5)


class TestWhatDoesNotMatter:
    @pytest.mark.parametrize("cell", [1.0, 0.5])
    def test_hidden_labels(self, cell: float) -> None:
        jtr = small_jtr(stack_scale=cell)
        predictions, batches = inputs(jtr, SOME)
        expected = self._outcome(jtr, predictions, batches)
        for batch in batches:
            for k, (name, task) in enumerate(jtr.tasks.items()):
                other = random_label(task, B, batch.size)
                batch.labels[name][~SOME[:, k]] = other[~SOME[:, k]]
        self._assert_same(self._outcome(jtr, predictions, batches), expected)

    @pytest.mark.parametrize("written", [float("nan"), float("inf"), -1.0])
    def test_how_an_invalid_pixel_of_a_label_is_written(self, written: float) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, SOME, holes=0.3)
        expected = self._outcome(jtr, predictions, batches)
        for batch in batches:
            invalid = ~jtr.tasks["depth"].valid(batch.labels["depth"])
            batch.labels["depth"][invalid] = written
            if not math.isfinite(written):
                for name in ("normals", "edges"):
                    invalid = ~jtr.tasks[name].valid(batch.labels[name])
                    batch.labels[name][:, :1][invalid] = written
        self._assert_same(self._outcome(jtr, predictions, batches), expected)

    @pytest.mark.parametrize("cell", [1.0, 0.5])
    def test_labels_and_predictions_outside_the_mask(self, cell: float) -> None:
        """A pixel where one of a sample's labels is invalid counts for none of its tasks."""
        jtr = small_jtr(stack_scale=cell)
        available = torch.ones(B, K, dtype=torch.bool)
        available[0, 3] = False
        predictions, batches = inputs(jtr, available, holes=0.3)
        expected = self._outcome(jtr, predictions, batches)
        for view, batch in zip(predictions, batches, strict=True):
            mask = torch.ones(1, dtype=torch.bool)
            for name in ("segmentation", "depth", "normals"):
                mask = mask & jtr.tasks[name].valid(batch.labels[name])
            mask[1:] &= jtr.tasks["edges"].valid(batch.labels["edges"])[1:]
            edges = batch.labels["edges"]
            edges[:] = torch.where(mask | edges.isnan(), edges, torch.rand_like(edges))
            with torch.no_grad():
                for name in ("depth", "normals", "edges"):
                    view[name].copy_(torch.where(mask, view[name], torch.rand_like(view[name])))
        self._assert_same(self._outcome(jtr, predictions, batches), expected)

    @pytest.mark.usefixtures("_double")
    def test_the_order_of_the_tasks(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, SOME)
        expected = self._outcome(jtr, predictions, batches)

        order = ["normals", "edges", "segmentation", "depth"]
        other = small_jtr(tasks={name: jtr.tasks[name] for name in order})
        sizes = [task.joint_channels for task in jtr.tasks.values()]
        places = dict(zip(jtr.tasks, torch.arange(sum(sizes)).split(sizes), strict=True))
        channels = torch.cat([places[name] for name in order])
        weights = jtr.state_dict()
        for name in ("autoencoder.head.1.weight", "autoencoder.head.1.bias"):
            weights[name] = weights[name][channels]
        first = "autoencoder.encoder.stages.0.0.weight"
        weights[first] = weights[first][:, channels]
        other.load_state_dict(weights)
        reordered = [
            Batch(
                batch.image,
                {name: batch.labels[name] for name in order},
                batch.available[:, [list(jtr.tasks).index(name) for name in order]],
                batch.domain,
                batch.index,
            )
            for batch in batches
        ]
        self._assert_same(self._outcome(other, predictions, reordered), expected, 1e-9)

    @pytest.mark.usefixtures("_double")
    def test_the_order_of_the_samples(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, SOME)
        expected = self._outcome(jtr, predictions, batches)
        order = torch.tensor([2, 0, 3, 1])
        shuffled = [{n: p.detach()[order].requires_grad_() for n, p in view.items()} for view in predictions]
        found = self._outcome(jtr, shuffled, [self._pick(batch, order) for batch in batches])
        for view in expected[1]:
            for name in view:
                view[name] = view[name][order]
        self._assert_same(found, expected, 1e-9)

    @pytest.mark.usefixtures("_double")
    def test_a_joined_batch_is_the_mean_of_its_halves(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, SOME)
        whole = terms(jtr, predictions, batches)
        rows = (torch.tensor([0, 1]), torch.tensor([2, 3]))
        halves = [
            terms(
                jtr,
                [{n: p[half] for n, p in view.items()} for view in predictions],
                [self._pick(b, half) for b in batches],
            )
            for half in rows
        ]
        assert torch.equal(
            join([self._pick(batches[0], half) for half in rows]).available, batches[0].available
        )
        for name, term in whole.items():
            assert value(term) == pytest.approx(value(halves[0][name] + halves[1][name]) / 2, rel=1e-10)

    def test_image_level_tasks(self) -> None:
        tasks = {"room": Classification(3), **four_tasks()}
        jtr = small_jtr(tasks=tasks)
        predictions, batches = inputs(jtr, torch.cat([torch.ones(B, 1).bool(), SOME], 1))
        expected = self._outcome(jtr, predictions, batches)
        for batch in batches:
            batch.labels["room"] = (batch.labels["room"] + 1) % 3
        self._assert_same(self._outcome(jtr, predictions, batches), expected)
        assert jtr.autoencoder.head[-1].out_channels == 4 + 1 + 3 + 2

    @staticmethod
    def _pick(batch: Batch, rows: Tensor) -> Batch:
        return batch._map(lambda t: t[rows])

    @staticmethod
    def _outcome(jtr: JTR, predictions, batches):
        for view in predictions:
            for leaf in view.values():
                leaf.grad = None
        jtr.zero_grad()
        found = terms(jtr, predictions, batches)
        sum(found.values()).backward()
        return {n: t.detach() for n, t in found.items()}, gradients(predictions)

    @staticmethod
    def _assert_same(found, expected, tolerance: float = 0.0) -> None:
        for name, term in expected[0].items():
            assert bool(term.isfinite())
            assert value(found[0][name]) == pytest.approx(value(term), rel=tolerance, abs=tolerance)
        for view, other in zip(expected[1], found[1], strict=True):
            for name, grad in view.items():
                assert torch.allclose(other[name], grad, rtol=tolerance, atol=tolerance * 1e-3), name


class PerfectAutoencoder(nn.Module):
    """Gives back what went in, in the form in which each of the three tasks reads an output."""

    def forward(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        segmentation, depth, normals = stack.split([4, 1, 3], 1)
        tiny = 1e-7
        return stack, torch.cat(
            [segmentation.clamp(tiny, 1 - tiny).logit(), depth.logit(), 2 * normals - 1], 1
        )


class TestAgainstTheAuthorsSlips:
    """The numbers are those of the list of departures."""

    @pytest.fixture
    def tasks(self) -> dict[str, Task]:
        return {"segmentation": Segmentation(4), "depth": Depth(), "normals": Normals()}

    def test_2_weights_are_separate_and_default_to_the_published_product(self) -> None:
        jtr = JTR()
        assert jtr.distance_weight == 4
        assert jtr.autoencoder_distance_weight == 8
        assert jtr.reconstruction_weight == 2
        predictions, batches = inputs(small_jtr())
        base = small_jtr(distance_weight=1, autoencoder_distance_weight=1, reconstruction_weight=1)
        other = small_jtr(distance_weight=3, autoencoder_distance_weight=5, reconstruction_weight=7)
        other.load_state_dict(base.state_dict())
        ones, weighted = terms(base, predictions, batches), terms(other, predictions, batches)
        factors = [value(weighted[name] / ones[name]) for name in ones]
        assert factors == pytest.approx([3, 5, 7])

    def test_3_4_6_what_went_in_is_what_must_come_out(self, tasks: dict[str, Task]) -> None:
        """A perfect reconstruction costs nothing but the entropy of the probabilities.

        Depth is coded once, normals have one target in both stacks, and the targets of segmentation are the very
        draw that went in: a fresh draw from these uncertain predictions would differ at most pixels.
        """
        jtr = small_jtr(tasks, views=1)
        jtr.autoencoder = PerfectAutoencoder()
        available = torch.tensor([[False, True, False], [False, False, True]])
        batch = random_batch(tasks, available, holes=0.0)
        predictions = random_predictions(tasks, 2)
        stacks = jtr.stacks(predictions, batch, hard=False)
        drawn = stacks.target[:, :4]
        assert torch.equal(drawn.sum(1), torch.ones_like(drawn[:, 0]))
        torch.manual_seed(0)
        _, loss = jtr._autoencoder_losses(jtr.stacks(predictions, batch, hard=False))
        probability = predictions["segmentation"].detach().exp()
        entropy = nn.functional.binary_cross_entropy(probability, probability, reduction="none").sum(1)
        assert loss.detach().tolist() == pytest.approx(entropy.mean((1, 2)).tolist(), abs=2e-5)

    def test_5_one_mask_for_both_stacks_and_all_tasks(self, tasks: dict[str, Task]) -> None:
        jtr = small_jtr(tasks=tasks)
        available = torch.tensor([[True, True, False]])
        batch = random_batch(tasks, available, holes=0.0)
        batch.labels["segmentation"][0, 2, 3] = -1
        batch.labels["depth"][0, 0, 4, 5] = 0
        target, prediction, mask = jtr.stacks(random_predictions(tasks, 1), batch, hard=True)
        assert (~mask[0, 0]).nonzero().tolist() == [[2, 3], [4, 5]]
        # The blank code: no class, Phi of 0 m, the zero vector.
        blank = [0, 0, 0, 0, float(torch.special.ndtr(torch.tensor(-2.3618 / 1.5876))), 0.5, 0.5, 0.5]
        for stack in (target, prediction):
            assert stack[0, :, 2, 3].tolist() == pytest.approx(blank)
            assert stack[0, :, 4, 5].tolist() == pytest.approx(blank)
        assert value((target[0, 4:5] - prediction[0, 4:5])[mask[0]].abs().min()) > 0

    def test_7_depth_is_coded_with_the_statistics_of_its_dataset(self) -> None:
        """Cityscapes' inverse depth, coded as NYU-v2's metres, would fill a twentieth of [0, 1]."""
        spread = []
        for depth in (Depth(), Depth(mean=0.02, std=0.02, inverse=True)):
            tasks = {"depth": depth, "normals": Normals()}
            batch = random_batch(tasks, torch.ones(2, 2, dtype=torch.bool), holes=0.0)
            batch.labels["depth"] = torch.rand_like(batch.labels["depth"]) * 0.06 + 1e-4
            code = small_jtr(tasks=tasks).stacks(random_predictions(tasks, 2), batch, hard=True).target[:, 0]
            spread.append(value(code.max() - code.min()))
        assert spread[0] < 0.05
        assert spread[1] > 0.7

    def test_10_no_layer_is_unused_and_the_autoencoder_is_in_the_checkpoint(self) -> None:
        module = PartialLabelModule(four_tasks(), TinyNetwork(), JTR(widths=(4,), depths=(1,)))
        saved = {name for name in module.state_dict() if name.startswith("regularizer.autoencoder.")}
        assert saved == {
            f"regularizer.autoencoder.{name}" for name, _ in module.regularizer.autoencoder.named_parameters()
        }
        in_optimizer = {
            id(p) for group in module.configure_optimizers().param_groups for p in group["params"]
        }
        assert all(id(p) in in_optimizer for p in module.regularizer.parameters())


class TinyNetwork(Network):
    """One convolution per task."""

    def make_layers(self, tasks) -> None:
        self.heads = nn.ModuleDict({n: nn.Conv2d(3, t.channels, 3, padding=1) for n, t in tasks.items()})

    @property
    def feature_channels(self) -> list[int]:
        return [3]

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        return {name: head(image) for name, head in self.heads.items()}, [image]


class TestDraws:
    def test_segmentation_is_drawn_where_the_recipe_says(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, torch.zeros(B, K, dtype=torch.bool))
        batch, prediction = batches[0], predictions[0]
        hard = jtr.stacks(prediction, batch, hard=True)
        soft = jtr.stacks(prediction, batch, hard=False)
        for stack in (hard.target, hard.prediction, soft.target):
            classes = stack[:, :4].detach()
            assert torch.allclose(classes.amax(1), torch.ones(()))
            assert torch.allclose(classes.sum(1), torch.ones(()))
        assert torch.allclose(soft.prediction[:, :4], prediction["segmentation"].exp())
        # One draw for Y and one for Yhat; everything that is not drawn is the same in both.
        assert not torch.equal(hard.target[:, :4], hard.prediction[:, :4])
        assert torch.equal(hard.target[:, 4:], hard.prediction[:, 4:])

    def test_a_labelled_task_enters_the_target_as_its_label(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, ONE_LABEL, holes=0.0)
        target = jtr.stacks(predictions[0], batches[0], hard=True).target
        one_hot = nn.functional.one_hot(batches[0].labels["segmentation"][0], 4).movedim(-1, 0)
        assert torch.equal(target[0, :4], one_hot.float())
        depth = torch.special.ndtr((batches[0].labels["depth"][1] - 2.3618) / 1.5876)
        assert torch.allclose(target[1, 4:5], depth)
        assert torch.allclose(target[2, 5:8], (batches[0].labels["normals"][2] + 1) / 2)
        assert torch.equal(target[3, 8:], batches[0].labels["edges"][3])


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
        jtr = small_jtr(distance_ramp=0.4)
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
            ({"distance_ramp": 2.0}, r"`distance_ramp` of JTR should be a share .* found 2\.0"),
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


class TestOnTheDevice:
    def test_bf16_autocast_keeps_losses_in_float32_and_everything_finite(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, SOME)
        exact = terms(jtr, predictions, batches)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = terms(jtr, predictions, batches)
        sum(found.values()).backward()
        for name, term in found.items():
            assert term.dtype == torch.float32
            assert value(term) == pytest.approx(value(exact[name]), rel=0.1)
        for parameter in jtr.parameters():
            assert bool(parameter.grad.isfinite().all())
        assert all(bool(g.isfinite().all()) for g in gradients(predictions)[1].values())

    def test_no_value_is_read_by_the_host(self) -> None:
        jtr = small_jtr(view_maker=ViewMaker(flip=0.5))
        batch = random_batch(jtr.tasks, SOME)
        predictions, _ = inputs(jtr, SOME)
        with HostReads() as reads:
            batches = [batch, *(view.batch for view in jtr.sample_views(batch))]
            sum(jtr(predictions, batches, [[]] * 3, 0.5).values()).backward()
        assert reads.seen > 100
        assert reads.found == []

    def test_the_check_for_host_reads_finds_them(self) -> None:
        values = torch.rand(4)
        with HostReads() as reads:
            float(values.sum())
            values[values > 0.5]
            values.nonzero()
        assert len(reads.found) == 3

    def test_the_published_step_costs_as_counted_by_hand(self) -> None:
        """1.01 TFLOP per sample at 288x384: the authors' 1.15 less the frozen encoder's parameter gradients."""
        size = (288, 384)
        tasks: dict[str, Task] = {"s": Segmentation(13), "d": Depth(), "n": Normals()}
        jtr = JTR(views=1).build(tasks).to("meta")
        labels = {n: torch.empty(1, *t.target_shape(*size), dtype=t.target_dtype) for n, t in tasks.items()}
        number = torch.zeros(1, dtype=torch.int64)
        batch = Batch(torch.empty(1, 3, *size), labels, torch.ones(1, 3).bool(), number, number).to("meta")
        predictions = {
            n: torch.empty(1, t.channels, *size, device="meta").requires_grad_() for n, t in tasks.items()
        }
        with FlopCounterMode(display=False) as counter:
            sum(jtr([predictions], [batch], [[]], 0.0).values()).backward()
        encoder, decoder, first_layer = published_autoencoder_flops(size)
        network_term = 2 * 2 * encoder  # forward, and the gradient of the input
        autoencoder_terms = 2 * 3 * (encoder + decoder) - 2 * first_layer  # its input takes no gradient
        expected = network_term + autoencoder_terms
        assert counter.get_total_flops() == pytest.approx(expected, rel=1e-6)
        assert expected == pytest.approx(1.01e12, rel=0.005)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_step_on_the_gpu_never_waits(self) -> None:
        jtr = small_jtr(view_maker=ViewMaker(flip=0.5)).to("cuda")
        batch = random_batch(jtr.tasks, SOME).to("cuda")
        predictions = [
            {n: p.detach().cuda().requires_grad_() for n, p in view.items()} for view in inputs(jtr, SOME)[0]
        ]
        torch.cuda.set_sync_debug_mode("error")
        try:
            batches = [batch, *(view.batch for view in jtr.sample_views(batch))]
            sum(jtr(predictions, batches, [[]] * 3, 0.5).values()).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(bool(p.grad.isfinite().all()) for p in jtr.parameters())


class HostReads(TorchDispatchMode):
    """Notes every operation for which the host would have to wait for the device's values."""

    names = (
        "_local_scalar_dense", "is_nonzero", "nonzero", "nonzero_numpy", "masked_select", "equal", "bincount",
        "unique_dim", "_unique", "_unique2", "unique_consecutive", "repeat_interleave",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.seen = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.seen += 1
        name = function.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            isinstance(i, Tensor) and i.dtype == torch.bool
            for argument in args
            if isinstance(argument, list | tuple)
            for i in argument
        )
        if name in self.names or by_mask:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


def published_autoencoder_flops(size: tuple[int, int], channels: int = 17) -> tuple[int, int, int]:
    """FLOPs of the forward pass of encoder and decoder with head, and of the first layer, by hand."""
    pixels = size[0] * size[1]
    widths, depths = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)
    encoder = decoder = 0
    before = channels
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        inner = 2 * 9 * (pixels // 4**stage) * width * width * (depth - 1)
        encoder += 2 * 9 * (pixels // 4**stage) * before * width + inner
        after = widths[max(stage - 1, 0)]
        decoder += 2 * 9 * (pixels // 4**stage) * after * (width + after * (depth - 1))
        before = width
    head = 2 * pixels * (9 * 64 * 64 + 64 * channels)
    return encoder, decoder + head, 2 * 9 * pixels * channels * 64
