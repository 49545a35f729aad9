"""Damaged files of a run: told in one sentence, or gone on without them; never a traceback, never silently wrong."""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from jtr_lightning.callbacks.checkpoint_files import WholeCheckpointIO, newest_whole_checkpoint
from jtr_lightning.callbacks.resume import RANKS
from jtr_lightning.cli.main import main
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import DESCRIPTION, IMAGE_SIZE, PartialLabelModule, read_checkpoint
from tests.reliability.damages import within
from tests.reliability.disks import DISK, FOLDER, FOUND, LIMIT, NOT_ALLOWED, begin, leave
from tests.reliability.trainings import QUIET, fit, in_a_process
from tests.test_disk import bomb

RUN = Path("runs/run/0")
LAST = RUN / "checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch."""
    folder = tmp_path_factory.mktemp("made")
    fit(f"--runs={folder / 'runs'}", epochs=1)
    return folder


@pytest.fixture(autouse=True)
def _in_a_copy(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)


def go_on() -> int:
    with within(120):
        return main(["fit", "--resume", str(RUN), "--trainer.max_epochs=2"])


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence."""
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return line


def zero_a_block(path: Path) -> None:
    """What a disk does that loses a block: zeros over a part of a weight."""
    weights = torch.load(path, weights_only=True)["state_dict"]
    largest = max((value for value in weights.values()), key=torch.Tensor.numel)
    content, block = path.read_bytes(), largest.numpy().tobytes()
    at = content.index(block) + len(block) // 4
    path.write_bytes(content[:at] + bytes(len(block) // 2) + content[at + len(block) // 2 :])


# Checkpoints


def test_a_block_of_zeros_in_a_checkpoint_is_noticed_wherever_it_is_read(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    zero_a_block(LAST)
    for read in (
        read_checkpoint,
        PartialLabelModule.load_from_checkpoint,
        WholeCheckpointIO().load_checkpoint,
    ):
        with pytest.raises(
            ConfigError, match=r"last\.ckpt' should be .*the checksum of its part '.*' does not fit"
        ):
            read(LAST)
    assert newest_whole_checkpoint(LAST.parent) == LAST.with_name("best.ckpt")
    assert "Passed over" in caplog.text
    assert main(["validate", "--ckpt_path", str(LAST)]) == 1
    assert "the checksum" in told(capsys)


DESCRIPTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a number": lambda good: 1,
    "nothing": lambda good: {},
    "a list of arguments": lambda good: {**good, "init_args": []},
    "an unknown argument": lambda good: {**good, "init_args": {**good["init_args"], "bogus": 1}},
    "a missing argument": lambda good: {**good, "init_args": {}},
    "a number as class": lambda good: {**good, "class_path": 1},
    "no class": lambda good: {**good, "class_path": ""},
    "a part with a list of arguments": lambda good: {
        **good,
        "init_args": {**good["init_args"], "network": {**good["init_args"]["network"], "init_args": [1]}},
    },
    "a part of another kind": lambda good: {
        **good,
        "init_args": {**good["init_args"], "network": good["init_args"]["tasks"]["depth"]},
    },
    "text as tasks": lambda good: {**good, "init_args": {**good["init_args"], "tasks": "depth"}},
    "deep lists": lambda good: {**good, "init_args": {**good["init_args"], "tasks": deep(3000)}},
}


def deep(levels: int) -> list[Any]:
    nested: list[Any] = []
    for _ in range(levels):
        nested = [nested]
    return nested


STATES: dict[str, dict[str, Any]] = {
    "no weights": {"state_dict": None},
    "a number as weight": {"state_dict": {"a": 1}},
    "other weights": {"state_dict": {"a": torch.zeros(1)}},
    "text as size": {IMAGE_SIZE: "abc"},
    "one number as size": {IMAGE_SIZE: [1]},
}


@pytest.mark.parametrize("name", [*DESCRIPTIONS, *STATES])
def test_a_checkpoint_with_a_bad_description_is_refused(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(LAST, weights_only=True)
    if name in DESCRIPTIONS:
        content[DESCRIPTION] = DESCRIPTIONS[name](content[DESCRIPTION])
    else:
        content.update(STATES[name])
    if name == "deep lists":
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(20_000)  # to write it
    try:
        torch.save(content, "bad.ckpt")
    finally:
        if name == "deep lists":
            sys.setrecursionlimit(limit)
    with within(60), pytest.raises(ConfigError, match="checkpoint"):
        PartialLabelModule.load_from_checkpoint("bad.ckpt")


RESTORED: dict[str, dict[str, Any]] = {
    "no state of a random generator": {RANKS: [{"random": {}}]},
    "numbers as processes": {RANKS: [1]},
    "a number as a callback's state": {"callbacks": {"NonFiniteGuard": 1}},
    "no loops": {"loops": {}},
    "a list as loops": {"loops": []},
    "no optimizer": {"optimizer_states": []},
    "a number as optimizer": {"optimizer_states": [1]},
    "a number as schedule": {"lr_schedulers": [1]},
    "other weights": STATES["other weights"],
}


@pytest.mark.parametrize("name", RESTORED)
def test_a_training_does_not_go_on_from_junk(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({**torch.load(LAST, weights_only=True), **RESTORED[name]}, LAST)
    assert go_on() == 1
    assert "checkpoint" in told(capsys)


def test_a_checkpoint_of_weights_alone_still_predicts() -> None:
    torch.save({**torch.load(LAST, weights_only=True), "optimizer_states": []}, "weights.ckpt")
    PartialLabelModule.load_from_checkpoint("weights.ckpt")
    assert main(["validate", "--config", str(RUN / "config.yaml"), "--ckpt_path=weights.ckpt"]) == 0


# A folder without rights (which whoever runs the tests may have all the same)


def test_a_run_that_is_read_only_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert go_on() == 1
    assert "should be writable; found 'runs/run/0': Permission denied. Give a copy of it." in told(capsys)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("jtr_lightning.reporting.page.write_text", refuse)
    assert main(["report", str(RUN)]) == 1
    assert "should be writable, for its report; found 'runs/run/0': Permission denied" in told(capsys)


# Small files


@pytest.mark.parametrize("content", ["", '{"val/sc', "[]", '{"val/score": "high"}'])
def test_damaged_metrics_are_reported_and_the_training_goes_on(
    content: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    (RUN / "metrics.json").write_text(content)
    assert main(["report", str(RUN)]) == 1
    assert "metrics.json' should hold one JSON object of metrics" in told(capsys)
    assert main(["test", "--ckpt_path", str(LAST)]) == 0
    assert "metrics.json' should hold one JSON object of metrics" in caplog.text
    assert "written anew" in caplog.text
    assert "test/score" in json.loads((RUN / "metrics.json").read_text())
    (RUN / "metrics.json").write_text(content)
    assert go_on() == 0


@pytest.mark.parametrize("content", [b"", b"data:\n  class_path: [", b"\xff\xfe\0", b"[]"])
def test_a_damaged_config_of_a_run_is_named(content: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (RUN / "config.yaml").write_bytes(content)
    assert go_on() == 1
    assert "0/config.yaml' that the run was started with should be whole; found: " in told(capsys)


CONFIGS: dict[str, tuple[bytes, str]] = {
    "bytes of no text": (b"\xff\xfe\0", "can't decode"),
    "deep lists": (b"data: " + b"[" * 3000, "nested too deeply"),
    "a bomb": (bomb().encode(), "more than 100000 values"),
}


@pytest.mark.parametrize("name", [*CONFIGS, "a pipe"])
@pytest.mark.parametrize("command", ["fit", "data check", "sweep"])
def test_a_config_that_would_stop_the_parser_is_refused_at_once(
    command: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("mine.yaml")
    if name == "a pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(CONFIGS[name][0])
    expected = "a named pipe" if name == "a pipe" else CONFIGS[name][1]
    given = [str(path), "--local"] if command == "sweep" else ["--config", str(path)]
    with within(60):
        assert main([*command.split(), *given]) == 1
    line = told(capsys)
    assert "mine.yaml" in line
    assert expected in line


# A full disk


def start_without_room(way: str, room: int, told: Path) -> None:
    begin(way, kilobytes=400)
    leave(room, way)
    base = ["fit", "--data=TinyData", "--model.network=ToyNetwork", "--trainer.max_epochs=1", *QUIET]
    with told.open("w") as sys.stderr:
        code = main([*base, f"--runs={FOLDER}"])
    assert code == 1
    # Whatever there is of a config is whole.
    assert all(path.stat().st_size > 1000 for path in FOLDER.rglob("config.yaml"))
    assert not list(FOLDER.rglob("*.part"))


@pytest.mark.parametrize(("way", "room"), [(DISK, 0), (DISK, 4096), (DISK, 16384), (LIMIT, 900)])
def test_a_disk_that_is_full_at_the_start_leaves_no_half_config(way: str, room: int) -> None:
    told = Path("told.txt").absolute()
    code = in_a_process(start_without_room, way, room, told)
    if code == NOT_ALLOWED:
        pytest.skip("this machine lets nobody mount a small disk")
    assert code == 0
    errors = [line for line in told.read_text().splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert FOUND[way] in errors[0]
