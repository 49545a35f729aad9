"""Time and memory of a training step: the published recipe, its cheaper forms, and the loop over samples.

    python benchmarks/step.py                                  # CPU, float32, 144x192, batch 4: many minutes
    python benchmarks/step.py --device cuda --precision bf16 --compile --channels-last --size 288 384 --batch 4

A step is everything between two batches: views, forward pass, losses, regularizer, backward pass and Adam. The loop
runs in float32 with plain Adam, without ``--compile`` and ``--channels-last``, as published code does; the others have
fused Adam, as their configs, and run as asked; "published, channels_last" is "published" with that flag whether it is
given or not. Each round runs every variant once, one after the other, so that a busy machine disturbs them alike; a
ratio is the median over the rounds of each round's own ratio to the loop. Memory is what the peak of one step adds to
what model, optimizer and batch hold. On the CPU every step is the first of a process of its own, in which nothing was
freed before (after ``--warm-up`` steps, if any, that count for memory alone), and the time of the process is given
beside the wall clock's: other programs at work do not count in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from recipes import REGULARIZERS, make_batch, make_module, nyuv2_tasks

LOOP = "loop"
ORDERED = ", channels_last"


class Stepper:
    """One variant with its optimizer and a batch."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        tasks = nyuv2_tasks()
        fast = name != LOOP
        self.device = options.device
        ordered = options.channels_last or name.endswith(ORDERED)
        flags = {"compile": options.compile and fast, "channels_last": ordered and fast}
        module = make_module(REGULARIZERS[name.removesuffix(ORDERED)](), tasks, **flags)
        self.module = module.to(self.device)
        self.batch = make_batch(tasks, options.batch, *options.size, self.device)
        self.optimizer = torch.optim.Adam(self.module.parameters(), lr=1e-4, fused=fast)
        self.half = options.precision == "bf16" and fast

    def __call__(self) -> tuple[float, float]:
        """One step; wall-clock seconds and the process's seconds."""
        self.wait()
        wall, process = time.perf_counter(), time.process_time()
        with torch.autocast(self.device, torch.bfloat16) if self.half else nullcontext():
            loss = self.module.training_step(self.batch, 0)
        self.optimizer.zero_grad(set_to_none=True)
        self.module.backward(loss)
        self.optimizer.step()
        self.wait()
        return time.perf_counter() - wall, time.process_time() - process

    def wait(self) -> None:
        """Waits for the device."""
        if self.device != "cpu":
            torch.cuda.synchronize()


def peak_growth(step: Stepper) -> float:
    """MiB that a step's peak adds on a GPU to what is held between steps."""
    step.optimizer.zero_grad(set_to_none=True)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def first_step(name: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """The process's first step on the CPU: wall-clock seconds, the process's seconds and the peak's growth in MiB."""
    step = Stepper(name, options)
    # The optimizer's state belongs to what is held between steps.
    for parameter in step.module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step.optimizer.step()
    step.optimizer.zero_grad(set_to_none=True)
    before = status("VmRSS")
    spent = step()
    growth = status("VmHWM") - before
    for _ in range(options.warm_up):
        spent = step()
    return *spent, growth


def status(key: str) -> float:
    """A line of this process's status, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def first_step_of_new_process(name: str) -> tuple[float, float, float]:
    """Runs this file again for one step of a variant."""
    command = [sys.executable, __file__, *sys.argv[1:], "--first-step-of", name]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return tuple(json.loads(result.stdout.splitlines()[-1]))


def measure_on_cpu(options: argparse.Namespace) -> dict[str, list[tuple[float, float, float]]]:
    """Wall-clock seconds, process's seconds and MiB of each variant's steps."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.variants}
    for _ in range(options.rounds):
        for name, steps in found.items():
            steps.append(first_step_of_new_process(name))
            wall, process, growth = steps[-1]
            print(
                f"  {name:24} {wall:8.3f} s wall {process:8.3f} s process {growth:6.0f} MiB", file=sys.stderr
            )
    return found


def measure_on_gpu(options: argparse.Namespace) -> dict[str, list[tuple[float, float, float]]]:
    """As ``measure_on_cpu``, in this process; the memory of one step stands with all."""
    steps = {name: Stepper(name, options) for name in options.variants}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.variants}
    memory: dict[str, float] = {}
    for round_ in range(options.warm_up + options.rounds):
        for name, step in steps.items():
            if round_ >= options.warm_up:
                memory[name] = memory[name] if name in memory else peak_growth(step)
                found[name].append((*step(), memory[name]))
            else:
                step()
    return found


def summary(found: dict[str, list[tuple[float, float, float]]]) -> dict[str, dict[str, float]]:
    """Medians of each variant, and of its rounds' ratios to the loop."""
    keys = ("wall", "process", "memory")
    return {
        name: {
            **{key: statistics.median(step[i] for step in steps) for i, key in enumerate(keys)},
            **{f"{key}_ratio": _ratio(steps, found[LOOP], i) for i, key in enumerate(keys)},
        }
        for name, steps in found.items()
    }


def _ratio(steps: list[Any], loop: list[Any], which: int) -> float:
    return statistics.median(a[which] / b[which] for a, b in zip(steps, loop, strict=True))


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [LOOP, *(name + order for name in REGULARIZERS if name != LOOP for order in ("", ORDERED))]
    add = parser.add_argument
    add("--device", default="cpu")
    add("--precision", choices=("float32", "bf16"), default="float32")
    add("--compile", action="store_true", help="torch.compile of network and auto-encoder")
    add("--channels-last", action="store_true")
    add("--size", type=int, nargs=2, default=(144, 192), metavar=("H", "W"))
    add("--batch", type=int, default=4)
    add("--rounds", type=int, default=3)
    add("--warm-up", type=int, default=0)
    add("--threads", type=int, default=torch.get_num_threads())
    add("--variants", nargs="+", default=[LOOP, "published", "efficient"], choices=names)
    add("--json", type=Path, help="write the numbers to this file, too")
    add("--first-step-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if LOOP not in options.variants:
        parser.error(f"--variants should have '{LOOP}', which the others are compared with")
    torch.set_num_threads(options.threads)
    if options.first_step_of:
        print(json.dumps(first_step(options.first_step_of, options)))
        return
    results = summary(measure_on_cpu(options) if options.device == "cpu" else measure_on_gpu(options))
    print(
        "| variant | s, wall | wall / loop | s, process | process / loop | peak growth, MiB | memory / loop |"
    )
    print("|---|---|---|---|---|---|---|")
    for name, r in results.items():
        print(
            f"| {name} | {r['wall']:.2f} | {r['wall_ratio']:.2f} | {r['process']:.2f} | {r['process_ratio']:.2f} | "
            f"{r['memory']:.0f} | {r['memory_ratio']:.2f} |"
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
