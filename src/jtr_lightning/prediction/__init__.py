"""Predicting images that belong to no data module: of any size, from memory or from a folder."""

from jtr_lightning.prediction.folder import Summary, predict_folder
from jtr_lightning.prediction.inputs import ImageLike, as_arrays
from jtr_lightning.prediction.predictor import Predictor, predict

__all__ = ["ImageLike", "Predictor", "Summary", "as_arrays", "predict", "predict_folder"]
