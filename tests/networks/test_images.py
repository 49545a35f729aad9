import pytest
import torch

from jtr_lightning.errors import ConfigError
from jtr_lightning.networks.images import IMAGENET_MEAN, IMAGENET_STD, Normalize, pad_to_multiple


def test_imagenet_statistics_bring_their_own_mean_to_zero_and_one_deviation_to_one():
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    mean = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1)
    std = torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
    torch.testing.assert_close(normalize(mean.expand(2, 3, 4, 5)), torch.zeros(2, 3, 4, 5))
    torch.testing.assert_close(normalize(mean + std), torch.ones(1, 3, 1, 1))


def test_statistics_follow_the_module_but_stay_out_of_the_checkpoint():
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD).double()
    assert normalize(torch.zeros(1, 3, 2, 2, dtype=torch.float64)).dtype == torch.float64
    assert not normalize.state_dict()


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (1, 1, 1)), ((0, 0, 0), (1, 1)), ((0, 0, 0), (1, 0, 1))])
def test_wrong_statistics_are_refused(mean, std):
    with pytest.raises(ConfigError, match="three numbers each"):
        Normalize(mean, std)


@pytest.mark.parametrize(("size", "padded"), [((33, 47), (64, 64)), ((1, 1), (32, 32)), ((32, 64), (32, 64))])
def test_padding_repeats_the_last_row_and_column(size, padded):
    image = torch.rand(2, 3, *size)
    result = pad_to_multiple(image, 32)
    assert result.shape[-2:] == padded
    assert torch.equal(result[..., : size[0], : size[1]], image)
    assert torch.equal(result[..., -1, : size[1]], image[..., -1, :])
    assert torch.equal(result[..., : size[0], -1], image[..., :, -1])
