"""What Taskonomy's domains hold: the folder, the coding of its files, the unit and which pixels are invalid.

Facts are from the dataset's own description and code (StanfordVL/taskonomy: data/README.md, code/tools, taskbank), from
EPFL-VILAB/omnidata (the annotator that makes the same domains) and from measuring files of its; see each domain.

Left out on purpose: ``segment_unsup2d`` and ``segment_unsup25d`` number regions of one image, which are no classes;
``mask_valid`` says again where ``depth_zbuffer`` is 65535 (it can be the mask of other domains); ``points`` and
``point_info`` are metadata.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jtr_lightning.data.codings import ClassIds, Coding, Levels, MarkedHoles, UnitVectors
from jtr_lightning.data.files import check_array
from jtr_lightning.data.source import Array
from jtr_lightning.errors import ConfigError, DataError, check_number
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Normals, Segmentation, Task

DEPTH_SCALE = 1 / 512
"""Metres per step of a depth file (128 m in 16 bits). Other runs of the annotator use another maximum."""

CLASS_NAMES = [
    *("background", "bottle", "chair", "couch", "potted_plant", "bed", "dining_table", "toilet", "tv"),
    *("microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase"),
]
"""The 17 classes of ``segment_semantic`` in the order of the ids 1..17 on disk."""


class DepthSteps(MarkedHoles):
    """16-bit depth: metres are ``raw * scale``; 65535 ('none', or farther than can be said) becomes 0, invalid.

    Args:
        scale: Metres per step.

    Raises:
        ConfigError: ``scale`` is not above 0.
    """

    invalid = 65535
    hole = 0.0

    def __init__(self, scale: float = DEPTH_SCALE) -> None:
        check_number("depth_scale", scale)
        if not scale > 0:
            raise ConfigError(f"The metres per step of a depth file should be above 0; found {scale}.")
        self.scale = scale

    def decode(self, raw: Array, path: Path) -> Array:
        if raw.dtype == np.uint8:
            raise DataError(
                f"The depth file '{path}' should be a 16-bit grey PNG; found 8 bits, which is a picture for people and "
                "not a measurement. Get the original 16-bit files."
            )
        check_array(raw, path, (np.uint16,), (None, None))
        metres = raw * np.float32(self.scale)
        metres[raw == self.invalid] = self.hole
        return np.asarray(metres)


class HeatMap(Levels):
    """A 16-bit heat map: ``raw / 65535`` brought from [0, clip] to [0, 1].

    Args:
        clip: The share of 65535 that becomes 1, as all above it does.
    """

    def __init__(self, clip: float = 1.0) -> None:
        super().__init__(0.0, 1.0, maximum=65535 * clip)

    def decode(self, raw: Array, path: Path) -> Array:
        if raw.dtype.itemsize == 1:
            # Taken for 255 of 65535 its largest value would be next to nothing.
            raise DataError(
                f"The heat map '{path}' should be a 16-bit grey picture; found 8 bits, of which it is not known what "
                "share 255 stands for. Get the original 16-bit files, or give the task the coding Levels with the raw "
                "value of 1 as `maximum` (parameter `codings`)."
            )
        return super().decode(raw, path)


class CurvatureColours(MarkedHoles):
    """Principal curvatures k1, k2 from red and green: ``(v - 127) / 127``, and NaN, invalid, where all is 0.

    The values in [-1, 1] are curvatures times 0.03 m: 1 is a radius of 3 cm, as the files are clipped.
    """

    hole = float("nan")

    def decode(self, raw: Array, path: Path) -> Array:
        check_array(raw, path, (np.uint8,), (None, None, 3))
        values = (raw[..., :2].astype(np.float32) - 127) * np.float32(1 / 127)
        np.minimum(values, np.float32(1), out=values)
        values[~raw.any(-1)] = self.hole
        return np.asarray(values)


class MostLikely(Coding):
    """A vector of class probabilities in an array file, as the most likely class.

    Args:
        classes: Length of the vector.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes

    def decode(self, raw: Array, path: Path) -> Array:
        vector = raw.reshape(-1)
        check_array(vector, path, shape=(self.classes,), finite=True)
        return np.asarray(vector.argmax())


