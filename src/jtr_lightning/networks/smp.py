"""Any encoder of segmentation-models-pytorch or timm, with decoders and a head for each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jtr_lightning.errors import ConfigError
from jtr_lightning.networks.base import Network
from jtr_lightning.networks.decoders import Decoder, find_decoder
from jtr_lightning.networks.encoders import make_encoder, short
from jtr_lightning.networks.images import IMAGENET_MEAN, IMAGENET_STD, Normalize, crop, pad_to_multiple
from jtr_lightning.tasks import Task

SHARED = "shared"
"""The name of the one decoder of all tasks, in checkpoints."""


class SMPNetwork(Network):
    """A general encoder-decoder network.

    A dense task has a 3x3 convolution on a decoder's output, upsampled to the image; an image-level task a linear layer
    on the mean of the deepest feature. An image of any size is padded inside by repeating its last row and column.

    The features are the encoder's, of the padded image, from the finest (1/2 or 1/4) to the deepest (1/32; with
    ``deeplabv3plus`` two at 1/16).

    Args:
        encoder: A name of segmentation-models-pytorch (``resnet18``, ``mit_b0`` ...) or ``tu-`` and a name of timm
            (``tu-mobilenetv3_small_050``).
        decoder: ``unet``, ``unetplusplus``, ``manet``, ``linknet`` (full resolution), ``fpn``, ``segformer``,
            ``upernet`` or ``deeplabv3plus`` (a quarter); or a decoder object.
        shared_decoder: One decoder for all dense tasks; otherwise one for each.
        decoder_channels: Channels of the decoder's output; its own default if None.
        encoder_weights: None for random weights. A file: ``.safetensors`` or one of torch, of the encoder or of a
            network with this encoder. Otherwise the name of published weights (``imagenet``), downloaded once.
        mean: Subtracted from red, green, blue in [0, 1]; ImageNet's by default, right for most published weights.
        std: What they are then divided by.

    Raises:
        ConfigError: An argument cannot work.
    """

    # A checkpoint has the weights: loading one must not look for the file or the hub again.
    not_described = ("encoder_weights",)

    def __init__(
        self,
        encoder: str = "resnet18",
        decoder: str | Decoder = "unet",
        shared_decoder: bool = True,
        decoder_channels: int | None = None,
        encoder_weights: str | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.encoder_name = encoder
        self.encoder_weights = encoder_weights
        self.decoder = find_decoder(decoder, decoder_channels)
        self.shared_decoder = shared_decoder
        self.normalize = Normalize(mean, std)

    def make_layers(self, tasks: Mapping[str, Task]) -> None:
        self.encoder = make_encoder(self.encoder_name, self.encoder_weights, self.decoder.encoder_stride)
        channels = list(self.encoder.out_channels)  # type: ignore[arg-type]
        dense = {name: task for name, task in tasks.items() if task.dense}
        owners = [SHARED] if self.shared_decoder and dense else list(dense)
        self.decoders = nn.ModuleDict({owner: self.decoder.make(channels) for owner in owners})
        self.dense_heads = nn.ModuleDict(
            {n: nn.Conv2d(self.decoder.channels, t.channels, 3, padding=1) for n, t in dense.items()}
        )
        self.image_heads = nn.ModuleDict(
            {n: nn.Linear(channels[-1], t.channels) for n, t in tasks.items() if not t.dense}
        )
        self.multiple = int(self.encoder.output_stride)  # type: ignore[arg-type]
        # Index 0 is the image itself; some encoders fill a stage that they do not have with 0 channels.
        self.kept = [i for i, count in enumerate(channels) if i > 0 and count > 0]
        self._channels = [channels[i] for i in self.kept]
        self._check_and_freeze()

    @property
    def feature_channels(self) -> list[int]:
        return list(self._channels)

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        try:
            return self._run(image)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                "BatchNorm should see more than one value per channel in training; a batch of "
                f"{image.shape[0]} image(s) of {image.shape[-2]}x{image.shape[-1]} pixels leaves one, at the encoder's "
                "deepest feature or where the decoder pools the whole image. Use a larger batch or larger images (and "
                "drop a last batch of one)."
            ) from error

    def _run(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        height, width = image.shape[-2:]
        padded = pad_to_multiple(self.normalize(image), self.multiple)
        features = self.encoder(padded)
        decoded = {name: decoder(features) for name, decoder in self.decoders.items()}
        raw: dict[str, Tensor] = {}
        for name, head in self.dense_heads.items():
            values = head(decoded[SHARED if self.shared_decoder else name])
            if self.decoder.stride > 1:
                values = F.interpolate(values, size=padded.shape[-2:], mode="bilinear", align_corners=False)
            raw[name] = crop(values, height, width)
        if self.image_heads:
            pooled = features[-1].mean((2, 3))
            raw |= {name: head(pooled) for name, head in self.image_heads.items()}
        return raw, [features[i] for i in self.kept]

    def _check_and_freeze(self) -> None:
        """Runs the network once and freezes parameters that no prediction depends on.

        Some encoders keep layers of their classifier (EfficientNet's last convolution); left trainable, they would make
        distributed training wait for gradients that never come. The run also finds encoders that take one image
        size only.

        Raises:
            ConfigError: The encoder does not take images of other sizes.
        """
        parameters = [p for p in self.parameters() if p.requires_grad]
        image = torch.zeros(1, 3, 64, 96, dtype=parameters[0].dtype, device=parameters[0].device)
        was_training = self.training
        self.eval()  # no statistics change, no random number is drawn, a batch of one will do
        try:
            with torch.enable_grad():
                raw = self._run(image)[0]
                total = torch.stack([values.sum() for values in raw.values()]).sum()
                gradients = torch.autograd.grad(total, parameters, allow_unused=True)
        except (AssertionError, RuntimeError) as error:
            raise ConfigError(
                f"Parameter `encoder` should be an encoder for images of any size; '{self.encoder_name}' failed on one "
                f"of 64x96 pixels ({short(error)}). Choose another encoder, or another decoder than "
                f"{type(self.decoder).__name__}."
            ) from error
        finally:
            self.train(was_training)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.requires_grad_(gradient is not None)
