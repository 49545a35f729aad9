"""Predictions at the image's own size: resizing, batches, tiles and mirrored views, each against known values."""

from itertools import pairwise

import lightning as L
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.prediction import Predictor
from jtr_lightning.prediction.predictor import starts
from jtr_lightning.tasks import Normals
from tests.pointwise import point_module, point_tasks
from tests.tiny import TinyData, ToyNetwork, tiny_tasks


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def close(found, expected, atol: float = 1e-5) -> None:
    assert list(found) == list(expected)
    for name in found:
        torch.testing.assert_close(found[name], expected[name], atol=atol, rtol=0, msg=name)


# Module.predict


def test_every_kind_of_image_gives_what_forward_gives() -> None:
    module = PartialLabelModule(tiny_tasks(), ToyNetwork()).eval()
    image = picture(9, 11)
    tensor = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    with torch.no_grad():
        expected = {name: values[0] for name, values in module(tensor[None]).items()}
    for given_image in (Image.fromarray(image), image, image.astype(np.float64) / 255, tensor):
        close(module.predict(given_image, decode=False), expected)


def test_labels_by_default_in_the_layout_of_a_target() -> None:
    module = point_module()
    found = module.predict(picture(4, 6))
    for name, task in module.tasks.items():
        assert tuple(found[name].shape) == task.target_shape(4, 6)
        assert found[name].dtype == task.target_dtype
    red, green = torch.from_numpy(picture(4, 6)[..., :2]).unbind(-1)
    assert torch.equal(found["segmentation"], (green > red).long())


def test_a_batch_of_tensors_gives_a_batch() -> None:
    module = point_module()
    batch = torch.rand(3, 3, 4, 6)
    found = module.predict(batch)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(module.tasks, 3)
    close({name: values[1] for name, values in found.items()}, module.predict(batch[1]))


def test_training_mode_is_left_as_it_was_and_not_predicted_in() -> None:
    module = point_module().train()
    module.network.scale.requires_grad_(False)
    module.network.eval()
    modes = []
    module.network.register_forward_hook(lambda *_: modes.append(module.training))
    found = module.predict(picture(4, 6))
    assert modes == [False]
    assert module.training
    assert not module.network.training
    assert not found["depth"].requires_grad


# The training's size


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, TinyData]:
    """A checkpoint of a training whose images were resized from 8x10 to 12x14."""
    data = TinyData(tasks=list(tiny_tasks()), size=(12, 14))
    trainer = L.Trainer(
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
        limit_val_batches=0,
    )
    trainer.fit(PartialLabelModule(data.tasks, ToyNetwork()), datamodule=data)
    path = tmp_path_factory.mktemp("trained") / "last.ckpt"
    trainer.save_checkpoint(path)
    return str(path), data


def test_a_checkpoint_remembers_the_size_of_the_training(trained) -> None:
    path, _ = trained
    assert PartialLabelModule.load_from_checkpoint(path).image_size == (12, 14)
    assert point_module().image_size is None


def test_a_file_is_predicted_as_the_data_module_predicts_it(trained) -> None:
    path, data = trained
    module = PartialLabelModule.load_from_checkpoint(path)
    test_set = data.dataset("test")
    with torch.no_grad():
        at_trained_size = module(test_set[0].image[None])
    assert test_set[0].image.shape == (3, 12, 14)
    found = module.predict(test_set.source.read_image(0), decode=False)
    for name, task in module.tasks.items():
        expected = at_trained_size[name]
        if task.dense:
            expected = F.interpolate(expected, size=(8, 10), mode="bilinear", antialias=True)
            expected = task.renormalize(expected)
        torch.testing.assert_close(found[name], expected[0], atol=1e-6, rtol=0)


def test_the_network_sees_the_size_that_was_asked_for() -> None:
    module = point_module()
    module.image_size = (6, 8)
    for size, seen in (("trained", (6, 8)), ("own", (5, 9)), ((3, 4), (3, 4))):
        found = module.predict(picture(5, 9), size=size)
        assert module.network.batches.pop() == (1, 3, *seen)
        assert found["depth"].shape == (1, 5, 9)