@dataclass(frozen=True)
class Domain:
    """A kind of label on disk.

    Attributes:
        folder: Name of its folder.
        coding: How its files become labels.
        task: Makes the task that predicts it; None where the user must say what it is.
        mask: Folder of files that say which pixels are valid, beside what the coding knows; see ``known_pixels``.
        hole: What stands in the label where the mask says that a pixel is not.
        marks_holes: Whether the files themselves say which pixels have no value, or every pixel has one.
    """

    folder: str
    coding: Coding
    task: Callable[[], Task] | None = None
    mask: str | None = None
    hole: float = float("nan")
    marks_holes: bool = True


MASKS = "mask_valid"
"""The folder of masks that are no task: 255 where ``depth_zbuffer`` has a value."""

_FARTHEST = 65036
"""16-bit depths from here on are taken for 'none' by the code that makes ``edge_occlusion``, which has 0 there."""


def known_pixels(raw: Array, path: Path) -> Array:
    """Which pixels of a view show a surface.

    Args:
        raw: ``[H, W]`` of ``mask_valid`` (8 bits or single ones, 0 for none) or of a depth domain (16 bits, 65036 and
            more for none, which also means 'farther than can be said').
        path: The file, for messages.

    Returns:
        bool ``[H, W]``.

    Raises:
        DataError: The file is neither.
    """
    check_array(raw, path, (np.bool_, np.uint8, np.uint16), (None, None))
    return np.asarray(raw < _FARTHEST if raw.dtype == np.uint16 else raw > 0)


def _share(folder: str, clip: float = 1.0, marks_holes: bool = True) -> Domain:
    return Domain(folder, HeatMap(clip), DenseRegression, marks_holes=marks_holes)


def _depth() -> Task:
    # (raw - 1500) / 1000 standardises the depth in sunxm2357/TaskGrouping (taskonomy_loader.py).
    # Read at another run's scale (8/65535 for 1/512 or the reverse, 16 times off), rooms are 40 m or 0.15 m deep.
    return Depth(
        mean=1500 * DEPTH_SCALE,
        std=1000 * DEPTH_SCALE,
        display_range=(0.0, 10.0),
        expected_median=(0.2, 15.0),
    )


def known_domains(depth_scale: float = DEPTH_SCALE) -> dict[str, Domain]:
    """Every domain that can be a task, by name (which is its folder's).

    Heat maps are clipped where the dataset's authors clip them (taskbank/experiments/final/*/config.py); those are
    shares of 65535.

    Args:
        depth_scale: Metres per step of the depth files.

    Returns:
        Name to domain.
    """
    domains = [
        Domain("depth_zbuffer", DepthSteps(depth_scale), _depth),
        Domain("depth_euclidean", DepthSteps(depth_scale), _depth),
        # 127.5-centred, camera frame: x right, y down, z into the scene; (128, 128, 128) is far from unit length.
        Domain("normal", UnitVectors(), Normals),
        Domain(
            "principal_curvature",
            CurvatureColours(),
            lambda: DenseRegression(channels=2, low=-1.0, high=1.0, unit="1/(3 cm)"),
        ),
        # 8 bits in three equal channels; nothing marks a hole (it is about 13 in measured files, as dark corners are).
        Domain("reshading", Levels(0.0, 1.0), DenseRegression, marks_holes=False),
        _share("edge_texture", clip=0.08),
        # Where the depth has no value this is 0, which elsewhere means that there is no edge.
        _share("edge_occlusion", clip=0.00625, marks_holes=False),
        _share("keypoints2d", clip=0.005),
        _share("keypoints3d"),
        # Ids 1..17; 0 is 'uncertain' and becomes 'no class'.
        Domain("segment_semantic", ClassIds(first=1), lambda: Segmentation(CLASS_NAMES)),
        Domain("class_object", MostLikely(1000), lambda: Classification(1000)),
        Domain("class_scene", MostLikely(365), lambda: Classification(365)),
        # Omnidata: red is the class, 256 * green + blue the instance. Which classes there are depends on the source.
        Domain("semantic", ClassIds(channel=0)),
    ]
    return {domain.folder: domain for domain in domains}
