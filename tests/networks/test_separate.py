import torch

from jtr_lightning.networks.separate import SeparateNetworks
from tests.toy import ToyNetwork, toy_tasks


def test_no_task_reaches_anothers_network() -> None:
    network = SeparateNetworks(ToyNetwork(4)).build(toy_tasks())
    raw, features = network(torch.rand(2, 3, 16, 20))
    raw["depth"].sum().backward()
    reached = {
        name.split(".")[1]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert reached == {"depth"}
    assert [f.shape[1] for f in features] == network.feature_channels


def test_the_prototype_itself_is_not_trained() -> None:
    network = SeparateNetworks(ToyNetwork(4)).build(toy_tasks())
    one = sum(p.numel() for p in ToyNetwork(4).parameters())
    heads = sum(4 * t.channels + t.channels for t in toy_tasks().values())
    assert sum(p.numel() for p in network.parameters()) == 4 * one + heads


def test_it_is_described_with_the_network_it_repeats() -> None:
    described = SeparateNetworks(ToyNetwork(4)).describe()
    assert described["init_args"]["network"]["init_args"] == {"width": 4}
