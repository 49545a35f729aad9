"""What JTR's cheaper options gain on Rooms: the delta of each against supervised training, over several seeds.

    python benchmarks/options_on_rooms.py --seeds 0 1 2                 # hours on a CPU
    python benchmarks/options_on_rooms.py --seeds 0 1 2 --dry-run       # only lists the runs
    python benchmarks/options_on_rooms.py --options efficient --seeds 0 # some of them

Writes a config for each option from ``experiments/rooms/jtr.yaml`` and hands them, with supervised training, to ``jtr
compare``, whose options may follow. Finished runs are not repeated and an interrupted one goes on, so that parts given
one after the other with the same ``--out`` end in one table: that of the last command, which should name them all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from jtr_lightning.cli.main import main as jtr

ROOMS = Path(__file__).resolve().parents[1] / "experiments" / "rooms"
OPTIONS = {
    "published": {"views": 3, "stack_scale": 1.0},
    "views_1": {"views": 1, "stack_scale": 1.0},
    "half_stacks": {"views": 3, "stack_scale": 0.5},
    "efficient": {"views": 1, "stack_scale": 0.5},
}


def write_configs(folder: Path, names: list[str]) -> list[Path]:
    """Writes a config for each option, named after it, and returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in names:
        config = yaml.safe_load((ROOMS / "jtr.yaml").read_text(encoding="utf-8"))
        config["model"]["init_args"]["regularizer"]["init_args"].update(OPTIONS[name])
        config["name"] = f"rooms-{name}"
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return files


def main() -> int:
    """Compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=Path("runs/options_on_rooms"))
    parser.add_argument("--options", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    given, rest = parser.parse_known_args()
    configs = [ROOMS / "supervised.yaml", *write_configs(given.out / "options", given.options)]
    names = [str(path) for path in configs]
    reference = ["--reference", "published"] if "published" in given.options else []
    return jtr(["compare", *names, "--out", str(given.out), *reference, *rest])


if __name__ == "__main__":
    sys.exit(main())
