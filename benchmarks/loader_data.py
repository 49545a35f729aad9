"""Files for ``loader.py``: each dataset's layout, with pictures that are as hard to decode as real ones.

Smooth noise, with fine noise on top so that PNG files become about as large as those of the datasets (what decoding
takes grows with that): 2.3 MB for an image of Cityscapes and 1 MB for its disparity; 330, 110 and 180 kB for
Taskonomy's images, normals and depths (the five views of its annotator that we have).
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

Array = np.ndarray


def smooth(seed: int, height: int, width: int, channels: int, fine: float = 0.0) -> Array:
    """Noise in [0, 1], float32 ``[height, width, channels]``, with steps of ``fine`` standard deviation on top."""
    rng = np.random.default_rng(seed)
    planes = [cv2.resize(rng.random((9, 12), dtype=np.float32), (width, height)) for _ in range(channels)]
    noise = rng.normal(0, fine, (height, width, channels)) if fine else 0
    return np.clip(np.stack(planes, -1) + noise, 0, 1).astype(np.float32)


def ids(seed: int, height: int, width: int, classes: int) -> Array:
    """Regions of class ids, uint8 ``[height, width]``."""
    return np.minimum(smooth(seed, height, width, 1)[..., 0] * classes, classes - 1).astype(np.uint8)


def unit(seed: int, height: int, width: int) -> Array:
    """Normals of a few flat and some curved surfaces, float32 ``[height, width, 3]``."""
    vectors = (
        np.round(smooth(seed, height, width, 3) * 6) / 6 - 0.5 + 0.02 * smooth(seed + 1, height, width, 3)
    )
    vectors[..., 2] = -np.abs(vectors[..., 2]) - 0.1
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def save_npy(path: Path, array: Array) -> None:
    """Writes a float32 array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.ascontiguousarray(array, dtype=np.float32))


def save_png(path: Path, array: Array) -> None:
    """Writes a grey or RGB picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ordered = array[..., ::-1] if array.ndim == 3 else array
    cv2.imwrite(str(path), ordered)


def nyuv2_npy(root: Path, number: int, height: int = 288, width: int = 384) -> None:
    """The preprocessed arrays: 288x384, 13 classes, depth, normals."""
    for split, count in (("train", number), ("val", 1)):
        for i in range(count):
            save_npy(root / split / f"image/{i}.npy", smooth(i, height, width, 3))
            save_npy(root / split / f"label/{i}.npy", ids(i, height, width, 13))
            save_npy(root / split / f"depth/{i}.npy", 1 + 5 * smooth(i, height, width, 1))
            save_npy(root / split / f"normal/{i}.npy", unit(i, height, width))


def nyuv2_mat(root: Path, number: int) -> None:
    """The authors' file: 480x640 frames, 894 label names, depth."""
    import h5py
    from scipy.io import savemat

    root.mkdir(parents=True)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w") as file:
        # As MATLAB writes it: compressed in chunks.
        options = {"compression": "gzip", "compression_opts": 3}
        shapes = {
            "images": (3, 640, 480),
            "depths": (640, 480),
            "rawDepths": (640, 480),
            "labels": (640, 480),
        }
        types = {"images": np.uint8, "depths": np.float32, "rawDepths": np.float32, "labels": np.uint16}
        for key, shape in shapes.items():
            file.create_dataset(key, (number + 1, *shape), types[key], chunks=(1, *shape), **options)
        for i in range(number + 1):
            file["images"][i] = (smooth(i, 480, 640, 3, 0.01) * 255).astype(np.uint8).transpose(2, 1, 0)
            file["depths"][i] = file["rawDepths"][i] = (1 + 5 * smooth(i, 480, 640, 1)[..., 0]).T
            file["labels"][i] = ids(i, 480, 640, 200).T
    savemat(
        root / "splits.mat",
        {"trainNdxs": np.arange(1, number + 1)[:, None], "testNdxs": np.array([[number + 1]])},
    )
    savemat(root / "classMapping40.mat", {"mapClass": (np.arange(894) % 40 + 1).astype(np.uint8)[None]})


