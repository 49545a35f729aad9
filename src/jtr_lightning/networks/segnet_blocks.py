"""The SegNet encoder and decoder, for the SegNet network and for auto-encoders of the same shape.

The shape is that of Badrinarayanan et al., "SegNet" (2017), in the form that Liu et al., "End-to-End Multi-Task
Learning with Attention" (CVPR 2019), and the papers on partially labelled multi-task learning after them use: five
stages of 2, 2, 3, 3, 3 convolutions with 64, 128, 256, 512, 512 channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jtr_lightning.errors import ConfigError, check_numbers, check_whole, did_you_mean

WIDTHS = (64, 128, 256, 512, 512)
"""Channels of the published network's stages, from the finest to the deepest."""
DEPTHS = (2, 2, 3, 3, 3)
"""Convolutions in each of the published network's stages."""

NormFactory = Callable[[int], nn.Module]
"""Makes a normalisation layer for this number of channels."""


class InstanceNorm(nn.GroupNorm):
    """Normalises every channel of every sample by its own mean and variance, with a learned scale and shift.

    The same function as ``nn.InstanceNorm2d(channels, affine=True)``, which is BatchNorm in training mode on one sample
    at a time. Written as one group per channel because that takes less than half the time on a CPU (14 against 32 ms
    forward and backward at [4, 64, 144, 192]).

    Args:
        channels: Channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the name in the base class
        """Normalises.

        Args:
            input: ``[B, channels, H, W]``.

        Returns:
            The same shape.

        Raises:
            ConfigError: The map has a single position, which would always become 0.
        """
        if input.shape[-2] * input.shape[-1] == 1:
            raise ConfigError(
                "InstanceNorm should see maps of at least two positions; found a 1x1 map, because the images are too "
                "small for this number of stages. Use larger images or fewer stages (shorter `widths` and `depths`)."
            )
        usual_order = input.is_contiguous() or not input.is_contiguous(memory_format=torch.channels_last)
        if usual_order or input.device.type != "cpu":
            return super().forward(input)
        # In channels_last, a CPU takes three times as long for groups (forward and backward) as for batches.
        samples = [
            F.batch_norm(sample, None, None, self.weight, self.bias, training=True, eps=self.eps)
            for sample in torch.split(input, 1)
        ]
        return torch.cat(samples)


NORMS: dict[str, NormFactory] = {"batch": nn.BatchNorm2d, "instance": InstanceNorm}
"""Normalisations by the name that a config file uses."""


def find_norm(name: str) -> NormFactory:
    """The normalisation of this name.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in NORMS:
        raise ConfigError(
            f"Parameter `norm` should be the name of a normalisation; found '{name}': {did_you_mean(name, NORMS)}"
        )
    return NORMS[name]


class Pooled(NamedTuple):
    """What one stage of the encoder leaves behind.

    Attributes:
        values: The stage's output after pooling ``[B, C, ceil(h / 2), ceil(w / 2)]``.
        indices: Where in each ``[h, w]`` map the values were, int64 of the same shape.
        size: ``(h, w)``, the size before pooling.
    """

    values: Tensor
    indices: Tensor
    size: tuple[int, int]


class SegNetEncoder(nn.Module):
    """Stages of conv3x3 + norm + ReLU, each followed by max-pooling that remembers where the maxima were.

    Args:
        in_channels: Channels of the input.
        widths: Channels of each stage.
        depths: Convolutions of each stage.
        norm: Makes the normalisation after each convolution.

    Raises:
        ConfigError: ``widths`` and ``depths`` differ in length, are empty or hold a number below 1.
    """

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        norm: NormFactory = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        check_stages(widths, depths)
        before = [in_channels, *widths[:-1]]
        self.stages = nn.ModuleList(
            conv_stage(first, width, depth, norm)
            for first, width, depth in zip(before, widths, depths, strict=True)
        )
        init_xavier(self)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Pooled]]:
        """Encodes.

        Args:
            x: ``[B, in_channels, H, W]``, any H and W (odd sizes are pooled by ``ceil``).

        Returns:
            The latent ``[B, widths[-1], ~H / 2**stages, ~W / 2**stages]``, and what each stage leaves for the decoder,
            from the finest to the deepest.
        """
        pools: list[Pooled] = []
        for stage in self.stages:
            x = stage(x)
            size = (x.shape[-2], x.shape[-1])
            x, indices = F.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
            pools.append(Pooled(x, indices, size))
        return x, pools


