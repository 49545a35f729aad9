"""``jtr bench``: how fast a config trains, and where the time goes."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from jtr_lightning.cli.console import console
from jtr_lightning.cli.lightning import CommandLine, command_line
from jtr_lightning.cli.parser import Parser
from jtr_lightning.errors import ConfigError
from jtr_lightning.profiling import StepCost, StepProfiler

_EPILOG = """\
Any option of `jtr fit` may follow: --trainer.precision bf16-mixed --model.compile true --data.batch_size 16.
Nothing is kept of the training but the numbers; validation is left out."""


class BenchCommandLine(CommandLine):
    """A training that prints no metrics."""

    def fit(self, **kwargs: Any) -> None:
        """Trains."""
        self.trainer.fit(**kwargs)


def run(arguments: list[str]) -> None:
    """Measures a config's training steps and prints a table.

    Args:
        arguments: Our own options, and any of ``jtr fit``.

    Raises:
        UserError: An option does not fit, or the JSON file cannot be written.
    """
    parser = Parser(
        prog="jtr bench",
        description="Measure how fast a config trains, where the time goes, and the arithmetic and memory it takes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps that count (20)")
    parser.add_argument("--warm-up", type=int, default=5, metavar="N", help="steps before, which do not (5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")
    given, options = parser.parse_known_args(arguments)
    for name, value in (("--steps", given.steps), ("--warm-up", given.warm_up)):
        if value < 1:
            raise ConfigError(f"{name} should be at least 1; found {value}.")
    if given.json is not None and not given.json.parent.is_dir():
        raise ConfigError(
            f"--json should name a file in an existing folder; found no folder '{given.json.parent}'."
        )
    profiler = StepProfiler(given.warm_up, given.steps)
    done = _train(options, profiler)
    if profiler.cost is None or not done.trainer.is_global_zero:
        return
    if given.json is not None:
        text = json.dumps({**profiler.cost.to_dict(), "precision": done.trainer.precision}, indent=2)
        given.json.write_text(text + "\n", encoding="utf-8")
    console().print(cost_table(profiler.cost, str(done.trainer.precision)))


def _train(options: list[str], profiler: StepProfiler) -> CommandLine:
    limits = {
        "max_steps": profiler.total,
        "max_epochs": profiler.total,  # an epoch has at least one step
        "limit_val_batches": 0,
        "logger": "false",
        "enable_checkpointing": "false",
        "accumulate_grad_batches": 1,
    }
    fixed = [f"--trainer.{name}={value}" for name, value in limits.items()]
    with tempfile.TemporaryDirectory(prefix="jtr-bench-") as folder:
        return command_line(["fit", *options, *fixed], Path(folder), [profiler], BenchCommandLine)


def cost_table(cost: StepCost, precision: str) -> Table:
    """A step's cost for people.

    Args:
        cost: What was measured.
        precision: The trainer's precision.

    Returns:
        A table to print.
    """
    numbers = cost.to_dict()
    title = f"One training step on {cost.devices} x {escape(cost.device)}, precision {precision}"
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False, show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("steps per second", f"{numbers['steps_per_second']:.3g}")
    table.add_row("samples per second", f"{numbers['samples_per_second']:.3g}")
    table.add_row("seconds per step (median)", f"{cost.seconds:.3g}")
    table.add_row("peak memory in GiB", f"{cost.peak_memory / 2**30:.2f}", end_section=True)
    for stage, share in cost.shares.items():
        table.add_row(f"share of time: {stage}", f"{100 * share:.1f} %")
    table.add_section()
    table.add_row("TFLOP per step and device", f"{cost.flops / 1e12:.4g}")
    table.add_row("TFLOP per second and device", f"{numbers['flops_per_second'] / 1e12:.4g}")
    if cost.share_of_peak is not None:
        table.add_row("share of the bfloat16 matrix peak", f"{100 * cost.share_of_peak:.1f} %")
    return table
