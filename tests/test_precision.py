"""Training in half precision: the losses stay in float32, nothing overflows, and the network learns as in float32."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from jtr_lightning.data.rooms.datamodule import RoomsDataModule
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.scenarios import OneLabel
from tests.steps import SMALL, small_batch, small_jtr, small_module, step

HALF = (torch.float16, torch.bfloat16)
HALVES = ["bf16", "fp16"]
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


METHODS: dict[str, Callable[[], Regularizer | None]] = {
    "supervised": lambda: None,
    "jtr": small_jtr,
    "consistency": lambda: ConsistencyRegularization(ramp=0),
    "mtpsl": lambda: MTPSL(**SMALL),
    "direct_map": lambda: DirectMap(**SMALL),
    "perceptual_map": lambda: PerceptualMap(**SMALL),
}


class HalfPrecisionOperations(TorchDispatchMode):
    """Notes which operations compute in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if any(isinstance(a, Tensor) and a.dtype in HALF for a in (*args, result)):
            self.found.add(function.overloadpacket.__name__)
        return result


def forward(module: PartialLabelModule, batch: Any, dtype: torch.dtype) -> tuple[Tensor, set[str]]:
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=dtype), HalfPrecisionOperations() as half:
        return module.training_step(batch, 0), half.found


@pytest.mark.parametrize("half", HALVES)
def test_convolutions_are_in_half_precision_and_losses_are_not(half: str) -> None:
    module, batch = small_module(small_jtr()), small_batch()
    loss, operations = forward(module, batch, DTYPES[half])
    assert loss.dtype == torch.float32
    assert bool(loss.isfinite())
    assert "convolution" in operations
    # The normal distribution function, lengths of latents and normals (rsqrt), the softmax and the losses' logarithms.
    assert not operations & {
        "special_ndtr",
        "rsqrt",
        "_log_softmax",
        "_softmax",
        "log",
        "exp",
        "log_sigmoid_forward",
    }
    assert not operations & {"nll_loss2d_forward", "binary_cross_entropy_with_logits", "mean", "sum", "prod"}


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_nearly_the_loss_of_float32_and_finite_gradients(method: str, half: str) -> None:
    module, batch = small_module(METHODS[method]()), small_batch()
    exact, _ = step(module, batch)
    module.zero_grad(set_to_none=True)
    loss, operations = forward(module, batch, DTYPES[half])
    module.backward(loss)
    assert "convolution" in operations
    assert loss.dtype == torch.float32
    assert loss.item() != exact.item()
    assert loss.item() == pytest.approx(exact.item(), rel=0.05)
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("empty", ["no_label", "no_valid_pixel"])
def test_an_empty_mask_gives_no_nan(half: str, empty: str) -> None:
    available = torch.eye(4, dtype=torch.bool)[[0, 1, 2, 3]]
    batch = small_batch(available & (empty != "no_label"), holes=1.1 if empty == "no_valid_pixel" else 0.1)
    module = small_module(small_jtr())
    loss, _ = forward(module, batch, DTYPES[half])
    assert bool(loss.isfinite())
    module.backward(loss)
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters())


def test_a_normal_distribution_function_in_half_precision_would_be_found() -> None:
    with HalfPrecisionOperations() as half:
        torch.special.ndtr(torch.zeros(2, dtype=torch.bfloat16).float()).to(torch.bfloat16).exp()
    assert "special_ndtr" not in half.found
    assert "exp" in half.found


class Losses(L.Callback):
    """Remembers the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.values.append(float(outputs["loss"]))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rooms")


def train(
    precision: Any,
    rooms: Path,
    steps: int,
    accelerator: str = "cpu",
    method: Callable[[], Regularizer | None] = lambda: JTR(widths=(8, 16), depths=(1, 1)),
) -> list[float]:
    L.seed_everything(0, verbose=False)
    data = RoomsDataModule(
        rooms, scenario=OneLabel(), batch_size=8, size=(32, 40), num_train=32, num_val=1, num_test=1, make_workers=1
    )  # fmt: skip
    network = SegNet(widths=(8, 16), depths=(1, 1))
    module = PartialLabelModule(
        data.tasks, network, method(), optimizer=lambda parameters: torch.optim.Adam(parameters, lr=2e-3)
    )
    losses = Losses()
    given = {"plugins": precision} if isinstance(precision, MixedPrecision) else {"precision": precision}
    trainer = L.Trainer(
        **given,
        accelerator=accelerator,
        devices=1,
        max_steps=steps,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[losses],
    )
    trainer.fit(module, data)
    assert all(bool(p.isfinite().all()) for p in module.parameters())
    assert all(p.dtype == torch.float32 for p in module.parameters())
    return losses.values


def true_16_mixed(scale: float = 2.0**16) -> MixedPrecision:
    """What ``16-mixed`` is on a GPU, scaled gradients and all, for a CPU, where the flag would mean bfloat16.

    The default scale is torch's, which finds a smaller one by skipping the first steps.
    """
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=scale))


STEPS = 200
BAND = 0.1
"""How far means of 25 steps' losses may lie from float32's, as a share of them."""


def assert_in_the_band(half: list[float], exact: list[float]) -> None:
    assert len(exact) == len(half) == STEPS
    assert exact != half
    means = [[statistics.fmean(values[i : i + 25]) for i in range(0, STEPS, 25)] for values in (exact, half)]
    assert means[0][-1] < 0.8 * means[0][0]  # it learns
    assert means[1] == pytest.approx(means[0], rel=BAND)


@pytest.mark.slow
def test_two_hundred_steps_stay_in_a_band_around_float32(rooms: Path) -> None:
    assert_in_the_band(train("bf16-mixed", rooms, STEPS), train("32-true", rooms, STEPS))


@pytest.mark.slow
def test_the_first_steps_in_scaled_float16_stay_in_the_band(rooms: Path) -> None:
    """Few of them, since a CPU computes float16 slowly; a GPU runs 200."""
    exact, half = train("32-true", rooms, 25), train(true_16_mixed(), rooms, 25)
    assert exact != half
    assert statistics.fmean(half) == pytest.approx(statistics.fmean(exact), rel=BAND)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_steps_with_scaled_float16(method: str, rooms: Path) -> None:
    scaled = true_16_mixed(scale=2.0**10)
    losses = train(scaled, rooms, 3, method=METHODS[method])
    assert all(math.isfinite(loss) for loss in losses)
    assert scaled.scaler is not None
    assert scaled.scaler.get_scale() == 2.0**10  # no step was skipped


@pytest.mark.filterwarnings("ignore:You passed .*16-mixed.* but AMP with fp16 is not supported on CPU")
def test_the_flag_of_float16_is_bfloat16_on_a_cpu(rooms: Path) -> None:
    assert train("16-mixed", rooms, 5) == train("bf16-mixed", rooms, 5)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("half", ["bf16-mixed", "16-mixed"])
def test_on_a_gpu_two_hundred_steps_stay_in_the_band(half: str, rooms: Path) -> None:
    assert_in_the_band(train(half, rooms, STEPS, "gpu"), train("32-true", rooms, STEPS, "gpu"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", HALF)
def test_on_a_gpu_a_step_is_finite_in_half_precision(dtype: torch.dtype) -> None:
    module, batch = small_module(small_jtr()).cuda(), small_batch().to("cuda")
    with torch.autocast("cuda", dtype=dtype):
        loss = module.training_step(batch, 0)
    module.backward(loss)
    assert loss.dtype == torch.float32
    assert all(bool(p.grad.isfinite().all()) for p in module.parameters() if isinstance(p, nn.Parameter))
