import math
import re

import numpy as np
import pytest
import torch

from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.tasks import DenseRegression, Depth, Normals, Segmentation
from jtr_lightning.tasks.base import masked_mean
from jtr_lightning.tasks.dense import DenseTask, sharpened_cross_entropy, unit_length


def test_masked_mean_is_the_mean_over_each_samples_own_pixels() -> None:
    values = torch.arange(8.0).view(2, 1, 2, 2)
    mask = torch.tensor([[True, False, True, False], [False] * 4]).view(2, 1, 2, 2)
    assert masked_mean(values, mask).tolist() == [1.0, 0.0]


def test_a_task_without_a_pixel_loss_is_told() -> None:
    class Own(Depth):
        pixel_loss = DenseTask.pixel_loss

    with pytest.raises(NotImplementedError, match=r"Own should define pixel_loss\(\)"):
        Own().loss(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2))


def test_masked_mean_of_half_precision_does_not_overflow() -> None:
    values = torch.full((1, 1, 300, 300), 2.0, dtype=torch.float16)
    assert masked_mean(values, torch.ones(1, 1, 300, 300, dtype=torch.bool)).item() == 2.0


def test_consistency_of_classes_is_cross_entropy_to_the_squared_probabilities() -> None:
    prediction = torch.tensor([0.8, 0.2]).log().view(1, 2, 1, 1)
    reference = torch.tensor([0.6, 0.4]).log().view(1, 2, 1, 1)
    expected = -(0.36 * math.log(0.8) + 0.16 * math.log(0.2)) / 0.52
    assert sharpened_cross_entropy(prediction, reference).item() == pytest.approx(expected, rel=1e-5)
    visible = torch.ones(1, 1, 1, 1, dtype=torch.bool)
    found = Segmentation(2).consistency_loss(prediction, reference, visible)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    assert Segmentation(2).consistency_loss(prediction, reference, ~visible).item() == 0


