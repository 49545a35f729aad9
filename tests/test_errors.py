"""Text in place of numbers, which YAML and Python's users give alike, is told by the parameter's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jtr_lightning.balancing import DynamicWeightAverage, FixedWeights
from jtr_lightning.data import Augmentation, CityscapesDataModule, FolderDataModule, TaskonomyDataModule
from jtr_lightning.data.codings import Levels, Scaled
from jtr_lightning.errors import KindError, check_number, check_numbers
from jtr_lightning.regularizers import JTR, ConsistencyRegularization
from jtr_lightning.regularizers.photometric import Photometric
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.scenarios import FractionLabels
from jtr_lightning.tasks import DenseRegression, Depth, Regression


def folder(**changes: Any) -> FolderDataModule:
    return FolderDataModule(Path("nowhere"), {"depth": Depth()}, **changes)


@pytest.mark.parametrize(
    ("make", "arguments", "named"),
    [
        (Augmentation, {"scales": ["1.2"]}, "scales"),
        (Augmentation, {"scales": "12"}, "scales"),
        (Augmentation, {"scales": 1.2}, "scales"),
        (Augmentation, {"flip": "0.5"}, "flip"),
        (Augmentation, {"colour_changes": "2"}, "colour_changes"),
        (ViewMaker, {"scales": ["1", "2"]}, "scales"),
        (ViewMaker, {"flip": None}, "flip"),
        (Photometric, {"strength": "5"}, "strength"),
        (folder, {"val_share": "0.2"}, "val_share"),
        (folder, {"test_share": None}, "test_share"),
        (folder, {"scales": {"depth": "0.001"}}, "scales['depth']"),
        (TaskonomyDataModule, {"root": "nowhere", "val_share": "0.2"}, "val_share"),
        (TaskonomyDataModule, {"root": "nowhere", "depth_scale": "1"}, "depth_scale"),
        (CityscapesDataModule, {"root": "nowhere", "max_depth": "80"}, "max_depth"),
        (Scaled, {"scale": "0.001"}, "scale"),
        (Levels, {"maximum": "255"}, "maximum"),
        (FractionLabels, {"fraction": "0.5"}, "fraction"),
        (FractionLabels, {"fraction": {"depth": "0.5"}}, "fraction"),
        (Depth, {"std": "2"}, "std"),
        (Regression, {"scale": "2"}, "scale"),
        (DenseRegression, {"low": "0"}, "low"),
        (DynamicWeightAverage, {"temperature": "2"}, "temperature"),
        (lambda: FixedWeights({"depth": "2"}).build({"depth": Depth()}), {}, "weights['depth']"),
        (ConsistencyRegularization, {"ramp": "0.5"}, "ramp"),
        (JTR, {"distance_weight": "4"}, "distance_weight"),
        (JTR, {"stack_scale": "0.5"}, "stack_scale"),
        (JTR, {"autoencoder_lr": "0.1"}, "autoencoder_lr"),
    ],
)
def test_what_is_no_number_is_told(make: Callable[..., Any], arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(KindError, match=r"should be a (list of )?number") as caught:
        make(**arguments)
    told = str(caught.value)
    assert told.startswith(f"Parameter `{named}` should be")
    assert told.count(". ") == 0


def test_numbers_of_numpy_are_numbers() -> None:
    check_number("x", np.float32(1))
    check_numbers("x", (np.int64(2), 1.5))
