"""What the network predicts."""

from jtr_lightning.tasks.base import Task
from jtr_lightning.tasks.dense import DenseRegression, DenseTask, Segmentation
from jtr_lightning.tasks.geometry import Depth, Normals
from jtr_lightning.tasks.image import Classification, ImageTask, Regression

__all__ = [
    "Classification",
    "DenseRegression",
    "DenseTask",
    "Depth",
    "ImageTask",
    "Normals",
    "Regression",
    "Segmentation",
    "Task",
]