class TestSegmentation:
    def test_loss_is_cross_entropy_over_the_labelled_pixels(self) -> None:
        task = Segmentation(3)
        raw = torch.randn(2, 3, 4, 5, dtype=torch.float64)
        target = torch.randint(-1, 3, (2, 4, 5))
        expected = [
            torch.nn.functional.cross_entropy(raw[b : b + 1], target[b : b + 1], ignore_index=-1)
            for b in (0, 1)
        ]
        torch.testing.assert_close(task.loss(task.activate(raw), target), torch.stack(expected))

    def test_a_hard_code_is_one_hot_and_its_gradient_that_of_the_soft_draw(self, monkeypatch) -> None:
        noise = torch.randn(1, 3, 2, 2)
        monkeypatch.setattr("jtr_lightning.tasks.dense.gumbel_noise", lambda like: noise)
        task = Segmentation(3)
        prediction = task.activate(torch.randn(1, 3, 2, 2)).requires_grad_()
        code = task.encode_prediction(prediction, hard=True)
        assert torch.equal(
            code.detach().round(),
            torch.nn.functional.one_hot((prediction + noise).argmax(1), 3).movedim(-1, 1),
        )
        torch.testing.assert_close(code.sum(1), torch.ones(1, 2, 2))
        weight = torch.randn_like(code)
        (hard,) = torch.autograd.grad((code * weight).sum(), prediction)
        (soft,) = torch.autograd.grad(((prediction + noise).softmax(1) * weight).sum(), prediction)
        torch.testing.assert_close(hard, soft)

    def test_a_draw_is_the_same_with_and_without_a_gradient(self) -> None:
        task = Segmentation(3)
        prediction = task.activate(torch.randn(2, 3, 8, 9))
        torch.manual_seed(0)
        expected = task.encode_prediction(prediction.clone().requires_grad_(), hard=True)
        torch.manual_seed(0)
        found = task.encode_prediction(prediction, hard=True)
        assert found.unique().tolist() == [0.0, 1.0]
        torch.testing.assert_close(found, expected.detach())

    def test_classes_are_drawn_with_their_probabilities(self) -> None:
        torch.manual_seed(0)
        probabilities = torch.tensor([0.7, 0.2, 0.1, 0.0])
        prediction = probabilities.log().view(1, 4, 1, 1).expand(1, 4, 200, 200)
        shares = Segmentation(4).encode_prediction(prediction, hard=True).mean((0, 2, 3))
        torch.testing.assert_close(shares, probabilities, rtol=0, atol=0.02)

    def test_a_soft_code_is_the_probabilities(self) -> None:
        raw = torch.randn(2, 4, 3, 3)
        task = Segmentation(4)
        torch.testing.assert_close(task.encode_prediction(task.activate(raw)), raw.softmax(1))

    def test_an_ignored_pixel_is_zero_in_every_class_of_the_code(self) -> None:
        code = Segmentation(3).encode_target(torch.tensor([[[2, -1]]]))
        assert code[0, :, 0].T.tolist() == [[0, 0, 1], [0, 0, 0]]

    def test_reconstruction_is_binary_cross_entropy_summed_over_classes(self) -> None:
        task = Segmentation(2)
        output = torch.tensor([0.3, -1.2]).view(1, 2, 1, 1)
        code = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
        expected = math.log1p(math.exp(-0.3)) + math.log1p(math.exp(-1.2))
        found = task.reconstruction_loss(output, code, torch.ones(1, 1, 1, 1, dtype=torch.bool))
        assert found.item() == pytest.approx(expected, rel=1e-6)

    def test_the_ignored_id_of_the_files_becomes_invalid(self) -> None:
        target = Segmentation(3, ignore_index=255).to_target(np.array([[0, 255, 2, 1]], dtype=np.uint8))
        assert target.tolist() == [[0, -1, 2, 1]]

    @pytest.mark.parametrize(("classes", "kept"), [(255, -1), (256, 255), (300, 255)])
    def test_255_is_a_class_where_there_are_as_many(self, classes: int, kept: int) -> None:
        assert Segmentation(classes).to_target(np.array([[0, 255, -1]])).tolist() == [[0, kept, -1]]
        other = Segmentation(classes, ignore_index=7)
        assert other.to_target(np.array([[0, 7, classes - 1]])).tolist() == [[0, -1, classes - 1]]

    def test_a_label_may_have_an_axis_of_one_channel_and_no_other(self) -> None:
        assert Segmentation(3).to_target(np.array([[[0], [2], [1]], [[0], [0], [255]]])).tolist() == [
            [0, 2, 1],
            [0, 0, -1],
        ]
        for shape in ((1, 3, 2), (3,), (1, 1, 3, 1), (0, 4), (4, 0, 1)):
            with pytest.raises(DataError, match=r"should have the shape \[H, W\] with some pixels; found"):
                Segmentation(3).to_target(np.zeros(shape, np.uint8))

    def test_a_label_without_any_class(self) -> None:
        for no_class in (255, -1):
            assert Segmentation(3).to_target(np.full((1, 2), no_class)).tolist() == [[-1, -1]]

    @pytest.mark.parametrize("bad", [3, -2])
    def test_an_id_out_of_range_is_refused(self, bad: int) -> None:
        with pytest.raises(DataError, match=rf"class ids 0..2.*found ids from .*{bad}"):
            Segmentation(3).to_target(np.array([[0, bad]], dtype=np.int16))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_whole_numbers_of_floating_point_are_ids(self, dtype: type) -> None:
        target = Segmentation(3).to_target(np.array([[0, 255, 2, -1]], dtype=dtype))
        assert target.tolist() == [[0, -1, 2, -1]]

    @pytest.mark.parametrize("bad", [0.7, -0.5, math.nan, math.inf, 1e30])
    def test_any_other_number_is_refused(self, bad: float) -> None:
        with pytest.raises(DataError, match=rf"whole numbers as class ids; found {re.escape(f'{bad:g}')}\."):
            Segmentation(3).to_target(np.array([[0, bad, 1.9]], dtype=np.float32))

    def test_a_palette_of_another_length_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="each of the 3 classes; found 1"):
            Segmentation(3, palette=[[0, 0, 0]])

    def test_one_class_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least 2"):
            Segmentation(1)

    def test_the_default_colours_of_40_classes_all_differ(self) -> None:
        assert len({tuple(c) for c in Segmentation(40).palette}) == 40

    def test_an_invalid_pixel_is_rendered_dark_grey(self) -> None:
        picture = Segmentation(2, palette=[[1, 2, 3], [4, 5, 6]]).render(torch.tensor([[[1, -1]]]))
        assert picture[0, :, 0].T.tolist() == [[4, 5, 6], [64, 64, 64]]


