"""What a step's regularizer costs with 2, 4, 8 and 16 tasks: JTR in one joint space, MTPSL in one for each pair.

    python benchmarks/task_numbers.py

Segmentation and dense regressions, one label per sample, CPU, float32. Timed are the regularizer's views and terms and
their backward pass, without the network. Each round runs every case once; the ratios are medians over the rounds of
each round's own ratio to 2 tasks, by the process's time, since other programs do not count in it. FLOP are those of
convolutions and matrix products.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import torch
from recipes import make_batch, many_tasks
from torch.utils.flop_counter import FlopCounterMode

from jtr_lightning.networks.segnet_blocks import WIDTHS
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.regularizers.mtpsl import MTPSL

NUMBERS = (2, 4, 8, 16)
METHODS: dict[str, type[Regularizer]] = {"JTR": JTR, "MTPSL": MTPSL}


class Case:
    """A regularizer with made-up predictions and features of a network."""

    def __init__(self, method: str, number: int, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        tasks = many_tasks(number)
        height, width = options.size
        self.regularizer = METHODS[method]().build(tasks, WIDTHS)
        self.batch = make_batch(tasks, options.batch, height, width)
        shapes = {name: (options.batch, task.channels, height, width) for name, task in tasks.items()}
        views = 3 if method == "JTR" else 2
        self.predictions = [
            {
                name: tasks[name].activate(torch.randn(shape)).requires_grad_()
                for name, shape in shapes.items()
            }
            for _ in range(views)
        ]
        self.features = [[torch.randn(options.batch, WIDTHS[-1], height // 32, width // 32)]] * views

    def __call__(self) -> float:
        """One step; the process's seconds."""
        start = time.process_time()
        self.regularizer.zero_grad(set_to_none=True)
        batches = [self.batch, *(view.batch for view in self.regularizer.sample_views(self.batch))]
        terms = self.regularizer(self.predictions, batches, self.features, 0.0)
        torch.stack(list(terms.values())).sum().backward()
        return time.process_time() - start

    def flops(self) -> int:
        """FLOP of one step."""
        with FlopCounterMode(display=False) as counter:
            self()
        return int(counter.get_total_flops())


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, nargs=2, default=(64, 96), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cases = {(m, k): Case(m, k, options) for m in METHODS for k in NUMBERS}
    flops = {key: case.flops() for key, case in cases.items()}
    times: dict[tuple[str, int], list[float]] = {key: [] for key in cases}
    for _ in range(options.rounds):
        for key, case in cases.items():
            times[key].append(case())
            print(f"  {key[0]} with {key[1]} tasks: {times[key][-1]:.2f} s", file=sys.stderr)
    print(
        "| tasks | "
        + " | ".join(f"{m}, s | {m}, time / 2 tasks | {m}, FLOP / 2 tasks" for m in METHODS)
        + " |"
    )
    print("|---|" + "---|" * 3 * len(METHODS))
    for k in NUMBERS:
        cells = []
        for m in METHODS:
            ratio = statistics.median(a / b for a, b in zip(times[m, k], times[m, 2], strict=True))
            cells += [
                f"{statistics.median(times[m, k]):.2f}",
                f"{ratio:.2f}",
                f"{flops[m, k] / flops[m, 2]:.2f}",
            ]
        print(f"| {k} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
