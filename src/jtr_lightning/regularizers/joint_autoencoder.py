"""The auto-encoder of the joint-task space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn
from torch.func import functional_call

from jtr_lightning.networks.segnet_blocks import (
    DEPTHS,
    WIDTHS,
    SegNetDecoder,
    SegNetEncoder,
    SegNetHead,
    find_norm,
)


class JointAutoencoder(nn.Module):
    """A SegNet that maps a stack of all tasks to a latent (``g1``) and back to the stack (``g2``).

    Args:
        channels: Channels of the stack. Only the first and the last layer depend on it.
        widths: Channels of the stages, from the finest to the deepest.
        depths: Convolutions of each stage.
        norm: Name of the normalisation: 'instance' (each sample by itself) or 'batch'.

    Raises:
        ConfigError: ``widths`` and ``depths`` do not fit, or there is no such normalisation.
    """

    def __init__(
        self,
        channels: int,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        norm: str = "instance",
    ) -> None:
        super().__init__()
        self.encoder = SegNetEncoder(channels, widths, depths, find_norm(norm))
        self.decoder = SegNetDecoder(widths, depths, find_norm(norm))
        self.head = SegNetHead(widths[0], channels)

    def forward(self, stack: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes and decodes. For the latent alone call ``encode``.

        Args:
            stack: ``[B, channels, H, W]`` in [0, 1].

        Returns:
            The latent ``[B, widths[-1], ~H / 2**stages, ~W / 2**stages]`` and the reconstruction, linear values
            ``[B, channels, H, W]`` that each task reads in its own way (``Task.reconstruction_loss``).
        """
        latent, pools = self.encoder(stack)
        return latent, self.head(self.decoder(latent, pools))

    def encode(self, stack: Tensor, *, frozen: bool = False) -> Tensor:
        """The latent alone.

        Args:
            stack: ``[B, channels, H, W]`` in [0, 1].
            frozen: Give the stack a gradient and the parameters none.

        Returns:
            The latent, as of ``forward``.
        """
        if not frozen:
            latent, _ = self.encoder(stack)
        else:
            # Asked for here, inside: where the parameters are sharded, they are whole only now.
            detached = {name: parameter.detach() for name, parameter in self.encoder.named_parameters()}
            latent, _ = functional_call(self.encoder, detached, (stack,))
        return cast(Tensor, latent)
