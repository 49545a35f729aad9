"""Image and labels move together, values follow the geometry, and draws depend on the seed alone."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jtr_lightning.data.augmentation import Augmentation
from jtr_lightning.data.dataset import PartialLabelDataset
from jtr_lightning.data.quiet_albumentations import A
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.data.transforms import RandomColours, Zoom
from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import DenseRegression, Depth, Normals, Segmentation, Task

GEOMETRY = Augmentation(colour_changes=0)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(["?", "i1", "u1", "f2", "i2", "i4", "u4", "f4", "i8", "f8", ">f4"])
sizes = st.tuples(st.integers(8, 70), st.integers(8, 70))


def coordinates(height: int, width: int) -> Array:
    """Row and column of each pixel, ``[H, W, 2]``."""
    return np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), -1)


def coded_image(height: int, width: int) -> Array:
    """An image whose red and green are three times the pixel's row and column (so that half pixels show)."""
    return np.concatenate([3 * coordinates(height, width), np.zeros((height, width, 1))], -1).astype(np.uint8)


# Image and labels move together


@settings(max_examples=60)
@given(
    seed=seeds,
    size=sizes,
    dtype=st.sampled_from(["?", "i1", "u1", "f2", "i2", "i4", "u4", "f4", "i8", "f8", ">f4"]),
)
def test_a_coded_image_stays_equal_to_its_label(seed: int, size: tuple[int, int], dtype: str) -> None:
    code = coordinates(*size)
    typed = (code % 2 if dtype == "?" else code).astype(dtype)
    labels = {"code": code, "keypoints": typed, "mask": code[..., :1].astype(dtype), "flat": typed[..., 1]}
    out = GEOMETRY(coded_image(*size), labels, seed)
    moved = out.labels["code"]
    # The image is interpolated, a label is its nearest pixel's: half a pixel apart at most, and half a grey level.
    assert np.abs(out.image[..., :2] / 3.0 - moved).max() <= 0.5 + 0.5 / 3 + 1e-6
    for name, before in labels.items():
        after = out.labels[name]
        assert after.dtype == before.dtype
        assert after.shape == before.shape
        expected = before[moved[..., 0], moved[..., 1]]
        assert np.array_equal(after, expected)


@pytest.mark.parametrize(("scale", "least", "most"), [(1.2, -0.03, 0.03), (1.5, -1 / 4, 0.0)])
def test_labels_are_not_shifted_against_the_image(scale: float, least: float, most: float) -> None:
    """OpenCV's INTER_NEAREST would be off by a third of a pixel at 1.2.

    At 1.5 every third pixel lies halfway between two, and goes to the upper one: a sixth of a pixel on average, and
    with OpenCV 4 up to a quarter.
    """
    height, width = 60, 72
    offsets = []
    for seed in range(30):
        out = Augmentation([scale], flip=0, colour_changes=0)(
            coded_image(height, width), {"code": coordinates(height, width)}, seed
        )
        offsets.append((out.image[..., :2] / 3.0 - out.labels["code"]).mean())
    assert least <= np.mean(offsets) <= most


@settings(max_examples=30)
@given(seed=seeds)
def test_what_is_reported_is_what_was_done(seed: int) -> None:
    height, width = 60, 72
    out = GEOMETRY(coded_image(height, width), {"code": coordinates(height, width)}, seed)
    rows, columns = out.labels["code"][..., 0], out.labels["code"][..., 1]
    assert out.mirrored == (columns[0, 0] > columns[0, -1])
    span_rows, span_columns = len(np.unique(rows)), len(np.unique(columns))
    assert out.zoom == pytest.approx(((height * width) / (span_rows * span_columns)) ** 0.5)
    assert out.zoom == pytest.approx(min((1.0, 1.2, 1.5), key=lambda scale: abs(scale - out.zoom)), rel=0.01)


def test_every_scale_position_and_flip_occurs() -> None:
    height, width = 30, 36
    seen = [
        GEOMETRY(coded_image(height, width), {"c": coordinates(height, width)}, seed) for seed in range(200)
    ]
    zooms = np.array([round(out.zoom, 1) for out in seen])
    assert all(40 < (zooms == scale).sum() < 95 for scale in (1.0, 1.2, 1.5))
    assert 70 < sum(out.mirrored for out in seen) < 130
    # Neither tells anything about the other.
    assert {(scale, flip) for scale, flip in zip(zooms, (out.mirrored for out in seen), strict=True)} == {
        (scale, flip) for scale in (1.0, 1.2, 1.5) for flip in (False, True)
    }
    corners = {tuple(out.labels["c"].min((0, 1))) for out in seen if round(out.zoom, 1) == 1.5}
    assert {0, 10} <= {row for row, _ in corners}
    assert {0, 12} <= {column for _, column in corners}


