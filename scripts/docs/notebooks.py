"""Notebooks as pages: their text and code. Their outputs are not kept in the repository."""

from __future__ import annotations

import json
from pathlib import Path


def page_of(path: str) -> str:
    """The page of a notebook, both below the documentation."""
    return path.removesuffix(".ipynb") + ".md"


def markdown(notebook: Path) -> str:
    """A notebook as Markdown.

    Args:
        notebook: The file, without outputs.

    Returns:
        Its cells, and where the notebook itself is.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    (title, *first), *rest = (
        "".join(cell["source"]).split("\n") if i == 0 else cell for i, cell in enumerate(cells)
    )
    lines = [title, "", f"[Download the notebook]({notebook.name})" + "{ .md-button }", "", *first]
    for cell in rest:
        text = "".join(cell["source"])
        lines += ["", text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"]
    return "\n".join(lines) + "\n"
