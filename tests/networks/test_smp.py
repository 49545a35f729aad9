import pytest
import torch
from torch import nn

from jtr_lightning.described import rebuild
from jtr_lightning.errors import ConfigError
from jtr_lightning.networks import SMPNetwork
from jtr_lightning.networks.decoders import DECODERS, Decoder, Unet
from jtr_lightning.tasks import Classification, Depth, Normals, Regression, Segmentation

LIGHT = {"encoder": "tu-mobilenetv3_small_050", "decoder_channels": 4}


def tasks():
    return {
        "segmentation": Segmentation(5),
        "normals": Normals(),
        "room": Classification(4),
        "depth": Depth(),
        "pitch": Regression(),
    }


def light(**settings):
    return SMPNetwork(**{**LIGHT, **settings})


class Deepest(Decoder):
    """A decoder of one's own: one convolution of the deepest feature."""

    stride = 32

    def __init__(self, width: int = 6) -> None:
        super().__init__(width)

    def make(self, encoder_channels):
        return LastOnly(encoder_channels[-1], self.width)


class LastOnly(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 1)

    def forward(self, features):
        return self.conv(features[-1])


# Shapes


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("size", [(33, 47), (20, 20)])
def test_predictions_have_the_size_of_the_image(decoder, size):
    network = light(decoder=decoder, decoder_channels=64 if decoder == "fpn" else 8).build(tasks()).eval()
    raw, features = network(torch.rand(1, 3, *size))
    assert {name: tuple(v.shape[1:]) for name, v in raw.items()} == {
        "segmentation": (5, *size),
        "normals": (3, *size),
        "depth": (1, *size),
        "room": (4,),
        "pitch": (1,),
    }
    assert [f.shape[1] for f in features] == network.feature_channels


@pytest.mark.parametrize("size", [(1, 1), (96, 32), (64, 80)])
def test_a_batch_of_two_trains_at_any_size(size):
    raw, _ = light().build(tasks())(torch.rand(2, 3, *size))
    assert raw["depth"].shape == (2, 1, *size)
    assert all(values.isfinite().all() for values in raw.values())


@pytest.mark.parametrize(
    "encoder", ["resnet18", "mit_b0", "tu-edgenext_xx_small", "tu-mobilenetv3_small_050"]
)
def test_features_go_from_fine_to_deep_and_none_is_empty(encoder):
    network = SMPNetwork(encoder).build({"depth": Depth()}).eval()
    _, features = network(torch.rand(1, 3, 64, 96))
    assert [f.shape[1] for f in features] == network.feature_channels
    assert min(network.feature_channels) > 0
    sizes = [f.shape[-1] for f in features]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 3


def test_padding_shows_only_what_the_image_has():
    network = light().build(tasks()).eval()
    image = torch.rand(1, 3, 64, 40)
    by_hand = torch.cat([image, image[..., -1:].expand(-1, -1, -1, 24)], -1)
    torch.testing.assert_close(network(image)[0]["depth"], network(by_hand)[0]["depth"][..., :40])


def test_quarter_resolution_is_upsampled_bilinearly_to_the_image():
    network = light(decoder="segformer", decoder_channels=32).build({"depth": Depth()}).eval()
    image = torch.rand(1, 3, 64, 64)
    low = network.dense_heads["depth"](network.decoders["shared"](network.encoder(network.normalize(image))))
    assert low.shape[-1] == 16
    expected = nn.Upsample(scale_factor=4, mode="bilinear")(low)
    torch.testing.assert_close(network(image)[0]["depth"], expected)


# Normalisation


def test_the_image_is_normalised_inside():
    image = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    inside = light().build({"depth": Depth()}).eval()
    outside = light(mean=[0.0, 0.0, 0.0], std=[1.0, 1.0, 1.0]).build({"depth": Depth()}).eval()
    outside.load_state_dict(inside.state_dict())
    by_hand = (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(inside(image)[0]["depth"], outside(by_hand)[0]["depth"])


# Gradients


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "settings",
    [LIGHT, {"encoder": "efficientnet-b0"}, {"encoder": "tu-edgenext_xx_small", "decoder": "fpn"}],
    ids=["mobilenet", "efficientnet", "edgenext-fpn"],
)
def test_every_trainable_parameter_gets_a_gradient(settings, shared):
    network = SMPNetwork(**settings, shared_decoder=shared).build(tasks())
    raw, _ = network(torch.rand(2, 3, 64, 64))
    sum(values.square().sum() for values in raw.values()).backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    frozen = [n for n, p in network.named_parameters() if not p.requires_grad]
    # EfficientNet keeps its classifier's last convolution; no other encoder here has anything left over.
    assert all(n.startswith(("encoder._conv_head", "encoder._bn1")) for n in frozen)


