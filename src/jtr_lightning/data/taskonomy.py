"""Taskonomy, and all that is laid out like it (Omnidata, the annotator's output, Rooms)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.codings import Coding, coding_for
from jtr_lightning.data.files import read_array, read_image
from jtr_lightning.data.source import Array, SampleSource
from jtr_lightning.data.tables import read_image_labels
from jtr_lightning.data.taskonomy_domains import DEPTH_SCALE, MASKS, Domain, known_domains, known_pixels
from jtr_lightning.data.taskonomy_index import TreeIndex, open_tree
from jtr_lightning.data.taskonomy_splits import BuildingLists, Shares, Splits
from jtr_lightning.disk import is_there
from jtr_lightning.errors import ConfigError, DataError, did_you_mean
from jtr_lightning.tasks import DenseTask, Task


class TaskonomySource(SampleSource):
    """Some views of a tree.

    Args:
        index: The views.
        domains: For each task where its label files are and how they are coded.
        values: For each task whose labels are in a table, float64 ``[N, C]``, NaN where there is none.
        image_domain: The domain of the images.
        notes: What one should know of the split.
    """

    def __init__(
        self,
        index: TreeIndex,
        domains: Mapping[str, Domain],
        values: Mapping[str, NDArray[np.float64]] | None = None,
        image_domain: str = "rgb",
        notes: Sequence[str] = (),
    ) -> None:
        self.index = index
        self.tasks = dict(domains)
        self.values = dict(values or {})
        self.image_domain = image_domain
        self.notes = tuple(notes)

    def __len__(self) -> int:
        return len(self.index)

    def name(self, index: int) -> str:
        return self.index.name(index)

    def on_disk(self, tasks: Sequence[str]) -> NDArray[np.bool_]:
        columns = [self._exists(task) for task in tasks]
        return np.stack(columns, 1) if columns else np.zeros((len(self), 0), bool)

    def _exists(self, task: str) -> NDArray[np.bool_]:
        if task in self.values:
            return np.asarray(np.isfinite(self.values[task]).all(1))
        domain = self.tasks[task]
        exists = self.index.has(domain.folder)
        return exists if domain.mask is None else exists & self.index.has(domain.mask)

    def remarks(self) -> Sequence[str]:
        found = [*self.notes, *self._files_without_sample()]
        if elsewhere := self.index.elsewhere:
            found.append(
                f"{len(elsewhere)} folders of images in '{self.index.root}' are not laid out as the others "
                f"('{self.index.layout.folder}') and are not read, the first '{elsewhere[0]}'."
            )
        for task, domain in self.tasks.items():
            exists = self.index.has(domain.folder)
            if domain.mask is None:
                if exists.any() and not domain.marks_holes:
                    found.append(
                        f"Task '{task}': its files do not say which pixels are holes, and '{self.index.root}' has no "
                        f"'{MASKS}', so that holes are trained as values. Name a domain that tells them in `mask_from`."
                    )
                continue
            lost = int((exists & ~self.index.has(domain.mask)).sum())
            if lost:
                found.append(
                    f"Task '{task}': {lost} of {int(exists.sum())} labels have no file of '{domain.mask}' for their "
                    "mask and are left out."
                )
        return found

    def _files_without_sample(self) -> list[str]:
        """Notes and not problems: of some published buildings images are missing, see ``skip_buildings``."""
        sentences = []
        for folder in dict.fromkeys((self.image_domain, *(domain.folder for domain in self.tasks.values()))):
            strays = [found for found in self.index.strays if found.domain == folder]
            if strays:
                sentences.append(
                    f"{sum(found.number for found in strays)} files of '{folder}' in '{self.index.root}' belong to no "
                    f"sample and are not read, the first '{strays[0].first}'."
                )
        return sentences

    def file_of(self, index: int, task: str | None = None) -> Path | None:
        if task in self.values:
            return None
        return self.index.path(index, self.image_domain if task is None else self.tasks[task].folder)

    def read_image(self, index: int) -> Array:
        return read_image(self.index.path(index, self.image_domain))

    def read_label(self, index: int, task: str) -> Array:
        if task in self.values:
            return np.asarray(self.values[task][index])
        domain = self.tasks[task]
        path = self.index.path(index, domain.folder)
        label = domain.coding.decode(read_array(path), path)
        return label if domain.mask is None else self._masked(label, index, domain, domain.mask)

    def _masked(self, label: Array, index: int, domain: Domain, mask: str) -> Array:
        path = self.index.path(index, mask)
        known = known_pixels(read_array(path), path)
        if known.shape != label.shape[:2]:
            raise DataError(
                f"The mask '{path}' should have the size of the label that it is for, {list(label.shape[:2])}; found "
                f"{list(known.shape)}."
            )
        label = label if label.flags.writeable else label.copy()
        label[~known] = domain.hole
        return label


@dataclass(frozen=True)
class _Opened:
    """What was found on disk: all views, their image-level labels, the rule for splits, and buildings not to skip."""

    index: TreeIndex
    values: dict[str, NDArray[np.float64]]
    splits: Splits
    not_skipped: tuple[str, ...]


class TaskonomyDataModule(PartialLabelDataModule):
    """Views of buildings with a label file for each task.

    The layout is found by looking (``taskonomy_layouts.LAYOUTS``: buildings first, domains first, unpacked archives,
    Omnidata's, or one building alone). A label belongs to its image by folder, point and view; a missing file is a
    missing label. What is in a large tree is found once and remembered, see ``taskonomy_index.open_tree``.

    Every domain of Taskonomy that can be a task is known by its folder's name (``taskonomy_domains``); the default are
    seven (those of Standley et al., "Which Tasks Should Be Learned Together in Multi-task Learning?", with z-buffer
    depth). A task of your own reads the folder of its name::

        data:
          class_path: jtr_lightning.data.TaskonomyDataModule
          init_args:
            root: /data/taskonomy
            split_file: /data/splits/train_val_test_tiny.csv
            size: [256, 256]
            tasks:
              normal: jtr_lightning.tasks.Normals
              albedo:
                class_path: jtr_lightning.tasks.DenseRegression
                init_args: {channels: 3}

    Not known by name: ``segment_unsup2d`` and ``segment_unsup25d``, which number the regions of one image and are no
    classes; ``mask_valid``, which is a mask (see ``mask_from``) and no task; and Omnidata's ``semantic``, whose classes
    depend on its source: give it as ``semantic: {class_path: jtr_lightning.tasks.Segmentation, init_args: {classes:
    ...}}``, and the class is read from the red channel.

    Args:
        root: The tree's folder.
        tasks: Names of known domains, or names with tasks. None takes the seven.
        split_file: The authors' ``train_val_test_<set>.csv``. None takes the one such file in ``root`` if there is one,
            else the lists below, else the shares.
        train_buildings: Buildings to train on, in place of a split file.
        val_buildings: Buildings for validation.
        test_buildings: Buildings for testing.
        val_share: Share for validation where nothing says what belongs to which split: of whole buildings if there are
            three or more (the last by name), else of the points, with a warning.
        test_share: Share for testing, likewise.
        skip_buildings: Buildings to leave out. The authors of Omnidata skip ``rough``, whose views are wrong.
        depth_scale: Metres per step of the depth files; 1/512 for Taskonomy, 8/65535 for a run of the annotator with a
            maximum of 8 m.
        folders: For tasks that are not named like their folder, the folder.
        codings: For tasks whose files are coded in another way, the coding.
        mask_from: For tasks whose files do not say which pixels are holes, a domain that does: ``mask_valid``, or
            ``depth_zbuffer`` (of a view whose depth label is hidden it tells no more than where there is some). A label
            without a file of that domain counts as missing. Of the tasks known by name ``reshading`` and
            ``edge_occlusion`` are such ones: they take ``mask_valid`` where the tree has it, unless null is given for
            them here; where it has none, what the files have in holes is trained as their value.
        image_domain: The folder of the images, such as ``rgb``; the labels must have their size.
        image_labels_file: A CSV with the columns ``building, point, view`` and one for each image-level task. None
            takes ``image_labels.csv`` in ``root`` if there is one.
        **kwargs: See ``PartialLabelDataModule``.

    Raises:
        ConfigError: A parameter does not fit.
    """

    default_tasks: tuple[str, ...] = (
        "segment_semantic",
        "depth_zbuffer",
        "normal",
        "edge_texture",
        "edge_occlusion",
        "keypoints2d",
        "reshading",
    )

    def __init__(
        self,
        root: str | Path,
        tasks: list[str] | dict[str, Task] | None = None,
        split_file: str | Path | None = None,
        train_buildings: list[str] | None = None,
        val_buildings: list[str] | None = None,
        test_buildings: list[str] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        skip_buildings: list[str] | None = None,
        depth_scale: float = DEPTH_SCALE,
        folders: dict[str, str] | None = None,
        codings: dict[str, Coding] | None = None,
        mask_from: dict[str, str | None] | None = None,
        image_domain: str = "rgb",
        image_labels_file: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, tasks, **kwargs)
        self.split_file = None if split_file is None else Path(split_file).expanduser()
        self.lists = {"train": train_buildings, "val": val_buildings, "test": test_buildings}
        if self.split_file is not None and any(self.lists.values()):
            raise ConfigError(
                "Either `split_file` or lists of buildings should say what belongs to which split; found both. "
                "Leave one out."
            )
        self.shares = Shares(val_share, test_share)
        self.skip_buildings = list(skip_buildings or [])
        self.image_domain = image_domain
        self.image_labels_file = None if image_labels_file is None else Path(image_labels_file).expanduser()
        self.domains = self._domains(folders or {}, codings or {}, mask_from or {}, depth_scale)
        self._opened: _Opened | None = None

    def known_domains(self, depth_scale: float) -> dict[str, Domain]:
        """The tasks known by name and where their labels are; a subclass for other data gives its own.

        Args:
            depth_scale: Metres per step of the depth files.
        """
        return known_domains(depth_scale)

    def known_tasks(self) -> dict[str, Task]:
        domains = self.known_domains(DEPTH_SCALE)
        return {name: domain.task() for name, domain in domains.items() if domain.task is not None}

    def usual_tasks(self) -> dict[str, Task]:
        """None: the codings know the tasks that they are for."""
        return {}

    def _domains(
        self,
        folders: Mapping[str, str],
        codings: Mapping[str, Coding],
        masks: Mapping[str, str | None],
        depth_scale: float,
    ) -> dict[str, Domain]:
        for parameter, given in (("folders", folders), ("codings", codings), ("mask_from", masks)):
            for name in given:
                if name not in self.tasks:
                    raise ConfigError(
                        f"Parameter `{parameter}` should name tasks of the data; found '{name}', "
                        f"{did_you_mean(name, self.tasks)}"
                    )
        for name in masks:
            if not self.tasks[name].dense:
                raise ConfigError(
                    f"Parameter `mask_from` should name tasks with a label for each pixel; found '{name}'."
                )
        known = self.known_domains(depth_scale)
        domains = {}
        for name, task in self.tasks.items():
            folder = folders.get(name, known[name].folder if name in known else name)
            like = next((domain for domain in known.values() if domain.folder == folder), None)
            coding = codings.get(name) or (coding_for(task) if like is None else like.coding)
            coding = coding.of_task(task)
            hole = task.blank_value if isinstance(task, DenseTask) else float("nan")
            marked = name in masks or like is None or like.marks_holes
            domains[name] = Domain(folder, coding, mask=masks.get(name), hole=hole, marks_holes=marked)
        return domains

    def prepare_data(self) -> None:
        """Finds what the tree holds, so that other processes find it remembered."""
        self.tree()

    def require_data(self) -> None:
        """Looks into the tree as ``prepare_data`` does, but writes nothing into it."""
        self._open(keep_in_tree=False)

    def tree(self) -> TreeIndex:
        """All views of the tree, without those of ``skip_buildings``.

        Raises:
            DataError: The folder is missing, holds no such tree, or a table does not fit.
        """
        return self._open().index

    def _open(self, keep_in_tree: bool = True) -> _Opened:
        if self._opened is None:
            index = open_tree(self.root, self.image_domain, keep_in_tree=keep_in_tree)
            not_skipped = tuple(sorted(set(self.skip_buildings) - set(index.buildings)))
            index = index.without(self.skip_buildings)
            if not len(index):
                raise DataError(
                    f"Some building in '{self.root}' should be left; found only those of `skip_buildings`. Skip fewer."
                )
            self._opened = _Opened(index, self._image_labels(index), self._find_splits(), not_skipped)
        return self._opened

    def _image_labels(self, index: TreeIndex) -> dict[str, NDArray[np.float64]]:
        path = self.image_labels_file or self.root / "image_labels.csv"
        if self.image_labels_file is None and not is_there(path):
            return {}
        views, values = read_image_labels(path, ("building", "point", "view"), self.tasks)
        try:
            rows = index.find([(building, int(point), int(view)) for building, point, view in views])
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"The table '{path}' should have whole numbers as point and view; found {error}."
            ) from error
        known = rows >= 0
        if len(rows) and not known.any():
            raise DataError(
                f"The table '{path}' should have labels of the images in '{self.root}'; found none of them, its first "
                f"row is of {views[0]} and the first image '{index.name(0)}'."
            )
        aligned = {}
        for name, cells in values.items():
            aligned[name] = np.full((len(index), cells.shape[1]), np.nan)
            aligned[name][rows[known]] = cells[known]
        return aligned

    def _find_splits(self) -> Splits:
        if self.split_file is not None:
            return BuildingLists.read(self.split_file)
        if any(self.lists.values()):
            return BuildingLists(
                {split: names or [] for split, names in self.lists.items()}, "the parameters"
            )
        files = sorted(self.root.glob("train_val_test_*.csv"))
        if len(files) > 1:
            raise DataError(
                f"The folder '{self.root}' should hold one split file, or `split_file` should say which; found "
                f"{[file.name for file in files]}."
            )
        return BuildingLists.read(files[0]) if files else self.shares

    def source(self, split: Split) -> TaskonomySource:
        opened = self._open()
        if split == "train":
            self._require_labels(opened.index, opened.values)
        samples = opened.splits.samples(opened.index, split)
        return TaskonomySource(
            opened.index.take(samples),
            _masked(self.domains, opened.index),
            {name: values[samples] for name, values in opened.values.items()},
            self.image_domain,
            [*self._remarks(opened.not_skipped), *opened.splits.remarks(opened.index, split)],
        )

    def _remarks(self, not_skipped: Sequence[str]) -> list[str]:
        """A sentence where buildings to skip are not there: a list for the whole dataset, or a mistyped name."""
        if not not_skipped:
            return []
        sentence = (
            f"{len(not_skipped)} of the {len(self.skip_buildings)} buildings of `skip_buildings` are not in "
            f"'{self.root}', the first '{not_skipped[0]}'."
        )
        return [sentence]

    def _require_labels(self, index: TreeIndex, in_table: Collection[str]) -> None:
        for name, domain in self.domains.items():
            if domain.mask is not None and domain.mask not in index.domains:
                raise DataError(
                    f"The masks of task '{name}' should be in folders named '{domain.mask}' in '{self.root}'; found "
                    f"{index.domains} only. Name another domain in `mask_from`, or leave the task out of it."
                )
            if name not in in_table and domain.folder not in index.domains:
                raise DataError(
                    f"The labels of task '{name}' should be in folders named '{domain.folder}' in '{self.root}'; found "
                    f"labels in {index.domains} only. Leave the task out of `tasks`, or name its folder in `folders`"
                    f"{'' if self.tasks[name].dense else ', or its table in `image_labels_file`'}."
                )


def _masked(domains: Mapping[str, Domain], index: TreeIndex) -> dict[str, Domain]:
    """The domains, those that do not mark their holes with the usual masks where the tree has them."""
    if MASKS not in index.domains:
        return dict(domains)
    return {name: d if d.marks_holes else replace(d, mask=MASKS) for name, d in domains.items()}