class SegNetDecoder(nn.Module):
    """The encoder's mirror image: each stage puts values back where the encoder's maxima were, then convolves.

    Args:
        widths: The encoder's widths, in the encoder's order.
        depths: The encoder's depths, in the encoder's order.
        norm: Makes the normalisation after each convolution.

    Raises:
        ConfigError: ``widths`` and ``depths`` differ in length, are empty or hold a number below 1.
    """

    def __init__(
        self,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        norm: NormFactory = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        check_stages(widths, depths)
        after = [widths[0], *widths[:-1]]
        self.stages = nn.ModuleList(
            conv_stage(width, last, depth, norm)
            for width, last, depth in reversed(list(zip(widths, after, depths, strict=True)))
        )
        init_xavier(self)

    def forward(self, latent: Tensor, pools: Sequence[Pooled]) -> Tensor:
        """Decodes.

        Args:
            latent: The encoder's latent, or anything of its shape.
            pools: What the encoder's stages left, from the finest to the deepest.

        Returns:
            ``[B, widths[0], H, W]``, the size of the encoder's input.
        """
        x = latent
        for stage, pool in zip(self.stages, reversed(pools), strict=True):
            x = _unpool(x, pool)
            x = stage(x)
        return x


def _unpool(x: Tensor, pool: Pooled) -> Tensor:
    """Puts each value where the maximum of its window was, and 0 elsewhere."""
    if not torch.are_deterministic_algorithms_enabled():
        return F.max_unpool2d(x, pool.indices, [2, 2], output_size=pool.size)
    # torch refuses it then, as two values might go to one place. Here no windows overlap.
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        return F.max_unpool2d(x, pool.indices, [2, 2], output_size=pool.size)
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warns)


def conv_stage(in_channels: int, out_channels: int, depth: int, norm: NormFactory) -> nn.Sequential:
    """``depth`` times conv3x3 + norm + ReLU; the first convolution changes the number of channels."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [
            nn.Conv2d(in_channels if i == 0 else out_channels, out_channels, 3, padding=1),
            norm(out_channels),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class SegNetHead(nn.Sequential):
    """The published output layers: conv3x3 and conv1x1 with nothing between them, raw values out.

    Two convolutions with nothing between them are one, whose weights are the product of theirs. It is computed as one
    where that is less work: for few channels, a seventh of it, and no map between the two has to be kept for the
    backward pass. Parameters, function and gradients are those of the two.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        first = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        super().__init__(first, nn.Conv2d(in_channels, out_channels, 1))
        init_xavier(self)
        multiplications = 9 * in_channels * in_channels + in_channels * out_channels
        self.as_one = 9 * in_channels * out_channels < multiplications

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the name in the base class
        """Raw values ``[B, out_channels, H, W]`` of a feature ``[B, in_channels, H, W]``."""
        if not self.as_one:
            return cast(Tensor, super().forward(input))  # type: ignore[no-untyped-call]
        return F.conv2d(input, *self.joined(), padding=1)

    def joined(self) -> tuple[Tensor, Tensor]:
        """Weight ``[out_channels, in_channels, 3, 3]`` and bias of the one convolution that the two are."""
        first, second = cast(tuple[nn.Conv2d, nn.Conv2d], tuple(self))
        outer = second.weight.flatten(1)[..., None]
        # Products and sums alone, which autocast leaves in float32; a matrix product of weights it would round.
        weight = (outer * first.weight.flatten(1)).sum(1).view(-1, *first.weight.shape[1:])
        return weight, (outer[..., 0] * cast(Tensor, first.bias)).sum(1) + cast(Tensor, second.bias)


def run_heads(heads: Mapping[str, SegNetHead], feature: Tensor) -> dict[str, Tensor]:
    """Each head's values of the same feature.

    Heads that are one convolution are so together: one of few channels, of which a kernel computes 8 or 16 at once
    whatever their number, costs nearly as much by itself.

    Args:
        heads: Name to head, all of as many input channels.
        feature: ``[B, in_channels, H, W]``.

    Returns:
        Name to raw values ``[B, out_channels, H, W]``.
    """
    together = [name for name, head in heads.items() if head.as_one]
    values = {name: head(feature) for name, head in heads.items() if not head.as_one}
    if together:
        weights, biases = zip(*(heads[name].joined() for name in together), strict=True)
        sizes = [len(bias) for bias in biases]
        joined = F.conv2d(feature, torch.cat(weights), torch.cat(biases), padding=1)
        values.update(zip(together, torch.split(joined, sizes, 1), strict=True))
    return {name: values[name] for name in heads}


def init_xavier(module: nn.Module) -> None:
    """Draws every convolution's weights as published: Xavier normal, biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_stages(widths: Sequence[int], depths: Sequence[int]) -> None:
    """Looks whether widths and depths describe the same, at least one, stages.

    Raises:
        ConfigError: They do not.
    """
    for name, numbers in (("widths", widths), ("depths", depths)):
        check_numbers(name, numbers)
        for number in numbers:
            check_whole(name, number, 1)
    if not widths or len(widths) != len(depths):
        raise ConfigError(
            "Parameters `widths` and `depths` should give the channels and the convolutions of each stage, as many of "
            f"one as of the other and at least one; found widths={list(widths)}, depths={list(depths)}."
        )
