"""Anybody's own images and labels, in plain folders."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jtr_lightning.data.base import PartialLabelDataModule, Split
from jtr_lightning.data.codings import Coding, Scaled, coding_for
from jtr_lightning.data.files import SUFFIXES
from jtr_lightning.data.folder_source import IMAGE_KEY, Files, FolderSource, files_by_id
from jtr_lightning.data.source import without_sample
from jtr_lightning.data.tables import header_of, read_image_labels, read_rows
from jtr_lightning.disk import is_there
from jtr_lightning.errors import ConfigError, DataError, check_number, did_you_mean
from jtr_lightning.splits import read_split
from jtr_lightning.tasks import DenseTask, Task

_SPLITS = ("train", "val", "test")


class _FolderScaled(Scaled):
    """``Scaled`` with the advice that fits ``FolderDataModule``."""

    scale_remedy = "Give it with `scales`, for example 0.001 for a depth in millimetres."
    nan_remedy = "Set `nan_is_invalid: true` if they mark pixels without a value."


def _scaled_for(task: Task, usual: Coding, scale: float | None, nan_is_invalid: bool) -> _FolderScaled:
    """The coding of measured values: as usual for the task, or with its own value for an invalid pixel."""
    if isinstance(usual, Scaled):
        return _FolderScaled(
            usual.scale if scale is None else scale,
            usual.invalid,
            usual.hole,
            nan_is_invalid or usual.nan_is_invalid,
            usual.channels,
        )
    if not isinstance(task, DenseTask):
        return _FolderScaled(scale, nan_is_invalid=nan_is_invalid)
    return _FolderScaled(
        scale, hole=task.blank_value, nan_is_invalid=nan_is_invalid, channels=task.target_channels
    )


class FolderDataModule(PartialLabelDataModule):
    """Your own data: ``<root>/images/<id>.png`` and, for each task, ``<root>/<task>/<id>.png``.

    Images and labels belong together by their id, the path below the folder without its ending; ids may have
    subfolders. Files are PNG, JPEG, TIFF, BMP, WebP, NPY or NPZ, of any mixture. A label without a file is missing,
    and that is all that partial labels need. A minimal config::

        data:
          class_path: jtr_lightning.data.FolderDataModule
          init_args:
            root: /data/mine
            size: [256, 320]
            scales: {depth: 0.001}          # 16-bit millimetres to metres
            tasks:
              segmentation:
                class_path: jtr_lightning.tasks.Segmentation
                init_args: {classes: [floor, wall, other]}
              depth: jtr_lightning.tasks.Depth
              normals: jtr_lightning.tasks.Normals

    What a label file holds follows from the kind of task (``codings.coding_for``): class ids (255 or -1 for none);
    depth times its scale (0 for none); normals with 127.5 for 0 (grey or black for none), or vectors in an array file;
    for dense regression an integer file's range is the task's ``low`` .. ``high``. Floating-point values are taken as
    they are. ``codings`` takes another coding for a task.

    Three CSV files may stand in ``root``:

    * ``labels.csv``: ``id`` and a column for each image-level task, with a class name or id, or numbers with spaces
      between them; an empty cell is a missing label.
    * ``splits.csv``: ``id, split`` with train, val or test; other images are left out. Without it an image's split
      follows from a checksum of its id, so that more images do not move those that were there. Frames of one video
      would be in several splits: give the file for them.
    * ``availability.csv``: ``id`` and a 0/1 column for each task, for all images: which of the labels may be used.

    To predict images without any label, only their folder is needed; ``val_share: 0`` and ``test_share: 1`` take all.

    Args:
        root: The folder of folders.
        tasks: Task name to task.
        image_folder: Name of the images' folder.
        folders: For tasks that are not named like their folder, the folder.
        scales: For tasks whose files hold whole steps of a unit, the unit's share per step, such as 0.001.
        codings: For tasks whose files are coded in another way, the coding.
        keys: For tasks whose files are ``.npz`` archives with several arrays, the array's name; ``image`` for images.
            Several tasks may read one folder of archives, see ``folders``.
        nan_is_invalid: Take NaN and infinity in depth files for invalid pixels; otherwise they are an error.
        labels_file: The image-level labels; ``labels.csv`` in ``root`` if there is one.
        splits_file: The splits; ``splits.csv`` in ``root`` if there is one.
        availability_file: The availability; ``availability.csv`` in ``root`` if there is one.
        val_share: Share of the images for validation where there is no list of splits.
        test_share: Share of the images for testing, likewise.
        **kwargs: See ``PartialLabelDataModule``.

    Raises:
        ConfigError: A parameter does not fit.
    """

    def __init__(
        self,
        root: str | Path,
        tasks: dict[str, Task],
        image_folder: str = "images",
        folders: dict[str, str] | None = None,
        scales: dict[str, float] | None = None,
        codings: dict[str, Coding] | None = None,
        keys: dict[str, str] | None = None,
        nan_is_invalid: bool = False,
        labels_file: str | Path | None = None,
        splits_file: str | Path | None = None,
        availability_file: str | Path | None = None,
        val_share: float = 0.15,
        test_share: float = 0.15,
        **kwargs: Any,
    ) -> None:
        if not isinstance(tasks, Mapping):
            raise ConfigError(
                "Parameter `tasks` of FolderDataModule should give a task for each name, since no folder says what it "
                f"holds; found {tasks!r}."
            )
        super().__init__(root, dict(tasks), **kwargs)
        check_number("val_share", val_share)
        check_number("test_share", test_share)
        if not (val_share >= 0 and test_share >= 0 and val_share + test_share <= 1):
            raise ConfigError(
                "Parameters `val_share` and `test_share` should be at least 0 and at most 1 together; found "
                f"{val_share} and {test_share}."
            )
        self.image_folder = image_folder
        self.folders = {name: name for name in self.tasks} | self._of_tasks("folders", folders)
        self.codings = self._codings(scales, codings, nan_is_invalid)
        self.keys = self._of_tasks("keys", keys, IMAGE_KEY)
        self.labels_file = labels_file
        self.splits_file = splits_file
        self.availability_file = availability_file
        self.val_share = val_share
        self.test_share = test_share
        self._everything: FolderSource | None = None

    def known_tasks(self) -> dict[str, Task]:
        return {}

    def _of_tasks(
        self, parameter: str, given: Mapping[str, Any] | None, also: str | None = None
    ) -> dict[str, Any]:
        if given is not None and not isinstance(given, Mapping):
            raise ConfigError(
                f"Parameter `{parameter}` should give a value for each task by its name; found {given!r}."
            )
        for name in given or {}:
            if name not in self.tasks and name != also:
                raise ConfigError(
                    f"Parameter `{parameter}` should name tasks of the data; found '{name}', "
                    f"{did_you_mean(name, self.tasks)}"
                )
        return dict(given or {})

    def _codings(
        self, scales: Mapping[str, float] | None, codings: Mapping[str, Coding] | None, nan_is_invalid: bool
    ) -> dict[str, Coding]:
        chosen: dict[str, Coding] = {}
        steps = self._of_tasks("scales", scales)
        for name, step in steps.items():
            check_number(f"scales['{name}']", step)
        given = self._of_tasks("codings", codings)
        for name, task in self.tasks.items():
            if name in steps and name in given:
                raise ConfigError(
                    f"Either `scales` or `codings` should have the task '{name}'; found both. Leave one out."
                )
            usual = given.get(name, coding_for(task))
            # A coding of a user's own is left as it is unless a scale is given for it.
            if name not in given and (name in steps or type(usual) is Scaled):
                usual = _scaled_for(task, usual, steps.get(name), nan_is_invalid)
            chosen[name] = usual.of_task(task)
        return chosen

    def everything(self) -> FolderSource:
        """All samples of all splits.

        Raises:
            DataError: A folder is missing, an id has two files, or a table does not fit.
        """
        if self._everything is None:
            self._everything = self._open()
        return self._everything

    def _open(self) -> FolderSource:
        folder = self.root / self.image_folder
        found = files_by_id(folder, "images")
        ids = sorted(found)
        if not ids:
            raise DataError(
                f"The folder '{folder}' should hold images ({', '.join(s[1:] for s in SUFFIXES)}); found none."
            )
        labels = {name: self._label_files(name, ids) for name, task in self.tasks.items() if task.dense}
        image_labels, without_image = self._image_labels(ids)
        return FolderSource(
            ids,
            Files.of(folder, found, ids),
            {name: files for name, (files, _) in labels.items()},
            {name: self.codings[name] for name in labels},
            image_labels,
            self._allowed(ids),
            self.keys,
            wrong=[*(sentence for _, wrong in labels.values() for sentence in wrong), *without_image],
        )

    def _label_files(self, task: str, ids: Sequence[str]) -> tuple[Files, list[str]]:
        """The label files of the images, and a sentence where there are others."""
        folder = self.root / self.folders[task]
        found = files_by_id(folder, f"labels of task '{task}'") if folder.is_dir() else {}
        strange = sorted(set(found) - set(ids))
        if found and len(strange) == len(found):
            raise DataError(
                f"The label files in '{folder}' should be named like their images; found none that is, for example "
                f"'{strange[0]}' where an image is '{ids[0]}'. Rename them."
            )
        return Files.of(folder, found, ids), without_sample(
            folder, [f"{name}{found[name]}" for name in strange], len(found)
        )

    def _csv(self, given: str | Path | None, name: str) -> Path | None:
        """A CSV file that was named, or that is there under its usual name."""
        if given is not None:
            return Path(given).expanduser()
        usual = self.root / name
        return usual if is_there(usual) else None

    def _image_labels(self, ids: Sequence[str]) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
        """The labels of whole images, and a sentence where the table has others."""
        missing = {
            name: np.full((len(ids), 1), np.nan) for name, task in self.tasks.items() if not task.dense
        }
        path = self._csv(self.labels_file, "labels.csv")
        if path is None or not missing:
            return missing, []
        rows, values = read_image_labels(path, ("id",), self.tasks)
        position = {name: i for i, name in enumerate(ids)}
        pairs = [(row, position[name]) for row, (name,) in enumerate(rows) if name in position]
        if rows and not pairs:
            raise DataError(
                f"The ids in '{path}' should be those of the images, names without ending; found none that is, for "
                f"example '{rows[0][0]}' where an image is '{ids[0]}'."
            )
        source, target = np.array(pairs, np.int64).reshape(-1, 2).T
        for name, cells in values.items():
            aligned = np.full((len(ids), cells.shape[1]), np.nan)
            aligned[target] = cells[source]
            missing[name] = aligned
        return missing, _without_image(path, [name for (name,) in rows if name not in position], len(rows))

    def _allowed(self, ids: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
        path = self._csv(self.availability_file, "availability.csv")
        if path is None:
            return {name: np.ones(len(ids), bool) for name in self.tasks}
        columns = read_split(path, ids, tuple(self.tasks))
        return {name: columns[:, k] for k, name in enumerate(self.tasks)}

    def source(self, split: Split) -> FolderSource:
        everything = self.everything()
        if split == "train":
            self._require_labels()
        path = self._csv(self.splits_file, "splits.csv")
        splits = self._drawn(everything.ids) if path is None else _listed(path, everything.ids)
        samples = np.flatnonzero(splits == split)
        if not len(samples):
            raise DataError(
                f"The split '{split}' should have at least one of the {len(everything)} images in "
                f"'{self.root / self.image_folder}'; found none by "
                f"{'their share' if path is None else repr(str(path))}. List the splits in "
                f"'{path or self.root / 'splits.csv'}' (id, split){', or raise its share' if path is None else ''}."
            )
        return everything.take(samples, _unlisted(path, splits, everything.ids))

    def _require_labels(self) -> None:
        """Says where the labels of each task should be if there is no place for them at all."""
        table = self._csv(self.labels_file, "labels.csv")
        columns = [] if table is None else header_of(table)
        for name, task in self.tasks.items():
            folder = self.root / self.folders[name]
            if task.dense and not folder.is_dir():
                present = sorted(
                    p.name for p in self.root.iterdir() if p.is_dir() and p.name != self.image_folder
                )
                raise DataError(
                    f"The labels of task '{name}' should be in the folder '{folder}'; found no such folder, but "
                    f"{present}. Name the folder in `folders`, or leave the task out."
                )
            if not task.dense and name not in columns:
                raise DataError(
                    f"The labels of the image-level task '{name}' should be in a column of that name in "
                    f"'{table or self.root / 'labels.csv'}'; found "
                    f"{'no such file' if table is None else f'the columns {columns}'}. Add it, or leave the task out."
                )

    def _drawn(self, ids: Sequence[str]) -> NDArray[np.str_]:
        """The split of each sample by its id's place among all checksums; val and test get at least one if they may."""
        places = np.array([zlib.crc32(name.encode()) for name in ids]) / 2**32
        order = places.argsort(kind="stable")
        val = max(int((places < self.val_share).sum()), self.val_share > 0)
        val_and_test = max(
            int((places < self.val_share + self.test_share).sum()), val + (self.test_share > 0)
        )
        splits = np.full(len(ids), "train")
        splits[order[:val_and_test]] = "test"
        splits[order[:val]] = "val"
        return splits


