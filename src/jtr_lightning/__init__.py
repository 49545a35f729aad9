"""Partially labelled multi-task training with joint-task regularization, on PyTorch Lightning.

The public names below are imported when they are first used (PEP 562), so that ``import jtr_lightning`` and
``jtr --help`` cost milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jtr_lightning._version import __version__

if TYPE_CHECKING:  # what type checkers and editors see; the same names as in _EXPORTS
    from jtr_lightning.batch import Batch as Batch
    from jtr_lightning.errors import ConfigError as ConfigError
    from jtr_lightning.errors import DataError as DataError
    from jtr_lightning.errors import UserError as UserError

_EXPORTS = {
    "Batch": "jtr_lightning.batch",
    "ConfigError": "jtr_lightning.errors",
    "DataError": "jtr_lightning.errors",
    "UserError": "jtr_lightning.errors",
}

__all__ = ["__version__", *sorted(_EXPORTS)]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(_EXPORTS[name]), name)
    globals()[name] = value  # the next access does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
