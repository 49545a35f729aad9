import pytest
import torch

from jtr_lightning.errors import ConfigError
from jtr_lightning.networks.base import zero_path
from tests.toy import ToyNetwork, toy_tasks


def test_zero_path_reaches_every_parameter() -> None:
    layer = torch.nn.Linear(2, 3)
    zero_path([layer]).backward()
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    assert not layer.weight.grad.any()


def test_a_network_is_built_for_one_model() -> None:
    network = ToyNetwork().build(toy_tasks())
    with pytest.raises(ConfigError, match=r"ToyNetwork should be built once; .*'depth'.* Make a new network"):
        network.build(toy_tasks())


def test_a_network_is_built_for_tasks() -> None:
    with pytest.raises(ConfigError, match="ToyNetwork should be built for at least one task; found none"):
        ToyNetwork().build({})
