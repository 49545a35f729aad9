"""Predictions as files: raw values for programs, pictures for people, and what the values mean."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from jtr_lightning.disk import make_folder
from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.tasks import Task

DESCRIPTION = "tasks.json"
IMAGE_LEVEL = "image_level.csv"

_LEVELS = 65534
"""Steps of a 16-bit PNG: the values 1..65535, since 0 stands for a value that is not finite."""


class RawFormat(ABC):
    """How the raw values of a dense task become a file."""

    @abstractmethod
    def suffix(self, task: Task) -> str:
        """The ending of a task's files."""

    @abstractmethod
    def write(self, path: Path, array: NDArray[Any], task: Task) -> None:
        """Writes one prediction.

        Args:
            path: The file, with the task's ending.
            array: ``[H, W]`` or ``[H, W, C]``; class ids are int16.
            task: What was predicted.
        """


class Npy(RawFormat):
    """NumPy files: class ids int16, everything else float32 in the task's unit."""

    def suffix(self, task: Task) -> str:
        return ".npy"

    def write(self, path: Path, array: NDArray[Any], task: Task) -> None:
        np.save(path, array)


class Png(RawFormat):
    """PNG files: class ids as they are, other values in 16 bits over the range of each image.

    Beside each file of 16 bits lies ``<sample>.json`` with ``value = offset + scale * stored``, where 0 is stored for a
    value that is not finite. A task with other than 1 or 3 values per pixel becomes ``.npy``, for PNG has no such form.
    """

    def suffix(self, task: Task) -> str:
        channels = 1 if not task.target_dtype.is_floating_point else task.target_shape(1, 1)[0]
        return ".png" if channels in (1, 3) else ".npy"

    def write(self, path: Path, array: NDArray[Any], task: Task) -> None:
        if path.suffix == ".npy":
            np.save(path, array)
            return
        if array.dtype.kind != "f":
            _save_png(path, array.astype(np.uint8 if task.channels <= 256 else np.uint16))
            return
        finite = np.isfinite(array)
        low, high = (float(f(array[finite])) if finite.any() else 0.0 for f in (np.min, np.max))
        scale = (high - low) / (_LEVELS - 1) or 1.0  # 1 for an image of one value
        steps = np.where(finite, array.astype(np.float64) - low, 0) / scale
        _save_png(path, np.where(finite, steps.round() + 1, 0).astype(np.uint16))
        sidecar = {"unit": task.unit, "offset": low - scale, "scale": scale, "missing": 0}
        path.with_name(f"{path.stem}.json").write_text(json.dumps(sidecar) + "\n", encoding="utf-8")


RAW_FORMATS: dict[str, RawFormat] = {"npy": Npy(), "png": Png()}
"""Formats of raw values by the name that a command line uses."""