def test_with_image_level_tasks_alone_there_is_no_decoder():
    network = light().build({"room": Classification(4)})
    assert not network.decoders
    raw, _ = network(torch.rand(2, 3, 64, 64))
    raw["room"].square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_building_changes_no_statistics_and_leaves_no_gradient():
    network = light().build(tasks())
    assert network.training
    counts = [b for n, b in network.named_buffers() if n.endswith("num_batches_tracked")]
    assert counts
    assert not any(int(c) for c in counts)
    assert all(p.grad is None for p in network.parameters())


def test_own_decoders_keep_the_tasks_apart():
    network = light(shared_decoder=False).build(tasks())
    assert set(network.decoders) == {"segmentation", "normals", "depth"}
    raw, _ = network(torch.rand(2, 3, 64, 64))
    raw["depth"].square().sum().backward()
    assert all(p.grad is not None for p in network.decoders["depth"].parameters())
    assert all(p.grad is None for p in network.decoders["normals"].parameters())


def test_a_shared_decoder_is_one():
    assert list(light().build(tasks()).decoders) == ["shared"]


# Settings


def test_a_decoder_object_of_ones_own_works_and_is_described():
    network = SMPNetwork(LIGHT["encoder"], decoder=Deepest(6)).build(tasks()).eval()
    assert network(torch.rand(1, 3, 70, 50))[0]["depth"].shape == (1, 1, 70, 50)
    assert network.describe()["init_args"]["decoder"]["init_args"] == {"width": 6}


def test_a_description_rebuilds_the_same_network():
    network = SMPNetwork(LIGHT["encoder"], decoder=Unet(4), shared_decoder=False, mean=(0.5, 0.5, 0.5))
    again = rebuild(network.describe()).build(tasks()).eval()
    again.load_state_dict(network.build(tasks()).eval().state_dict())
    image = torch.rand(1, 3, 40, 40)
    torch.testing.assert_close(again(image)[0]["depth"], network(image)[0]["depth"])


def test_unknown_names_are_refused():
    with pytest.raises(ConfigError, match="found 'unett': did you mean 'unet'"):
        SMPNetwork(decoder="unett")
    with pytest.raises(ConfigError, match="found 'resnet19': did you mean 'resnet18'"):
        SMPNetwork("resnet19").build(tasks())


def test_an_encoder_for_one_image_size_is_refused_when_built():
    with pytest.raises(
        ConfigError, match="for images of any size; 'tu-maxvit_pico_rw_256' failed on one of 64x96"
    ):
        SMPNetwork("tu-maxvit_pico_rw_256").build(tasks())


def test_a_single_tiny_image_cannot_be_normalised_over_the_batch():
    network = light().build(tasks())
    with pytest.raises(ConfigError, match=r"a batch of 1 image\(s\) of 20x20 pixels leaves one"):
        network(torch.rand(1, 3, 20, 20))
    assert network.eval()(torch.rand(1, 3, 20, 20))[0]["depth"].shape == (1, 1, 20, 20)


def test_pooling_over_the_whole_image_needs_a_batch():
    network = light(decoder="deeplabv3plus").build(tasks())
    with pytest.raises(ConfigError, match="or where the decoder pools the whole image"):
        network(torch.rand(1, 3, 64, 64))


# Precision and compilation


def test_double_precision_and_autocast():
    network = light().build(tasks())
    image = torch.rand(2, 3, 64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        raw, _ = network(image)
    assert raw["depth"].dtype == torch.bfloat16
    assert network.double()(image.double())[0]["depth"].dtype == torch.float64


def test_the_forward_pass_is_one_graph_for_the_compiler():
    network = SMPNetwork("tu-resnet10t", decoder=Deepest()).build({"depth": Depth()}).eval()
    image = torch.rand(1, 3, 33, 47)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(image)[0]["depth"], network(image)[0]["depth"])
