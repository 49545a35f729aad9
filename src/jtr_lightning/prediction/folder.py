"""Predicting a whole folder of pictures: reading, predicting and writing at the same time."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from torch import Tensor

from jtr_lightning._version import __version__
from jtr_lightning.data.dataset import OnError
from jtr_lightning.data.files import SUFFIXES, read_image
from jtr_lightning.data.source import Array
from jtr_lightning.disk import files_below
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.prediction.files import IMAGE_LEVEL, PredictionFiles, find_raw_format, write_table
from jtr_lightning.prediction.predictor import Predictor

SUMMARY = "prediction.json"
THREADS = 4
"""Threads that decode and encode pictures; the network waits for them otherwise."""


@dataclass(frozen=True)
class Summary:
    """What became of a folder.

    Attributes:
        written: How many images were predicted.
        skipped: A sentence for each image that could not be read.
        passed_over: How many files of other kinds there were, by their ending.
    """

    written: int
    skipped: tuple[str, ...]
    passed_over: dict[str, int]


def predict_folder(
    predictor: Predictor,
    images: str | Path,
    out: str | Path,
    raw: str = "npy",
    pictures: bool = True,
    overwrite: bool = False,
    on_error: OnError = "raise",
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Predicts every picture in a folder and below, and writes the predictions under the same names.

    The output folder is that of ``PredictionFiles``, with ``image_level.csv`` for image-level tasks and
    ``prediction.json``, which says how the predictions were made, which images were skipped, and how many files of
    other kinds were passed over. An image is turned upright where its camera noted so (EXIF), and its predictions with
    it.

    Args:
        predictor: Makes the predictions.
        images: A folder, or one picture.
        out: A folder that is new or empty.
        raw: Raw values as ``npy``, or ``png`` with 16 bits.
        pictures: Write pictures as well.
        overwrite: Write into a folder that holds files already; those of the same samples are replaced.
        on_error: What to do about an unreadable image: ``raise`` an error, or ``skip`` it.
        progress: Called with the number of images that are done and of all.

    Returns:
        What became of the images.

    Raises:
        DataError: There is no picture, none is readable, or one is not and ``on_error`` is ``raise``.
        ConfigError: ``out`` is not empty or the images' own folder, or a parameter does not fit.
    """
    if on_error not in get_args(OnError):
        raise ConfigError(f"Parameter `on_error` should be 'raise' or 'skip'; found '{on_error}'.")
    if Path(images).is_dir() and Path(images).resolve() == Path(out).resolve():
        raise ConfigError(
            "Parameter `out` of the predictions should be another folder than that of the images, among which they "
            f"would be predicted the next time; found '{out}' for both. Give --out a folder of its own."
        )
    tasks = predictor.module.tasks
    files = PredictionFiles(Path(out), tasks, pictures, find_raw_format(raw))
    found = find_images(Path(images), leave_out=Path(out))
    others = passed_over(Path(images), leave_out=Path(out))
    files.make_folder(overwrite)
    files.write_description()
    rows: dict[Path, dict[str, Any]] = {}
    skipped: list[str] = []

    def finish(sample: Path, written: Future[dict[str, Any]]) -> None:
        rows[sample] = {"sample": sample.as_posix(), **written.result()}
        if progress is not None:
            progress(len(rows) + len(skipped), len(found))

    with ThreadPoolExecutor(THREADS) as pool:
        ahead = predictor.batch_size * 2
        readable = _read(pool, found, on_error, skipped, ahead)
        writing: deque[tuple[Path, Future[dict[str, Any]]]] = deque()
        for sample, prediction in predictor.stream(readable):
            values: dict[str, Tensor] = {
                name: task.decode(prediction[name][None])[0].cpu() for name, task in tasks.items()
            }
            writing.append((sample, pool.submit(files.write, sample, values)))
            # Predictions are large: no more of them wait than threads have work.
            while len(writing) > THREADS:
                finish(*writing.popleft())
        while writing:
            finish(*writing.popleft())
    if not rows:
        raise DataError(
            f"At least one image in '{images}' should be readable; found {len(skipped)} that are not. The first: "
            f"{skipped[0]}"
        )
    if not all(task.dense for task in tasks.values()):
        write_table(files.folder / IMAGE_LEVEL, [rows[sample] for sample in found if sample in rows])
    summary = Summary(len(rows), tuple(skipped), others)
    _write_summary(files.folder / SUMMARY, predictor, images, summary)
    return summary