def test_resized_predictions_are_predictions_again() -> None:
    found = point_module().predict(picture(20, 30), size=(7, 9), decode=False)
    assert found["segmentation"].exp().sum(0) == pytest.approx(torch.ones(20, 30), abs=1e-5)
    assert found["normals"].norm(dim=0) == pytest.approx(torch.ones(20, 30), abs=1e-5)


# Batches


def test_images_of_equal_size_go_together() -> None:
    module = point_module()
    sizes = [(4, 6), (4, 6), (5, 6), (4, 6), (4, 6)]
    images = [picture(*size, seed=i) for i, size in enumerate(sizes)]
    found = Predictor(module, batch_size=2)(images)
    assert module.network.batches == [(2, 3, 4, 6), (2, 3, 4, 6), (1, 3, 5, 6)]
    for image, one in zip(images, found, strict=True):
        close(one, module.predict(image, decode=False))


def test_few_images_wait_for_others_of_their_size() -> None:
    module = point_module()
    taken = 0

    def images():
        nonlocal taken
        for i in range(100):
            taken += 1
            yield i, np.zeros((4, 4 + i, 3), np.uint8)

    next(Predictor(module, batch_size=2).stream(images()))
    assert taken == 8
    assert module.network.batches == [(1, 3, 4, 4)]


# Mirrored views


def test_a_flip_averages_with_the_mirrored_image() -> None:
    height, width = 3, 8
    grey = np.full((height, width, 3), 51, np.uint8)
    found = point_module(column=1.0).predict(grey, flip=True, decode=False)
    # The column number and the mirrored one average to the middle.
    assert found["depth"] == pytest.approx(torch.full((1, height, width), 1.2 + (width - 1) / 2), abs=1e-5)
    # The mirrored image's normal points the other way in x.
    assert found["normals"][0] == pytest.approx(torch.zeros(height, width), abs=1e-6)
    assert found["normals"][1:] == pytest.approx(torch.full((2, height, width), 0.5**0.5), abs=1e-5)
    assert found["pitch"].tolist() == pytest.approx([0.2])


def test_the_mirrored_view_is_moved_back() -> None:
    # A network of single pixels sees the same either way.
    module, image = point_module(), picture(5, 8)
    flipped, plain = (module.predict(image, flip=flip, decode=False) for flip in (True, False))
    for name in ("segmentation", "depth", "room", "pitch"):
        torch.testing.assert_close(flipped[name], plain[name], atol=1e-5, rtol=0)


# Tiles


@given(st.integers(1, 60), st.data())
def test_tiles_cover_the_side_with_the_overlap(length: int, data: st.DataObject) -> None:
    tile = data.draw(st.integers(1, length))
    overlap = data.draw(st.floats(0, 0.95))
    first = starts(length, tile, overlap)
    assert first[0] == 0
    assert first[-1] == length - tile
    steps = [b - a for a, b in pairwise(first)]
    assert all(0 < step <= max(1, tile * (1 - overlap)) for step in steps)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("tile", "overlap"), [(8, 0.25), ((5, 11), 0.0), ((40, 7), 0.6)])
def test_tiles_of_a_network_of_single_pixels_join_without_a_seam(tile, overlap: float, flip: bool) -> None:
    module, image = point_module(), picture(21, 26)
    whole = module.predict(image, flip=flip, decode=False)
    tiled = module.predict(image, tile=tile, overlap=overlap, flip=flip, decode=False)
    del whole["room"], whole["pitch"], tiled["room"], tiled["pitch"]
    close(tiled, whole)


def test_tiles_are_of_one_size_and_run_in_batches() -> None:
    module = point_module(tasks={"depth": point_tasks()["depth"]})
    Predictor(module, tile=8, batch_size=5)([picture(20, 20)])
    assert module.network.batches == [(5, 3, 8, 8), (4, 3, 8, 8)]