def test_each_number_of_labels_is_moved() -> None:
    """albumentations passes an array that it was not told of through unmoved, without a word."""
    augmentation = Augmentation([1.5], flip=1.0, colour_changes=0)
    code = coordinates(12, 12)
    for number in (1, 4, 2, 9, 0):
        out = augmentation(coded_image(12, 12), {f"task{i}": code for i in range(number)}, seed=5)
        assert len(out.labels) == number
        assert all(not np.array_equal(label, code) for label in out.labels.values())


def test_many_channels() -> None:
    code = np.repeat(coordinates(10, 12)[..., :1], 128, axis=2).astype(np.float32)
    out = Augmentation([1.5], 1.0, 0)(coded_image(10, 12), {"features": code}, 0)
    assert out.labels["features"].shape == (10, 12, 128)
    assert (out.labels["features"] == out.labels["features"][..., :1]).all()
    with pytest.raises(ConfigError, match="at most 128 channels; found 129"):
        GEOMETRY(coded_image(10, 12), {"features": np.zeros((10, 12, 129))}, 0)


@settings(max_examples=20)
@given(seed=seeds)
def test_no_value_is_invented(seed: int) -> None:
    """Invalid stays invalid, and NaN, infinity and -1 survive."""
    rng = np.random.default_rng(0)
    values = rng.choice(np.array([np.nan, np.inf, -np.inf, -1, 0, 255, 7.5], np.float32), (20, 24, 2))
    ids = rng.choice(np.array([-1, 0, 3, 255], np.int16), (20, 24))
    out = GEOMETRY(coded_image(20, 24), {"values": values, "ids": ids, "code": coordinates(20, 24)}, seed)
    where = tuple(np.moveaxis(out.labels["code"], -1, 0))
    assert np.array_equal(out.labels["values"], values[where], equal_nan=True)
    assert np.array_equal(out.labels["ids"], ids[where])


def test_the_arguments_are_left_as_they_were() -> None:
    image, label = coded_image(20, 24), coordinates(20, 24)
    Augmentation([1.0], flip=1.0, colour_changes=4, colour_strength=30)(image, {"c": label}, 1)
    assert np.array_equal(image, coded_image(20, 24))
    assert np.array_equal(label, coordinates(20, 24))


# Values follow the geometry


class Plane(SampleSource):
    """A slanted plane seen by a pinhole camera, its normals, and where each pixel was; a third has no label."""

    height, width, focal = 36, 48, 50.0

    def __init__(self) -> None:
        self.normal = np.array([0.4, -0.5, -0.8]) / np.linalg.norm([0.4, -0.5, -0.8])
        self.gaps = np.random.default_rng(0).random((self.height, self.width)) < 0.3

    def rays(self) -> Array:
        rows, columns = np.moveaxis(coordinates(self.height, self.width).astype(float), -1, 0)
        x = (columns - (self.width - 1) / 2) / self.focal
        y = (rows - (self.height - 1) / 2) / self.focal
        return np.stack([x, y, np.ones_like(x)], -1)

    def __len__(self) -> int:
        return 40

    def name(self, index: int) -> str:
        return str(index)

    def on_disk(self, tasks: Sequence[str]) -> Array:
        on_disk = np.ones((len(self), len(tasks)), dtype=bool)
        on_disk[::4, list(tasks).index("normals")] = False
        return on_disk

    def read_image(self, index: int) -> Array:
        return coded_image(self.height, self.width)

    def read_label(self, index: int, task: str) -> Array:
        depth = -3.0 / (self.rays() @ self.normal)
        labels = {
            "code": coordinates(self.height, self.width),
            "depth": np.where(self.gaps, 0, depth),
            "normals": np.where(self.gaps[..., None], 0, self.normal * np.ones((self.height, self.width, 1))),
            "segmentation": np.where(self.gaps, 255, 1).astype(np.uint8),
            "rays": self.rays(),
        }
        return labels[task].astype(np.float32)


TASKS: dict[str, Task] = {
    "code": DenseRegression(2, high=47),
    "depth": Depth(),
    "normals": Normals(),
    "segmentation": Segmentation(3),
    "rays": DenseRegression(3, low=-1, signed_channels=[0]),
}


