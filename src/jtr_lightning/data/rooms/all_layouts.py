"""Every layout in which Rooms can be written."""

from __future__ import annotations

from jtr_lightning.data.rooms.cityscapes_layouts import CityscapesLayout, CityscapesNpyLayout
from jtr_lightning.data.rooms.folder_layout import FolderLayout
from jtr_lightning.data.rooms.layouts import Layout, TaskonomyLayout
from jtr_lightning.data.rooms.nyuv2_layouts import (
    NYUv2H5Layout,
    NYUv2MatLayout,
    NYUv2NpyLayout,
    NYUv2SyncLayout,
)

LAYOUTS: dict[str, type[Layout]] = {
    layout.name: layout
    for layout in (
        TaskonomyLayout,
        NYUv2NpyLayout,
        NYUv2MatLayout,
        NYUv2H5Layout,
        NYUv2SyncLayout,
        CityscapesLayout,
        CityscapesNpyLayout,
        FolderLayout,
    )
}
"""Layouts by name."""