class TestDepth:
    def test_loss_is_the_mean_absolute_error_where_depth_is_known(self) -> None:
        prediction = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
        target = torch.tensor([2.0, 0.0, float("nan"), 4.5]).view(1, 1, 2, 2)
        assert Depth().loss(prediction, target).item() == pytest.approx((1 + 0.5) / 2)

    def test_code_is_the_normal_distribution_function(self) -> None:
        code = Depth(mean=2.0, std=0.5).encode_target(torch.tensor([2.0, 2.5, 1.0]).view(1, 1, 1, 3))
        expected = [0.5 * (1 + math.erf(z / math.sqrt(2))) for z in (0.0, 1.0, -2.0)]
        assert code.flatten().tolist() == pytest.approx(expected, abs=1e-6)

    def test_a_zoom_divides_depth_and_multiplies_inverse_depth(self) -> None:
        values, zoom = torch.tensor([3.0, 3.0]).view(2, 1, 1, 1), torch.tensor([1.0, 1.5])
        assert Depth().zoomed(values, zoom).flatten().tolist() == [3.0, 2.0]
        assert Depth(inverse=True).zoomed(values, zoom).flatten().tolist() == [3.0, 4.5]

    def test_an_invalid_depth_has_the_code_of_0(self) -> None:
        target = torch.tensor([0.0, -3.0, float("nan"), float("inf")]).view(1, 1, 1, 4)
        expected = 0.5 * (1 + math.erf(-1 / math.sqrt(2)))
        code = Depth(mean=2.0, std=2.0).encode_target(target).flatten().tolist()
        assert code == pytest.approx([expected] * 4, rel=1e-5)

    def test_reconstruction_is_the_absolute_difference_between_the_sigmoid_and_the_code(self) -> None:
        output = torch.tensor([0.25, 0.9, 0.5]).logit().view(1, 1, 1, 3)
        code = torch.tensor([0.75, 0.8, 0.0]).view(1, 1, 1, 3)
        mask = torch.tensor([True, True, False]).view(1, 1, 1, 3)
        assert Depth().reconstruction_loss(output, code, mask).item() == pytest.approx((0.5 + 0.1) / 2)

    def test_the_code_for_a_pair_is_the_share_of_each_samples_own_maximum(self) -> None:
        values = torch.tensor([[1.0, 4.0, -2.0, 0.0], [0.5, 0.25, 0.0, 0.0], [-1.0, -2.0, 0.0, -3.0]])
        code = Depth().encode_prediction_for_pair(values.view(3, 1, 2, 2)).flatten(1)
        assert code.tolist() == [[0.25, 1, 0, 0], [1, 0.5, 0, 0], [0, 0, 0, 0]]
        target = torch.tensor([2.0, float("nan"), float("inf"), 1.0]).view(1, 1, 2, 2)
        assert Depth().encode_target_for_pair(target).flatten().tolist() == [1, 0, 0, 0.5]

    @pytest.mark.parametrize("name", ["expected_range", "expected_median"])
    @pytest.mark.parametrize("ends", [(1.0, 1.0), (2.0, 1.0)])
    def test_an_expectation_is_a_range(self, name: str, ends: tuple[float, float]) -> None:
        with pytest.raises(ConfigError, match=f"`{name}` should be a smaller and a larger value"):
            Depth(**{name: ends})
        assert getattr(Depth(**{name: (0.5, 1.0)}), name) == (0.5, 1.0)

    def test_std_must_be_positive(self) -> None:
        with pytest.raises(ConfigError, match="`std` should be above 0; found 0"):
            Depth(std=0.0)

    def test_near_and_far_have_other_colours_and_a_hole_is_grey(self) -> None:
        near, far, hole = Depth().render(torch.tensor([0.5, 7.0, 0.0]).view(1, 1, 1, 3))[0, :, 0].T.tolist()
        assert near[2] > near[0]
        assert far[0] > far[2]
        assert hole == [64, 64, 64]


