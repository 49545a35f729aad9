"""The documentation as a site: it has every module and every class, and builds without a warning."""

import importlib
import inspect
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import jtr_lightning
from jtr_lightning import (
    Augmentation,
    Balancing,
    Baseline,
    Network,
    PartialLabelDataModule,
    Regularizer,
    Scenario,
    Task,
)
from scripts.docs.pictures import FOLDER, partial_labels

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def _modules_with_names() -> set[str]:
    """The modules that define a public function or class, without the command line, which its help describes."""
    found = set()
    for info in pkgutil.walk_packages(jtr_lightning.__path__, "jtr_lightning."):
        parts = info.name.split(".")
        if any(part.startswith("_") for part in parts) or parts[1] in ("cli", "lightning_cli"):
            continue
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            own = getattr(value, "__module__", None) == info.name
            if own and not name.startswith("_") and (inspect.isclass(value) or inspect.isfunction(value)):
                found.add(info.name)
    return found


def test_every_module_is_on_one_page_of_the_api() -> None:
    listed = [
        name
        for page in DOCS.glob("api/*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(listed) == sorted(_modules_with_names())


def test_the_page_of_keys_names_every_class_that_a_config_may_name() -> None:
    page = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    bases = (Augmentation, Balancing, Baseline, Network, PartialLabelDataModule, Regularizer, Scenario, Task)
    classes = [value for value in vars_of_package() if issubclass(value, bases)]
    assert len(classes) > 20
    assert [c.__name__ for c in classes if not inspect.isabstract(c) and f"`{c.__name__}`" not in page] == []


def vars_of_package() -> list[type]:
    values = (getattr(jtr_lightning, name) for name in jtr_lightning.__all__)
    return [value for value in values if inspect.isclass(value)]


def test_the_classes_that_pages_name_are_in_the_code() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    words = set(re.findall(r"\w+", code))
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
    named = {
        (page.name, name)
        for page in pages
        for name in re.findall(r"`([A-Z][a-z]+[A-Z]\w*)`", page.read_text(encoding="utf-8"))
    }
    assert len(named) > 50
    assert sorted((page, name) for page, name in named if name not in words) == []


def test_the_picture_of_partial_labels_can_be_drawn_again(tmp_path: Path) -> None:
    partial_labels(tmp_path)
    with (
        Image.open(tmp_path / "partial_labels.png") as drawn,
        Image.open(FOLDER / "partial_labels.png") as kept,
    ):
        assert drawn.size == kept.size
    assert (FOLDER / "partial_labels.png").stat().st_size < 300_000


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    site = tmp_path / "site"
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    environment = {**os.environ, "PATH": path, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    loads = re.compile(
        r"<(?:script|img|iframe)[^>]* src=\"?https?:|<link[^>]*stylesheet[^>]* href=\"?https?:"
    )
    assert [page.name for page in pages if loads.search(page.read_text(encoding="utf-8"))] == []
    source = (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")
    asked = re.findall(r"^(jtr .*help.*)$", source, re.MULTILINE)
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    assert page.count("usage: jtr") == len(asked) > 10
    assert "--print_config[=flags]" in page
