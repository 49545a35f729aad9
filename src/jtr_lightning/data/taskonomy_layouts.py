"""How Taskonomy trees are laid out on disk, and finding out which layout a folder has."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from jtr_lightning.data.files import SUFFIXES
from jtr_lightning.errors import DataError

VIEW_FILE = re.compile(
    r"^point_(0|[1-9]\d{0,8})_view_(0|[1-9]\d{0,8})((?:_domain_\w+)?(?:"
    + "|".join(map(re.escape, SUFFIXES))
    + r"))$",
    re.MULTILINE | re.ASCII,
)
"""Matches the names of files of views, one per line: point, view and the rest, ``_domain_<name>.png`` or only the
ending, as in copies whose folders alone say the domain."""


@dataclass(frozen=True)
class Layout:
    """How a tree of folders tells buildings and domains.

    Attributes:
        name: The layout, for people.
        folder: A folder of files, with ``{building}`` and ``{domain}`` to be filled in.
        pattern: The same as a regular expression.
    """

    name: str
    folder: str
    pattern: str

    def parse(self, folder: str) -> tuple[str, str] | None:
        """Building and domain of a folder relative to the root; None where it is none of this layout's."""
        match = re.fullmatch(self.pattern, folder)
        return None if match is None else (match.groupdict().get("building", ""), match["domain"])


LAYOUTS = (
    Layout("one building", "{domain}", r"(?P<domain>[^/]+)"),
    Layout(
        "unpacked archives",
        "{building}_{domain}/{domain}",
        r"(?P<building>[^/]+)_(?P<domain>[^/]+)/(?P=domain)",
    ),
    Layout("buildings first", "{building}/{domain}", r"(?P<building>[^/]+)/(?P<domain>[^/]+)"),
    Layout("domains first", "{domain}/{building}", r"(?P<domain>[^/]+)/(?P<building>[^/]+)"),
    Layout("omnidata", "{domain}/taskonomy/{building}", r"(?P<domain>[^/]+)/taskonomy/(?P<building>[^/]+)"),
)


@dataclass(frozen=True)
class ViewFolder:
    """A folder of files: its path below the root, and what the layout makes of it."""

    path: str
    building: str
    domain: str


def look(
    root: Path, image_domain: str, pool: ThreadPoolExecutor
) -> tuple[Layout, list[ViewFolder], list[str]]:
    """Finds a tree's layout by looking for its images.

    Args:
        root: The tree's folder.
        image_domain: The domain of the images.
        pool: For the waiting.

    Returns:
        The layout, and all folders of files, sorted by building and domain; and the folders of images, below the root,
        that are laid out in another way.

    Raises:
        DataError: The folder is missing, or holds no such tree.
    """
    if not root.is_dir():
        raise DataError(f"The Taskonomy data should be in a folder; found none at '{root}'. Mend `root`.")
    paths = _subfolders(root, pool)
    for layout in LAYOUTS:
        folders = _parsed(layout, root, paths)
        images = [folder.path for folder in folders if folder.domain == image_domain]
        if any(_holds_views(root / path) for path in images):
            folders.sort(key=lambda f: (f.building, f.domain))
            others = (f for other in LAYOUTS for f in _parsed(other, root, paths) if f.domain == image_domain)
            elsewhere = {f.path for f in others} - set(images)
            return layout, folders, sorted(path for path in elsewhere if _holds_views(root / path))
    names = sorted(path for path in paths if "/" not in path)
    expected = ", ".join(
        f"'{layout.folder.format(building='BUILDING', domain=image_domain)}'" for layout in LAYOUTS
    )
    raise DataError(
        f"The folder '{root}' should hold images named point_<i>_view_<j>_domain_{image_domain}.png in {expected}; "
        f"found {f'the folders {names[:5]}' if names else 'no folder'} without them. Mend `root`."
    )


def _parsed(layout: Layout, root: Path, paths: list[str]) -> list[ViewFolder]:
    """The folders that are a layout's."""
    parsed = ((path, layout.parse(path)) for path in paths)
    return [ViewFolder(path, found[0] or root.resolve().name, found[1]) for path, found in parsed if found]


def _subfolders(root: Path, pool: ThreadPoolExecutor) -> list[str]:
    """Folders below the root at the depths at which a layout has its files, as paths with '/'."""

    def below(first: str) -> list[str]:
        paths = [first]
        for second in _folders_in(root / first):
            paths.append(f"{first}/{second}")
            if second == "taskonomy":
                paths += [f"{first}/{second}/{third}" for third in _folders_in(root / first / second)]
        return paths

    return [path for paths in pool.map(below, _folders_in(root)) for path in paths]


def _folders_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if not entry.name.startswith(".") and _is_folder(entry)]


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _holds_views(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(VIEW_FILE.match(entry.name) for entry in entries)