class TestNormals:
    def test_loss_is_one_minus_the_cosine(self) -> None:
        task = Normals()
        raw = torch.tensor([0.0, 0.0, -2.0]).view(1, 3, 1, 1)
        target = torch.tensor([0.0, -math.sin(math.pi / 3), -math.cos(math.pi / 3)]).view(1, 3, 1, 1)
        assert task.loss(task.activate(raw), target).item() == pytest.approx(0.5, abs=1e-5)

    def test_prediction_has_unit_length_and_a_bounded_gradient_at_the_zero_vector(self) -> None:
        raw = torch.zeros(1, 3, 1, 1, requires_grad=True)
        unit_length(raw).sum().backward()
        assert raw.grad is not None
        assert raw.grad.abs().max() <= 1e3
        torch.testing.assert_close(
            Normals().activate(torch.randn(2, 3, 4, 4) * 5).norm(dim=1),
            torch.ones(2, 4, 4),
            rtol=0,
            atol=1e-3,
        )

    def test_mirroring_negates_x_alone(self) -> None:
        assert Normals().mirrored(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)).flatten().tolist() == [
            -1,
            2,
            3,
        ]

    def test_consistency_is_one_minus_the_cosine_whatever_the_length_of_the_reference(self) -> None:
        prediction = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
        visible = torch.ones(1, 1, 1, 1, dtype=torch.bool)
        for reference, expected in (([0.0, 0.0, 0.5], 0.0), ([0.3, 0.0, 0.0], 1.0), ([0.0, 0.4, 0.3], 0.4)):
            found = Normals().consistency_loss(prediction, torch.tensor(reference).view(1, 3, 1, 1), visible)
            assert found.item() == pytest.approx(expected, abs=1e-4)

    def test_the_mean_of_normals_is_made_a_unit_vector(self) -> None:
        mean = torch.tensor([0.0, 0.3, 0.4]).view(1, 3, 1, 1)
        assert Normals().renormalize(mean).flatten().tolist() == pytest.approx([0, 0.6, 0.8], abs=1e-5)

    def test_a_normal_that_is_not_finite_is_invalid_and_has_the_code_of_the_zero_vector(self) -> None:
        target = torch.tensor([0.0, float("nan"), 1.0]).view(1, 3, 1, 1)
        assert not Normals().valid(target).any()
        assert Normals().encode_target(target).flatten().tolist() == [0.5, 0.5, 1.0]

    def test_only_the_zero_vector_is_invalid(self) -> None:
        # The sum of the components is 0 for a valid normal too.
        target = (
            torch.tensor([[0.0, 0.6, 0.0], [0.0, -0.8, 0.6], [0.0, 0.2, -0.6]])
            .T.reshape(3, 3)
            .T.view(1, 3, 1, 3)
        )
        assert Normals().valid(target).flatten().tolist() == [False, True, True]

    def test_a_label_of_vectors_of_another_length_is_refused(self) -> None:
        label = np.zeros((2, 3, 3), dtype=np.float32)
        label[0] = [0.0, 0.6, -0.8]
        label[1, 0] = np.nan
        for factor in (0.96, 1.0, 1.04):
            kept = Normals().to_target(label * np.float32(factor))
            assert np.array_equal(kept.permute(1, 2, 0), label * np.float32(factor), equal_nan=True)
        with pytest.raises(DataError, match=r"found 3 of 6 vectors of lengths 2 to 2\. Divide them"):
            Normals().to_target(2 * label)
        with pytest.raises(DataError, match=r"found 3 of 6 vectors of lengths 0\.94 to 0\.94"):
            Normals().to_target(label * np.float32(0.94))

    def test_of_a_large_label_some_64_rows_are_looked_at(self) -> None:
        label = np.zeros((640, 2, 3), dtype=np.float32)
        label[..., 2] = -1
        Normals().to_target(label)
        with pytest.raises(DataError, match=r"found 128 of 128 vectors of lengths 2 to 2"):
            Normals().to_target(2 * label)

    def test_all_codes_of_8_bits_pass_as_normals(self) -> None:
        unit = np.random.default_rng(0).normal(size=(40, 50, 3))
        unit /= np.linalg.norm(unit, axis=-1, keepdims=True)
        codes = np.round((unit + 1) * 127.5)
        assert Normals().valid(Normals().to_target(codes / 127.5 - 1)[None]).all()

    def test_reconstruction_compares_with_the_normal_behind_the_code(self) -> None:
        task = Normals()
        normal = torch.tensor([0.0, 0.6, -0.8]).view(1, 3, 1, 1)
        mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)
        assert task.reconstruction_loss(3 * normal, task.encode_target(normal), mask).item() == pytest.approx(
            0, abs=1e-6
        )
        assert task.reconstruction_loss(-normal, task.encode_target(normal), mask).item() == pytest.approx(
            2, abs=1e-5
        )


