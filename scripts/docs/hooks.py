"""Hooks of mkdocs: pages that lie outside of docs/, and links that are right both here and on the site.

Pages link to other files of the repository by relative paths, as GitHub shows them. On the site, what lies in docs/ is
at the root and other files keep their path in the repository, so links are rewritten to that.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
OUTSIDE = (
    "CHANGELOG.md",
    "experiments/rooms/results/README.md",
    "experiments/rooms/results/*/*.md",
    "experiments/rooms/results/*/*.png",
    "notebooks/*.ipynb",
)
"""What is on the site beside docs/, as patterns below the repository."""

_TO_SEE = "Its pictures and numbers are not kept; run it to see them."
_CODE = re.compile(r"(^```.*?^```$)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|[#/])[^)\s#]+")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what lies outside, each notebook both as it is and as a page."""
    for pattern in OUTSIDE:
        for file in sorted(ROOT.glob(pattern)):
            path = file.relative_to(ROOT).as_posix()
            files.append(File.generated(config, path, abs_src_path=str(file)))
            if file.suffix == ".ipynb":
                text, _ = MarkdownExporter().from_filename(str(file))
                title, _, rest = text.lstrip().partition("\n")
                text = f"{title}\n\n[Notebook]({file.name}){{ .md-button }} {_TO_SEE}\n{rest}"
                files.append(File.generated(config, _page_of(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Rewrites the links of a page that lead out of the folder docs/, or into it."""
    del config
    here = page.file.src_uri
    outside = page.file.generated_by is not None
    parts = _CODE.split(markdown)
    parts[::2] = [
        _LINK.sub(lambda link: _on_site(link[0], here, outside, files), text) for text in parts[::2]
    ]
    return "".join(parts)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Does what a terminal does at a backspace, of which jsonargparse has one in its help."""
    del page, config, files
    return re.sub(r".\x08", "", html)


def _on_site(target: str, here: str, outside: bool, files: Files) -> str:
    """A link as it is on the site; left as it is, for mkdocs to warn of, where it leads to no file there."""
    folder = posixpath.dirname(here if outside else f"docs/{here}")
    path = posixpath.normpath(posixpath.join(folder, target)).removeprefix("docs/")
    if _page_of(path) != here:
        path = _page_of(path)
    if files.get_file_from_path(path) is None:
        return target
    return posixpath.relpath(path, posixpath.dirname(here) or ".")


def _page_of(path: str) -> str:
    return re.sub(r"\.ipynb$", ".md", path)
