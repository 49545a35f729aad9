"""``jtr predict``: the test set of a data module, or with ``--images`` any folder of pictures."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from jtr_lightning.cli.checkpoints import add_checkpoint, find_device, load
from jtr_lightning.cli.parser import Parser
from jtr_lightning.console import console, counted
from jtr_lightning.errors import ConfigError
from jtr_lightning.prediction import Predictor, Summary, predict_folder
from jtr_lightning.prediction.files import RAW_FORMATS

PRECISIONS = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}
"""What the network computes in, by the name that the command line uses."""

_NOTE = "With --images, any folder of pictures is predicted: see 'jtr predict --images --help'.\n"


def run(arguments: list[str]) -> None:
    """Predicts a folder if ``--images`` is given, else hands over to Lightning's subcommand.

    Args:
        arguments: The options.

    Raises:
        UserError: An option does not fit, or an image cannot be read.
    """
    if any(argument.partition("=")[0] == "--images" for argument in arguments):
        _predict_folder(arguments)
        return
    from jtr_lightning.lightning_cli.command_line import run as run_lightning

    if "-h" in arguments or "--help" in arguments:
        console().print(_NOTE, soft_wrap=True)
    run_lightning(["predict", *arguments])


def _predict_folder(arguments: list[str]) -> None:
    parser = _parser()
    if "-h" in arguments or "--help" in arguments:
        parser.print_help()
        return
    given = parser.parse_args(arguments)
    device = find_device(given.device)
    predictor = Predictor(
        load(given, device),
        size=_size(given.size),
        tile=_tile(given.tile),
        overlap=given.overlap,
        flip=given.flip,
        batch_size=given.batch_size,
    )
    bar = Progress(
        TextColumn("Predicting"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    try:
        with _precision(given.precision, device), bar:
            line = bar.add_task("", total=None, visible=False)  # shown once there is something to predict
            summary = predict_folder(
                predictor,
                given.images,
                given.out,
                raw=given.raw,
                pictures=given.pictures,
                overwrite=given.overwrite,
                on_error=given.on_error,
                progress=lambda done, total: bar.update(line, completed=done, total=total, visible=True),
            )
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"The images should fit into the memory of {device}; they do not. Give a smaller --batch_size than "
            f"{given.batch_size}, or a --tile."
        ) from error
    out = console()
    for sentence in _told(summary):
        out.print(sentence, markup=False, soft_wrap=True)
    out.print(
        f"Predictions of {counted(summary.written, 'image')} are in {given.out}", markup=False, soft_wrap=True
    )


def _told(summary: Summary) -> Iterator[str]:
    """What became of files that there is no prediction of."""
    if summary.passed_over:
        number = sum(summary.passed_over.values())
        kind = "another kind" if number == 1 else "other kinds"
        yield f"{counted(number, 'file')} of {kind} passed over ({', '.join(summary.passed_over)})."
    if summary.skipped:
        yield f"{counted(len(summary.skipped), 'unreadable image')} skipped. The first: {summary.skipped[0]}"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="jtr predict --images",
        usage="jtr predict --images DIR --ckpt_path FILE --out DIR [options]",
        description="Predicts every picture in a folder and below, of any size, and writes raw values and pictures.",
    )
    add = parser.add_argument
    add("--images", required=True, metavar="DIR", help="The folder, or one picture.")
    add_checkpoint(parser)
    add("--out", required=True, metavar="DIR", help="A new or empty folder for the predictions.")
    add("--raw", choices=list(RAW_FORMATS), default="npy", help="Raw values as .npy, or as PNG of 16 bits.")
    add("--no_pictures", dest="pictures", action="store_false", help="Write raw values only.")
    add(
        "--size",
        nargs="+",
        default=["trained"],
        metavar="SIZE",
        help="What the network sees: 'trained' (the size of the training's images, the default), 'own' (each image's "
        "own), or a height and a width. Predictions have the size of the image in any case.",
    )
    add(
        "--tile",
        nargs="+",
        type=int,
        metavar="PIXELS",
        help="Predict larger images at their own size in overlapping tiles of this height and width.",
    )
    add("--overlap", type=float, default=0.25, help="Share of a tile that the next one covers again (0.25).")
    add("--flip", action="store_true", help="Average with the prediction of the mirrored image.")
    add("--batch_size", type=int, default=8, help="Most images of equal size, or tiles, at once (8).")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps ...")
    add("--precision", choices=list(PRECISIONS), default="32", help="Bits that the network computes in.")
    add("--on_error", choices=["raise", "skip"], default="raise", help="What to do about unreadable images.")
    add("--overwrite", action="store_true", help="Write into a folder that holds files already.")
    return parser


def _size(words: list[str]) -> tuple[int, int] | Literal["trained", "own"]:
    if words == ["trained"]:
        return "trained"
    if words == ["own"]:
        return "own"
    try:
        height, width = (int(word) for word in words)
    except ValueError as error:
        raise ConfigError(
            f"Option --size should be 'trained', 'own', or a height and a width; found {' '.join(words)!r}."
        ) from error
    return height, width


def _tile(lengths: list[int] | None) -> tuple[int, int] | None:
    if lengths is None:
        return None
    if len(lengths) > 2:
        raise ConfigError(
            f"Option --tile should be one number, or a height and a width; found {len(lengths)} numbers."
        )
    return lengths[0], lengths[-1]


def _precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    dtype = PRECISIONS[name]
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
