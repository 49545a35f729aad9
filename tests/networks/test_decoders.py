import pytest
import torch
from torch import nn

from jtr_lightning.errors import ConfigError
from jtr_lightning.networks.decoders import DECODERS, FPN, Unet, find_decoder

CHANNELS = [3, 8, 8, 16, 16, 32]


def small(name):
    """A narrow width that the decoder can have."""
    return 64 if name == "fpn" else 8


def features(encoder_stride):
    sizes = [min(2**i, encoder_stride) for i in range(6)]
    return [torch.randn(2, c, 64 // s, 96 // s) for c, s in zip(CHANNELS, sizes, strict=True)]


@pytest.mark.parametrize("name", DECODERS)
def test_output_is_what_the_decoder_says(name):
    decoder = find_decoder(name, small(name))
    output = decoder.make(CHANNELS)(features(decoder.encoder_stride))
    assert output.shape == (2, small(name), 64 // decoder.stride, 96 // decoder.stride)
    assert decoder.channels == small(name)


@pytest.mark.parametrize("name", DECODERS)
def test_width_changes_the_size_of_the_decoder(name):
    def count(width):
        return sum(p.numel() for p in find_decoder(name, width).make(CHANNELS).parameters())

    assert count(small(name)) < count(2 * small(name))


def test_a_name_has_its_own_default_width():
    assert isinstance(find_decoder("unet", None), Unet)
    assert find_decoder("unet", None).channels == 16
    assert find_decoder("fpn", None).channels == 128


def test_an_object_is_taken_as_it_is():
    decoder = Unet(8)
    assert find_decoder(decoder, None) is decoder
    with pytest.raises(
        ConfigError, match="`decoder_channels` should be left out when `decoder` is an object"
    ):
        find_decoder(decoder, 16)


def test_an_unknown_name_is_refused_with_near_matches():
    with pytest.raises(ConfigError, match="found 'segfomer': did you mean 'segformer'"):
        find_decoder("segfomer", None)


def test_widths_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="`width` should be at least 1; found 0"):
        Unet(0)
    with pytest.raises(ConfigError, match="width of FPN should be a multiple of 64; found 32"):
        FPN(32)


def test_decoders_are_modules_without_unused_parameters():
    for name in DECODERS:
        decoder = find_decoder(name, small(name))
        module = decoder.make(CHANNELS)
        assert isinstance(module, nn.Module)
        module(features(decoder.encoder_stride)).square().sum().backward()
        assert [n for n, p in module.named_parameters() if p.grad is None] == [], name
