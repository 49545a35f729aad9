"""Whatever a user gives as an image becomes the same array."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jtr_lightning.data.files import read_image
from jtr_lightning.errors import ConfigError
from jtr_lightning.prediction.inputs import as_arrays, as_batch, network_input

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
FLOAT = RGB.astype(np.float32) / 255


def one(image):
    arrays, batched = as_arrays(image)
    assert len(arrays) == 1
    assert not batched
    return arrays[0]


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(RGB),
        Image.fromarray(np.dstack([RGB, RGB[..., :1]])),
        RGB,
        RGB[:, ::-1][:, ::-1],
        np.dstack([RGB, RGB[..., :1]]),
        RGB.astype(np.uint16) * 257,
        torch.from_numpy(RGB).permute(2, 0, 1),
    ],
    ids=["pil", "pil_rgba", "array", "strides", "rgba", "uint16", "tensor"],
)
def test_eight_bits_stay_as_they_are(image) -> None:
    found = one(image)
    assert found.dtype == np.uint8
    assert np.array_equal(found, RGB)


@pytest.mark.parametrize(
    "image",
    [FLOAT, FLOAT.astype(np.float64), torch.from_numpy(FLOAT).permute(2, 0, 1)],
    ids=["array", "float64", "tensor"],
)
def test_floats_become_float32(image) -> None:
    found = one(image)
    assert found.dtype == np.float32
    assert np.array_equal(found, FLOAT)


def test_half_precision_tensors_are_taken() -> None:
    tensor = torch.from_numpy(FLOAT).permute(2, 0, 1).bfloat16()
    assert np.array_equal(one(tensor), tensor.float().permute(1, 2, 0).numpy())


def test_a_tensor_with_a_batch_gives_each_image() -> None:
    batch = torch.stack([torch.from_numpy(FLOAT), torch.from_numpy(1 - FLOAT)]).permute(0, 3, 1, 2)
    arrays, batched = as_arrays(batch)
    assert batched
    assert np.array_equal(arrays[1], 1 - FLOAT)
    assert torch.equal(as_batch(arrays, torch.device("cpu")), batch)


def test_an_array_with_a_batch_gives_each_image() -> None:
    arrays, batched = as_arrays(np.stack([RGB, 255 - RGB]))
    assert batched
    assert np.array_equal(arrays[1], 255 - RGB)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_camera_is_heard_as_a_folder_is_read(orientation: int, tmp_path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(one(picture), read_image(tmp_path / "a.png", upright=True))


@pytest.mark.parametrize("mode", ["L", "P", "LA", "1"])
def test_every_mode_of_pil_is_what_a_dataset_would_read(mode: str, tmp_path) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    picture.save(tmp_path / "picture.png")
    assert np.array_equal(one(picture), read_image(tmp_path / "picture.png"))
    assert np.array_equal(one(picture), read_image(tmp_path / "picture.png", upright=True))


def test_sixteen_bits_of_pil_become_the_upper_eight() -> None:
    values = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    found = one(Image.fromarray(values))
    assert found[0, :, 0].tolist() == [0, 0, 1, 255]


def test_grey_becomes_three_equal_channels() -> None:
    for image in (RGB[..., 0], RGB[..., :1]):
        assert np.array_equal(one(image), np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (FLOAT * 255, r"values in \[0, 1\]; found .* to 2\d\d"),
        (FLOAT - 0.5, r"values in \[0, 1\]"),
        (np.full((4, 4, 3), np.nan), r"found nan to nan"),
        (RGB.astype(np.int64), r"uint8, or floating-point .* found int64\. .* \.astype\(np\.uint8\)"),
        (RGB.transpose(2, 0, 1), r"found \[3, 5, 7\]\. Transpose it"),
        (np.zeros((1, 2, 5, 7, 3)), r"found \[1, 2, 5, 7, 3\]"),
        (np.zeros((2, 3, 5, 7)), r"found \[2, 3, 5, 7\]\. Transpose it"),
        (np.zeros((0, 5, 7, 3)), r"found \[0, 5, 7, 3\]"),
        (np.zeros((0, 7, 3)), r"found \[0, 7, 3\]"),
        (torch.zeros(5, 7, 3), r"found \[5, 7, 3\]\. Permute"),
        (torch.zeros(3, 5, 7) + 2, r"found 2 to 2"),
        ("a.png", r"found str\. Open it: PIL\.Image\.open\('a\.png'\)"),
        (Path("a.png"), r"found .*Path\. Open it: PIL\.Image\.open\('a\.png'\)"),
        ([RGB, RGB], r"found list\. Give them one by one, or stack .* \[B, H, W, 3\]"),
        (None, r"found NoneType\.$"),
        (Image.fromarray(FLOAT[..., 0]), r"mode 'F'"),
    ],
)
def test_anything_else_is_one_sentence(image, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        as_arrays(image)


def test_a_little_overshoot_of_a_resize_is_no_mistake() -> None:
    image = FLOAT.copy()
    image[0, 0] = 1.005
    assert one(image).max() == np.float32(1.005)


def test_only_another_size_is_resized() -> None:
    assert network_input(RGB, (5, 7)) is RGB
    assert network_input(RGB, (10, 3)).shape == (10, 3, 3)
    assert network_input(FLOAT, (10, 3)).dtype == np.float32
