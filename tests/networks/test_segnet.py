import pytest
import torch
from torch import nn

from jtr_lightning.described import rebuild
from jtr_lightning.errors import ConfigError
from jtr_lightning.networks import SegNet
from jtr_lightning.networks.segnet_blocks import SegNetHead
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Normals, Segmentation

SMALL = {"widths": (4, 6, 8, 8, 8), "depths": (2, 2, 1, 1, 1)}


def three_tasks():
    return {"segmentation": Segmentation(13), "depth": Depth(), "normals": Normals()}


def test_published_nyuv2_network_has_the_parameters_counted_by_hand():
    # Encoder and decoder as counted for the auto-encoder in test_segnet_blocks.py; 3 channels go in instead of 17, so
    # the first convolution has 9 * 14 * 64 = 8_064 weights less.
    shared = 14_731_200 - 8_064 + 10_220_160
    # A head: conv3x3 64-64 has 9*64*64 + 64 = 36_928, conv1x1 64-o has 65*o, for o = 13 classes, 1 depth, 3 normals.
    heads = 3 * 36_928 + 65 * (13 + 1 + 3)
    network = SegNet().build(three_tasks())
    assert sum(p.numel() for p in network.parameters()) == shared + heads == 25_055_185
    assert network.feature_channels == [64, 128, 256, 512, 512]


def test_heads_are_two_convolutions_with_nothing_between():
    head = SegNetHead(64, 13)
    assert [type(m) for m in head] == [nn.Conv2d, nn.Conv2d]
    assert [m.kernel_size for m in head] == [(3, 3), (1, 1)]


@pytest.mark.parametrize("size", [(32, 64), (33, 47), (20, 20), (1, 5)])
def test_predictions_have_the_size_of_any_image(size):
    network = SegNet(**SMALL).build({**three_tasks(), "room": Classification(4), "edges": DenseRegression()})
    raw, features = network(torch.rand(1, 3, *size))
    assert {name: tuple(v.shape) for name, v in raw.items()} == {
        "segmentation": (1, 13, *size),
        "depth": (1, 1, *size),
        "normals": (1, 3, *size),
        "edges": (1, 1, *size),
        "room": (1, 4),
    }
    assert [f.shape[1] for f in features] == network.feature_channels
    assert features[0].shape[-1] == 16 * features[4].shape[-1]


def test_an_image_of_fitting_size_is_not_changed_by_padding():
    network = SegNet(**SMALL).build({"depth": Depth()}).eval()
    image = torch.rand(1, 3, 32, 64)
    cut = torch.cat([image[..., :40], image[..., 39:40].expand(-1, -1, -1, 24)], -1)
    torch.testing.assert_close(network(image[..., :40])[0]["depth"], network(cut)[0]["depth"][..., :40])


@pytest.mark.parametrize(
    "tasks", [three_tasks(), {"room": Classification(4)}, {"d": Depth(), "room": Classification(4)}]
)
def test_every_parameter_gets_a_gradient_whatever_the_tasks(tasks):
    network = SegNet(**SMALL).build(tasks)
    raw, _ = network(torch.rand(2, 3, 32, 32))
    sum(values.square().sum() for values in raw.values()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_by_default_the_image_goes_in_as_it_is_and_statistics_can_be_given():
    image = torch.rand(2, 3, 32, 32)
    plain = SegNet(**SMALL).build({"depth": Depth()}).eval()
    other = SegNet(**SMALL, mean=[0.5, 0.4, 0.3], std=[0.2, 0.3, 0.4]).build({"depth": Depth()}).eval()
    other.load_state_dict(plain.state_dict())
    shifted = image * torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1) + torch.tensor([0.5, 0.4, 0.3]).view(
        3, 1, 1
    )
    torch.testing.assert_close(other(shifted)[0]["depth"], plain(image)[0]["depth"], rtol=1e-4, atol=1e-5)


def test_with_instance_norm_no_prediction_depends_on_the_batch():
    network = SegNet(**SMALL, norm="instance").build({"depth": Depth()}).double()
    image = torch.rand(3, 3, 32, 48, dtype=torch.float64)
    alone = torch.cat([network(row[None])[0]["depth"] for row in image])
    torch.testing.assert_close(network(image)[0]["depth"], alone)


def test_a_description_rebuilds_the_same_network():
    network = SegNet(**SMALL, norm="instance")
    again = rebuild(network.describe()).build(three_tasks())
    again.load_state_dict(network.build(three_tasks()).state_dict())
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(again(image)[0]["depth"], network(image)[0]["depth"])


def test_wrong_arguments_are_refused_at_once():
    with pytest.raises(ConfigError, match="found 'bach': did you mean 'batch'"):
        SegNet(norm="bach")
    with pytest.raises(ConfigError, match="`widths` and `depths` should"):
        SegNet(widths=(4, 8))
