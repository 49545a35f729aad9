"""Which code a run is of."""

from __future__ import annotations

import subprocess
from pathlib import Path

from jtr_lightning._version import __version__


def current_commit() -> str:
    """The commit that this package is a checkout of, and whether its files have changed since; else its version."""
    package = Path(__file__).parents[1]
    # Installed, or below another repository:
    if not _git(package, "ls-files", "--error-unmatch", "__init__.py"):
        return f"version {__version__}"
    changed = _git(package, "status", "--porcelain", "--", ".")
    return _git(package, "rev-parse", "HEAD") + ("-dirty" if changed else "")


def short(commit: str) -> str:
    """A commit for people: ten of its forty digits; a version as it is. Several are joined by "and"."""
    parts = [each.partition("-") for each in commit.split(" and ")]
    return " and ".join(
        name + dash + dirty if name.startswith("version ") else name[:10] + dash + dirty
        for name, dash, dirty in parts
    )


def _git(folder: Path, *arguments: str) -> str:
    try:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