class TestDenseRegression:
    def test_loss_is_the_mean_absolute_error_over_pixels_and_channels(self) -> None:
        target = torch.tensor([[0.0, float("nan")], [1.0, 0.5]]).view(1, 2, 1, 2)
        assert DenseRegression(2).loss(torch.zeros(1, 2, 1, 2), target).item() == pytest.approx(0.5)

    def test_code_maps_low_to_0_and_high_to_1_and_clamps(self) -> None:
        code = DenseRegression(1, low=-2, high=2).encode_prediction(
            torch.tensor([-3.0, -2.0, 0.0, 2.0, 9.0]).view(1, 1, 1, 5)
        )
        assert code.flatten().tolist() == [0, 0, 0.5, 1, 1]

    def test_reconstruction_is_the_absolute_difference_averaged_over_channels_and_pixels(self) -> None:
        output = torch.tensor([[0.25, 0.9], [0.5, 0.5]]).logit().view(1, 2, 1, 2)
        code = torch.tensor([[0.75, 0.0], [0.4, 0.0]]).view(1, 2, 1, 2)
        mask = torch.tensor([True, False]).view(1, 1, 1, 2)
        found = DenseRegression(2).reconstruction_loss(output, code, mask)
        assert found.item() == pytest.approx((0.5 + 0.1) / 2)

    def test_an_invalid_pixel_has_a_finite_code(self) -> None:
        assert DenseRegression(1).encode_target(torch.full((1, 1, 1, 1), float("nan"))).item() == 0

    def test_mirroring_negates_the_signed_channels(self) -> None:
        values = torch.ones(1, 3, 1, 1)
        assert DenseRegression(3, signed_channels=[1]).mirrored(values).flatten().tolist() == [1, -1, 1]
        assert values.flatten().tolist() == [1, 1, 1]

    @pytest.mark.parametrize("channels", [1, 2, 3, 5])
    def test_any_number_of_channels_is_rendered(self, channels: int) -> None:
        picture = DenseRegression(channels).render(torch.rand(2, channels, 3, 4))
        assert picture.shape == (2, 3, 3, 4)
        assert picture.float().std() > 0

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"channels": 0}, "`channels` should be at least 1"),
            ({"low": 1.0, "high": 1.0}, "`low` should be below `high`"),
            ({"signed_channels": [1]}, r"channels 0..0; found \[1\]"),
        ],
    )
    def test_wrong_arguments_are_refused(self, arguments, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            DenseRegression(**arguments)

    def test_a_label_of_other_channels_is_refused(self) -> None:
        with pytest.raises(DataError, match=r"\[H, W, 2\]; found \[4, 5, 3\]"):
            DenseRegression(2).to_target(np.zeros((4, 5, 3), dtype=np.float32))

    def test_a_label_of_one_channel_may_lack_its_axis(self) -> None:
        flat = np.arange(6, dtype=np.float32).reshape(2, 3)
        for array in (flat, flat[..., None]):
            assert DenseRegression(1).to_target(array).tolist() == [flat.tolist()]
