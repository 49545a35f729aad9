"""Hooks of mkdocs: add the pages that are written by programs or lie outside of docs/, and keep links right.

Pages link to each other and to other files of the repository by relative paths, as GitHub shows them. On the site, what
lies in docs/ is at the root and other files keep their path in the repository, so links are rewritten to that.
"""

from __future__ import annotations

import logging
import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from scripts.docs import api, commands, configuration, notebooks

ROOT = Path(__file__).parents[2]
DOCS = "docs"
OUTSIDE = (
    "CHANGELOG.md",
    "experiments/rooms/results/README.md",
    "experiments/rooms/results/*/*.md",
    "experiments/rooms/results/*/*.png",
    "notebooks/*.ipynb",
)
"""What is on the site beside docs/, as patterns below the repository."""

_FENCE = re.compile(r"^(```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[(?P<text>[^\]\n]*)\]\((?!\w+:|#|/)(?P<target>[^)\s#]+)(?=[)#])")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_LITERAL_BLOCK = re.compile(r"::(?=</p>\s*<div class=\"[^\"]*highlight)")
_FOR_THE_SITE = re.compile(r"<!-- on the site:\n(.*?)\n-->", re.DOTALL)

log = logging.getLogger("mkdocs.hooks")
_generated: dict[str, str] = {}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds pages."""
    if not _generated:  # once, also where `mkdocs serve` builds again
        for room in (configuration, commands, api):
            _generated.update(room.pages())
    for path, text in _generated.items():
        files.append(File.generated(config, path, content=text))
    for pattern in OUTSIDE:
        for file in sorted(ROOT.glob(pattern)):
            path = file.relative_to(ROOT).as_posix()
            files.append(File.generated(config, path, abs_src_path=str(file)))
            if file.suffix == ".ipynb":
                files.append(
                    File.generated(config, notebooks.page_of(path), content=notebooks.markdown(file))
                )
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites links and shows what is meant for the site alone."""
    del config
    path = page.file.src_uri
    if page.is_homepage:
        page.meta["hide"] = ["navigation"]  # the menu of the home page has nothing but itself
    if path in _generated:
        return markdown
    markdown = _FOR_THE_SITE.sub(r"\1", markdown)
    parts = _FENCE.split(markdown)
    here = path if (ROOT / path).exists() or path.startswith("notebooks/") else f"{DOCS}/{path}"
    for i in range(0, len(parts), 2):  # the others are blocks of code
        parts[i] = _LINK.sub(lambda link: _link(link["text"], link["target"], here, path, files), parts[i])
    return "".join(parts)


def _link(text: str, target: str, here: str, path: str, files: Files) -> str:
    """The part of a link up to its anchor; one whose text is a file's name gets the title of the page."""
    leads_to = link_on_site(target, here, path, files)
    file = files.get_file_from_path(posixpath.normpath(posixpath.join(posixpath.dirname(path), leads_to)))
    if file is not None and file.is_documentation_page() and text in (target, posixpath.basename(target)):
        title = _TITLE.search(file.content_string)
        text = title[1] if title else text
    return f"[{text}]({leads_to}"


def link_on_site(target: str, page_in_repository: str, page_on_site: str, files: Files) -> str:
    """Where a link leads on the site.

    Args:
        target: The link as it is written, relative to the page in the repository.
        page_in_repository: The page's path below the repository.
        page_on_site: The page's path below the documentation.
        files: Everything that is on the site.

    Returns:
        The link relative to the page on the site; as it was, which mkdocs then warns of, where there is no such file.
    """
    in_repository = posixpath.normpath(posixpath.join(posixpath.dirname(page_in_repository), target))
    on_site = in_repository.removeprefix(f"{DOCS}/")
    if on_site.endswith(".ipynb") and notebooks.page_of(on_site) != page_on_site:
        on_site = notebooks.page_of(on_site)
    if files.get_file_from_path(on_site) is None:
        return target
    return os.path.relpath(on_site, posixpath.dirname(page_on_site) or ".").replace(os.sep, "/")


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Writes one colon before a block of code where a docstring has two, as Sphinx reads them."""
    del page, config, files
    return _LITERAL_BLOCK.sub(":", html)
