"""Datasets with a label-availability mask, as LightningDataModules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jtr_lightning._lazy import lazy

if TYPE_CHECKING:
    from jtr_lightning.data.augmentation import Augmentation as Augmentation
    from jtr_lightning.data.base import PartialLabelDataModule as PartialLabelDataModule
    from jtr_lightning.data.cityscapes import CityscapesDataModule as CityscapesDataModule
    from jtr_lightning.data.folder import FolderDataModule as FolderDataModule
    from jtr_lightning.data.nyuv2 import NYUv2DataModule as NYUv2DataModule
    from jtr_lightning.data.packed import PackedDataModule as PackedDataModule
    from jtr_lightning.data.rooms.datamodule import RoomsDataModule as RoomsDataModule
    from jtr_lightning.data.source import SampleSource as SampleSource
    from jtr_lightning.data.taskonomy import TaskonomyDataModule as TaskonomyDataModule

_EXPORTS = {
    "Augmentation": "jtr_lightning.data.augmentation",
    "CityscapesDataModule": "jtr_lightning.data.cityscapes",
    "FolderDataModule": "jtr_lightning.data.folder",
    "NYUv2DataModule": "jtr_lightning.data.nyuv2",
    "PackedDataModule": "jtr_lightning.data.packed",
    "PartialLabelDataModule": "jtr_lightning.data.base",
    "RoomsDataModule": "jtr_lightning.data.rooms.datamodule",
    "SampleSource": "jtr_lightning.data.source",
    "TaskonomyDataModule": "jtr_lightning.data.taskonomy",
}

__all__ = sorted(_EXPORTS)
__getattr__, __dir__ = lazy(__name__, _EXPORTS)
