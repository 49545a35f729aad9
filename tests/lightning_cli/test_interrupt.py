"""Ctrl-C in a training that was started from a shell."""

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jtr_lightning import PartialLabelModule
from jtr_lightning.checkpoint import read_checkpoint

CONFIG = Path(__file__).parents[2] / "experiments" / "rooms" / "supervised.yaml"
SMALL = [
    *("--data.num_train=4", "--data.num_val=2", "--data.num_test=0", "--data.size=[32,40]", "--data.batch_size=2"),
    *("--model.network=SMPNetwork", "--model.network.encoder=tu-mobilenetv3_small_050"),
    *("--trainer.accelerator=cpu", "--trainer.max_epochs=100000", "--panels.every_n_epochs=0"),
]  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_in_a_shell_leaves_a_usable_checkpoint_and_the_command_that_goes_on(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    jtr = [sys.executable, "-m", "jtr_lightning"]
    command = [*jtr, "fit", "--config", str(CONFIG), "--name", "stopped", *SMALL]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    last = tmp_path / "runs" / "stopped" / "0" / "checkpoints" / "last.ckpt"
    until = time.monotonic() + 600  # to import everything on a busy machine
    while not last.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes of the command
    told = process.communicate(timeout=600)[1]
    assert process.returncode == 130, told
    assert "Traceback" not in told
    step = read_checkpoint(last)["global_step"]
    assert step > 0
    assert list(PartialLabelModule.load_from_checkpoint(last).tasks) == ["segmentation", "depth", "normals"]

    (line,) = (line for line in told.splitlines() if line.startswith("stopped by Ctrl-C"))
    word, *arguments = shlex.split(line.partition("go on with: ")[2])
    assert word == "jtr"
    done = subprocess.run(
        [*jtr, *arguments, f"--trainer.max_steps={step + 3}"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_checkpoint(last)["global_step"] == step + 3
