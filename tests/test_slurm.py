"""The documented script for SLURM, with stand-ins for the cluster: a job that runs out of time goes on."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_docs import blocks_of

ROOT = Path(__file__).parents[1]
JOB = "17"
STOP_AT = 8
# The first line of a script cannot name a program in a folder with a space.
START_JTR = f"""#!/bin/sh
exec "{sys.executable}" "$0.py" "$@"
"""
JTR = f"""# `jtr` with a training of a few pixels, which SLURM tells to stop as long as no job was queued again.
import os
import signal
import sys
from pathlib import Path

from jtr_lightning.lightning_cli.command_line import command_line
from tests.reliability.trainings import QUIET, At

small = ["--data.num_workers=0", "--trainer.num_nodes=1", "--trainer.devices=1", "--trainer.strategy=auto"]
stop = At({STOP_AT}, lambda: os.kill(os.getpid(), signal.SIGTERM))
command_line([*sys.argv[1:], *small, *QUIET], callbacks=[] if Path("requeued").exists() else [stop])
"""
CONFIG = """
trainer: {max_epochs: 2}
data: {class_path: TinyData, init_args: {number: 10}}
model: {init_args: {network: ToyNetwork}}
"""


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the documented script, a small config in place of the published one, and the stand-ins."""
    monkeypatch.chdir(tmp_path)
    (script,) = [block for block in blocks_of("multi_device.md") if block.text.startswith("#!/bin/bash")]
    write_program(tmp_path / "train.sbatch", script.text)
    write_program(tmp_path / "bin" / "srun", '#!/bin/sh\nexec "$@"\n')
    write_program(tmp_path / "bin" / "scontrol", '#!/bin/sh\necho "$@" >> requeued\n')
    write_program(tmp_path / ".venv" / "bin" / "jtr", START_JTR)
    write_program(tmp_path / ".venv" / "bin" / "jtr.py", JTR)
    config = tmp_path / "experiments" / "taskonomy" / "jtr_onelabel.yaml"
    config.parent.mkdir(parents=True)
    config.write_text(CONFIG)
    # Of one task: Lightning then answers to signals as it does on a cluster.
    here = {"JOB_ID": JOB, "JOB_NAME": "jtr", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in {**here, "JOB_NODELIST": "localhost"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "src")]))
    return tmp_path


def start_job() -> int:
    """What SLURM does with the script, at first and when it is queued again."""
    return subprocess.run(["bash", "train.sbatch"], check=False).returncode


@pytest.mark.slow
def test_a_job_that_runs_out_of_time_goes_on_where_it_stopped(cluster: Path) -> None:
    assert start_job() == 143
    assert Path("requeued").read_text() == f"requeue {JOB}\n"
    assert start_job() == 0
    assert Path("requeued").read_text() == f"requeue {JOB}\n", "a finished job is not queued again"
    assert [path.name for path in Path("runs").iterdir()] == [f"taskonomy-onelabel-{JOB}"]
    (run,) = next(Path("runs").iterdir()).iterdir()
    with (run / "metrics.csv").open() as file:
        steps = [int(row["step"]) for row in csv.DictReader(file) if row.get("train/loss")]
    assert steps == list(range(20)), "every step once: the first job's, and behind it the second's"
