"""Plain readers for ``loader.py``: what published code does with each dataset's files.

Of the image and its labels, as float32 tensors of the training size, three random scale crops are made by tensor
interpolation (the second and third of the first), and each is changed in colour by RandAugment (two operations of the
paper's nine) with torchvision (KentoNishi/JTR-CVPR-2024: code/datasets, VICO-UoE/MTPSL: dataset). What those read as
``.npy`` is read so; pictures are opened with Pillow, HDF5 with h5py, and resized as tensors.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import functional as TF

SCALES = (1.0, 1.2, 1.5)
BINS = 31
NEAREST = ("label", "depth")
"""What is resized by the nearest pixel; all else bilinearly."""

Arrays = dict[str, Tensor]


class PlainReader(Dataset):
    """Reads, makes three crops and changes the colours of each; a subclass gives ``read`` and ``number``."""

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        self.root = root
        self.size = size

    def __getitem__(self, index: int) -> list[Arrays]:
        first = crop(resized(self.read(index), self.size))
        views = [first, crop(first), crop(first)]
        return [{**view, "image": rand_augment(view["image"])} for view in views]

    def read(self, index: int) -> Arrays:
        """``image`` [3, H, W] in 0..1 and the labels [C, H, W], float32."""
        raise NotImplementedError


def planes(array: np.ndarray) -> Tensor:
    """Channels first, float32."""
    array = array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)
    return torch.from_numpy(np.ascontiguousarray(array)).float()


class NpyReader(PlainReader):
    """The preprocessed arrays of NYU-v2 and Cityscapes."""

    folders: ClassVar[Mapping[str, str]]

    def __len__(self) -> int:
        return len(list((self.root / "train/image").iterdir()))

    def read(self, index: int) -> Arrays:
        return {
            name: planes(np.load(self.root / "train" / folder / f"{index}.npy"))
            for name, folder in self.folders.items()
        }


class Nyuv2Npy(NpyReader):
    """NYU-v2's."""

    folders: ClassVar = {"image": "image", "label": "label", "depth": "depth", "normal": "normal"}


class CityscapesNpy(NpyReader):
    """Cityscapes'."""

    folders: ClassVar = {"image": "image", "label": "label_7", "depth": "depth"}


class Nyuv2Mat(PlainReader):
    """The authors' file; normals by the cross product of neighbouring points."""

    table = np.concatenate([[-1], np.arange(894) % 13]).astype(np.float32)

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        super().__init__(root, size)
        import h5py

        self.file = h5py.File(root / "nyu_depth_v2_labeled.mat", "r")

    def __len__(self) -> int:
        return len(self.file["images"]) - 1

    def read(self, index: int) -> Arrays:
        depth = planes(self.file["depths"][index].T)
        arrays = {
            "image": planes(self.file["images"][index].transpose(2, 1, 0)) / 255,
            "label": planes(self.table[self.file["labels"][index].T]),
            "depth": depth,
            "normal": normals(depth[0]),
        }
        return {name: array[:, 45:472, 43:608] for name, array in arrays.items()}


class Nyuv2H5(PlainReader):
    """Frames with depth alone."""

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        super().__init__(root, size)
        self.files = sorted(root.rglob("*.h5"))

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Arrays:
        import h5py

        with h5py.File(self.files[index], "r") as file:
            arrays = {
                "image": torch.from_numpy(file["rgb"][:]).float() / 255,
                "depth": planes(file["depth"][:]),
            }
        return {name: array[:, 45:472, 43:608] for name, array in arrays.items()}


def normals(depth: Tensor) -> Tensor:
    """Cross products of the differences of neighbouring points ``[3, H, W]``."""
    rows = (torch.arange(depth.shape[0]).float()[:, None] - 253.7) / 519.5
    columns = (torch.arange(depth.shape[1]).float() - 325.6) / 518.9
    points = torch.stack([columns * depth, rows * depth, depth])
    across = F.pad(points[:, :, 2:] - points[:, :, :-2], (1, 1), mode="replicate")
    down = F.pad((points[:, 2:] - points[:, :-2]).transpose(1, 2), (1, 1), mode="replicate").transpose(1, 2)
    return F.normalize(torch.linalg.cross(down, across, dim=0), dim=0)


def picture(path: Path) -> np.ndarray:
    """A picture as Pillow reads it."""
    with Image.open(path) as file:
        return np.array(file)


