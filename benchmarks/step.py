"""Time and memory of a training step: the published recipe, its cheaper forms, and the loop over samples.

    python benchmarks/step.py                                  # CPU, float32, 144x192, batch 4: many minutes
    python benchmarks/step.py --device cuda --precision bf16 --compile --channels-last --size 288 384 --batch 4

A step is everything between two batches: views, forward pass, losses, regularizer, backward pass and Adam. The loop
runs in float32 with plain Adam, without ``--compile`` and ``--channels-last``, as published code does; the others have
fused Adam, as their configs, and run as asked; "published, channels_last" is "published" with that flag whether it is
given or not. On a GPU, float32 convolutions are TF32, as torch has it by default and so published code; ``--no-tf32``
makes them real float32.

Each round runs every variant once, one after the other, so that a busy machine disturbs them alike; a ratio is the
median over the rounds of each round's own ratio to the loop. Memory is what the peak of one step adds to what model,
optimizer and batch hold. On the CPU every step that is timed is in a process of its own, in which nothing was freed
before: the first one, or after ``--warm-up`` steps the next, while memory is that of the first. The time of the process
is given beside the wall clock's: other programs at work do not count in it. On a GPU of which it is known, the share of
the bfloat16 matrix peak is given, too, by the arithmetic of one step that is not timed.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from recipes import REGULARIZERS, make_batch, make_module, nyuv2_tasks
from torch.utils.flop_counter import FlopCounterMode

from jtr_lightning.profiling import matrix_peak

LOOP = "loop"
ORDERED = ", channels_last"
SMALLEST = 64
"""Pixels of a side: half of it is still 2x2 at the bottom of the auto-encoder, whose normalisation needs two values."""


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


def flops(step: Stepper) -> int:
    """FLOP of a step; operations inside a compiled graph could not be counted."""
    torch.compiler.set_stance("force_eager")
    with FlopCounterMode(display=False) as counter:
        step()
    torch.compiler.set_stance("default")
    return int(counter.get_total_flops())


def first_step(name: str, options: argparse.Namespace) -> tuple[float, float, float]:
    """The process's first step on the CPU: wall-clock seconds, the process's seconds and the peak's growth in MiB."""
    step = Stepper(name, options)
    # The optimizer's state belongs to what is held between steps.
    for parameter in step.module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    step.optimizer.step()
    step.optimizer.zero_grad(set_to_none=True)
    # The peak so far, of making all this, may be above that of a small step: it begins anew here.
    Path("/proc/self/clear_refs").write_text("5")
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


def measure_on_gpu(
    options: argparse.Namespace,
) -> tuple[dict[str, list[tuple[float, float, float]]], dict[str, int]]:
    """As ``measure_on_cpu``, in this process; the memory of one step stands with all. And the FLOP of a step."""
    torch.backends.cudnn.allow_tf32 = options.tf32
    # A training has one variant, whose sizes stay; here several share the code that is compiled for each size.
    torch._dynamo.config.automatic_dynamic_shapes = False  # noqa: SLF001
    steps = {name: Stepper(name, options) for name in options.variants}
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.variants}
    memory: dict[str, float] = {}
    for round_ in range(options.warm_up + options.rounds):
        for name, step in steps.items():
            if round_ >= options.warm_up:
                memory[name] = memory[name] if name in memory else peak_growth(step)
                found[name].append((*step(), memory[name]))
            else:
                wall, _ = step()
                # The compiler's minutes would look like a standstill.
                print(f"  warm-up {round_ + 1}, {name}: {wall:.2f} s", file=sys.stderr, flush=True)
    return found, {name: flops(step) for name, step in steps.items()}


def summary(found: dict[str, list[tuple[float, float, float]]]) -> dict[str, dict[str, Any]]:
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


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [LOOP, *(name + order for name in REGULARIZERS if name != LOOP for order in ("", ORDERED))]
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--precision", choices=("float32", "bf16"), default="float32")
    add(
        "--compile",
        action="store_true",
        help="torch.compile of network, auto-encoder and colours; on a GPU alone",
    )
    add("--channels-last", action="store_true")
    add("--tf32", action=argparse.BooleanOptionalAction, default=True, help="float32 convolutions in TF32")
    add("--size", type=int, nargs=2, default=(144, 192), metavar=("H", "W"))
    add("--batch", type=int, default=4)
    add("--rounds", type=int, default=3)
    add("--warm-up", type=int, default=0)
    add("--threads", type=int, default=torch.get_num_threads())
    add("--variants", nargs="+", default=[LOOP, "published", "efficient"], choices=names)
    add("--json", type=Path, help="write the numbers and what they are of to this file, too")
    add("--first-step-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if LOOP not in options.variants:
        parser.error(f"--variants should have '{LOOP}', which the others are compared with")
    for name, least in {"batch": 1, "rounds": 1, "warm_up": 0, "threads": 1}.items():
        if getattr(options, name) < least:
            parser.error(
                f"--{name.replace('_', '-')} should be at least {least}; found {getattr(options, name)}"
            )
    if min(options.size) < SMALLEST:
        parser.error(
            f"--size should be at least {SMALLEST} {SMALLEST}; found {options.size[0]} {options.size[1]}"
        )
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda needs a GPU; found none that torch can use")
    if options.device == "cpu" and options.compile:
        parser.error(
            "--compile should be left out on a CPU, where the first step counts, which would be the compiler's"
        )
    return options


def setting(options: argparse.Namespace) -> dict[str, Any]:
    """What the numbers are of."""
    gpu = torch.cuda.get_device_name() if options.device == "cuda" else None
    shown = ("precision", "compile", "channels_last", "size", "batch", "rounds", "warm_up", "threads")
    return {
        "device": gpu or f"{platform.machine()} CPU",
        "torch": torch.__version__,
        **{name: getattr(options, name) for name in shown},
        **({"tf32": options.tf32} if gpu else {}),
    }


def main() -> None:
    """Measures and prints a table."""
    options = read_options()
    torch.set_num_threads(options.threads)
    if options.first_step_of:
        print(json.dumps(first_step(options.first_step_of, options)))
        return
    made = setting(options)
    if options.device == "cpu":
        results = summary(measure_on_cpu(options))
    else:
        found, arithmetic = measure_on_gpu(options)
        results = summary(found)
        peak = matrix_peak(made["device"])
        for name, r in results.items():
            r["flops"] = arithmetic[name]
            r["share_of_peak"] = None if peak is None else arithmetic[name] / r["wall"] / peak
    print(", ".join(f"{name} {value}" for name, value in made.items()))
    print()
    print(table(results))
    if options.json:
        content = {"setting": made, "variants": results}
        options.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def table(results: dict[str, dict[str, Any]]) -> str:
    """The numbers as a table of Markdown."""
    with_peak = any(r.get("share_of_peak") is not None for r in results.values())
    head = [
        "variant",
        "s, wall",
        "wall / loop",
        "s, process",
        "process / loop",
        "peak growth, MiB",
        "memory / loop",
    ]
    lines = [head + ["share of the bf16 peak"] * with_peak]
    for name, r in results.items():
        cells = [name, *(f"{r[key]:.2f}" for key in ("wall", "wall_ratio", "process", "process_ratio"))]
        cells += [f"{r['memory']:.0f}", f"{r['memory_ratio']:.2f}"]
        lines.append(cells + ([f"{100 * r['share_of_peak']:.1f} %"] if with_peak else []))
    rows = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([rows[0], "|---" * len(lines[0]) + "|", *rows[1:]])


if __name__ == "__main__":
    main()
