"""Pages of the API: every public name of the package by room, each with the docstring that it has.

What a user imports or names in a config stands on the page of its room; what the rooms are made of, on a second one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import jtr_lightning
from scripts.docs.configuration import documented

PACKAGE = jtr_lightning.__name__

ROOMS = {
    "tasks": ("Tasks", ("tasks",)),
    "data": ("Data", ("batch", "scenarios", "splits", "data")),
    "rooms": ("Rooms, the generated dataset", ("data.rooms",)),
    "networks": ("Networks", ("networks",)),
    "regularizers": ("Regularizers", ("regularizers",)),
    "training": (
        "Training",
        ("module", "balancing", "aggregation", "evaluation", "metrics", "baseline", "profiling"),
    ),
    "callbacks": ("Callbacks and reports", ("callbacks", "reporting")),
    "prediction": ("Prediction and export", ("prediction", "export")),
    "comparison": ("Comparisons and sweeps", ("comparison", "sweeps")),
    "base": ("Descriptions, errors, contract tests", ("described", "errors", "testing")),
}
"""Page to its title and the modules and packages that it has, each with what is below it and on no other page."""

USED = (
    "batch",
    "splits",
    "tasks.base",
    "tasks.rendering",
    "metrics",
    "evaluation",
    "callbacks",
    "errors",
    "described",
)
WHOLE = tuple(f"{PACKAGE}.{module}" for module in USED)
"""Modules whose every name is there to be used."""

NOT_API = ("cli", "__main__")
"""The command line is described by its own help."""


def pages() -> dict[str, str]:
    """All pages.

    Returns:
        Path below the documentation to Markdown.
    """
    known = set(exported()) | {f"{cls.__module__}.{cls.__qualname__}" for cls in documented()}
    found = {"api/index.md": _index()}
    for page, (title, _) in ROOMS.items():
        names = [
            (module, f"{module.__name__}.{name}") for module in modules_of(page) for name in names_in(module)
        ]
        used = [path for module, path in names if path in known or _is_offered(module.__name__, path)]
        inside = [path for _, path in names if path not in used]
        found[f"api/{page}.md"] = f"# {title}\n\n" + "\n".join(map(_entry, used))
        if inside:
            found[f"api/inside/{page}.md"] = _inside(title, inside)
    return found


def _is_offered(module: str, path: str) -> bool:
    """Whether a package offers the name itself, or it is of a room that is all there is to use."""
    room = importlib.import_module(module.rpartition(".")[0])
    offered = getattr(room, "__all__", ()) if room is not jtr_lightning else ()
    return path.rpartition(".")[2] in offered or module.startswith(WHOLE)


def modules_of(page: str) -> list[ModuleType]:
    """The modules of a page, those whose names are public, in the order of ROOMS.

    Args:
        page: A key of ROOMS.

    Returns:
        Imported modules.
    """
    elsewhere = {name for other, (_, names) in ROOMS.items() if other != page for name in names}
    return [
        importlib.import_module(name)
        for room in ROOMS[page][1]
        for name in _below(f"{PACKAGE}.{room}")
        if not any(_is_in(name, f"{PACKAGE}.{other}") for other in elsewhere if other.startswith(f"{room}."))
    ]


def _below(name: str) -> Iterator[str]:
    yield name
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        for info in pkgutil.iter_modules(module.__path__, f"{name}."):
            if not info.name.rpartition(".")[2].startswith("_"):
                yield from _below(info.name)


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def names_in(module: ModuleType) -> list[str]:
    """The public functions and classes that a module defines, in its order."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and getattr(value, "__module__", None) == module.__name__
        and (inspect.isclass(value) or inspect.isfunction(value))
    ]


def exported() -> dict[str, str]:
    """What `from jtr_lightning import ...` gives: path of the definition to the name."""
    found = {}
    for name in jtr_lightning.__all__:
        value = getattr(jtr_lightning, name)
        if not name.startswith("_"):
            found[f"{value.__module__}.{value.__qualname__}"] = name
    return found


def _inside(title: str, paths: list[str]) -> str:
    by_module: dict[str, list[str]] = {}
    for path in paths:
        by_module.setdefault(path.rpartition(".")[0], []).append(path)
    lines = [f"# Inside: {title}\n\nWhat the room is made of; it may change from one version to the next.\n"]
    for module, names in by_module.items():
        lines += [f"## `{module}`\n", _summary(module), *map(_entry, names)]
    return "\n".join(lines)


def _summary(module_name: str) -> str:
    """The first paragraph of a module's docstring."""
    return (inspect.getdoc(importlib.import_module(module_name)) or "").partition("\n\n")[0] + "\n"


def _entry(path: str) -> str:
    return f"::: {path}\n"


def _index() -> str:
    rows = ["| Name | What it is |", "|---|---|"]
    for path, name in sorted(exported().items(), key=lambda item: item[1]):
        doc = inspect.getdoc(getattr(jtr_lightning, name)) or ""
        line = " ".join(doc.partition("\n\n")[0].split()).replace("|", "\\|")
        rows.append(f"| [`{name}`][{path}] | {line} |")
    table = "\n".join(rows)
    return (
        "# API\n\nThese names are imported from `jtr_lightning` itself: `from jtr_lightning import JTR`. The pages of "
        f"the rooms have them, and what is imported by module and name.\n\n{table}\n"
    )
