"""Time and memory of a training step: the published recipe, its cheaper forms, and the loop over samples.

    python benchmarks/step.py                                  # CPU, float32, 144x192, batch 4: many minutes
    python benchmarks/step.py --device cuda --precision bf16 --compile --channels-last --size 288 384 --batch 4

A step is everything between two batches: views, forward pass, losses, regularizer, backward pass and Adam. The loop
runs in float32 with plain Adam, without ``--compile`` and ``--channels-last``, as published code does; the others have
fused Adam, as their configs, and run as asked. Each round runs every variant once, one after the other, so that a busy
machine disturbs them alike; a ratio is the median over the rounds of each round's own ratio to the loop. On the CPU the
time of the process is given beside the wall clock's: other programs at work do not count in it. Memory is what the peak
of one step adds to what model, optimizer and batch hold; on the CPU in a process of its own.
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


class Stepper:
    """One variant with its optimizer and a batch."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        tasks = nyuv2_tasks()
        fast = name != LOOP
        self.device = options.device
        flags = {"compile": options.compile and fast, "channels_last": options.channels_last and fast}
        module = make_module(REGULARIZERS[name](), tasks, **flags)
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


def peak_growth_of_process(name: str, options: argparse.Namespace) -> float:
    """MiB that a first step's peak adds on the CPU, in a process in which nothing was freed before."""
    step = Stepper(name, options)
    # The optimizer's state belongs to what is held between steps.
    for parameter in step.module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step.optimizer.step()
    step.optimizer.zero_grad(set_to_none=True)
    before = status("VmRSS")
    step()
    return status("VmHWM") - before


def status(key: str) -> float:
    """A line of this process's status, in MiB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


def memory_in_new_process(name: str) -> float:
    """Runs this file again for one variant's memory."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(result.stdout.splitlines()[-1]))


def measure(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Times all variants in turn, then their memory."""
    steps = {name: Stepper(name, options) for name in options.variants}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for round_ in range(options.warm_up + options.rounds):
        for name, step in steps.items():
            spent = step()
            print(f"  {name:12} {spent[0]:8.3f} s wall {spent[1]:8.3f} s process", file=sys.stderr)
            if round_ >= options.warm_up:
                times[name].append(spent)
    memory = {
        name: memory_in_new_process(name) if options.device == "cpu" else peak_growth(steps[name])
        for name in steps
    }
    return {
        name: {
            "wall": statistics.median(t[0] for t in times[name]),
            "wall_ratio": _ratio(times[name], times[LOOP], 0),
            "process_ratio": _ratio(times[name], times[LOOP], 1),
            "memory": memory[name],
            "memory_ratio": memory[name] / memory[LOOP],
        }
        for name in steps
    }


def _ratio(times: list[tuple[float, float]], loop: list[tuple[float, float]], which: int) -> float:
    return statistics.median(a[which] / b[which] for a, b in zip(times, loop, strict=True))


def main() -> None:
    """Measures and prints a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--device", default="cpu")
    add("--precision", choices=("float32", "bf16"), default="float32")
    add("--compile", action="store_true", help="torch.compile of network and auto-encoder")
    add("--channels-last", action="store_true")
    add("--size", type=int, nargs=2, default=(144, 192), metavar=("H", "W"))
    add("--batch", type=int, default=4)
    add("--rounds", type=int, default=3)
    add("--warm-up", type=int, default=1)
    add("--threads", type=int, default=torch.get_num_threads())
    add("--variants", nargs="+", default=[LOOP, "published", "efficient"], choices=list(REGULARIZERS))
    add("--json", type=Path, help="write the numbers to this file, too")
    add("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if LOOP not in options.variants:
        parser.error(f"--variants should have '{LOOP}', which the others are compared with")
    torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps(peak_growth_of_process(options.memory_of, options)))
        return
    results = measure(options)
    print("| variant | s per step | time / loop | process time / loop | peak growth, MiB | memory / loop |")
    print("|---|---|---|---|---|---|")
    for name, r in results.items():
        print(
            f"| {name} | {r['wall']:.2f} | {r['wall_ratio']:.2f} | {r['process_ratio']:.2f} | {r['memory']:.0f} | "
            f"{r['memory_ratio']:.2f} |"
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
