"""Every YAML file that is shipped means the same after the parser, or the reader of sweeps, has read and written it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from jtr_lightning.cli.main import main
from jtr_lightning.sweeps.file import Sweep, read_sweep
from tests.kept_configs import kept_with_a_newer_torch
from tests.test_sweep_files import FILES as SWEEPS
from tests.test_sweep_files import drawn

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"
LOGGERS = sorted(EXPERIMENTS.glob("loggers/*.yaml"))
SEARCHES = {*EXPERIMENTS.glob("searches/*.yaml"), *EXPERIMENTS.glob("*/results/*/chosen.yaml")}
COMPARED = EXPERIMENTS.glob("*/results/*/methods/*.yaml")
CONFIGS = sorted({*EXPERIMENTS.glob("*/*.yaml"), *COMPARED} - {*LOGGERS, *SWEEPS, *SEARCHES})
KEPT = sorted(EXPERIMENTS.glob("*/results/*/configs/*.yaml"))
ONE_OF_EACH_METHOD = list({yaml.safe_load(path.read_text())["name"]: path for path in KEPT}.values())

Printed = Callable[..., str]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Printed:
    """What the parser makes of the arguments of ``jtr fit``, as the config that it would keep."""
    monkeypatch.chdir(ROOT)

    def of(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["fit", *arguments, "--print_config"])
        assert end.value.code == 0
        return capsys.readouterr().out

    return of


def round_trip(printed: Printed, copy: Path, *arguments: str) -> dict[str, Any]:
    """Reads what the parser wrote once more, which must change nothing.

    Returns:
        What the parser wrote.
    """
    first = printed(*arguments)
    copy.write_text(first)
    assert printed("--config", str(copy)) == first
    content: dict[str, Any] = yaml.safe_load(first)
    return content


def assert_holds(found: Any, asked: Any, where: str = "") -> None:
    """Every value that was asked for is there; what a config leaves out has a default."""
    if isinstance(asked, dict) and isinstance(found, dict):
        for key, value in asked.items():
            assert key in found, f"{where}/{key}"
            assert_holds(found[key], value, f"{where}/{key}")
    else:
        assert found == asked, where


def test_no_file_is_left_out() -> None:
    assert {*CONFIGS, *LOGGERS, *SWEEPS, *SEARCHES, *KEPT} == set(EXPERIMENTS.rglob("*.yaml"))
    assert min(len(CONFIGS), len(LOGGERS), len(SWEEPS), len(ONE_OF_EACH_METHOD)) > 0


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{p.parent.name}/{p.stem}" for p in CONFIGS])
def test_a_config(path: Path, printed: Printed, tmp_path: Path) -> None:
    content = round_trip(printed, tmp_path / "copy.yaml", "--config", str(path))
    assert "class_path" in content["model"]


@kept_with_a_newer_torch
@pytest.mark.parametrize("path", ONE_OF_EACH_METHOD, ids=lambda path: path.stem)
def test_a_config_that_was_kept_with_results(path: Path, printed: Printed, tmp_path: Path) -> None:
    content = round_trip(printed, tmp_path / "copy.yaml", "--config", str(path))
    assert_holds(content, yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", LOGGERS, ids=lambda path: path.stem)
def test_a_logger_on_top_of_a_config(path: Path, printed: Printed, tmp_path: Path) -> None:
    files = ["--config", str(EXPERIMENTS / "rooms" / "jtr.yaml"), "--config", str(path)]
    content = round_trip(printed, tmp_path / "copy.yaml", *files)
    assert_holds(content, yaml.safe_load(path.read_text()))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "sweep.yaml"
    copy.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()), sort_keys=False))
    expected, found = read_sweep(path), read_sweep(copy)

    def parameters(sweep: Sweep) -> list[tuple[type, dict[str, Any]]]:
        return [(type(parameter), vars(parameter)) for parameter in sweep.parameters]

    assert parameters(found) == parameters(expected)
    assert replace(found, path=path, parameters=()) == replace(expected, parameters=())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_training_that_a_sweep_asks_for(path: Path, printed: Printed, tmp_path: Path) -> None:
    values = drawn(path)
    content = round_trip(printed, tmp_path / "copy.yaml", *read_sweep(path).fit_arguments(values))
    for name, value in values.items():
        place = content
        for key in name.split("."):
            place = place.get("init_args", place)[key]
        assert place == value, name
