"""NYU Depth v2: indoor frames with classes, depth and normals, and optionally many more with depth alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_warn

from jtr_lightning.data.base import PartialLabelDataModule, PartialLabelDataset, Split
from jtr_lightning.data.class_ids import refuse_class_as_void, refuse_other_classes
from jtr_lightning.data.codings import ClassIds, Coding, Scaled, UnitVectors
from jtr_lightning.data.mixing import JoinedSource, MixedSampler, extra_of_epoch, of_labelled_part
from jtr_lightning.data.npy_folder import NpyFolderSource, is_npy_layout, refuse_published_rows
from jtr_lightning.data.nyuv2_depth_only import DepthOnlyLayout, find_depth_only
from jtr_lightning.data.nyuv2_mat import CLASSES_13, CLASSES_40, MAT_NAME, MatFiles, MatSource
from jtr_lightning.data.sampler import EpochSampler
from jtr_lightning.data.source import SampleSource
from jtr_lightning.errors import ConfigError, DataError, check_number
from jtr_lightning.scenarios import BoolArray, SampleTable
from jtr_lightning.tasks import Depth, Normals, Segmentation, Task

NPY_COLUMNS: dict[str, tuple[str, Coding]] = {
    "segmentation": ("label", ClassIds()),
    "depth": ("depth", Scaled(hole=0.0, channels=1)),
    "normals": ("normal", UnitVectors()),
}
"""Each task's folder in the preprocessed layout: class ids with -1 for none, metres with 0 for none, unit vectors with
the zero vector for none (lorenmt/mtan, issues 11 and 12)."""

PUBLISHED = {"train": 795, "val": 654}
"""Frames of the official split."""


class NYUv2DataModule(PartialLabelDataModule):
    """NYU Depth v2, in the form in which you have it.

    * ``npy``: the preprocessed arrays of MTAN, which MTPSL and JTR use:
      ``root/{train,val}/{image,label,depth,normal}/<i>.npy``, 795 and 654 frames of 288x384 pixels, 13 classes.
      Published ``.pth`` label splits belong to this form.
    * ``mat``: the authors' ``nyu_depth_v2_labeled.mat`` in ``root``, beside ``splits.mat`` and, for segmentation,
      ``classMapping40.mat`` (needs h5py). 480x640 pixels, 427x565 without the border. Normals are computed from the
      depth, since the file has none.

    The official split has no third part: validation and test are both the 654 test frames, as in every published
    table, so a checkpoint chosen by validation is chosen on the test frames, too.

    With ``extra_root`` further frames whose only label is depth join the training set as domain 1: in each epoch all
    labelled samples and ``extra_ratio`` times as many extra ones. The scenario is drawn for the labelled samples
    alone.

    Tasks: ``segmentation``, ``depth`` (metres; invalid where 0), ``normals`` (x right; in the ``mat`` form y down, z
    into the scene; the preprocessed files' y and z axes are not documented).

    Args:
        root: The folder with one of the two forms.
        tasks: The tasks to train; all by default.
        classes: 13, or 40 (``mat`` alone).
        layout: ``npy``, ``mat``, or ``auto`` to look.
        crop_border: Cut away the border that the projection leaves blank (``mat`` and extra frames).
        depth_source: Depth of the ``mat`` form: ``filled`` by the authors, or ``raw`` with holes.
        splits: ``splits.mat``, where it is not in ``root``.
        class_mapping: ``classMapping40.mat``, where it is not in ``root``.
        extra_root: Folder of depth-only frames, see ``nyuv2_depth_only``.
        extra_layout: ``h5``, ``sync``, or ``auto`` to look.
        extra_list: A BTS list file of the frames to take from ``extra_root``; all by default.
        extra_ratio: Extra samples in an epoch for each labelled one, as far as there are so many.
        **kwargs: As for every data module: ``scenario``, ``seed``, ``batch_size``, ``num_workers``, ``size``,
            ``augmentation``, ``on_error``.

    Raises:
        ConfigError: A parameter does not fit.
    """

    default_tasks = ("segmentation", "depth", "normals")

    def __init__(
        self,
        root: str | Path,
        tasks: list[str] | dict[str, Task] | None = None,
        classes: Literal[13, 40] = 13,
        layout: Literal["auto", "npy", "mat"] = "auto",
        crop_border: bool = True,
        depth_source: Literal["filled", "raw"] = "filled",
        splits: str | Path | None = None,
        class_mapping: str | Path | None = None,
        extra_root: str | Path | None = None,
        extra_layout: DepthOnlyLayout = "auto",
        extra_list: str | Path | None = None,
        extra_ratio: float = 1.0,
        **kwargs: Any,
    ) -> None:
        for name, value, allowed in (
            ("classes", classes, (13, 40)),
            ("layout", layout, ("auto", "npy", "mat")),
            ("depth_source", depth_source, ("filled", "raw")),
            ("extra_layout", extra_layout, ("auto", "h5", "sync")),
        ):
            if value not in allowed:
                raise ConfigError(f"Parameter `{name}` should be one of {list(allowed)}; found {value!r}.")
        self.classes: Literal[13, 40] = classes  # before the base class asks for the known tasks
        super().__init__(root, tasks, **kwargs)
        refuse_other_classes(self.tasks.get("segmentation"), classes)
        self.layout = layout
        self.crop_border = crop_border
        self.depth_source: Literal["filled", "raw"] = depth_source
        self.mat_files = MatFiles(
            labelled=self.root / MAT_NAME,
            splits=Path(splits or self.root / "splits.mat").expanduser(),
            class_mapping=Path(class_mapping or self.root / "classMapping40.mat").expanduser(),
        )
        self.extra_root = None if extra_root is None else Path(extra_root).expanduser()
        self.extra_layout: DepthOnlyLayout = extra_layout
        self.extra_list = None if extra_list is None else Path(extra_list).expanduser()
        self.extra_ratio = extra_ratio
        if self.extra_root is not None:
            self._check_extra()

    def _check_extra(self) -> None:
        check_number("extra_ratio", self.extra_ratio)
        if not self.extra_ratio > 0:
            raise ConfigError(
                f"Parameter `extra_ratio` should be above 0, the extra samples for each labelled one; found "
                f"{self.extra_ratio}. Leave `extra_root` out to train without them."
            )
        if self.size is None:
            raise ConfigError(
                "Parameter `size` should be given with `extra_root`, since the labelled and the extra frames "
                "differ in size; found None. Take for example `size: [288, 384]`."
            )
        if "depth" not in self.tasks:
            raise ConfigError(
                f"Parameter `extra_root` brings frames with depth alone, so `tasks` should name 'depth'; found "
                f"{list(self.tasks)}."
            )

    def known_tasks(self) -> dict[str, Task]:
        names = list(CLASSES_13 if self.classes == 13 else CLASSES_40)
        # The sensor measures up to 10 m; normalised depths would have medians below half a metre.
        depth = Depth(expected_range=(0.0, 10.0), expected_median=(0.5, 10.0))
        return {"segmentation": Segmentation(names), "depth": depth, "normals": Normals()}

    def source(self, split: Split) -> SampleSource:
        training = split == "train"
        labelled = self._labelled(training)
        if not training or self.extra_root is None:
            return labelled
        extra = find_depth_only(self.extra_root, self.extra_layout, self.extra_list, self.crop_border)
        wanted = extra_of_epoch(len(labelled), self.extra_ratio)
        if wanted > len(extra):
            rank_zero_warn(
                f"Parameter `extra_ratio` asks for {wanted} depth-only frames in each epoch; found {len(extra)} in "
                f"'{self.extra_root}', so all of them come in every epoch, at a ratio of "
                f"{len(extra) / len(labelled):.2g}."
            )
        return JoinedSource(labelled, extra)

    def _labelled(self, training: bool) -> SampleSource:
        if self._form() == "npy":
            if self.classes != 13:
                raise ConfigError(
                    f"Parameter `classes` should be 13 for the preprocessed .npy files in '{self.root}', "
                    f"which hold no others; found {self.classes}. Use the authors' '{MAT_NAME}' for 40 classes."
                )
            part = "train" if training else "val"
            return NpyFolderSource(self.root / part, NPY_COLUMNS, PUBLISHED[part])
        if training:
            refuse_published_rows(self.scenario, f"official file '{MAT_NAME}'")
        refuse_class_as_void(self.tasks.get("segmentation"), f"the file '{MAT_NAME}'")
        classes = self.classes if "segmentation" in self.tasks else None
        return MatSource(self.mat_files, training, classes, self.crop_border, self.depth_source)

    def _form(self) -> str:
        if self.layout != "auto":
            return self.layout
        if is_npy_layout(self.root):
            return "npy"
        if self.mat_files.labelled.is_file():
            return "mat"
        raise DataError(
            f"The folder '{self.root}' should hold NYU-v2, as preprocessed arrays (train/image/0.npy ...) or as "
            f"'{MAT_NAME}'; found {'neither' if self.root.is_dir() else 'no such folder'}. Give the folder "
            "that has one of them as `root`."
        )

    def availability(self, table: SampleTable) -> BoolArray:
        if self.extra_root is None:
            return super().availability(table)
        return of_labelled_part(self.scenario, table, self.seed)

    def sampler(
        self, dataset: PartialLabelDataset, training: bool, rank: int, world_size: int
    ) -> EpochSampler:
        if not (training and isinstance(dataset.source, JoinedSource)):
            return super().sampler(dataset, training, rank, world_size)
        number, extra = len(dataset.source.main), len(dataset.source.extra)
        return MixedSampler(number, extra, self.extra_ratio, self.seed, rank, world_size)
