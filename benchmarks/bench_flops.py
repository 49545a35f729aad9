"""Counts the arithmetic of a training step for each option of JTR, computing next to nothing.

    python benchmarks/bench_flops.py

SegNet and JTR for the three tasks of NYU-v2 (13 classes), batch 4, 288x384: forward and backward, convolutions and
matrix products, 2 FLOP per multiplication and addition. It is counted on the meta device, where tensors have no
values. The loop over samples reads values, so it is counted on real ones of 64x64 pixels and multiplied by the number
of pixels, to which the work of every convolution is proportional.
"""

from __future__ import annotations

import torch
from recipes import REGULARIZERS, make_batch, make_module, nyuv2_tasks
from torch.utils.flop_counter import FlopCounterMode

BATCH, HEIGHT, WIDTH = 4, 288, 384
SMALL = 64


def count(name: str) -> float:
    """FLOP of one step."""
    has_values = name == "loop"
    tasks = nyuv2_tasks()
    size = (SMALL, SMALL) if has_values else (HEIGHT, WIDTH)
    module, batch = make_module(REGULARIZERS[name](), tasks), make_batch(tasks, BATCH, *size)
    if not has_values:
        module, batch = module.to("meta"), batch.to("meta")
    with FlopCounterMode(display=False) as counter:
        module.backward(module.training_step(batch, 0))
    return counter.get_total_flops() * (HEIGHT * WIDTH / SMALL**2 if has_values else 1)


def main() -> None:
    """Counts and prints a table."""
    torch.manual_seed(0)
    totals = {name: count(name) for name in REGULARIZERS}
    print("| variant | TFLOP per step | share of the loop's |")
    print("|---|---|---|")
    for name, total in totals.items():
        print(f"| {name} | {total / 1e12:.2f} | {total / totals['loop']:.2f} |")


if __name__ == "__main__":
    main()
