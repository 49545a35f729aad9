"""A full disk costs no checkpoint, and the training goes on when there is room."""

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from jtr_lightning import disk
from jtr_lightning.callbacks import checkpoint_files
from jtr_lightning.callbacks.checkpoint_files import WholeCheckpointIO
from jtr_lightning.cli.main import main
from jtr_lightning.errors import ConfigError
from tests.reliability.trainings import (
    EPOCHS,
    STEPS,
    AccidentError,
    At,
    Order,
    equal,
    fit,
    in_a_process,
    mount_a_small_disk,
    resume,
)

pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


def stop() -> None:
    raise AccidentError


def fill_the_disk(told: Path) -> None:
    folder = Path("small")
    folder.mkdir()
    if not mount_a_small_disk(folder, 300):
        sys.exit(77)
    with contextlib.suppress(AccidentError):
        fit("--runs=small", callbacks=[At(STEPS + 1, stop)])
    run = folder / "run/0"
    kept = (run / "checkpoints/last.ckpt").read_bytes()
    ballast = folder / "ballast"
    with ballast.open("wb") as file:  # leaves room for the logs, but for no checkpoint
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        file.write(bytes(max(0, free - len(kept) // 2)))
    with told.open("w") as sys.stderr:
        code = main(["fit", "--resume", str(run)])
    assert code == 1
    assert (run / "checkpoints/last.ckpt").read_bytes() == kept
    assert not list((run / "checkpoints").glob(".*"))
    ballast.unlink()
    order = Order()
    done = resume(run, callbacks=[order])
    assert [min(order.samples), max(order.samples)] == [STEPS + 1, EPOCHS * STEPS]
    torch.save(done.model.state_dict(), told.with_suffix(".pt"))


def test_a_full_disk_keeps_the_last_checkpoint_and_the_training_goes_on_when_there_is_room(
    whole: Any,
) -> None:
    told = Path("told.txt").absolute()
    code = in_a_process(fill_the_disk, told)
    if code == 77:
        pytest.skip("this machine lets nobody mount a small disk")
    assert code == 0
    errors = [line for line in told.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "should be written; found: No space left on device" in errors[0]
    assert "jtr fit --resume" in errors[0]
    found = torch.load(told.with_suffix(".pt"), weights_only=True)
    assert equal(found, whole[0]["weights"])


@pytest.mark.parametrize("call", ["fsync", "save"])
def test_a_disk_that_refuses_leaves_the_earlier_file(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"a": 1}, path)

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    target = disk.os if call == "fsync" else checkpoint_files.torch  # type: ignore[attr-defined]
    monkeypatch.setattr(target, call, refuse)
    with pytest.raises(ConfigError, match=r"found: No space left on device \(the earlier checkpoint"):
        WholeCheckpointIO().save_checkpoint({"a": 2}, path)
    assert torch.load(path, weights_only=True) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_what_is_no_fault_of_the_disk_keeps_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="pickle"):
        WholeCheckpointIO().save_checkpoint({"a": lambda: 0}, tmp_path / "a.ckpt")
