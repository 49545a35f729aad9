"""The classes that a config may name without their module."""

from __future__ import annotations

import pkgutil
import sys
from importlib import import_module
from pathlib import Path


def find_parts() -> None:
    """Imports the package's parts, so that a config may name a class without its module.

    The current folder is where a user's own modules are looked for, as ``python -m`` does.
    """
    here = str(Path.cwd())  # not "": the parser works in a config's folder while it reads it
    if here not in sys.path:
        sys.path.append(here)
    for room in ("tasks", "networks", "regularizers", "data"):
        package = import_module(f"jtr_lightning.{room}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    for module_name in ("scenarios", "balancing", "aggregation"):
        import_module(f"jtr_lightning.{module_name}")
