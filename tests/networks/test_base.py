import torch

from jtr_lightning.networks.base import zero_path


def test_zero_path_reaches_every_parameter() -> None:
    layer = torch.nn.Linear(2, 3)
    zero_path([layer]).backward()
    assert layer.weight.grad is not None
    assert layer.bias.grad is not None
    assert not layer.weight.grad.any()