def nyuv2_h5(root: Path, number: int) -> None:
    """Frames with depth alone, one file each: 480x640."""
    import h5py

    folder = root / "train" / "scene"
    folder.mkdir(parents=True)
    for i in range(number):
        with h5py.File(folder / f"{i:05d}.h5", "w") as file:
            # Compressed: the slower case for every reader.
            options = {"compression": "gzip", "compression_opts": 3}
            rgb = (smooth(i, 480, 640, 3, 0.01) * 255).astype(np.uint8).transpose(2, 0, 1)
            file.create_dataset("rgb", data=rgb, chunks=rgb.shape, **options)
            depth = 1 + 5 * smooth(i, 480, 640, 1)[..., 0]
            file.create_dataset("depth", data=depth, chunks=depth.shape, **options)


def cityscapes_npy(root: Path, number: int, height: int = 128, width: int = 256) -> None:
    """The preprocessed arrays: 128x256, 7 categories, inverse depth."""
    for split, count in (("train", number), ("val", 1)):
        for i in range(count):
            save_npy(root / split / f"image/{i}.npy", smooth(i, height, width, 3))
            save_npy(root / split / f"label_7/{i}.npy", ids(i, height, width, 7))
            save_npy(root / split / f"depth/{i}.npy", 0.5 * smooth(i, height, width, 1))


def cityscapes(root: Path, number: int) -> None:
    """The official files: 1024x2048."""
    for split, count in (("train", number), ("val", 1)):
        for i in range(count):
            name = f"city_{i:06d}_000019"

            def path(kind: str, ending: str, split: str = split, name: str = name) -> Path:
                return root / kind / split / "city" / f"{name}_{ending}"

            save_png(
                path("leftImg8bit", "leftImg8bit.png"),
                (smooth(i, 1024, 2048, 3, 0.005) * 255).astype(np.uint8),
            )
            save_png(path("gtFine", "gtFine_labelIds.png"), ids(i, 1024, 2048, 34))
            steps = smooth(i, 1024, 2048, 1, 0.0001)[..., 0] * 30000
            save_png(path("disparity", "disparity.png"), (steps // 32 * 32).astype(np.uint16))
            path("camera", "camera.json").parent.mkdir(parents=True, exist_ok=True)
            camera = {"extrinsic": {"baseline": 0.209313}, "intrinsic": {"fx": 2262.52}}
            path("camera", "camera.json").write_text(json.dumps(camera))


def taskonomy(root: Path, number: int) -> None:
    """512x512, the image and the seven default domains."""
    for building, count in (("train", number), ("val", 1), ("test", 1)):
        for i in range(count):
            grey = smooth(i, 512, 512, 1, 0.0001)[..., 0]
            pictures = {
                "rgb": (smooth(i, 512, 512, 3, 0.006) * 255).astype(np.uint8),
                "normal": np.rint(127.5 * (unit(i, 512, 512) + 1)).astype(np.uint8),
                "segment_semantic": ids(i, 512, 512, 17) + 1,
                "depth_zbuffer": (500 + 1500 * grey).astype(np.uint16),
                "reshading": np.repeat((smooth(i, 512, 512, 1, 0.002) * 255).astype(np.uint8), 3, -1),
                "edge_texture": (5000 * smooth(i, 512, 512, 1, 0.01)[..., 0]).astype(np.uint16),
                "edge_occlusion": (400 * grey).astype(np.uint16),
                "keypoints2d": (300 * grey).astype(np.uint16),
            }
            for domain, picture in pictures.items():
                save_png(root / building / domain / f"point_{i}_view_0_domain_{domain}.png", picture)


def folder(root: Path, number: int, height: int = 288, width: int = 384) -> None:
    """Plain folders of PNG files: 288x384, classes, 16-bit depth, 8-bit normals."""
    for i in range(number + 2):
        save_png(root / f"images/{i}.png", (smooth(i, height, width, 3, 0.006) * 255).astype(np.uint8))
        save_png(root / f"segmentation/{i}.png", ids(i, height, width, 13))
        save_png(
            root / f"depth/{i}.png", (1000 + 5000 * smooth(i, height, width, 1)[..., 0]).astype(np.uint16)
        )
        save_png(root / f"normals/{i}.png", np.rint(127.5 * (unit(i, height, width) + 1)).astype(np.uint8))
    splits = ["train"] * number + ["val", "test"]
    rows = [f"{i},{split}" for i, split in enumerate(splits)]
    (root / "splits.csv").write_text("\n".join(["id,split", *rows]))
