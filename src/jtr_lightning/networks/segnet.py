"""The backbone of the papers on partially labelled multi-task learning: one SegNet shared by all tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import Tensor, nn

from jtr_lightning.networks.base import Network
from jtr_lightning.networks.images import Normalize, crop, pad_to_multiple
from jtr_lightning.networks.segnet_blocks import (
    DEPTHS,
    WIDTHS,
    SegNetDecoder,
    SegNetEncoder,
    SegNetHead,
    check_stages,
    find_norm,
    run_heads,
)
from jtr_lightning.tasks import Task


class SegNet(Network):
    """A SegNet encoder and decoder shared by all tasks, and two convolutions for each dense task.

    The defaults are the network of "Joint-Task Regularization for Partially Labeled Multi-Task Learning" (CVPR 2024)
    and of MTPSL (CVPR 2022): 25.06 million parameters for the three tasks of NYU-v2 with 13 classes. As published, the
    image goes in as it is, in [0, 1]. Normals come out raw: bringing them to unit length is the task's. Image-level
    tasks, which the papers do not have, get a linear layer on the mean of the deepest feature.

    The features are the five stages' outputs after pooling, at 1/2 to 1/32 of the padded image.

    Args:
        widths: Channels of each stage, from the finest to the deepest.
        depths: Convolutions of each stage.
        norm: ``batch`` as published, or ``instance``, with which no sample's prediction depends on its batch.
        mean: Subtracted from red, green, blue in [0, 1].
        std: What they are then divided by.

    Raises:
        ConfigError: An argument cannot work.
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        norm: str = "batch",
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> None:
        super().__init__()
        check_stages(widths, depths)
        self.widths = list(widths)
        self.depths = list(depths)
        self.norm = find_norm(norm)
        self.normalize = Normalize(mean, std)

    def make_layers(self, tasks: Mapping[str, Task]) -> None:
        dense = {name: task for name, task in tasks.items() if task.dense}
        self.encoder = SegNetEncoder(3, self.widths, self.depths, self.norm)
        # Without a dense task nothing would read the decoder, and its parameters would have no gradient.
        self.decoder = SegNetDecoder(self.widths, self.depths, self.norm) if dense else None
        self.dense_heads = nn.ModuleDict(
            {n: SegNetHead(self.widths[0], t.channels) for n, t in dense.items()}
        )
        self.image_heads = nn.ModuleDict(
            {n: nn.Linear(self.widths[-1], t.channels) for n, t in tasks.items() if not t.dense}
        )

    @property
    def feature_channels(self) -> list[int]:
        return list(self.widths)

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(self.normalize(image), 2 ** len(self.widths))
        latent, pools = self.encoder(padded)
        raw: dict[str, Tensor] = {}
        if self.decoder is not None:
            shared = self.decoder(latent, pools)
            heads = cast(Mapping[str, SegNetHead], self.dense_heads)
            raw = {n: crop(values, height, width) for n, values in run_heads(heads, shared).items()}
        if self.image_heads:
            pooled = latent.mean((2, 3))
            raw |= {name: head(pooled) for name, head in self.image_heads.items()}
        return raw, [pool.values for pool in pools]
