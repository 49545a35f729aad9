"""Text in place of numbers, which YAML and Python's users give alike, is told by the parameter's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jtr_lightning.balancing import DynamicWeightAverage, FixedWeights, UncertaintyWeighting
from jtr_lightning.baseline import Baseline
from jtr_lightning.callbacks.guard import NonFiniteGuard
from jtr_lightning.callbacks.panel_logger import PanelLogger
from jtr_lightning.callbacks.resume import Resume
from jtr_lightning.data import Augmentation, CityscapesDataModule, FolderDataModule, TaskonomyDataModule
from jtr_lightning.data.codings import Levels, Scaled
from jtr_lightning.errors import ConfigError, KindError, check_number, check_numbers, check_whole
from jtr_lightning.networks import SegNet
from jtr_lightning.networks.decoders import Unet
from jtr_lightning.regularizers import JTR, MTPSL, ConsistencyRegularization
from jtr_lightning.regularizers.photometric import Photometric
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.scenarios import FractionLabels
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Regression, Segmentation


def folder(**changes: Any) -> FolderDataModule:
    return FolderDataModule(Path("nowhere"), {"depth": Depth()}, **changes)


@pytest.mark.parametrize(
    ("make", "arguments", "named"),
    [
        (Augmentation, {"scales": ["1.2"]}, "scales"),
        (Augmentation, {"scales": "12"}, "scales"),
        (Augmentation, {"scales": 1.2}, "scales"),
        (Augmentation, {"flip": "0.5"}, "flip"),
        (ViewMaker, {"scales": ["1", "2"]}, "scales"),
        (ViewMaker, {"flip": None}, "flip"),
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
        (UncertaintyWeighting, {"initial": "0"}, "initial"),
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


@pytest.mark.parametrize(
    ("make", "arguments", "named"),
    [
        (Augmentation, {"colour_changes": 1.5}, "colour_changes"),
        (Augmentation, {"colour_strength": "5"}, "colour_strength"),
        (Photometric, {"strength": "5"}, "strength"),
        (Photometric, {"operations": 1.5}, "operations"),
        (Regression, {"channels": "2"}, "channels"),
        (DenseRegression, {"channels": 1.5}, "channels"),
        (Unet, {"width": "64"}, "width"),
        (MTPSL, {"film_step_size": 0.5}, "film_step_size"),
        (NonFiniteGuard, {"patience": "9"}, "patience"),
        (PanelLogger, {"every_n_epochs": None}, "every_n_epochs"),
        (Resume, {"folder": "x", "every_n_steps": 2.0}, "every_n_steps"),
        (SegNet, {"widths": [16, 32.5], "depths": [1, 1]}, "widths"),
        (SegNet, {"widths": [16, 32], "depths": ["1", "1"]}, "depths"),
    ],
)
def test_what_is_no_whole_number_is_told(
    make: Callable[..., Any], arguments: dict[str, Any], named: str
) -> None:
    with pytest.raises(KindError, match=rf"^Parameter `{named}` should be a (whole number|list of numbers)"):
        make(**arguments)


def test_values_of_a_baseline_are_numbers() -> None:
    with pytest.raises(KindError, match=r"Parameter `values\['depth'\]` should be a number; found '0.5'"):
        Baseline("theirs", {"depth": "0.5"})  # type: ignore[dict-item]


@pytest.mark.parametrize("classes", [1, 2.5, "seg", ["wall"], ["wall", 1], {"wall": 0, "bed": 1}, None])
@pytest.mark.parametrize("kind", [Classification, Segmentation])
def test_classes_are_a_number_or_names(kind: Callable[..., Any], classes: Any) -> None:
    with pytest.raises(ConfigError, match=r"`classes` should be at least 2 \(a number, or names\); found"):
        kind(classes)


def test_numbers_of_numpy_are_numbers() -> None:
    check_number("x", np.float32(1))
    check_whole("x", np.int64(1), 0)
    assert Segmentation(np.int64(3)).channels == 3
    check_numbers("x", (np.int64(2), 1.5))
