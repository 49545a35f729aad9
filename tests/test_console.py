"""What is printed for people to type."""

import sys
from pathlib import Path

import pytest

from jtr_lightning.console import program


def program_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "jtr"):
        (folder / "bin" / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "bin" / "python"))


def test_the_program_is_told_as_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program_in(tmp_path / "my clone" / ".venv", monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program() == f"'{tmp_path}/my clone/.venv/bin/jtr'"
    monkeypatch.chdir(tmp_path / "my clone")
    assert program() == ".venv/bin/jtr"
    monkeypatch.setenv("PATH", str(tmp_path / "my clone" / ".venv" / "bin"))
    assert program() == "jtr"


def test_another_installation_on_the_path_is_not_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_in(tmp_path / "other", monkeypatch)
    program_in(tmp_path / "this", monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path / "other" / "bin"))
    assert program() == str(tmp_path / "this" / "bin" / "jtr")


def test_an_installation_without_programs_has_only_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert program() == "jtr"
