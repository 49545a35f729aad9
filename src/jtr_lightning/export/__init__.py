"""Writing a trained network for other runtimes: torch.export, ONNX and safetensors, each checked after writing."""

from jtr_lightning.export.exporting import Exported, export_model
from jtr_lightning.export.formats import FORMATS, Deployed, load_network

__all__ = ["FORMATS", "Deployed", "Exported", "export_model", "load_network"]
