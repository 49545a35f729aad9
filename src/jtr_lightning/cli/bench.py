"""``jtr bench``: how fast a config trains, and where the time goes."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, DeviceStatsMonitor, EarlyStopping, LearningRateMonitor
from rich.table import Table

from jtr_lightning.cli.parser import Parser
from jtr_lightning.console import console
from jtr_lightning.errors import ConfigError
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from jtr_lightning.profiling import StepCost, StepProfiler

_EPILOG = """\
Any option of `jtr fit` may follow: --trainer.precision bf16-mixed --model.compile true --data.batch_size 16.

Where the time goes:
  data         waiting for a batch and moving it to the device
  forward      the network's passes, over the regularizer's views, too, and the supervised losses
  regularizer  its views and its terms, without the network's passes
  backward     gradients of all of them
  optimizer    the update of the weights, and what follows in Lightning

Nothing is kept of the training but the numbers. Validation, loggers, checkpoints, gradient accumulation and limits of
time are left out, and of the config's callbacks those that need them: checkpoints, EarlyStopping, LearningRateMonitor
and DeviceStatsMonitor."""

_NEED_WHAT_IS_LEFT_OUT = (Checkpoint, EarlyStopping, LearningRateMonitor, DeviceStatsMonitor)


class BenchCommandLine(CommandLine):
    """A training that prints no metrics and keeps nothing."""

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Leaves out callbacks that need what a measured training does not have."""
        config = self._get(self.config_init, "trainer")
        given = config["callbacks"] or []
        given = given if isinstance(given, list) else [given]
        config["callbacks"] = [each for each in given if not isinstance(each, _NEED_WHAT_IS_LEFT_OUT)]
        return super().instantiate_trainer(**kwargs)

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
    parser.add_argument(
        "--peak-tflops",
        type=float,
        metavar="P",
        help="the device's matrix peak, for the share of it; known for some of NVIDIA's in bfloat16",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to this file, too")
    given, options = parser.parse_known_args(arguments)
    for name, value in (("--steps", given.steps), ("--warm-up", given.warm_up)):
        if value < 1:
            raise ConfigError(f"{name} should be at least 1; found {value}.")
    if given.json is not None and not given.json.parent.is_dir():
        raise ConfigError(
            f"--json should name a file in an existing folder; found no folder '{given.json.parent}'."
        )
    if given.json is not None and given.json.is_dir():
        raise ConfigError(f"--json should name a file; found a folder, '{given.json}'.")
    if given.peak_tflops is not None and not given.peak_tflops > 0:
        raise ConfigError(f"--peak-tflops should be above 0; found {given.peak_tflops:g}.")
    peak_flops = None if given.peak_tflops is None else 1e12 * given.peak_tflops
    profiler = StepProfiler(given.warm_up, given.steps, peak_flops)
    done = _train(options, profiler)
    if not done.trainer.is_global_zero:
        return
    if profiler.cost is None:
        raise ConfigError(
            f"A measured training should have {profiler.total} steps; found that it ended before. Leave out what "
            "ends it."
        )
    cost, out = profiler.cost, console()
    title = f"One training step on {cost.devices} x {cost.device}, precision {done.trainer.precision}"
    out.print(title, style="bold", soft_wrap=True, markup=False)
    out.print(cost_table(cost))
    if given.json is not None:
        _write(given.json, {**cost.to_dict(), "precision": done.trainer.precision})


def _write(path: Path, numbers: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"--json should name a file that can be written; found '{path}': {error.strerror}."
        ) from error


def _train(options: list[str], profiler: StepProfiler) -> CommandLine:
    limits = {
        "max_steps": profiler.total,
        "max_epochs": profiler.total,  # an epoch has at least one step
        "max_time": "null",
        "fast_dev_run": "false",
        "limit_val_batches": 0,
        # A validation that is left out must not be due later than an epoch or the training ends.
        "check_val_every_n_epoch": 1,
        "val_check_interval": "null",
        "logger": "false",
        "enable_checkpointing": "false",
        "accumulate_grad_batches": 1,
    }
    fixed = [f"--trainer.{name}={value}" for name, value in limits.items()]
    with tempfile.TemporaryDirectory(prefix="jtr-bench-") as folder:
        return command_line(["fit", *options, *fixed], Path(folder), [profiler], BenchCommandLine)


def cost_table(cost: StepCost) -> Table:
    """A step's cost for people.

    Args:
        cost: What was measured.

    Returns:
        A table to print.
    """
    numbers = cost.to_dict()
    table = Table(pad_edge=False, show_header=False)
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
    if cost.peak_flops is None or cost.share_of_peak is None:
        table.add_row("share of the bf16 matrix peak", "peak of this device unknown")
    else:
        reached = f"{100 * cost.share_of_peak:.1f} % of {cost.peak_flops / 1e12:.4g} TFLOP per second"
        table.add_row("share of the bf16 matrix peak", reached)
    return table
