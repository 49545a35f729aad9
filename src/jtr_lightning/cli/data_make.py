"""``jtr data make rooms``: writes Rooms in any layout."""

from __future__ import annotations

import shlex
from pathlib import Path

from jtr_lightning.cli.parser import Parser
from jtr_lightning.errors import ConfigError, did_you_mean

_CHECK = "Look at it with `{jtr} data check {folder} --dataset {dataset}`"
_TRAIN = "train on it with `{jtr} fit --config experiments/rooms/jtr.yaml --data.root {folder}{rooms}`"
_NEXT = {
    "taskonomy": (f"{_CHECK}; {_TRAIN}", "rooms"),
    "nyuv2": (_CHECK, "nyuv2"),
    "nyuv2_mat": (_CHECK, "nyuv2"),
    "nyuv2_h5": ("Give it to NYUv2DataModule as `extra_root`", ""),
    "nyuv2_sync": ("Give it to NYUv2DataModule as `extra_root`", ""),
    "cityscapes": (_CHECK, "cityscapes"),
    "cityscapes_npy": (_CHECK, "cityscapes"),
    "folder": ("Read it with FolderDataModule; depth has `scales: {{depth: 0.001}}`", ""),
}
"""What to do next with a dataset of each layout, and as which dataset it is read."""

_LEAST = {"num": 0, "num_val": 0, "num_test": 0, "seed": 0, "workers": 1}


def run(arguments: list[str]) -> None:
    """Makes a dataset.

    Args:
        arguments: ``rooms`` and its options.

    Raises:
        UserError: An argument does not fit, or the folder cannot be written.
    """
    parser = Parser(prog="jtr data make", description="Generates indoor scenes with exact labels.")
    add = parser.add_argument
    add("what", help="What to generate: rooms.")
    add("--out", required=True, type=Path, help="The folder to make; must be new or empty.")
    add("--layout", default="taskonomy", help=f"Form of the files: {', '.join(_NEXT)} (taskonomy).")
    add("--num", type=int, default=400, help="Number of rooms for training (400).")
    add("--num_val", type=int, default=60, help="Number of rooms for validation (60).")
    add("--num_test", type=int, default=60, help="Number of rooms for testing (60).")
    add(
        "--size",
        type=int,
        nargs=2,
        default=[128, 160],
        metavar=("H", "W"),
        help="Pixels of the images (128 160).",
    )
    add("--seed", type=int, default=0, help="Another seed gives other rooms (0).")
    add("--workers", type=int, help="Processes; one per core by default.")
    given = parser.parse_args(arguments)
    if given.what != "rooms":
        raise ConfigError(f"jtr data make should be told to make 'rooms'; found '{given.what}'.")
    if given.layout not in _NEXT:
        raise ConfigError(
            f"Parameter `layout` should be a form that Rooms can be written in; found '{given.layout}', "
            f"{did_you_mean(given.layout, _NEXT)}"
        )
    for name, least in _LEAST.items():
        value = getattr(given, name)
        if value is not None and value < least:
            raise ConfigError(f"Option --{name} should be at least {least}; found {value}.")
    # After the parser, whose --help should answer at once.
    from jtr_lightning.cli.console import console, program
    from jtr_lightning.data.rooms.all_layouts import LAYOUTS
    from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms

    layout = LAYOUTS[given.layout]()
    numbers = {"train": given.num, "val": given.num_val, "test": given.num_test}
    placed = {split: number if split in layout.splits else 0 for split, number in numbers.items()}
    height, width = given.size
    spec = RoomsSpec(**placed, height=height, width=width, seed=given.seed)
    folder = make_rooms(given.out, spec, layout, given.workers)
    counts = ", ".join(f"{number} {split}" for split, number in placed.items() if number)
    next_step, dataset = _NEXT[layout.name]
    # All of them, since the config has its own.
    parameters = {"size": f"[{height},{width}]", "rooms_seed": given.seed}
    parameters |= {f"num_{split}": number for split, number in placed.items()}
    told = next_step.format(
        jtr=program(),
        folder=shlex.quote(str(folder)),
        dataset=dataset,
        rooms="".join(f" --data.{name} {shlex.quote(str(value))}" for name, value in parameters.items()),
    )
    for line in (f"Rooms are in {folder} ({counts}).", told):
        console().print(line, soft_wrap=True, markup=False)