class Cityscapes(PlainReader):
    """The official files."""

    table = (np.arange(256) % 8 - 1).astype(np.float32)

    def __init__(self, root: Path, size: tuple[int, int]) -> None:
        super().__init__(root, size)
        self.images = sorted((root / "leftImg8bit/train").rglob("*.png"))

    def __len__(self) -> int:
        return len(self.images)

    def read(self, index: int) -> Arrays:
        image = str(self.images[index])
        ids = picture(
            Path(image.replace("leftImg8bit.png", "gtFine_labelIds.png").replace("leftImg8bit", "gtFine"))
        )
        steps = picture(Path(image.replace("leftImg8bit", "disparity")))
        return {
            "image": planes(picture(self.images[index])) / 255,
            "label": planes(self.table[ids]),
            "depth": planes(steps.astype(np.float32) / 65535),
        }


class Taskonomy(PlainReader):
    """The image and the seven default domains."""

    heat_maps = ("edge_texture", "edge_occlusion", "keypoints2d")

    def __len__(self) -> int:
        return len(list((self.root / "train/rgb").iterdir()))

    def read(self, index: int) -> Arrays:
        def raw(domain: str) -> Tensor:
            array = picture(self.root / "train" / domain / f"point_{index}_view_0_domain_{domain}.png")
            return planes(array.astype(np.float32))

        depth = raw("depth_zbuffer")
        return {
            "image": raw("rgb") / 255,
            "label": raw("segment_semantic") - 1,
            "depth": torch.where(depth < 65535, depth / 512, 0),
            "normal": raw("normal") / 127.5 - 1,
            "reshading": raw("reshading")[:1] / 255,
            **{domain: raw(domain) / 65535 for domain in self.heat_maps},
        }


class Folder(PlainReader):
    """Plain folders of PNG files."""

    def __len__(self) -> int:
        return len(list((self.root / "images").iterdir())) - 2

    def read(self, index: int) -> Arrays:
        def raw(folder: str) -> Tensor:
            return planes(picture(self.root / folder / f"{index}.png").astype(np.float32))

        return {
            "image": raw("images") / 255,
            "label": raw("segmentation"),
            "depth": raw("depth") / 1000,
            "normal": raw("normals") / 127.5 - 1,
        }


def resized(arrays: Arrays, size: tuple[int, int]) -> Arrays:
    """The image and the labels in the training size."""
    return {
        name: array if array.shape[1:] == size else interpolated(name, array, size)
        for name, array in arrays.items()
    }


def interpolated(name: str, array: Tensor, size: tuple[int, int]) -> Tensor:
    """One of them in another size."""
    if name in NEAREST:
        return F.interpolate(array[None], size, mode="nearest")[0]
    return F.interpolate(array[None], size, mode="bilinear", align_corners=True)[0]


def crop(arrays: Arrays) -> Arrays:
    """A part of relative size 1 / s resized back, depth divided by s."""
    height, width = arrays["image"].shape[1:]
    scale = random.choice(SCALES)
    rows, columns = int(height / scale), int(width / scale)
    top, left = random.randint(0, height - rows), random.randint(0, width - columns)
    moved = {
        name: interpolated(name, array[:, top : top + rows, left : left + columns], (height, width))
        for name, array in arrays.items()
    }
    moved["depth"] = moved["depth"] / scale
    return moved


def rand_augment(image: Tensor) -> Tensor:
    """Two of the paper's nine photometric operations, magnitudes from bins 0 to 5 of 31, on a uint8 tensor."""
    pixels = (image * 255).to(torch.uint8)
    for _ in range(2):
        magnitude = random.randint(0, 5) / (BINS - 1)
        factor = 1 + random.choice((-0.9, 0.9)) * magnitude
        operations = (
            lambda p: p,
            lambda p, f=factor: TF.adjust_brightness(p, f),
            lambda p, f=factor: TF.adjust_saturation(p, f),
            lambda p, f=factor: TF.adjust_contrast(p, f),
            lambda p, f=factor: TF.adjust_sharpness(p, f),
            lambda p, m=magnitude: TF.posterize(p, 8 - round(4 * m)),
            lambda p, m=magnitude: TF.solarize(p, 255 * (1 - m)),
            TF.autocontrast,
            TF.equalize,
        )
        pixels = random.choice(operations)(pixels)
    return pixels.float() / 255
