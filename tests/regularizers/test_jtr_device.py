"""JTR in lower precision, without waiting for the device, and what it costs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.tasks import Depth, Normals, Segmentation, Task
from tests.host_reads import HostReads
from tests.regularizers.helpers import (
    SOME,
    gradients,
    inputs,
    random_batch,
    small_jtr,
    terms,
    value,
)


class TestOnTheDevice:
    def test_bf16_autocast_keeps_losses_in_float32_and_everything_finite(self) -> None:
        jtr = small_jtr()
        predictions, batches = inputs(jtr, SOME)
        exact = terms(jtr, predictions, batches)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = terms(jtr, predictions, batches)
        sum(found.values()).backward()
        for name, term in found.items():
            assert term.dtype == torch.float32
            assert value(term) == pytest.approx(value(exact[name]), rel=0.1)
        for parameter in jtr.parameters():
            assert bool(parameter.grad.isfinite().all())
        assert all(bool(g.isfinite().all()) for g in gradients(predictions)[1].values())

    def test_no_value_is_read_by_the_host(self) -> None:
        jtr = small_jtr(view_maker=ViewMaker(flip=0.5))
        batch = random_batch(jtr.tasks, SOME)
        predictions, _ = inputs(jtr, SOME)
        with HostReads() as reads:
            batches = [batch, *(view.batch for view in jtr.sample_views(batch))]
            sum(jtr(predictions, batches, [[]] * 3, 0.5).values()).backward()
        assert reads.seen > 100
        assert reads.found == []

    def test_the_published_step_costs_as_counted_by_hand(self) -> None:
        """0.97 TFLOP per sample at 288x384: the authors' 1.15 less the frozen parameters' gradients and the heads."""
        size = (288, 384)
        tasks: dict[str, Task] = {"s": Segmentation(13), "d": Depth(), "n": Normals()}
        jtr = JTR(views=1).build(tasks).to("meta")
        labels = {n: torch.empty(1, *t.target_shape(*size), dtype=t.target_dtype) for n, t in tasks.items()}
        number = torch.zeros(1, dtype=torch.int64)
        batch = Batch(torch.empty(1, 3, *size), labels, torch.ones(1, 3).bool(), number, number).to("meta")
        predictions = {
            n: torch.empty(1, t.channels, *size, device="meta").requires_grad_() for n, t in tasks.items()
        }
        with FlopCounterMode(display=False) as counter:
            sum(jtr([predictions], [batch], [[]], 0.0).values()).backward()
        encoder, decoder, first_layer = published_autoencoder_flops(size)
        network_term = 2 * 2 * encoder  # forward, and the gradient of the input
        autoencoder_terms = 2 * 3 * (encoder + decoder) - 2 * first_layer  # its input takes no gradient
        expected = network_term + autoencoder_terms
        assert counter.get_total_flops() == pytest.approx(expected, rel=1e-6)
        assert expected == pytest.approx(0.970e12, rel=0.005)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    def test_a_step_on_the_gpu_never_waits(self) -> None:
        jtr = small_jtr(view_maker=ViewMaker(flip=0.5)).to("cuda")
        batch = random_batch(jtr.tasks, SOME).to("cuda")
        predictions = [
            {n: p.detach().cuda().requires_grad_() for n, p in view.items()} for view in inputs(jtr, SOME)[0]
        ]
        torch.cuda.set_sync_debug_mode("error")
        try:
            batches = [batch, *(view.batch for view in jtr.sample_views(batch))]
            sum(jtr(predictions, batches, [[]] * 3, 0.5).values()).backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(bool(p.grad.isfinite().all()) for p in jtr.parameters())


def published_autoencoder_flops(size: tuple[int, int], channels: int = 17) -> tuple[int, int, int]:
    """FLOPs of the forward pass of encoder and decoder with head, and of the first layer, by hand."""
    pixels = size[0] * size[1]
    widths, depths = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)
    encoder = decoder = 0
    before = channels
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        inner = 2 * 9 * (pixels // 4**stage) * width * width * (depth - 1)
        encoder += 2 * 9 * (pixels // 4**stage) * before * width + inner
        after = widths[max(stage - 1, 0)]
        decoder += 2 * 9 * (pixels // 4**stage) * after * (width + after * (depth - 1))
        before = width
    head = 2 * 9 * pixels * 64 * channels  # computed as one convolution, see SegNetHead
    return encoder, decoder + head, 2 * 9 * pixels * channels * 64
