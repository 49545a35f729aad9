"""Partially labelled multi-task training with joint-task regularization, on PyTorch Lightning.

The public names below are imported when they are first used (PEP 562), so that ``import jtr_lightning`` and
``jtr --help`` cost milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jtr_lightning._lazy import lazy
from jtr_lightning._version import __version__

if TYPE_CHECKING:  # what type checkers and editors see; the same names as in _EXPORTS
    from jtr_lightning.aggregation import GradientAggregation as GradientAggregation
    from jtr_lightning.balancing import Balancing as Balancing
    from jtr_lightning.balancing import DynamicWeightAverage as DynamicWeightAverage
    from jtr_lightning.balancing import FixedWeights as FixedWeights
    from jtr_lightning.balancing import UncertaintyWeighting as UncertaintyWeighting
    from jtr_lightning.baseline import Baseline as Baseline
    from jtr_lightning.batch import Batch as Batch
    from jtr_lightning.data.augmentation import Augmentation as Augmentation
    from jtr_lightning.data.base import PartialLabelDataModule as PartialLabelDataModule
    from jtr_lightning.data.cityscapes import CityscapesDataModule as CityscapesDataModule
    from jtr_lightning.data.folder import FolderDataModule as FolderDataModule
    from jtr_lightning.data.nyuv2 import NYUv2DataModule as NYUv2DataModule
    from jtr_lightning.data.rooms.datamodule import RoomsDataModule as RoomsDataModule
    from jtr_lightning.data.source import SampleSource as SampleSource
    from jtr_lightning.data.taskonomy import TaskonomyDataModule as TaskonomyDataModule
    from jtr_lightning.errors import ConfigError as ConfigError
    from jtr_lightning.errors import DataError as DataError
    from jtr_lightning.errors import UserError as UserError
    from jtr_lightning.module import PartialLabelModule as PartialLabelModule
    from jtr_lightning.networks import Network as Network
    from jtr_lightning.networks import SegNet as SegNet
    from jtr_lightning.networks import SMPNetwork as SMPNetwork
    from jtr_lightning.networks.single_task import SingleTask as SingleTask
    from jtr_lightning.regularizers.base import Regularizer as Regularizer
    from jtr_lightning.regularizers.base import View as View
    from jtr_lightning.regularizers.consistency import ConsistencyRegularization as ConsistencyRegularization
    from jtr_lightning.regularizers.jtr import JTR as JTR
    from jtr_lightning.regularizers.mapping import DirectMap as DirectMap
    from jtr_lightning.regularizers.mapping import PerceptualMap as PerceptualMap
    from jtr_lightning.regularizers.mtpsl import MTPSL as MTPSL
    from jtr_lightning.regularizers.views import ViewMaker as ViewMaker
    from jtr_lightning.scenarios import DomainSplit as DomainSplit
    from jtr_lightning.scenarios import FractionLabels as FractionLabels
    from jtr_lightning.scenarios import FullLabels as FullLabels
    from jtr_lightning.scenarios import HalfLabels as HalfLabels
    from jtr_lightning.scenarios import OneLabel as OneLabel
    from jtr_lightning.scenarios import RandomLabels as RandomLabels
    from jtr_lightning.scenarios import Scenario as Scenario
    from jtr_lightning.scenarios import SplitFile as SplitFile
    from jtr_lightning.tasks import Classification as Classification
    from jtr_lightning.tasks import DenseRegression as DenseRegression
    from jtr_lightning.tasks import DenseTask as DenseTask
    from jtr_lightning.tasks import Depth as Depth
    from jtr_lightning.tasks import ImageTask as ImageTask
    from jtr_lightning.tasks import Normals as Normals
    from jtr_lightning.tasks import Regression as Regression
    from jtr_lightning.tasks import Segmentation as Segmentation
    from jtr_lightning.tasks import Task as Task

_EXPORTS = {
    "Augmentation": "jtr_lightning.data.augmentation",
    "Balancing": "jtr_lightning.balancing",
    "Baseline": "jtr_lightning.baseline",
    "Batch": "jtr_lightning.batch",
    "CityscapesDataModule": "jtr_lightning.data.cityscapes",
    "Classification": "jtr_lightning.tasks",
    "ConfigError": "jtr_lightning.errors",
    "ConsistencyRegularization": "jtr_lightning.regularizers.consistency",
    "DataError": "jtr_lightning.errors",
    "DenseRegression": "jtr_lightning.tasks",
    "DenseTask": "jtr_lightning.tasks",
    "Depth": "jtr_lightning.tasks",
    "DirectMap": "jtr_lightning.regularizers.mapping",
    "DomainSplit": "jtr_lightning.scenarios",
    "DynamicWeightAverage": "jtr_lightning.balancing",
    "FixedWeights": "jtr_lightning.balancing",
    "FolderDataModule": "jtr_lightning.data.folder",
    "FractionLabels": "jtr_lightning.scenarios",
    "FullLabels": "jtr_lightning.scenarios",
    "GradientAggregation": "jtr_lightning.aggregation",
    "HalfLabels": "jtr_lightning.scenarios",
    "ImageTask": "jtr_lightning.tasks",
    "JTR": "jtr_lightning.regularizers.jtr",
    "MTPSL": "jtr_lightning.regularizers.mtpsl",
    "NYUv2DataModule": "jtr_lightning.data.nyuv2",
    "Network": "jtr_lightning.networks",
    "Normals": "jtr_lightning.tasks",
    "OneLabel": "jtr_lightning.scenarios",
    "PartialLabelDataModule": "jtr_lightning.data.base",
    "PartialLabelModule": "jtr_lightning.module",
    "PerceptualMap": "jtr_lightning.regularizers.mapping",
    "RandomLabels": "jtr_lightning.scenarios",
    "Regression": "jtr_lightning.tasks",
    "Regularizer": "jtr_lightning.regularizers.base",
    "RoomsDataModule": "jtr_lightning.data.rooms.datamodule",
    "SMPNetwork": "jtr_lightning.networks",
    "SampleSource": "jtr_lightning.data.source",
    "Scenario": "jtr_lightning.scenarios",
    "SegNet": "jtr_lightning.networks",
    "Segmentation": "jtr_lightning.tasks",
    "SingleTask": "jtr_lightning.networks.single_task",
    "SplitFile": "jtr_lightning.scenarios",
    "Task": "jtr_lightning.tasks",
    "TaskonomyDataModule": "jtr_lightning.data.taskonomy",
    "UncertaintyWeighting": "jtr_lightning.balancing",
    "UserError": "jtr_lightning.errors",
    "View": "jtr_lightning.regularizers.base",
    "ViewMaker": "jtr_lightning.regularizers.views",
}

__all__ = ["__version__", *sorted(_EXPORTS)]
__getattr__, __dir__ = lazy(__name__, _EXPORTS)
