import pytest
import torch
import torch.nn.functional as F
from torch import nn

from jtr_lightning.errors import ConfigError
from jtr_lightning.networks.segnet_blocks import (
    NORMS,
    InstanceNorm,
    SegNetDecoder,
    SegNetEncoder,
    SegNetHead,
    find_norm,
    run_heads,
)

WIDTHS, DEPTHS = (4, 6, 8), (2, 1, 3)


def count(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def autoencoder(norm=InstanceNorm):
    return SegNetEncoder(5, WIDTHS, DEPTHS, norm), SegNetDecoder(WIDTHS, DEPTHS, norm)


# InstanceNorm


def test_instance_norm_is_batch_norm_on_one_sample_at_a_time():
    x = torch.randn(3, 4, 5, 7, dtype=torch.float64)
    ours = InstanceNorm(4).double()
    nn.init.uniform_(ours.weight)
    nn.init.uniform_(ours.bias)
    one_by_one = [F.batch_norm(row[None], None, None, ours.weight, ours.bias, training=True) for row in x]
    torch.testing.assert_close(ours(x), torch.cat(one_by_one))


def test_instance_norm_is_the_same_in_channels_last() -> None:
    ours, torchs = InstanceNorm(4).double(), nn.InstanceNorm2d(4, affine=True).double()
    nn.init.uniform_(ours.weight)
    nn.init.uniform_(ours.bias)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 4, 5, 7, dtype=torch.float64, requires_grad=True)
    found = ours(x.contiguous(memory_format=torch.channels_last))
    assert found.is_contiguous(memory_format=torch.channels_last)
    expected, direction = torchs(x), torch.randn_like(x)
    torch.testing.assert_close(found, expected, check_stride=False)
    gradients = [
        torch.autograd.grad(values, [x, *norm.parameters()], direction)
        for values, norm in ((found, ours), (expected, torchs))
    ]
    torch.testing.assert_close(*gradients, check_stride=False)


def test_instance_norm_refuses_a_map_of_one_position():
    with pytest.raises(ConfigError, match="at least two positions; found a 1x1 map"):
        InstanceNorm(4)(torch.randn(3, 4, 1, 1))


def test_unknown_norm_is_refused_with_a_near_match():
    with pytest.raises(ConfigError, match="found 'instanse': did you mean 'instance'"):
        find_norm("instanse")


# Encoder and decoder


