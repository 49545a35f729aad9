"""Exporting: writing a file, running it, comparing it with the module, and describing it."""

from __future__ import annotations

import inspect
import json
import shutil
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jtr_lightning._version import __version__
from jtr_lightning.disk import make_folder
from jtr_lightning.errors import ConfigError, did_you_mean, height_and_width
from jtr_lightning.export.formats import FORMATS, INPUT, Attempt, Deployed, ExportFormat, Promise, Sizes
from jtr_lightning.module import PartialLabelModule, Predictions
from jtr_lightning.networks.encoders import short
from jtr_lightning.tasks import Task

REASON = "why_not_any_size"
"""The key of the JSON file under which the exporter says why a model does not take any size."""
DEFAULT_SIZE = (256, 320)
"""Size of the images that an export is made and checked with, where the training resized none."""


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The model.
        description: The JSON file beside it.
        sizes: What the model takes.
        differences: Largest difference from the module's predictions for each task, absolute.
        reason: Why it does not take any size, in the exporter's words; empty if it does.
    """

    path: Path
    description: Path
    sizes: Sizes
    differences: dict[str, float]
    reason: str = ""


def export_model(
    module: PartialLabelModule,
    path: str | Path,
    format: str = "onnx",  # noqa: A002  the command line's word
    size: tuple[int, int] | None = None,
    overwrite: bool = False,
) -> Exported:
    """Writes the network with the tasks' activations, and a JSON file of the same name that says what it is.

    The file is run and compared with the module before it gets its name, so a file that is there is a checked one.
    Where a network cannot be exported for any size, a narrower promise is tried (see ``ExportFormat.attempts``).

    Args:
        module: A trained module; its regularizer stays behind.
        path: The file to write.
        format: One of ``FORMATS``.
        size: Height and width that it is made and checked with, and bound to where nothing more general works; by
            default those of the training's images.
        overwrite: Replace files that exist.

    Returns:
        What was written.

    Raises:
        ConfigError: An unknown format, another ending than the format's, a package that is not installed, a file that
            exists or cannot be written, or a network that cannot be exported or does not predict the same.
    """
    if format not in FORMATS:
        raise ConfigError(
            f"Parameter `format` should be a kind of file; found '{format}', {did_you_mean(format, FORMATS)}"
        )
    kind, path = FORMATS[format], Path(path)
    if path.suffix != kind.suffix:
        raise ConfigError(
            f"A file of the format '{format}' should end in {kind.suffix}; found '{path}'. Give --out "
            f"{path.with_suffix(kind.suffix)}, or another --format."
        )
    _check_packages(format, kind)
    description = path.with_suffix(".json")
    for file in (path, description):
        if file.exists() and (not overwrite or file.is_dir()):
            raise ConfigError(
                f"The export should be a new file; '{file}' exists. Give another --out, or --overwrite."
            )
    height, width = height_and_width("size", size or module.image_size or DEFAULT_SIZE)
    model = Deployed(deepcopy(module.network).cpu().float(), module.tasks).eval()
    try:
        make_folder(path.parent)
    except OSError as error:
        raise ConfigError(
            f"The folder of the export should be one that can be made and written into; found '{path.parent}': "
            f"{error.strerror}. Give another --out."
        ) from error
    failures: list[str] = []
    for attempt in kind.attempts(height, width):
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
            try:
                kind.write(model, Path(folder) / path.name, attempt)
                loaded = kind.load(Path(folder) / path.name)
            except Exception as error:  # exporters fail in many ways; the next attempt asks for less
                failures.append(short(error))
                continue
            kept = _first_kept(attempt, model, loaded, kind.tolerance, failures)
            if kept is None:
                continue
            promise, differences = kept
            for file in Path(folder).iterdir():
                shutil.move(file, path.parent / file.name)
        reason = failures[0] if failures else ""
        content = describe(module, format, path, promise, differences, reason)
        description.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return Exported(path, description, promise.sizes, differences, reason)
    raise ConfigError(
        f"The network {type(module.network).__name__} should be exportable to {format}; it is not: {failures[-1]}. "
        f"Try another of the formats {', '.join(FORMATS)}."
    )


def _first_kept(
    attempt: Attempt,
    model: Deployed,
    loaded: Callable[[Tensor], Predictions],
    tolerance: float,
    failures: list[str],
) -> tuple[Promise, dict[str, float]] | None:
    """The first promise that the written file keeps, and its differences; None if it keeps none."""
    for promise in attempt.promises:
        try:
            return promise, compare(model, loaded, promise, tolerance)
        except Exception as error:  # noqa: PERF203  runtimes fail in many ways; the next promise is less
            failures.append(short(error))
    return None


def compare(
    model: Deployed, loaded: Callable[[Tensor], Predictions], promise: Promise, tolerance: float
) -> dict[str, float]:
    """Runs the written file and the model on the same random images.

    Args:
        model: What was written.
        loaded: What was read.
        promise: The shapes to run.
        tolerance: See ``ExportFormat``.

    Returns:
        The largest absolute difference for each task.

    Raises:
        ConfigError: A difference is above the tolerance, or an output is missing or has another shape.
    """
    largest = dict.fromkeys(model.tasks, 0.0)
    generator = torch.Generator().manual_seed(0)
    for batch, height, width in promise.checks:
        image = torch.rand(batch, 3, height, width, generator=generator)
        with torch.no_grad():
            expected, found = model(image), loaded(image)
        for name, values in expected.items():
            if name not in found or found[name].shape != values.shape:
                raise ConfigError(f"the written model has no output '{name}' of shape {list(values.shape)}.")
            difference = float((found[name] - values).abs().max())
            if not difference <= tolerance * max(1.0, float(values.abs().max())):  # NaN fails, too
                raise ConfigError(
                    f"the written model's '{name}' differs by {difference:.2g} on an image of {height}x{width} pixels, "
                    f"more than the tolerance {tolerance:g}."
                )
            largest[name] = max(largest[name], difference)
    return largest


def describe(
    module: PartialLabelModule,
    format_name: str,
    path: Path,
    promise: Promise,
    differences: dict[str, float],
    reason: str = "",
) -> dict[str, Any]:
    """What a user of the file must know, in plain values.

    Args:
        module: What was exported.
        format_name: One of ``FORMATS``.
        path: The file.
        promise: What was found to hold.
        differences: How far it is from the module.
        reason: Why it does not take any size.

    Returns:
        The content of the JSON file.
    """
    kind = FORMATS[format_name]
    return {
        "file": path.name,
        "format": format_name,
        "sizes": asdict(promise.sizes),
        **({REASON: reason} if reason else {}),
        "input": {
            "name": INPUT,
            "layout": "[batch, 3, height, width]",
            "dtype": "float32",
            "colours": "RGB",
            "range": [0, 1],
            "normalization": "inside the model",
            "resize": None if module.image_size is None else list(module.image_size),
        },
        "outputs": {name: _output(task) for name, task in module.tasks.items()},
        "checked": {
            "shapes": [[batch, 3, height, width] for batch, height, width in promise.checks],
            "tolerance": kind.tolerance,
            "largest_difference": differences,
        },
        "made_with": {
            "jtr-lightning": __version__,
            "torch": torch.__version__,
            **{package: version(package) for package in kind.packages},
        },
    }


def _check_packages(format_name: str, kind: ExportFormat) -> None:
    missing = [package for package in kind.packages if find_spec(package) is None]
    if missing:
        raise ConfigError(
            f"The format '{format_name}' needs what is not installed: {', '.join(missing)}; run pip install "
            "'jtr-lightning[export]'."
        )


def _output(task: Task) -> dict[str, Any]:
    about = inspect.cleandoc(type(task).__doc__ or "").partition("\n\n")[0]
    return {
        **task.describe(),
        "classes": getattr(task, "class_names", None),
        "unit": task.unit,
        "layout": f"[batch, {task.channels}, height, width]" if task.dense else f"[batch, {task.channels}]",
        "about": " ".join(about.split()),
    }
