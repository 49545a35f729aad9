"""The configs that are committed beside results."""

import inspect

import pytest
import torch

kept_with_a_newer_torch = pytest.mark.skipif(
    "decoupled_weight_decay" not in inspect.signature(torch.optim.Adam).parameters,
    reason="the configs beside results name arguments of Adam that this torch does not have",
)