def test_one_stage_is_convolutions_then_the_maxima_back_in_their_places():
    encoder = SegNetEncoder(2, (3,), (1,), nn.Identity).double()
    decoder = SegNetDecoder((3,), (1,), nn.Identity).double()
    x = torch.randn(1, 2, 5, 7, dtype=torch.float64)
    first, last = encoder.stages[0][0], decoder.stages[0][0]
    before = F.conv2d(x, first.weight, first.bias, padding=1).relu()
    kept = torch.zeros_like(before)
    latent = torch.zeros(1, 3, 3, 4, dtype=torch.float64)
    for c in range(3):
        for i in range(3):
            for j in range(4):
                window = before[0, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                row, column = divmod(int(window.argmax()), window.shape[1])
                latent[0, c, i, j] = window.max()
                kept[0, c, 2 * i + row, 2 * j + column] = window.max()
    result, pools = encoder(x)
    torch.testing.assert_close(result, latent)
    torch.testing.assert_close(
        decoder(result, pools), F.conv2d(kept, last.weight, last.bias, padding=1).relu()
    )


def test_stages_have_the_published_order_of_widths():
    encoder, decoder = autoencoder()

    def channels(module):
        return [(m.in_channels, m.out_channels) for m in module.modules() if isinstance(m, nn.Conv2d)]

    assert channels(encoder) == [(5, 4), (4, 4), (4, 6), (6, 8), (8, 8), (8, 8)]
    assert channels(decoder) == [(8, 6), (6, 6), (6, 6), (6, 4), (4, 4), (4, 4)]


@pytest.mark.parametrize("size", [(16, 24), (33, 47), (9, 8), (5, 5)])
@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
def test_any_size_comes_back(size, norm):
    encoder, decoder = autoencoder(norm)
    latent, pools = encoder(torch.randn(2, 5, *size))
    assert latent.shape == (2, 8, -(-size[0] // 8), -(-size[1] // 8))
    assert decoder(latent, pools).shape == (2, 4, *size)


def test_with_instance_norm_no_sample_sees_the_others():
    encoder, decoder = (m.double() for m in autoencoder())
    x = torch.randn(3, 5, 17, 23, dtype=torch.float64)
    together = decoder(*encoder(x))
    alone = torch.cat([decoder(*encoder(row[None])) for row in x])
    torch.testing.assert_close(together, alone)


def test_every_parameter_gets_a_gradient():
    encoder, decoder = autoencoder(NORMS["batch"])
    decoder(*encoder(torch.randn(2, 5, 16, 24))).square().sum().backward()
    for name, parameter in [*encoder.named_parameters(), *decoder.named_parameters()]:
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_frozen_parameters_through_functional_call_give_the_same_gradient_to_the_input():
    encoder = autoencoder()[0].double()
    x = torch.randn(2, 5, 16, 24, dtype=torch.float64, requires_grad=True)
    expected = torch.autograd.grad(encoder(x)[0].square().sum(), x)[0]
    frozen = {name: p.detach() for name, p in encoder.named_parameters()}
    latent = torch.func.functional_call(encoder, frozen, (x,))[0]
    latent.square().sum().backward()
    torch.testing.assert_close(x.grad, expected)
    assert all(p.grad is None for p in encoder.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_result_is_near_that_in_float32(dtype):
    encoder, decoder = autoencoder()
    x = torch.randn(2, 5, 33, 47)
    exact = encoder(x)[0]
    with torch.autocast("cpu", dtype):
        latent, pools = encoder(x)
        decoded = decoder(latent, pools)
    decoded.float().sum().backward()
    assert F.cosine_similarity(latent.float().flatten(), exact.flatten(), dim=0) > 0.98
    assert all(p.grad.isfinite().all() for p in [*encoder.parameters(), *decoder.parameters()])


@pytest.mark.parametrize(
    ("widths", "depths", "message"),
    [
        ((), (), "`widths` and `depths` should give"),
        ((4, 8), (2,), "`widths` and `depths` should give"),
        ((4, 0), (2, 2), "`widths` should be at least 1; found 0"),
        ((4, 8), (2, 0), "`depths` should be at least 1; found 0"),
    ],
)
def test_stages_that_cannot_be_are_refused(widths, depths, message):
    with pytest.raises(ConfigError, match=message):
        SegNetEncoder(3, widths, depths)
    with pytest.raises(ConfigError, match=message):
        SegNetDecoder(widths, depths)


def test_published_autoencoder_of_nyuv2_has_the_parameters_counted_by_hand():
    # The stack has 13 + 1 + 3 = 17 channels. conv3x3 from i to o channels with bias and an affine norm: 9io + 3o.
    # Encoder, VGG-16 without its classifier:
    #   17-64-64:      9*17*64   + 9*64*64               + 2*3*64  =     47_040
    #   64-128-128:    9*64*128  + 9*128*128             + 2*3*128 =    221_952
    #   128-256-256-256: 9*128*256 + 2*9*256*256         + 3*3*256 =  1_476_864
    #   256-512-512-512: 9*256*512 + 2*9*512*512         + 3*3*512 =  5_902_848
    #   512-512-512-512: 3*9*512*512                     + 3*3*512 =  7_082_496
    # Decoder, its mirror image:
    #   512-512-512-512                                            =  7_082_496
    #   512-256-256-256: 9*512*256 + 2*9*256*256         + 3*3*256 =  2_361_600
    #   256-128-128-128: 9*256*128 + 2*9*128*128         + 3*3*128 =    590_976
    #   128-64-64:     9*128*64  + 9*64*64               + 2*3*64  =    110_976
    #   64-64-64:      2*9*64*64                         + 2*3*64  =     74_112
    # Output: conv3x3 64-64: 9*64*64 + 64 = 36_928, conv1x1 64-17: 64*17 + 17 = 1_105.
    encoder = 47_040 + 221_952 + 1_476_864 + 5_902_848 + 7_082_496
    decoder = 7_082_496 + 2_361_600 + 590_976 + 110_976 + 74_112
    assert count(SegNetEncoder(17)) == encoder == 14_731_200
    assert count(SegNetDecoder()) == decoder == 10_220_160
    assert count(SegNetHead(64, 17)) == 36_928 + 1_105
    assert encoder + decoder + 36_928 + 1_105 == 24_989_393


@pytest.mark.parametrize(
    ("channels", "as_one"), [(1, True), (17, True), (71, True), (72, False), (100, False)]
)
def test_a_head_of_two_convolutions_is_computed_as_one_where_that_is_less(
    channels: int, as_one: bool
) -> None:
    head = SegNetHead(64, channels).double()
    assert head.as_one == as_one
    torch.nn.init.normal_(head[0].bias)
    torch.nn.init.normal_(head[1].bias)
    feature = torch.randn(2, 64, 5, 6, dtype=torch.float64, requires_grad=True)
    inputs = [feature, *head.parameters()]
    found, expected = head(feature), head[1](head[0](feature))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    direction = torch.randn_like(found)
    pairs = zip(
        torch.autograd.grad(found, inputs, direction),
        torch.autograd.grad(expected, inputs, direction),
        strict=True,
    )
    for one, two in pairs:
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def test_heads_run_together_are_the_heads_one_by_one() -> None:
    heads = nn.ModuleDict(
        {"a": SegNetHead(16, 3), "wide": SegNetHead(16, 40), "b": SegNetHead(16, 1)}
    ).double()
    assert [head.as_one for head in heads.values()] == [True, False, True]
    for parameter in heads.parameters():
        nn.init.normal_(parameter)
    feature = torch.randn(2, 16, 5, 6, dtype=torch.float64, requires_grad=True)
    inputs = [feature, *heads.parameters()]
    with Convolutions() as counted:
        found = run_heads(heads, feature)
    assert counted.number == 1 + 2
    expected = {name: head(feature) for name, head in heads.items()}
    assert list(found) == list(expected)
    directions = [torch.randn_like(values) for values in expected.values()]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        torch.autograd.grad(list(found.values()), inputs, directions),
        torch.autograd.grad(list(expected.values()), inputs, directions),
        rtol=1e-9,
        atol=1e-9,
    )


class Convolutions(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += function.overloadpacket.__name__ == "convolution"
        return function(*args, **(kwargs or {}))


def test_the_weights_of_a_head_are_joined_in_float32_under_autocast() -> None:
    head, feature = SegNetHead(64, 3), torch.randn(1, 64, 5, 6)
    dtypes = []

    class Dtypes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            if function.overloadpacket.__name__ == "mul":
                dtypes.append(result.dtype)
            return result

    with torch.autocast("cpu", torch.bfloat16), Dtypes():
        assert head(feature).dtype == torch.bfloat16
    assert dtypes == [torch.float32, torch.float32]


def test_weights_are_drawn_by_xavier_and_biases_are_zero():
    head = SegNetHead(64, 32)
    first = head[0]
    assert first.weight.std().item() == pytest.approx((2 / (9 * 64 + 9 * 64)) ** 0.5, rel=0.02)
    assert not first.bias.any()
    encoder = SegNetEncoder(32, (64,), (1,))
    assert encoder.stages[0][0].weight.std().item() == pytest.approx((2 / (9 * 32 + 9 * 64)) ** 0.5, rel=0.03)


# Deterministic algorithms


@pytest.mark.parametrize("warn_only", [False, True])
def test_deterministic_algorithms_give_the_same_and_stay_switched_on(warn_only: bool) -> None:
    """Torch refuses to put values back where maxima were (max_unpool2d), as windows that overlap share places."""
    encoder, decoder = autoencoder()
    image = torch.randn(2, 5, 9, 13)
    expected = decoder(*encoder(image))
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        found = decoder(*encoder(image))
        found.sum().backward()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() is warn_only
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found, expected)