@pytest.mark.parametrize("index", range(0, 40, 3))
def test_normals_agree_with_the_augmented_depth(index: int) -> None:
    source = Plane()
    dataset = PartialLabelDataset(source, TASKS, source.on_disk(tuple(TASKS)), augmentation=Augmentation())
    sample = dataset[(2, index)]
    depth, normals, rays = (sample.labels[name] for name in ("depth", "normals", "rays"))
    valid = TASKS["depth"].valid(depth.unsqueeze(0))[0, 0]
    # Every pixel's ray is still known, so the points of the augmented depth are; they should lie on one plane, whose
    # normal is the augmented one.
    points = (depth * rays)[:, valid].T.double()
    centred = points - points.mean(0)
    fitted = torch.linalg.svd(centred).Vh[2]
    assert torch.linalg.matrix_norm(centred @ fitted[:, None]) < 1e-4
    # The plane is 3 away, and nearer by as much as the rows that are seen are fewer.
    zoom = source.height / len(sample.labels["code"][0].unique())
    assert float((points @ fitted).abs().mean()) == pytest.approx(3 / zoom, rel=1e-5)
    if index % 4 == 0:
        assert not sample.available[list(TASKS).index("normals")]
        assert not normals.any()
        return
    assert torch.equal(TASKS["normals"].valid(normals.unsqueeze(0))[0, 0], valid)
    torch.testing.assert_close(normals[:, valid].norm(dim=0), torch.ones(int(valid.sum())))
    angle = (normals[:, valid].T.double() @ fitted).abs()
    assert angle.min() > 1 - 1e-5
    assert torch.equal(sample.labels["segmentation"] == -1, ~valid)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [1.0, 1.2, 1.5])
def test_a_zoom_divides_depth_once_and_a_flip_negates_x_once(scale: float, flip: float) -> None:
    source = Plane()
    dataset = PartialLabelDataset(source, TASKS, source.on_disk(tuple(TASKS)))
    still = dataset[1].labels
    dataset.augmentation = Augmentation([scale], flip, colour_changes=0)
    moved = dataset[1].labels
    rows, columns = moved["code"].long()
    assert len(rows.unique()) == source.height / scale  # whole, so that the zoom is the scale
    assert bool(columns[0, 0] > columns[0, -1]) == bool(flip)
    torch.testing.assert_close(moved["depth"], still["depth"][:, rows, columns] / scale, rtol=1e-6, atol=0)
    sign = torch.tensor([-1.0 if flip else 1.0, 1.0, 1.0]).view(3, 1, 1)
    for name in ("normals", "rays"):
        assert torch.equal(moved[name], sign * still[name][:, rows, columns])


# Colours


def test_colours_change_the_image_alone() -> None:
    augmentation = Augmentation([1.0], flip=0.0, colour_changes=2)
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8), coordinates(20, 24)
    changed = 0
    for seed in range(40):
        out = augmentation(image, {"c": label}, seed)
        assert out.image.dtype == np.uint8
        assert out.image.shape == image.shape
        assert (out.zoom, out.mirrored) == (1.0, False)
        assert np.array_equal(out.labels["c"], label)
        changed += not np.array_equal(out.image, image)
    assert changed > 25


def test_more_strength_changes_more() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)

    def change(strength: int) -> float:
        augmentation = Augmentation([1.0], 0.0, colour_changes=2, colour_strength=strength)
        return float(
            np.mean([np.abs(augmentation(image, {}, s).image - image.astype(int)).mean() for s in range(60)])
        )

    assert change(0) < change(5) < change(30)


# Seeds