def _without_image(path: Path, strays: Sequence[str], number: int) -> list[str]:
    """A sentence where rows of a table of labels belong to no image."""
    if not strays:
        return []
    sentence = (
        f"{len(strays)} of {number} rows of '{path}' belong to no image and are not read, the first '{strays[0]}'. "
        "Mend their ids, add their images, or remove them."
    )
    return [sentence]


def _unlisted(path: Path | None, splits: NDArray[np.str_], ids: Sequence[str]) -> list[str]:
    """A sentence where a list of splits leaves images out."""
    left_out = np.flatnonzero(splits == "")
    if not len(left_out):
        return []
    sentence = (
        f"{len(left_out)} of {len(ids)} images are in no split of '{path}' and are not used, the first "
        f"'{ids[int(left_out[0])]}'."
    )
    return [sentence]


def _listed(path: Path, ids: Sequence[str]) -> NDArray[np.str_]:
    """The split of each sample as a file lists it; empty where it does not."""
    position = {name: i for i, name in enumerate(ids)}
    splits = np.full(len(ids), "", dtype="U5")
    for line, row in read_rows(path, ("id", "split")):
        name, split = row["id"], row["split"]
        if split not in _SPLITS:
            raise DataError(
                f"The table '{path}' should say train, val or test; found '{split}' in line {line}."
            )
        if name not in position:
            raise DataError(
                f"The table '{path}' should list images that exist, by names without ending; found '{name}' in line "
                f"{line} where an image is '{ids[0]}'."
            )
        if splits[position[name]]:
            raise DataError(
                f"The table '{path}' should list each image once; found '{name}' again in line {line}."
            )
        splits[position[name]] = split
    return splits
