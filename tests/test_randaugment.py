"""The loader's operations and the views' are the same ones."""

import numpy as np
import pytest
import torch

from jtr_lightning.data import transforms
from jtr_lightning.randaugment import BINS, OPERATIONS
from jtr_lightning.regularizers import photometric


def test_both_forms_have_the_operations_of_the_paper() -> None:
    assert list(transforms.FUNCTIONS) == list(photometric.FUNCTIONS) == list(OPERATIONS)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("magnitude_bin", [0, 2, 5, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_both_forms_of_an_operation_give_the_same_image(name: str, magnitude_bin: int, sign: int) -> None:
    rng = np.random.default_rng(0)
    image = np.clip(rng.normal((90, 120, 150), (20, 30, 25), (200, 250, 3)), 0, 255).astype(np.uint8)
    magnitude = magnitude_bin / (BINS - 1)
    alone = torch.from_numpy(transforms.FUNCTIONS[name](image, magnitude, sign).astype(int)).permute(2, 0, 1)
    batch = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    number = torch.tensor([OPERATIONS.index(name)])
    together = photometric.change(batch, number, torch.tensor([sign * magnitude]))[0] * 255
    difference = (together - alone).abs()
    # In levels of 255. The outermost pixels are smoothed by the loader and left alone by the views; OpenCV's equalize
    # (the loader's) rounds the table of levels differently from PIL's (the views').
    inner = difference[:, 1:-1, 1:-1] if name == "sharpness" else difference
    assert float(inner.max()) <= (8 if name == "equalize" else 1.5)
