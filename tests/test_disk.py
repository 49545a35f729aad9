"""Only real files are opened, and ours are written whole or not at all."""

import errno
import os
import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from jtr_lightning import disk
from jtr_lightning.disk import (
    files_below,
    is_there,
    make_folder,
    open_regular,
    read_object,
    read_tensors,
    read_text,
    read_yaml,
    write_text,
    written_whole,
)
from tests.reliability.damages import within


def test_a_regular_file_or_a_link_to_one_is_opened(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a\r\nb\rc\n")
    (tmp_path / "link").symlink_to("a")
    for name in ("a", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"a\r\nb\rc\n"
    assert read_text(tmp_path / "a") == "a\nb\nc\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket"))
    found = {"pipe": "a named pipe instead", "link": "a named pipe instead", "folder": "directory"}
    for name, told in found.items():
        with within(10), pytest.raises(OSError, match=told):
            open_regular(tmp_path / name)
    with within(10), pytest.raises(OSError, match=r"No such device|a device or a socket"):
        open_regular(tmp_path / "socket")
    with within(10), pytest.raises(OSError, match="a device or a socket instead"):
        open_regular("/dev/zero")
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "nothing")
    server.close()


def test_no_handle_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
    for _ in range(5):
        with pytest.raises(IsADirectoryError):
            open_regular(tmp_path)
    if before:
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    assert all(is_there(tmp_path / name) for name in ("a", "dangling", "circle", "."))
    assert not any(is_there(tmp_path / name) for name in ("b", "a/b"))


def test_a_folder_to_write_into_is_made_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")
    monkeypatch.setattr("os.access", lambda *_: False)  # whoever runs the tests may have every right
    with pytest.raises(PermissionError, match="Permission denied"):
        make_folder(tmp_path / "a")


def test_files_below_come_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/z", "b/c/y", "a", ".hidden", ".git/x", "e"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "d").symlink_to("nowhere")
    found = [f"{place}{name}" for place, name in files_below(tmp_path)]
    assert found == ["a", "b/c/y", "b/z", "d", "e"]


# Writing


class StopError(Exception):
    """Ends a writing."""


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new/a"
    write_text(path, "ä")
    assert path.read_bytes() == "ä".encode()

    def write_half() -> None:
        with written_whole(path) as file:
            file.write(b"half")
            raise StopError

    with pytest.raises(StopError):
        write_half()
    assert path.read_bytes() == "ä".encode()
    assert [p.name for p in path.parent.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_refuses_leaves_the_earlier_file(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    write_text(path, "old")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.os if call == "fsync" else Path, call, refuse)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".a.123.part").touch()
    (tmp_path / ".b.123.part").touch()
    write_text(tmp_path / "a", "x")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".b.123.part", "a"]


# Reading what others wrote


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "an empty file"),
        ("{", "no JSON"),
        ("[]", "a list instead of an object"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_other_json_is_told_in_a_few_words(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=told):
        read_object(tmp_path / "a.json")


def bomb(letters: str = "abcdefghi") -> str:
    """Nine lines that stand for nine to the power of nine values."""
    lines = [f"a: &a [{','.join('x' * 9)}]"]
    lines += [f"{c}: &{c} [{','.join([f'*{b}'] * 9)}]" for b, c in pairwise(letters)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (bomb(), "more than 100000 values"),
        ("a: &a [*a]", "more than 100000 values"),
        ("a: &a {b: 1}\n" + "c: &c {<<: [" + "*a," * 200_000 + "*a]}", "more than 100000 values"),
        ("[" * 5000, "nested too deeply"),
    ],
    ids=["aliases of aliases", "itself", "merged", "deep"],
)
def test_yaml_that_grows_beyond_measure_is_refused_at_once(content: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with within(60), pytest.raises(ValueError, match=told):
        read_yaml(tmp_path / "a.yaml")


def test_yaml_with_aliases_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}\n")
    assert read_yaml(tmp_path / "a.yaml") == {
        "a": {"x": 1, "y": [2]},
        "b": {"x": 1, "y": [2]},
        "c": {"x": 3, "y": [2]},
    }
    (tmp_path / "a.yaml").write_text("")
    assert read_yaml(tmp_path / "a.yaml") is None
    (tmp_path / "a.yaml").write_text("!!python/object/apply:os.mkdir [x]")
    with pytest.raises(yaml.YAMLError):
        read_yaml(tmp_path / "a.yaml")


def test_a_block_of_zeros_in_a_tensor_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1000), "b": 1}, path)
    assert read_tensors(path)["a"].sum() == 1000
    content = path.read_bytes()
    path.write_bytes(content.replace(torch.ones(500).numpy().tobytes(), bytes(2000), 1))
    assert torch.load(path, weights_only=True)["a"].sum() == 500, "torch itself notices nothing"
    with pytest.raises(ValueError, match=r"the checksum of its part '.*data/0' does not fit"):
        read_tensors(path)
