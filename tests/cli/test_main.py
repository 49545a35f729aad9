"""The dispatcher: which function is called, with what, and which exit code comes back."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from jtr_lightning import __version__
from jtr_lightning.cli import main as dispatcher
from jtr_lightning.cli.main import COMMANDS, Command, main
from jtr_lightning.errors import ConfigError

_CALLS: list[list[str]] = []


def _remember(arguments: list[str]) -> None:
    _CALLS.append(arguments)


def _return_three(arguments: list[str]) -> int:
    return 3


def _user_error(arguments: list[str]) -> None:
    raise ConfigError("batch_size should be at least 1, found 0; give --data.batch_size 4.")


def _our_error(arguments: list[str]) -> None:
    raise ZeroDivisionError("a mistake of ours")


def _interrupt(arguments: list[str]) -> None:
    raise KeyboardInterrupt


def _command(function: str, keeps_name: bool = False) -> Command:
    return Command(f"{__name__}:{function}", f"does {function}", keeps_name)


FAKES = {
    "plain": _command("_remember"),
    "named": _command("_remember", keeps_name=True),
    "three": _command("_return_three"),
    "mistake": _command("_user_error"),
    "bug": _command("_our_error"),
    "interrupt": _command("_interrupt"),
    "missing": Command("jtr_lightning.cli.no_such_module:run", "is listed but cannot be imported"),
}


@pytest.fixture(autouse=True)
def _start_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(dispatcher.TRACEBACK_VARIABLE, raising=False)
    _CALLS.clear()


def test_a_subcommand_gets_the_arguments_after_its_name() -> None:
    assert main(["plain", "--a", "1", "--help"], FAKES) == 0
    assert _CALLS == [["--a", "1", "--help"]]


def test_a_subcommand_that_keeps_its_name_gets_it_first() -> None:
    assert main(["named", "--a", "1"], FAKES) == 0
    assert _CALLS == [["named", "--a", "1"]]


def test_arguments_of_the_process_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["jtr", "plain", "x y"])
    assert main(commands=FAKES) == 0
    assert _CALLS == [["x y"]]


def test_the_exit_code_of_a_subcommand_is_passed_on() -> None:
    assert main(["three"], FAKES) == 3


def test_help_lists_every_subcommand_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"], FAKES) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    for name, command in FAKES.items():
        assert [name, command.summary] in lines


def test_help_does_not_import_the_subcommands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-h"], {"missing": FAKES["missing"]}) == 0
    assert "missing" in capsys.readouterr().out


def test_no_subcommand_is_a_usage_error_that_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([], FAKES) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "usage: jtr" in printed.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"], FAKES) == 0
    assert capsys.readouterr().out == f"jtr {__version__}\n"


def test_unknown_subcommand_names_the_near_match(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plane"], FAKES) == 2
    printed = capsys.readouterr()
    assert printed.err == "error: jtr has no subcommand 'plane': did you mean 'plain'?\n"
    assert printed.out == ""


def test_unknown_subcommand_without_near_match_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["qqqq"], FAKES) == 2
    error = capsys.readouterr().err
    assert all(f"'{name}'" in error for name in FAKES)


def test_unknown_option_points_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--verbose", "plain"], FAKES) == 2
    assert capsys.readouterr().err == "error: jtr has no option '--verbose': see 'jtr --help'.\n"


def test_user_error_is_one_sentence_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mistake"], FAKES) == 1
    printed = capsys.readouterr()
    assert printed.err == "error: batch_size should be at least 1, found 0; give --data.batch_size 4.\n"
    assert printed.out == ""


def test_user_error_keeps_its_traceback_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JTR_TRACEBACK", "1")
    with pytest.raises(ConfigError, match="batch_size should be at least 1"):
        main(["mistake"], FAKES)


def test_our_own_mistake_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError, match="a mistake of ours"):
        main(["bug"], FAKES)


def test_interruption_is_exit_code_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["interrupt"], FAKES) == 130
    assert capsys.readouterr().err == "error: interrupted.\n"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_listed_subcommand_has_a_module(name: str) -> None:
    module = COMMANDS[name].target.partition(":")[0]
    assert find_spec(module) is not None


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from jtr_lightning.cli.main import main; code = main(['--help']);"
        "print(code, sorted({'torch', 'lightning', 'numpy', 'jsonargparse'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: jtr")
    assert done.stdout.splitlines()[-1] == "0 []"


@pytest.mark.parametrize(
    ("arguments", "code", "stream", "text"),
    [
        (["--version"], 0, "stdout", f"jtr {__version__}"),
        (["trian"], 2, "stderr", "error: jtr has no subcommand"),
    ],
)
def test_the_process_exits_with_the_code(arguments: list[str], code: int, stream: str, text: str) -> None:
    command = [sys.executable, "-m", "jtr_lightning", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert text in getattr(done, stream)