@settings(max_examples=20)
@given(seed=seeds, others=st.lists(seeds, max_size=3))
def test_a_draw_depends_on_the_seed_alone(seed: int, others: list[int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    used = Augmentation()
    for other in others:
        used(image, {}, other)
    first = Augmentation()(image, {"c": coordinates(20, 24)}, seed)
    again = used(image, {"a": coordinates(20, 24), "b": coordinates(20, 24)}, seed)
    assert np.array_equal(first.image, again.image)
    assert (first.zoom, first.mirrored) == (again.zoom, again.mirrored)
    assert np.array_equal(first.labels["c"], again.labels["b"])


def test_neither_global_random_state_is_read_or_changed() -> None:
    image = coded_image(20, 24)
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first = Augmentation()(image, {}, 3).image
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert np.array_equal(first, Augmentation()(image, {}, 3).image)


def test_it_can_be_sent_and_described() -> None:
    augmentation = Augmentation([1.3], flip=0.2)
    augmentation(coded_image(20, 24), {}, 0)
    assert augmentation.describe()["init_args"] == {"scales": [1.3], "flip": 0.2}
    copy = pickle.loads(pickle.dumps(augmentation))
    images = [a(coded_image(20, 24), {}, 9).image for a in (augmentation, copy)]
    assert np.array_equal(*images)


# Parameters and transforms of one's own


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"scales": []}, r"`scales` should have at least one number, each at least 1; found \[\]"),
        ({"scales": [0.5]}, r"`scales` .* found \[0.5\]"),
        ({"scales": [float("nan")]}, r"`scales` .* found \[nan\]"),
        ({"flip": 1.5}, "`flip` should be a chance from 0 to 1; found 1.5"),
        ({"colour_changes": -1}, "`colour_changes` should be at least 0; found -1"),
        ({"colour_strength": 31}, "`colour_strength` should be at most 30; found 31"),
    ],
)
def test_a_parameter_out_of_range_is_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Augmentation(**parameters)


class WithNoise(Augmentation):
    def transforms(self) -> list[Any]:
        return [*super().transforms(), A.OneOf([A.GaussNoise(p=1.0), A.GaussianBlur(p=1.0)], p=1.0)]


def test_image_transforms_of_ones_own_are_applied_and_seeded() -> None:
    plain, noisy, again = (
        augmentation(coded_image(40, 48), {"c": coordinates(40, 48)}, 4)
        for augmentation in (Augmentation(), WithNoise(), WithNoise())
    )
    assert not np.array_equal(plain.image, noisy.image)
    assert np.array_equal(noisy.image, again.image)
    assert plain.zoom == noisy.zoom


def upside_down(array: np.ndarray, **parameters: Any) -> np.ndarray:
    return np.flipud(array)


def darker(image: np.ndarray, **parameters: Any) -> np.ndarray:
    return image // 2


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([A.Rotate()], "found Rotate. The tasks do not know what it does"),
        ([A.OneOf([A.VerticalFlip(), A.NoOp()])], "found VerticalFlip"),
        ([A.Lambda(image=upside_down, mask=upside_down)], "found Lambda"),
        ([A.OneOf([A.HorizontalFlip(p=1.0)])], "at most once each, and not inside another"),
        ([Zoom([1.2]), Zoom([1.5])], "at most once each"),
        # What it gives would be written into 8 bits: nobody knows what is trained then.
        ([A.Normalize()], r"image of uint8 \[20, 24, 3\]; found float32 .* Leave out what normalises"),
        ([A.ToGray(num_output_channels=1, p=1.0)], r"uint8 \[20, 24, 3\]; found uint8 \[20, 24\]"),
    ],
)
def test_transforms_that_the_tasks_cannot_follow_are_refused(transforms: list[Any], message: str) -> None:
    class Own(Augmentation):
        def transforms(self) -> list[Any]:
            return transforms

    with pytest.raises(ConfigError, match=message):
        Own()(coded_image(20, 24), {}, 0)


def test_a_function_of_the_image_alone_may_be_a_transform() -> None:
    class Darker(Augmentation):
        def transforms(self) -> list[Any]:
            return [A.Lambda(image=darker)]

    image = coded_image(20, 24)
    assert np.array_equal(Darker()(image, {}, 0).image, image // 2)


def test_what_is_switched_off_is_left_out() -> None:
    assert Augmentation([1.0], 0.0, 0).transforms() == []
    kinds = [type(t) for t in Augmentation().transforms()]
    assert kinds == [Zoom, A.HorizontalFlip, RandomColours]


def test_a_training_with_augmentation_opens_no_socket(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "asked = []\n"
        "events = ('socket.connect', 'socket.getaddrinfo', 'urllib.Request')\n"
        "sys.addaudithook(lambda event, arguments: asked.append((event, arguments)) if event in events else None)\n"
        "from jtr_lightning.cli.main import main\n"
        "code = main(['fit', '--data', 'tests.tiny.TinyData', '--data.augmentation', 'Augmentation', '--model.network',"
        " 'tests.toy.ToyNetwork', '--trainer.fast_dev_run', 'true', '--trainer.accelerator', 'cpu'])\n"
        "print(code, 'albumentations' in sys.modules, asked)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(root), environment.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": path},
    )
    assert done.stdout.splitlines()[-1:] == ["0 True []"], done.stderr
