"""The decoders of segmentation-models-pytorch as objects that say what they need and what they give.

A decoder of your own derives from ``Decoder``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import nn

from jtr_lightning.described import Described
from jtr_lightning.errors import ConfigError, check_whole, did_you_mean


class Decoder(Described, ABC):
    """How to make a decoder once the encoder is known.

    Attributes:
        stride: The image's size over that of the decoder's output.
        encoder_stride: The image's size over that of the encoder's deepest feature; below 32 the encoder is dilated,
            which not every encoder can be.

    Raises:
        ConfigError: The width is below 1.
    """

    stride: int = 1
    encoder_stride: int = 32
    width: int

    def __init__(self, width: int) -> None:
        check_whole("width", width, 1)
        self.width = width

    @property
    def channels(self) -> int:
        """Channels of the decoder's output."""
        return self.width

    @abstractmethod
    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        """Makes the layers.

        Args:
            encoder_channels: Channels of the encoder's features at 1, 1/2, 1/4 ... of the image's size; the first are
                the image's own (for most encoders), and some encoders have a feature with 0 channels at 1/2.

        Returns:
            A module that takes the list of features and gives ``[B, channels, H / stride, W / stride]``.
        """


class Unet(Decoder):
    """Unet: skip connections from every feature. The widest choice of encoders, sharp borders.

    Args:
        width: Channels at full resolution; each coarser stage has twice as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)

    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        return UnetDecoder(encoder_channels, doubling(self.width))  # type: ignore[no-any-return]


class UnetPlusPlus(Decoder):
    """Unet with nested, dense skip connections; several times the work of Unet.

    Args:
        width: Channels at full resolution; each coarser stage has twice as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)

    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder

        return UnetPlusPlusDecoder(encoder_channels, doubling(self.width))  # type: ignore[no-any-return]


class MAnet(Decoder):
    """Unet with attention over positions and channels.

    Args:
        width: Channels at full resolution; each coarser stage has twice as many.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__(width)

    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder

        return MAnetDecoder(encoder_channels, doubling(self.width))  # type: ignore[no-any-return]


class Linknet(Decoder):
    """Linknet: skip connections that are added, so its inner widths are the encoder's.

    Args:
        width: Channels at full resolution.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__(width)

    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder

        return LinknetDecoder(encoder_channels, self.width)  # type: ignore[no-any-return]


class FPN(Decoder):
    """Feature pyramid: quick, predicts at a quarter of the resolution.

    Args:
        width: Channels of its output, a multiple of 64; the pyramid has twice as many.

    Raises:
        ConfigError: ``width`` is no multiple of 64.
    """

    stride = 4

    def __init__(self, width: int = 128) -> None:
        super().__init__(width)
        # Its GroupNorm has 32 groups; with one channel in each, a 1x1 map would have nothing to normalise over.
        if width % 64:
            raise ConfigError(f"The width of FPN should be a multiple of 64; found {width}.")

    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.fpn.decoder import FPNDecoder

        return FPNDecoder(  # type: ignore[no-any-return]
            encoder_channels, pyramid_channels=2 * self.width, segmentation_channels=self.width
        )


class Segformer(Decoder):
    """Segformer's all-linear decoder: quick, predicts at a quarter of the resolution.

    Args:
        width: Channels.
    """

    stride = 4

    def __init__(self, width: int = 256) -> None:
        super().__init__(width)

    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder

        return SegformerDecoder(encoder_channels, segmentation_channels=self.width)  # type: ignore[no-any-return]


class UPerNet(Decoder):
    """UPerNet: a feature pyramid with pooling over the whole image, which needs at least 2 images to train.

    Args:
        width: Channels.
    """

    stride = 4

    def __init__(self, width: int = 256) -> None:
        super().__init__(width)

    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder

        return UPerNetDecoder(encoder_channels, decoder_channels=self.width)  # type: ignore[no-any-return]


class DeepLabV3Plus(Decoder):
    """DeepLabV3+: dilated convolutions and pooling over the whole image, which needs at least 2 images to train.

    Args:
        width: Channels.
    """

    stride = 4
    encoder_stride = 16

    def __init__(self, width: int = 256) -> None:
        super().__init__(width)

    def make(self, encoder_channels: Sequence[int]) -> nn.Module:
        from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder

        # Rates, separable convolutions and dropout as in the paper (Chen et al., 2018) at this encoder stride.
        return DeepLabV3PlusDecoder(  # type: ignore[no-any-return]
            encoder_channels,
            encoder_depth=len(encoder_channels) - 1,
            out_channels=self.width,
            atrous_rates=(6, 12, 18),
            output_stride=16,
            aspp_separable=True,
            aspp_dropout=0.5,
        )


def doubling(width: int) -> list[int]:
    """Channels of five stages from the coarsest to full resolution, each half of the one before."""
    return [width * 2**i for i in (4, 3, 2, 1, 0)]


DECODERS: dict[str, type[Decoder]] = {
    "deeplabv3plus": DeepLabV3Plus,
    "fpn": FPN,
    "linknet": Linknet,
    "manet": MAnet,
    "segformer": Segformer,
    "unet": Unet,
    "unetplusplus": UnetPlusPlus,
    "upernet": UPerNet,
}
"""Decoders by the name that a config file uses."""


def find_decoder(decoder: str | Decoder, width: int | None) -> Decoder:
    """The decoder that is meant.

    Args:
        decoder: A name in ``DECODERS``, or a decoder.
        width: For a name, the decoder's width; None for its own default.

    Raises:
        ConfigError: There is none of this name, or a width is given for a decoder that has one.
    """
    if isinstance(decoder, Decoder):
        if width is not None:
            raise ConfigError(
                f"Parameter `decoder_channels` should be left out when `decoder` is an object; found {width} beside a "
                f"{type(decoder).__name__}. Give the object its width instead."
            )
        return decoder
    if decoder not in DECODERS:
        raise ConfigError(
            f"Parameter `decoder` should be the name of a decoder; found '{decoder}': {did_you_mean(decoder, DECODERS)}"
        )
    kind = DECODERS[decoder]
    return kind() if width is None else kind(width)  # type: ignore[call-arg]
