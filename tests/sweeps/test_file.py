"""What is read of a sweep file, and the command line that comes of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from jtr_lightning.errors import ConfigError
from jtr_lightning.sweeps.file import Rungs, Sweep, expanded, read_sweep

GOOD: dict[str, Any] = {
    "method": "random",
    "run_cap": 3,
    "metric": {"name": "val/score", "goal": "maximize"},
    "parameters": {"model.optimizer.lr": {"values": [0.1]}},
    "command": ["${env}", "jtr", "fit", "--config", "a.yaml", "${args}"],
}


def read(tmp_path: Path, **changes: Any) -> Sweep:
    tree = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump(tree))
    return read_sweep(path)


def test_everything_is_read(tmp_path: Path) -> None:
    sweep = read(tmp_path, project="of the server", name="a name")
    assert (sweep.method, sweep.cap, sweep.metric, sweep.maximize) == ("random", 3, "val/score", True)
    assert [p.name for p in sweep.parameters] == ["model.optimizer.lr"]
    assert sweep.rungs is None


def test_the_goal_is_to_minimize_as_in_wandb(tmp_path: Path) -> None:
    assert not read(tmp_path, metric={"name": "val/depth/abs_err"}).maximize


@pytest.mark.parametrize(
    ("given", "rungs"),
    [
        ({"min_iter": 3}, Rungs(3, 3)),
        ({"min_iter": 2, "eta": 4}, Rungs(2, 4)),
        ({"max_iter": 27, "s": 2}, Rungs(3, 3)),
        ({"max_iter": 4, "s": 5}, Rungs(1, 3)),
    ],
)
def test_rungs_are_where_wandb_has_them(tmp_path: Path, given: dict[str, int], rungs: Rungs) -> None:
    assert read(tmp_path, early_terminate={"type": "hyperband", **given}).rungs == rungs


@pytest.mark.parametrize("macro", ["args", "args_no_equals"])
def test_values_are_written_as_wandb_writes_them(macro: str) -> None:
    values = {"a.lr": 1e-05, "b": True, "c": [1, 2], "d": "null", "e": {"x": 1}}
    theirs = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    assert expanded([f"${{{macro}}}"], "", values) == theirs[macro]


def test_a_command_is_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT", "/data")
    command = ["${interpreter}", "-m", "jtr_lightning", "fit", "--data.root=${envvar:ROOT}", "${args}"]
    sweep = read(tmp_path, command=command)
    assert sweep.fit_arguments({"x.y": 2}) == ["--data.root=/data", "--x.y=2"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"method": "custom"}, "one of random, grid, bayes; found 'custom'"),
        ({"methd": "random"}, "has `methd`, which a local sweep does not take; did you mean 'method'"),
        ({"scheduler": {"engine": "ax"}}, "has `scheduler`, which a local sweep does not take"),
        ({"metric": None}, "which metric to search by"),
        ({"metric": {"name": "a", "goal": "best"}}, "minimize or maximize; found 'best'"),
        ({"metric": {"name": "a", "target": 1}}, "has `target`, which a local sweep does not take"),
        ({"parameters": None}, "should have `parameters`"),
        ({"run_cap": 0}, "a number above 0; found 0"),
        ({"command": None, "program": "train.py"}, "should call `jtr fit`.*found '/usr/bin/env .* train.py'"),
        ({"command": ["jtr", "fit"]}, r"should have '\$\{args\}'"),
        ({"command": ["jtr", "fit", "${args_json}"]}, r"found \$\{args_json\}"),
        ({"early_terminate": {"type": "median"}}, "should have `type: hyperband`"),
        ({"early_terminate": {"type": "hyperband"}}, "either `min_iter` or `max_iter`"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 1.5}}, "`eta` of at least 2"),
        (
            {"early_terminate": {"type": "hyperband", "min_iter": 1, "eta": "x"}},
            "`eta` of at least 2; found 'x'",
        ),
        ({"early_terminate": {"type": "hyperband", "min_iter": "x"}}, "`min_iter` of at least 0; found 'x'"),
        (
            {"early_terminate": {"type": "hyperband", "max_iter": 9, "s": [1]}},
            r"`s` of at least 0; found \[1\]",
        ),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1, "strict": True}}, "has `strict`"),
        ({"early_terminate": {"type": "hyperband", "min_itr": 1}}, "has `min_itr`, which there is not"),
    ],
)
def test_what_a_local_sweep_cannot_do_is_one_sentence(
    tmp_path: Path, changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        read(tmp_path, **changes)


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"should be given a sweep file; found '.*none\.yaml': No such file or directory\. Give the path",
    ):
        read_sweep(tmp_path / "none.yaml")
    path = tmp_path / "bad.yaml"
    path.write_text("method: [")
    with pytest.raises(ConfigError, match="should be YAML"):
        read_sweep(path)
    path.write_text("- 1")
    with pytest.raises(ConfigError, match="found other content"):
        read_sweep(path)
