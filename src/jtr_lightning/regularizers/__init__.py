"""What partially labelled methods add to the supervised loss."""

from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.regularizers.photometric import Photometric
from jtr_lightning.regularizers.views import Geometry, ViewMaker

__all__ = [
    "JTR",
    "MTPSL",
    "ConsistencyRegularization",
    "DirectMap",
    "Geometry",
    "PerceptualMap",
    "Photometric",
    "Regularizer",
    "View",
    "ViewMaker",
]
