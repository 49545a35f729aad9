"""A full disk costs no checkpoint, and the training goes on when there is room."""

import contextlib
import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jtr_lightning import disk
from jtr_lightning.callbacks import checkpoint_files
from jtr_lightning.callbacks.checkpoint_files import WholeCheckpointIO
from jtr_lightning.cli.main import main
from jtr_lightning.errors import ConfigError
from tests.reliability.disks import DISK, FOLDER, FOUND, LIMIT, NOT_ALLOWED, begin, leave, make_room
from tests.reliability.trainings import (
    EPOCHS,
    STEPS,
    AccidentError,
    At,
    Order,
    equal,
    fit,
    in_a_process,
    resume,
)

pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


def stop() -> None:
    raise AccidentError


def go_on(kept: bytes, first: int, told: Path) -> None:
    """Resumes where there is room again, after a fault that has left the last checkpoint as it was."""
    run = FOLDER / "run/0"
    assert (run / "checkpoints/last.ckpt").read_bytes() == kept
    assert not list((run / "checkpoints").glob(".*"))
    order = Order()
    done = resume(run, callbacks=[order])
    assert [min(order.samples), max(order.samples)] == [first, EPOCHS * STEPS]
    torch.save(done.model.state_dict(), told.with_suffix(".pt"))


def no_room_for_a_checkpoint(way: str, told: Path) -> None:
    begin(way, kilobytes=300)
    with contextlib.suppress(AccidentError):
        fit(f"--runs={FOLDER}", callbacks=[At(STEPS + 1, stop)])
    kept = (FOLDER / "run/0/checkpoints/last.ckpt").read_bytes()
    leave(len(kept) // 2, way)  # enough for the logs
    with told.open("w") as sys.stderr:
        code = main(["fit", "--resume", str(FOLDER / "run/0")])
    assert code == 1
    make_room(way)
    go_on(kept, STEPS + 1, told)


def no_room_at_all_within_an_epoch(way: str, told: Path) -> None:
    kept = b""

    def fill() -> None:
        nonlocal kept
        kept = (FOLDER / "run/0/checkpoints/last.ckpt").read_bytes()
        leave(0, way)

    begin(way, kilobytes=300)
    with pytest.raises(ConfigError) as error:
        # Before each checkpoint the logs are written.
        fit(f"--runs={FOLDER}", "--checkpoint_every_n_steps=1", callbacks=[At(STEPS + 3, fill)])
    make_room(way)
    told.write_text(f"error: {error.value}")
    go_on(kept, STEPS + 3, told)


@pytest.mark.parametrize("way", [DISK, LIMIT])
@pytest.mark.parametrize("fault", [no_room_for_a_checkpoint, no_room_at_all_within_an_epoch])
def test_a_full_disk_keeps_the_last_checkpoint_and_the_training_goes_on_when_there_is_room(
    fault: Callable[[str, Path], None], way: str, whole: Any
) -> None:
    told = Path("told.txt").absolute()
    code = in_a_process(fault, way, told)
    if code == NOT_ALLOWED:
        pytest.skip("this machine lets nobody mount a small disk")
    assert code == 0
    (error,) = [line for line in told.read_text().splitlines() if line.startswith("error: ")]
    assert FOUND[way] in error
    assert "jtr fit --resume" in error
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
