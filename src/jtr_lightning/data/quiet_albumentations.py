"""albumentations, imported so that it asks no package index for a newer version of itself.

It asks at import, on every start and in every loader worker, unless the environment says otherwise; a training should
need no network. Import it from here.
"""

from __future__ import annotations

import os

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
from albumentations.core.type_definitions import Targets

__all__ = ["A", "Targets"]
