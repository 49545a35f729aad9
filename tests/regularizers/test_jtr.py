"""What JTR's terms train, and what they must not depend on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jtr_lightning.batch import Batch, join
from jtr_lightning.regularizers.jtr import JTR, cosine_distance
from jtr_lightning.tasks import Classification, DenseRegression, Task, dense
from tests.regularizers.helpers import (
    ONE_LABEL,
    SOME,
    B,
    K,
    four_tasks,
    gradients,
    inputs,
    noise_of_the_values,
    random_batch,
    random_label,
    random_predictions,
    small_jtr,
    terms,
    value,
)


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
