"""The recipe of JTR: where it departs from the authors' code, and what is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.base import Network
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.photometric import Photometric
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.tasks import Depth, Normals, Segmentation, Task
from tests.regularizers.helpers import (
    ONE_LABEL,
    B,
    K,
    four_tasks,
    inputs,
    random_batch,
    random_predictions,
    small_jtr,
    terms,
    value,
)


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


class TestViews:
    def test_views_0_and_1_share_a_pass_and_view_2_has_its_own_without_a_graph(self) -> None:
        tasks = four_tasks()
        module = PartialLabelModule(tasks, SegNet(widths=(4,), depths=(1,)), JTR(widths=(4,), depths=(1,)))
        module.log = lambda *_, **__: None
        passes = []
        module.network.register_forward_pre_hook(
            lambda _, images: passes.append((len(images[0]), torch.is_grad_enabled()))
        )
        module.training_step(random_batch(tasks, ONE_LABEL), 0)
        assert passes == [(2 * B, True), (B, False)]
        norms = [part for part in module.network.modules() if isinstance(part, nn.BatchNorm2d)]
        assert {int(norm.num_batches_tracked) for norm in norms} == {2}

    def test_further_views_begin_with_the_colours_of_view_0(self) -> None:
        """A loader that has made every image grey leaves nothing but grey to the views, changed or not."""
        jtr = small_jtr(view_maker=ViewMaker(photometric=Photometric(strength=20)))
        batch = random_batch(jtr.tasks, ONE_LABEL)
        grey = replace(batch, image=batch.image.mean(1, keepdim=True).expand(-1, 3, -1, -1))
        for view, coloured in zip(jtr.sample_views(grey), jtr.sample_views(batch), strict=True):
            image = view.batch.image
            torch.testing.assert_close(image, image[:, :1].expand_as(image))
            assert not torch.equal(image, grey.image)  # its own changes on top
            assert value((coloured.batch.image - coloured.batch.image[:, :1]).abs().max()) > 0.1


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