def find_images(folder: Path, leave_out: Path | None = None) -> dict[Path, Path]:
    """The pictures in a folder and below, in the order of their names.

    Args:
        folder: The folder, or one picture.
        leave_out: A folder inside it that is not searched.

    Returns:
        What the predictions of each are called (its path below the folder, without its ending unless two would be
        called the same) and its file.

    Raises:
        DataError: There is no such folder, or no picture in it.
    """
    top = folder if folder.is_dir() else folder.parent
    names = {path: top / path for path in _files(folder, leave_out) if path.suffix.lower() in SUFFIXES}
    if not names:
        raise DataError(
            f"Parameter `images` should be a folder of pictures ({', '.join(s[1:] for s in SUFFIXES)}); found none in "
            f"'{folder}'."
        )
    # Case does not tell files apart everywhere.
    taken = Counter(str(name.with_suffix("")).casefold() for name in names)
    taken.update(str(name).casefold() for name in names)
    return {
        name if taken[str(name.with_suffix("")).casefold()] > 1 else name.with_suffix(""): path
        for name, path in names.items()
    }


def passed_over(folder: Path, leave_out: Path | None = None) -> dict[str, int]:
    """How many files ``find_images`` leaves out because they are of another kind.

    Args:
        folder: The folder, or one picture.
        leave_out: A folder inside it that is not searched.

    Returns:
        A file's ending in lower case, or its name where it has none, to how many there are; by ending.

    Raises:
        DataError: There is no such folder.
    """
    others = [path for path in _files(folder, leave_out) if path.suffix.lower() not in SUFFIXES]
    return dict(sorted(Counter(path.suffix.lower() or path.name for path in others).items()))


def _files(folder: Path, leave_out: Path | None) -> list[Path]:
    """The files in a folder and below by their paths below it, in order; or the one picture."""
    if not folder.exists():
        raise DataError(f"Parameter `images` should be a folder of pictures; found nothing at '{folder}'.")
    if not folder.is_dir():
        return [Path(folder.name)]
    try:
        paths = sorted(Path(place, name) for place, name in files_below(folder))
    except OSError as error:
        raise DataError(f"Parameter `images` should be a folder that can be read; found: {error}.") from error
    away = None if leave_out is None else leave_out.resolve()
    if away is None or away == folder.resolve():
        return paths
    return [path for path in paths if not (folder / path).parent.resolve().is_relative_to(away)]


def _read(
    pool: ThreadPoolExecutor, found: dict[Path, Path], on_error: OnError, skipped: list[str], ahead: int
) -> Iterator[tuple[Path, Array]]:
    """The readable images in order, some of them read before they are asked for."""
    reading: deque[tuple[Path, Future[Array]]] = deque()
    waiting = iter(found.items())
    while True:
        while len(reading) < ahead and (following := next(waiting, None)):
            reading.append((following[0], pool.submit(read_image, following[1], upright=True)))
        if not reading:
            return
        sample, image = reading.popleft()
        try:
            yield sample, image.result()
        except DataError as error:
            if on_error == "raise":
                for _, other in reading:
                    other.cancel()
                # What was written before it is replaced.
                raise DataError(f"{error} Or give --on_error skip --overwrite.") from error
            skipped.append(str(error))


def _write_summary(path: Path, predictor: Predictor, images: str | Path, summary: Summary) -> None:
    content = {
        "images": str(images),
        "written": summary.written,
        "skipped": summary.skipped,
        "passed_over": summary.passed_over,
        "size": predictor.size,
        "tile": predictor.tile,
        "overlap": predictor.overlap,
        "flip": predictor.flip,
        "jtr_lightning": __version__,
    }
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
