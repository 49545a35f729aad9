"""What ``jtr completion`` prints is used as a shell does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from jtr_lightning.cli.main import COMMANDS, main


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("shtab", reason="the extra `completion` is not installed")
    path = tmp_path_factory.mktemp("completion") / "jtr.bash"
    command = [sys.executable, "-m", "jtr_lightning", "completion", "bash"]
    path.write_bytes(subprocess.run(command, check=True, capture_output=True).stdout)
    return path


def completed(script: Path, *words: str) -> set[str]:
    """What bash offers for the last of these words."""
    ask = (
        'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_jtr; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", ask, str(script), *words], capture_output=True, text=True, check=False
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["jtr", ""], set(COMMANDS)),
        (["jtr", "fit", "--model.reg"], {"--model.regularizer"}),
        (["jtr", "fit", "--trainer.max_e"], {"--trainer.max_epochs"}),
        (["jtr", "fit", "--data.on_"], {"--data.on_error"}),
        (["jtr", "fit", "--model.network", "S"], {"SMPNetwork", "SegNet", "SingleTask"}),
        (["jtr", "predict", "--ima"], {"--images"}),
        (["jtr", "data", ""], {"make", "check", "pack", "split"}),
        (["jtr", "data", "make", "--wo"], {"--workers"}),
        (["jtr", "compare", "--s"], {"--scenarios", "--seeds", "--search", "--single-task"}),
        (["jtr", "export", "--format", "s"], {"safetensors"}),
    ],
)
def test_bash_completes(script: Path, words: list[str], offered: set[str]) -> None:
    assert completed(script, *words) == offered


def test_files_are_completed(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").touch()
    assert completed(script, "jtr", "fit", "--config", "mi") == {"mine.yaml"}
    assert completed(script, "jtr", "compare", "mi") == {"mine.yaml"}


def test_without_shtab_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 1
    assert "jtr completion needs shtab; pip install 'jtr-lightning[completion]'." in capsys.readouterr().err


def test_an_unknown_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("shtab")
    assert main(["completion", "cmd"]) == 1
    assert "invalid choice: 'cmd'" in capsys.readouterr().err
