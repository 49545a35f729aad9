"""Every sweep file that is shipped is one for W&B, and the command that W&B makes of it trains."""

import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from jtr_lightning.cli.main import main
from jtr_lightning.sweeps.file import expanded, read_sweep

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "experiments" / "sweeps").glob("*.yaml"))
SMALL = [
    *("--data.num_train=4", "--data.num_val=2", "--data.num_test=2", "--data.size=[32,40]"),
    *("--data.make_workers=1", "--data.batch_size=4", "--model.regularizer.widths=[4,4,4]"),
    *("--model.regularizer.depths=[1,1,1]", "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"),
    "--trainer.enable_progress_bar=false",
]


def content(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    return tree


def drawn(path: Path) -> dict[str, Any]:
    """Some value of each parameter, as the server of W&B would send it."""
    rng = random.Random(0)
    values = {}
    for name, given in content(path)["parameters"].items():
        values[name] = (
            rng.choice(given["values"]) if "values" in given else rng.uniform(given["min"], given["max"])
        )
    return values


def wandb_command(path: Path, values: dict[str, Any]) -> list[str]:
    """The command as W&B's agent makes it, by its own functions."""
    macros = create_sweep_command_args({"args": {name: {"value": value} for name, value in values.items()}})
    macros |= {"env": ["/usr/bin/env"]}
    words: list[str] = []
    for word in create_sweep_command(content(path)["command"]):
        words += macros[word[2:-1]] if word.startswith("${") else [word]
    return words


def test_there_is_a_file_for_each_method() -> None:
    methods = {content(path)["method"] for path in FILES}
    assert methods == {"random", "grid", "bayes"}
    assert any("early_terminate" in content(path) for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_wandbs_own_schema_accepts_the_file(path: Path) -> None:
    # Not skipped where it is missing: `make install` brings it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it was written for an older pydantic
        from sweeps import schema_violations_from_proposed_config

    assert schema_violations_from_proposed_config(content(path)) == []
    broken = {**content(path), "method": "guess"}
    assert schema_violations_from_proposed_config(broken) != []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_local_sweep_runs_the_command_that_wandb_runs(path: Path) -> None:
    values = drawn(path)
    sweep = read_sweep(path)
    assert [p.name for p in sweep.parameters] == list(values)
    assert expanded(sweep.command, sweep.program, values) == wandb_command(path, values)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_command_trains(
    path: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    env, program, *arguments = wandb_command(path, drawn(path))
    assert (env, program) == ("/usr/bin/env", "jtr")
    rooms = tmp_path_factory.getbasetemp() / "rooms_of_sweeps"
    options = [f"--data.root={rooms}", f"--runs={tmp_path}", *SMALL]
    assert main([*arguments, *options]) == 0


@pytest.mark.slow
def test_a_shipped_file_runs_locally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    small = [option for option in SMALL if "fast_dev_run" not in option] + [
        "--trainer.max_epochs=1",
        "--trainer.check_val_every_n_epoch=1",
    ]
    file = str(ROOT / "experiments" / "sweeps" / "bayes_hyperband.yaml")
    options = ["--trials", "2", "--out", str(tmp_path / "out"), f"--data.root={tmp_path / 'rooms'}", *small]
    assert main(["sweep", file, "--local", *options]) == 0
    assert len((tmp_path / "out" / "results.csv").read_text().splitlines()) == 3
    assert (tmp_path / "out" / "results.png").is_file()
