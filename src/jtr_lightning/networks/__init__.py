"""Networks that predict all tasks from one image."""

from jtr_lightning.networks.base import Network
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.networks.smp import SMPNetwork

__all__ = ["Network", "SMPNetwork", "SegNet"]
