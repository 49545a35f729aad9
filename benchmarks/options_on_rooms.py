"""What JTR's options gain on Rooms: the delta of each against supervised training, over several seeds.

    python benchmarks/options_on_rooms.py --seeds 0 1 2               # hours on a CPU
    python benchmarks/options_on_rooms.py --seeds 0 1 2 --dry-run     # only lists the runs
    python benchmarks/options_on_rooms.py --options efficient         # some of them

Run it where ``experiments`` and ``benchmarks`` are. It writes a config for each option from
``experiments/rooms/jtr.yaml`` and hands them, with supervised training, to ``jtr compare``, whose options may follow.
Finished runs are not repeated and an interrupted one goes on, so that parts given one after the other with the same
``--out`` end in one table: that of the last command, which should name them all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

from jtr_lightning.cli.main import main as jtr

# Relative: `jtr compare` writes the command that repeats it beside the results.
ROOMS = Path("experiments/rooms")
OPTIONS: dict[str, dict[str, Any]] = {
    "published": {"stack_scale": 1.0},
    "view_2_with_graph": {"class_path": "benchmarks.variants.GraphOfEveryView", "stack_scale": 1.0},
    "views_1": {"views": 1, "stack_scale": 1.0},
    "half_stacks": {},
    "efficient": {"views": 1},
}
"""What each option changes in ``experiments/rooms/jtr.yaml``, which has half stacks: the class, or its settings."""


def write_configs(folder: Path, names: list[str]) -> list[Path]:
    """Writes a config for each option, named after it, and returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in names:
        config = yaml.safe_load((ROOMS / "jtr.yaml").read_text(encoding="utf-8"))
        regularizer = config["model"]["init_args"]["regularizer"]
        settings = dict(OPTIONS[name])
        regularizer["class_path"] = settings.pop("class_path", regularizer["class_path"])
        regularizer["init_args"].update(settings)
        config["name"] = f"rooms-{name}"
        files.append(folder / f"{name}.yaml")
        files[-1].write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return files


def main() -> int:
    """Compares."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, default=ROOMS / "results" / "options")
    parser.add_argument("--options", nargs="+", choices=list(OPTIONS), default=list(OPTIONS))
    given, rest = parser.parse_known_args()
    if not (ROOMS / "jtr.yaml").is_file():
        parser.error(
            f"it should be run in the repository's folder; found no {ROOMS / 'jtr.yaml'} in {Path.cwd()}"
        )
    configs = [ROOMS / "supervised.yaml", *write_configs(given.out / "methods", given.options)]
    names = [str(path) for path in configs]
    reference = ["--reference", "published"] if "published" in given.options else []
    return jtr(["compare", *names, "--out", str(given.out), *reference, *rest])


if __name__ == "__main__":
    sys.exit(main())