def test_the_middle_of_a_tile_counts_more_than_its_edge() -> None:
    # Depth is the column within the tile: 0..7 for both tiles, which share the columns 4..7.
    module = point_module(column=1.0, tasks={"depth": point_tasks()["depth"]})
    depth = module.predict(np.zeros((4, 12, 3), np.uint8), tile=(4, 8), overlap=0.5)["depth"][0, 0] - 1
    assert depth[:4].tolist() == pytest.approx([0, 1, 2, 3])
    assert depth[8:].tolist() == pytest.approx([4, 5, 6, 7])
    # From the first tile's 4, 5, 6, 7 over to the second's 0, 1, 2, 3.
    weight_of_second = (torch.tensor([4.0, 5, 6, 7]) - depth[4:8]) / 4
    assert weight_of_second.diff().min() > 0.1
    assert weight_of_second.tolist() == pytest.approx((1 - weight_of_second.flip(0)).tolist(), abs=1e-5)


def test_a_tile_takes_its_magnification_out_of_depth() -> None:
    module, image = point_module(), np.full((24, 32, 3), 51, np.uint8)
    module.image_size = (12, 16)  # in training a thing was half as large
    tiled = module.predict(image, tile=10)
    assert tiled["depth"] == pytest.approx(torch.full((1, 24, 32), 2.4), abs=1e-5)
    assert tiled["disparity"] == pytest.approx(torch.full((1, 24, 32), 0.6), abs=1e-5)
    whole = module.predict(image)
    assert whole["depth"] == pytest.approx(torch.full((1, 24, 32), 1.2), abs=1e-5)


@pytest.mark.parametrize("size", ["own", (24, 32)])
def test_another_size_than_the_trained_takes_its_magnification_out_of_depth(size) -> None:
    module, image = point_module(), np.full((24, 32, 3), 51, np.uint8)
    module.image_size = (12, 16)  # in training a thing was half as large
    found, as_trained = module.predict(image, size=size), module.predict(image)
    assert found.pop("depth") == pytest.approx(2 * as_trained.pop("depth"), abs=1e-5)
    assert found.pop("disparity") == pytest.approx(as_trained.pop("disparity") / 2, abs=1e-5)
    close(found, as_trained)


@pytest.mark.parametrize(("trained_size", "whole"), [((12, 16), (12, 16)), (None, (8, 10))])
def test_image_level_tasks_see_the_whole_image(trained_size, whole: tuple[int, int]) -> None:
    module = point_module()
    module.image_size = trained_size
    image = np.zeros((24, 30, 3), np.uint8)
    image[:, 15:] = 255
    found = module.predict(image, tile=10, decode=False)
    assert module.network.batches[-1] == (1, 3, *whole)
    assert float(found["pitch"]) == pytest.approx(0.5, abs=0.05)


def test_an_image_within_one_tile_is_predicted_as_without_tiles() -> None:
    module, image = point_module(), picture(8, 8)
    module.image_size = (4, 4)
    close(module.predict(image, tile=8, decode=False), module.predict(image, decode=False))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"size": (0, 4)}, r"`size` should be a height and a width in pixels; found \(0, 4\)"),
        ({"size": "trainde"}, r"`size` should be a height and a width in pixels; found 'trainde'"),
        ({"tile": (4, 4, 4)}, r"`tile` should be a height and a width"),
        ({"tile": 4, "overlap": 1.0}, r"`overlap` should be in \[0, 1\); found 1.0"),
        ({"tile": 4, "size": (4, 4)}, r"`size` and `tile` exclude each other"),
        ({"batch_size": 0}, r"`batch_size` should be at least 1; found 0"),
    ],
)
def test_wrong_parameters_are_one_sentence(parameters, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Predictor(point_module(tasks={"normals": Normals()}), **parameters)
