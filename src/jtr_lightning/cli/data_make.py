"""``jtr data make rooms``: writes Rooms in any layout."""

from __future__ import annotations

import shlex
from pathlib import Path

from jtr_lightning.cli.parser import Parser
from jtr_lightning.errors import ConfigError, DataError, did_you_mean

_CHECK = "Look at it with `{jtr} data check {folder} --dataset {dataset}{splits}`"
_EXTRA = (
    "Make labelled frames for it with `{jtr} data make rooms --layout nyuv2 --out {labelled}` and look at both with "
    "`{jtr} data check {labelled} --dataset {dataset} --data.extra_root {folder} --data.size {size}`"
)
_CHECK_CONFIG = "Look at it with `{jtr} data check --config {config}{splits}`"
_TRAIN_CONFIG = "; train on it with `{jtr} fit --config {config} --model.network SegNet`"
_TRAIN = (
    "; train on it with `{jtr} fit --config experiments/rooms/jtr.yaml --data.root {folder} "
    "--data.size {size}{rooms}`"
)
_NEXT = {
    "taskonomy": (_CHECK, _TRAIN, "rooms"),
    "nyuv2": (_CHECK, "", "nyuv2"),
    "nyuv2_mat": (_CHECK, "", "nyuv2"),
    "nyuv2_h5": (_EXTRA, "", "nyuv2"),
    "nyuv2_sync": (_EXTRA, "", "nyuv2"),
    "cityscapes": (_CHECK, "", "cityscapes"),
    "cityscapes_npy": (_CHECK, "", "cityscapes"),
    "folder": (_CHECK_CONFIG, _TRAIN_CONFIG, ""),
}
"""What to do next with a dataset of each layout, how to train on it where a command does, and as what it is read."""
_TO_TRAIN = {"train": 3, "val": 1}
"""The rooms without which no training starts: one for each of the tasks, of which ``OneLabel`` leaves a room one."""
_OPTIONS = {"train": "num", "val": "num_val", "test": "num_test"}

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
    from jtr_lightning.console import console, program
    from jtr_lightning.data.rooms.all_layouts import LAYOUTS
    from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms

    layout = LAYOUTS[given.layout]()
    placed = {
        split: getattr(given, name) if split in layout.splits else 0 for split, name in _OPTIONS.items()
    }
    if not any(placed.values()):
        options = " or ".join(f"--{_OPTIONS[split]}" for split in layout.splits)
        raise ConfigError(
            f"Option {options} should be at least 1, so that the form '{layout.name}' has a room; found 0."
        )
    height, width = given.size
    spec = RoomsSpec(**placed, height=height, width=width, seed=given.seed)
    folder = make_rooms(given.out, spec, layout, given.workers)
    counts = ", ".join(f"{number} {split}" for split, number in placed.items() if number)
    look, train, dataset = _NEXT[layout.name]
    # All of them, since the config of the command has its own.
    rooms = {f"num_{split}": number for split, number in placed.items()} | {"rooms_seed": given.seed}
    places = {
        "folder": folder,
        "labelled": folder.with_name(f"{folder.name}_labelled"),
        "config": _folder_config(folder) if look is _CHECK_CONFIG else "",
        "size": f"[{height},{width}]",
    }
    words = {name: shlex.quote(str(place)) for name, place in places.items()}
    words["rooms"] = "".join(f" --data.{name} {number}" for name, number in rooms.items())
    # The others would be told as a problem.
    made = [split for split, number in placed.items() if number]
    words["splits"] = "" if {"train", "val"} <= set(made) else f" --splits {' '.join(made)}"
    if any(placed[split] < least for split, least in _TO_TRAIN.items()):
        train = ""
    told = (look + train).format(jtr=program(), dataset=dataset, **words)
    for line in (f"Rooms are in {folder} ({counts}).", told):
        console().print(line, soft_wrap=True, markup=False)


def _folder_config(folder: Path) -> Path:
    """A config for the rooms in a user's own form, which no file of theirs says how to read; written once."""
    import yaml

    from jtr_lightning.data.rooms.scene import CLASS_NAMES
    from jtr_lightning.disk import write_text

    config = folder / "folder.yaml"
    tasks = {
        "segmentation": {"class_path": "Segmentation", "init_args": {"classes": list(CLASS_NAMES)}},
        "depth": {"class_path": "Depth"},
        "normals": {"class_path": "Normals"},
    }
    # The depth is in millimetres.
    parameters = {"root": str(folder), "scales": {"depth": 0.001}, "tasks": tasks}
    try:
        if not config.exists():
            data = {"class_path": "FolderDataModule", "init_args": parameters}
            write_text(config, yaml.safe_dump({"data": data}, sort_keys=False))
    except OSError as error:
        raise DataError(
            f"The config of the rooms should be written to '{config}', but that failed: {error}. Choose a folder that "
            "is writable."
        ) from error
    return config
