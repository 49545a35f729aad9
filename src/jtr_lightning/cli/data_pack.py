"""``jtr data pack``: decodes and resizes a dataset once, so that training reads it faster."""

from __future__ import annotations

import shlex
from pathlib import Path

from jtr_lightning.cli.data_options import parse_with_dataset, parser_of, usable_cores
from jtr_lightning.console import console
from jtr_lightning.data.packing import pack
from jtr_lightning.errors import ConfigError

_LISTED = 30  # unreadable files that are printed


def run(arguments: list[str]) -> None:
    """Packs a dataset.

    Args:
        arguments: The options.

    Raises:
        UserError: An argument does not fit, or the dataset cannot be read or written.
    """
    parser = parser_of(
        "pack",
        "Reads every image and label once, at the size of --data.size, and writes them as arrays that PackedDataModule "
        "reads faster.",
    )
    parser.add_argument("--out", required=True, help="The folder to make; must be new or empty.")
    parser.add_argument("--workers", type=int, default=usable_cores(), help="Processes that read and write.")
    given, data = parse_with_dataset(parser, arguments)
    if given.workers < 0:
        raise ConfigError(f"Parameter `workers` should be at least 0; found {given.workers}.")
    folder = Path(given.out).expanduser()
    done = pack(data, folder, given.workers)
    counts = ", ".join(f"{number} {split}" for split, number in done.samples.items())
    told = [
        f"{len(done.skipped)} files could not be read:" if done.skipped else "",
        *(f"  {message}" for message in done.skipped[:_LISTED]),
        "  ..." if len(done.skipped) > _LISTED else "",
        *(f"No split '{split}': {reason}" for split, reason in done.without.items()),
        f"Packed in {folder} ({counts}; {done.bytes / 1e9:.2f} GB).",
        f"Train with `--data PackedDataModule --data.root {shlex.quote(str(folder))}` in place of the dataset.",
    ]
    for line in filter(None, told):
        console().print(line, soft_wrap=True, markup=False)
