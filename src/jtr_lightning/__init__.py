"""Partially labelled multi-task training with joint-task regularization, on PyTorch Lightning.

The public names below are imported when they are first used (PEP 562), so that ``import jtr_lightning`` and
``jtr --help`` cost milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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
    from jtr_lightning.data.nyuv2 import NYUv2DataModule as NYUv2DataModule
    from jtr_lightning.data.source import SampleSource as SampleSource
    from jtr_lightning.errors import ConfigError as ConfigError
    from jtr_lightning.errors import DataError as DataError
    from jtr_lightning.errors import UserError as UserError
    from jtr_lightning.module import PartialLabelModule as PartialLabelModule
    from jtr_lightning.networks import Network as Network
    from jtr_lightning.networks import SegNet as SegNet
    from jtr_lightning.networks import SMPNetwork as SMPNetwork
    from jtr_lightning.regularizers.base import Regularizer as Regularizer
    from jtr_lightning.regularizers.base import View as View
    from jtr_lightning.regularizers.jtr import JTR as JTR
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
    "DataError": "jtr_lightning.errors",
    "DenseRegression": "jtr_lightning.tasks",
    "DenseTask": "jtr_lightning.tasks",
    "Depth": "jtr_lightning.tasks",
    "DomainSplit": "jtr_lightning.scenarios",
    "DynamicWeightAverage": "jtr_lightning.balancing",
    "FixedWeights": "jtr_lightning.balancing",
    "FractionLabels": "jtr_lightning.scenarios",
    "FullLabels": "jtr_lightning.scenarios",
    "GradientAggregation": "jtr_lightning.aggregation",
    "HalfLabels": "jtr_lightning.scenarios",
    "ImageTask": "jtr_lightning.tasks",
    "JTR": "jtr_lightning.regularizers.jtr",
    "NYUv2DataModule": "jtr_lightning.data.nyuv2",
    "Network": "jtr_lightning.networks",
    "Normals": "jtr_lightning.tasks",
    "OneLabel": "jtr_lightning.scenarios",
    "PartialLabelDataModule": "jtr_lightning.data.base",
    "PartialLabelModule": "jtr_lightning.module",
    "RandomLabels": "jtr_lightning.scenarios",
    "Regression": "jtr_lightning.tasks",
    "Regularizer": "jtr_lightning.regularizers.base",
    "SMPNetwork": "jtr_lightning.networks",
    "SampleSource": "jtr_lightning.data.source",
    "Scenario": "jtr_lightning.scenarios",
    "SegNet": "jtr_lightning.networks",
    "Segmentation": "jtr_lightning.tasks",
    "SplitFile": "jtr_lightning.scenarios",
    "Task": "jtr_lightning.tasks",
    "UncertaintyWeighting": "jtr_lightning.balancing",
    "UserError": "jtr_lightning.errors",
    "View": "jtr_lightning.regularizers.base",
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
