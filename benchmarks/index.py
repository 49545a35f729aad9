"""How long it takes to find what a large Taskonomy tree holds, the first time and later.

Makes a tree of tiny files (hard links, where the file system allows them, cost no space), opens it in fresh processes
and removes it. All are empty but for the segmentations, which are asked for their size one by one: they have as many
bytes as a picture has at least, or none with ``--placeholders``, when each is opened, too. Run it with::

    python benchmarks/index.py --files 1000000 --per-folder 500
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DOMAINS = (
    *("rgb", "depth_zbuffer", "normal", "depth_euclidean", "edge_texture", "edge_occlusion", "keypoints2d"),
    *("keypoints3d", "reshading", "principal_curvature", "segment_semantic"),
)

_OPEN = """
import json, resource, sys, time
from pathlib import Path
from jtr_lightning.data.taskonomy_index import open_tree
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
index = open_tree(Path(sys.argv[1]))
seconds = time.perf_counter() - start
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
held = sum(getattr(index, name).nbytes for name in ("building", "point", "view", "present"))
print(json.dumps([seconds, len(index), (after - before) / 1024, held / 2**20]))
"""


def make_tree(root: Path, files: int, views: int, placeholders: bool) -> int:
    """Makes files in the 'buildings first' layout, ``views`` in each folder, and returns how many."""
    buildings = max(1, files // (views * len(DOMAINS)))
    for domain in DOMAINS:
        content = bytes(100) if domain == "segment_semantic" and not placeholders else b""
        source = root / f".{domain}"
        source.write_bytes(content)
        for building in range(buildings):
            folder = root / f"building_{building:04d}" / domain
            folder.mkdir(parents=True)
            for view in range(views):
                path = folder / f"point_{view // 5}_view_{view % 5}_domain_{domain}.png"
                try:
                    os.link(source, path)
                except OSError:  # no links here, or as many as a file may have
                    source = path
                    source.write_bytes(content)
    return buildings * len(DOMAINS) * views


def open_in_new_process(root: Path) -> tuple[float, int, float, float]:
    """Seconds, samples, MiB that the peak of memory rose by, and MiB that the index holds."""
    result = subprocess.run(
        [sys.executable, "-c", _OPEN, str(root)], check=True, capture_output=True, text=True
    )
    seconds, samples, risen, held = json.loads(result.stdout)
    return seconds, samples, risen, held


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=1_000_000, help="how many files to make, about")
    parser.add_argument("--per-folder", type=int, default=500, help="how many files in each folder")
    parser.add_argument(
        "--placeholders", action="store_true", help="segmentations are empty files that mean 'no label'"
    )
    parser.add_argument(
        "--folder", default=None, help="where to make the tree; the system's temporary folder by default"
    )
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="index-", dir=arguments.folder))
    try:
        start = time.perf_counter()
        files = make_tree(root, arguments.files, arguments.per_folder, arguments.placeholders)
        print(f"made {files} files in {time.perf_counter() - start:.1f} s, on {os.cpu_count()} cores")
        time.sleep(3)  # an index of a tree that changes right now is not kept
        print("| start | seconds | samples | peak memory, MiB more | index, MiB |")
        print("| --- | --- | --- | --- | --- |")
        for name in ("first", "second", "third"):
            seconds, samples, risen, held = open_in_new_process(root)
            print(f"| {name} | {seconds:.2f} | {samples} | {risen:.0f} | {held:.1f} |")
        (root / "building_0000" / "rgb" / "point_99999_view_0_domain_rgb.png").touch()
        seconds, samples, risen, held = open_in_new_process(root)
        print(f"| one file more | {seconds:.2f} | {samples} | {risen:.0f} | {held:.1f} |")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