def find_raw_format(name: str) -> RawFormat:
    """The format of this name.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in RAW_FORMATS:
        raise ConfigError(
            f"Parameter `raw` should be the name of a file format; found '{name}', {did_you_mean(name, RAW_FORMATS)}"
        )
    return RAW_FORMATS[name]


class PredictionFiles:
    """The folder of predictions.

    * ``raw/<task>/<sample>.npy`` (or ``.png``): what the task predicts in its unit, ``[H, W]`` for one value per pixel,
      else ``[H, W, C]``;
    * ``pictures/<task>/<sample>.png``: the same for looking at;
    * ``tasks.json``: each task's kind, settings (class names among them), unit, layout and file ending.

    Args:
        folder: Where to write.
        tasks: Task name to task.
        pictures: Write pictures as well.
        raw: How to write raw values.
    """

    def __init__(
        self, folder: Path, tasks: Mapping[str, Task], pictures: bool = True, raw: RawFormat | None = None
    ) -> None:
        self.folder = folder
        self.tasks = dict(tasks)
        self.pictures = pictures
        self.raw = Npy() if raw is None else raw

    def make_folder(self, overwrite: bool, options: tuple[str, str] = ("--out", "--overwrite")) -> None:
        """Makes the folder.

        Args:
            overwrite: Take a folder that holds files already; those of the same samples are replaced.
            options: How the user names the folder and this choice, for the message.

        Raises:
            ConfigError: The folder is not empty, or cannot be made.
        """
        out, again = options
        if self.folder.is_file() or (
            not overwrite and self.folder.is_dir() and next(self.folder.iterdir(), None)
        ):
            raise ConfigError(
                f"Parameter `out` of the predictions should be a new or empty folder; '{self.folder}' is not. Give "
                f"{out} another folder, or {again}."
            )
        try:
            make_folder(self.folder)
        except OSError as error:
            raise ConfigError(
                f"Parameter `out` of the predictions should be a folder that can be made and written into; found "
                f"'{self.folder}': {error.strerror}."
            ) from error

    def write_description(self) -> None:
        """Writes what each task's values mean."""
        content = {name: self._describe(task) for name, task in self.tasks.items()}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        (self.folder / DESCRIPTION).write_text(text, encoding="utf-8")

    def write(self, sample: Path, values: Mapping[str, Tensor]) -> dict[str, Any]:
        """Writes the dense tasks of one sample.

        Args:
            sample: Its name, a path below the folders of the tasks.
            values: Task name to a value in the layout of a label, without a batch, in host memory.

        Returns:
            The image-level tasks as cells of a table: column to value.
        """
        cells: dict[str, Any] = {}
        for name, task in self.tasks.items():
            if not task.dense:
                cells |= _cells(name, task, values[name])
                continue
            suffix = self.raw.suffix(task)
            self.raw.write(self._path("raw", name, sample, suffix), _array(values[name]), task)
            if self.pictures:
                picture = task.render(values[name][None])[0].permute(1, 2, 0).numpy()
                Image.fromarray(picture).save(self._path("pictures", name, sample, ".png"))
        return cells

    def _path(self, kind: str, task: str, sample: Path, suffix: str) -> Path:
        path = self.folder / kind / task / sample.with_name(f"{sample.name}{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _describe(self, task: Task) -> dict[str, Any]:
        if not task.dense:
            return {**task.describe(), "unit": task.unit, "layout": f"columns of {IMAGE_LEVEL}"}
        one_value = task.target_shape(1, 1) in ((1, 1), (1, 1, 1))
        layout = "[H, W]" if one_value else "[H, W, C]"
        return {**task.describe(), "unit": task.unit, "layout": layout, "raw": self.raw.suffix(task)}


def as_path(sample: str) -> Path:
    """A sample's name as a path below the output folder, whatever characters it has."""
    parts = [part for part in sample.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return Path(*parts) if parts else Path("_")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows of the same columns as CSV."""
    import csv

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _array(value: Tensor) -> NDArray[Any]:
    if not value.is_floating_point():
        return value.to(torch.int16).numpy()
    array = value.float().movedim(0, -1).numpy()
    return array[..., 0] if array.shape[-1] == 1 else np.ascontiguousarray(array)


def _cells(task_name: str, task: Task, value: Tensor) -> dict[str, Any]:
    """A value of an image-level task as cells of the table: class names where the task has some."""
    if not value.is_floating_point():
        names = getattr(task, "class_names", None)
        return {task_name: names[int(value)] if names else int(value)}
    numbers = value.flatten().tolist()
    return {task_name if len(numbers) == 1 else f"{task_name}_{i}": n for i, n in enumerate(numbers)}


def _save_png(path: Path, array: NDArray[Any]) -> None:
    import cv2

    pixels = array if array.ndim == 2 else np.ascontiguousarray(array[..., ::-1])  # OpenCV writes BGR
    done, content = cv2.imencode(".png", pixels)
    if not done:
        raise OSError(f"OpenCV could not encode the picture '{path}'")
    path.write_bytes(content.tobytes())  # cv2.imwrite does not know every character of a path everywhere
