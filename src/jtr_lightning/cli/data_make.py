"""``jtr data make rooms``: writes Rooms in any layout."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import ArgumentParser

from jtr_lightning.cli.console import console
from jtr_lightning.cli.data_options import parse
from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.errors import ConfigError, did_you_mean

_NEXT = {
    "taskonomy": "Look at it with `jtr data check {folder} --dataset rooms`",
    "nyuv2": "Look at it with `jtr data check {folder} --dataset nyuv2`",
    "nyuv2_mat": "Look at it with `jtr data check {folder} --dataset nyuv2`",
    "nyuv2_h5": "Give it to NYUv2DataModule as `extra_root`",
    "nyuv2_sync": "Give it to NYUv2DataModule as `extra_root`",
    "cityscapes": "Look at it with `jtr data check {folder} --dataset cityscapes`",
    "cityscapes_npy": "Look at it with `jtr data check {folder} --dataset cityscapes`",
    "folder": "Read it with FolderDataModule; depth has `scales: {{depth: 0.001}}`",
}


def run(arguments: list[str]) -> None:
    """Makes a dataset.

    Args:
        arguments: ``rooms`` and its options.

    Raises:
        UserError: An argument does not fit, or the folder cannot be written.
    """
    parser = ArgumentParser(
        prog="jtr data make", description="Generates indoor scenes with exact labels.", exit_on_error=False
    )
    parser.add_argument("what", help="What to generate: rooms.")
    parser.add_argument("--out", required=True, help="The folder to make; must be new or empty.")
    parser.add_argument("--layout", default="taskonomy", help=f"Form of the files: {', '.join(LAYOUTS)}.")
    parser.add_argument("--num", type=int, default=400, help="Number of rooms for training.")
    parser.add_argument("--num_val", type=int, default=60, help="Number of rooms for validation.")
    parser.add_argument("--num_test", type=int, default=60, help="Number of rooms for testing.")
    parser.add_argument(
        "--size", type=int, nargs=2, default=[128, 160], metavar=("H", "W"), help="Pixels of the images."
    )
    parser.add_argument("--seed", type=int, default=0, help="Another seed gives other rooms.")
    parser.add_argument(
        "--workers", type=int | None, default=None, help="Processes; one per core by default."
    )
    given = parse(parser, arguments)
    if given.what != "rooms":
        raise ConfigError(f"jtr data make should be told to make 'rooms'; found '{given.what}'.")
    if given.layout not in LAYOUTS:
        raise ConfigError(
            f"Parameter `layout` should be a form that Rooms can be written in; found '{given.layout}', "
            f"{did_you_mean(given.layout, LAYOUTS)}"
        )
    layout = LAYOUTS[given.layout]()
    numbers = {"train": given.num, "val": given.num_val, "test": given.num_test}
    placed = {split: number if split in layout.splits else 0 for split, number in numbers.items()}
    height, width = given.size
    spec = RoomsSpec(**placed, height=height, width=width, seed=given.seed)
    folder = make_rooms(Path(given.out), spec, layout, given.workers)
    counts = ", ".join(f"{number} {split}" for split, number in placed.items() if number)
    console().print(f"Rooms are in {folder} ({counts}).", soft_wrap=True, markup=False)
    console().print(_NEXT[layout.name].format(folder=folder), soft_wrap=True, markup=False)
