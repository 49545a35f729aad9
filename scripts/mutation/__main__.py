"""Mutation testing: how many small mistakes in the code the tests would notice.

A mutant is one module with one change, made by an operator of Cosmic Ray: another operator, number, comparison or
truth value, a condition turned round, a loop left out. Its tests run until the first one fails; a mutant that no test
fails for has survived. Run by ``make mutation``, from the root of the repository.

What makes it affordable: each mutant is a fork of a process that has imported everything, only the code of the changed
function is exchanged, and only the tests that reach the changed line are run, the quickest first. Of each module a
seeded random share is tried.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import importlib
import random
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from mutants import Mutant, mutants_of
from running import PACKAGE, measure, run_all

SOURCES = Path("src") / PACKAGE

TESTS = {
    "tasks/*.py": ["tests/tasks", "tests/reliability/test_properties.py"],
    "regularizers/*.py": ["tests/regularizers", "tests/reliability/test_regularizer_properties.py"],
    "scenarios.py": ["tests/test_scenarios.py", "tests/test_splits.py"],
    "metrics.py": ["tests/test_metrics.py", "tests/tasks", "tests/test_evaluation.py"],
    "batch.py": ["tests/test_batch.py", "tests/regularizers/test_common.py"],
}
"""What is mutated, and the tests that ought to notice."""


def interval(killed: int, tried: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z, share = 1.96, killed / tried
    centre, width = (
        share + z**2 / (2 * tried),
        z * (share * (1 - share) / tried + z**2 / (4 * tried**2)) ** 0.5,
    )
    return (centre - width) / (1 + z**2 / tried), (centre + width) / (1 + z**2 / tried)


def row(name: str, mutants: Sequence[Mutant], number: int) -> str:
    """A line of the table."""
    killed = sum(m.result != "survived" for m in mutants)
    low, high = interval(killed, len(mutants)) if mutants else (0.0, 1.0)
    share = killed / max(1, len(mutants))
    return f"{name:34} {number:6} {len(mutants):6} {killed:6}  {share:6.1%}  ({low:.0%} to {high:.0%})"


def options() -> argparse.Namespace:
    """What is asked for on the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modules", nargs="*", default=["*"], help="some of them alone, such as 'tasks/*'")
    parser.add_argument("--share", type=float, default=1.0, help="share of the mutants to try")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time")
    parser.add_argument("--at-least", type=float, default=0.85, help="share to be killed")
    parser.add_argument("--out", type=Path, default=Path("mutants.csv"), help="table of all that were tried")
    parser.add_argument("--again", type=Path, help="try what survived in this earlier table alone")
    return parser.parse_args()


def main() -> int:
    """Tries the mutants of every module, prints a table and the survivors.

    Returns:
        0 if at least the demanded share was killed.
    """
    asked = options()
    survived = None if asked.again is None else {key(cells) for cells in read(asked.again)}
    asked.out.unlink(missing_ok=True)
    importlib.import_module(PACKAGE)
    every: list[Mutant] = []
    numbers: Counter[str] = Counter()
    for pattern, tests in TESTS.items():
        chosen: list[Mutant] = []
        for path in sorted(SOURCES.glob(pattern)):
            name = str(path.relative_to(SOURCES))
            if any(fnmatch.fnmatch(name, module) for module in asked.modules):
                numbers[name], found = mutants_of(path, asked.share, random.Random(f"{asked.seed} {path}"))
                chosen += [m for m in found if survived is None or key(cells_of(m)) in survived]
        if not chosen:
            continue
        print(f"{pattern}: {len(chosen)} mutants", flush=True)
        # Imports everything, for the forks.
        pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *tests])
        reach = measure(sorted({mutant.path for mutant in chosen}), tests)
        if reach.failed or not reach.seconds:
            print(f"error: without any change these fail: {reach.failed}", file=sys.stderr)
            return 1
        run_all(chosen, reach, asked.jobs, partial(note, asked.out))
        every += chosen

    print(f"\n{'':34} {'all':>6} {'tried':>6} {'killed':>6}")
    for name, number in numbers.items():
        print(row(name, [m for m in every if m.path == SOURCES / name], number))
    print(row("together", every, numbers.total()))
    return int(sum(m.result != "survived" for m in every) < asked.at_least * len(every))


def cells_of(mutant: Mutant) -> list[str]:
    """A row of the table of mutants."""
    return [
        *(str(mutant.path.relative_to(SOURCES)), str(mutant.line), mutant.operator, mutant.result),
        *mutant.change,
    ]


def key(cells: Sequence[str]) -> tuple[str, ...]:
    """What is the same of a mutant in another run, though lines above it were added."""
    return (cells[0], cells[2], *cells[4:])


def read(table: Path) -> list[list[str]]:
    """The rows of those that survived."""
    with table.open(newline="") as file:
        return [cells for cells in csv.reader(file) if cells[3] == "survived"]


def note(out: Path, mutant: Mutant) -> None:
    """Adds a mutant to the table in the file, and tells of one that survived."""
    with out.open("a", newline="") as file:
        csv.writer(file).writerow(cells_of(mutant))
    if mutant.result == "survived":
        before, after = mutant.change
        print(
            f"  {mutant.path.relative_to(SOURCES)}:{mutant.line}\n    - {before}\n    + {after}", flush=True
        )


if __name__ == "__main__":
    sys.exit(main())
