"""Runs of earlier code, whose configuration lacks arguments that classes have today, are found again."""

from __future__ import annotations

import shutil
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from jtr_lightning.comparison.earlier import found_again
from jtr_lightning.comparison.plan import Run, resolve, seeded
from jtr_lightning.comparison.results import CONFIG, RESULT
from tests.comparison.parts import ONELABEL, write_config
from tests.kept_configs import kept_with_a_newer_torch

RESULTS = Path(__file__).parents[2] / "experiments" / "rooms"


def planned(tmp_path: Path, seed: int = 0, **data: Any) -> Run:
    config = resolve(str(write_config(tmp_path / "toy.yaml", **data)), ONELABEL)
    return Run("toy", ONELABEL, seed, seeded(config, seed))


def trained_before(run: Run, root: Path, argument: str) -> Run:
    """The folder of a run of the time when the data module had no such argument."""
    config = deepcopy(dict(run.config))
    del config["data"]["init_args"][argument]
    earlier = Run(run.method, run.labels, run.seed, config)
    write_folder(root / earlier.name, config)
    return earlier


def write_folder(folder: Path, config: Any) -> None:
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(yaml.safe_dump(config, sort_keys=False))


def test_an_argument_at_its_default_makes_no_other_run(tmp_path: Path) -> None:
    run, root = planned(tmp_path), tmp_path / "runs"
    assert found_again([run], root) == [run]
    earlier = trained_before(run, root, "on_error")
    other_seed = planned(tmp_path, seed=1)
    found = found_again([run, other_seed], root)
    assert found == [earlier, other_seed]
    assert [each.name for each in found] == [earlier.name, other_seed.name]
    assert earlier.key != run.key


def test_an_argument_at_another_value_makes_another_run(tmp_path: Path) -> None:
    run = planned(tmp_path, on_error="skip")
    trained_before(run, tmp_path / "runs", "on_error")
    assert found_again([run], tmp_path / "runs") == [run]


def test_a_run_that_has_a_folder_is_itself(tmp_path: Path) -> None:
    run, root = planned(tmp_path), tmp_path / "runs"
    trained_before(run, root, "on_error")
    write_folder(root / run.name, run.config)
    (root / run.name / RESULT).touch()
    assert found_again([run], root) == [run]


def test_an_empty_folder_of_its_own_hides_no_earlier_run(tmp_path: Path) -> None:
    run, root = planned(tmp_path), tmp_path / "runs"
    earlier = trained_before(run, root, "on_error")
    write_folder(root / run.name, run.config)
    assert [each.name for each in found_again([run], root)] == [earlier.name]


def test_of_several_earlier_runs_a_finished_one_is_taken(tmp_path: Path) -> None:
    run, root = planned(tmp_path), tmp_path / "runs"
    earlier = [
        trained_before(run, root, argument) for argument in ("on_error", "num_workers", "augmentation")
    ]
    last = max(earlier, key=lambda each: each.name)
    (root / last.name / RESULT).touch()
    assert [each.name for each in found_again([run], root)] == [last.name]


@pytest.mark.parametrize("content", ["[", "- a list", "seed_everything: 3", "trainer: {max_epochs: 3}", ""])
def test_a_folder_with_another_configuration_is_passed_over(tmp_path: Path, content: str) -> None:
    run, root = planned(tmp_path), tmp_path / "runs"
    earlier = trained_before(run, root, "on_error")
    (root / earlier.name / CONFIG).write_text(content)
    assert found_again([run], root) == [run]


@kept_with_a_newer_torch
def test_the_committed_run_of_jtr_is_older_than_an_argument_and_still_known(tmp_path: Path) -> None:
    name = "jtr-onelabel-0-0f56c29896d9"
    (tmp_path / name).mkdir()
    shutil.copy(RESULTS / "results" / "onelabel" / "configs" / "0f56c29896d9.yaml", tmp_path / name / CONFIG)
    options = [
        "--trainer.accelerator=cpu",
        "--data.num_train=30",
        "--trainer.max_epochs=600",
        "--trainer.check_val_every_n_epoch=20",
        "--model.lr_scheduler.init_args.T_max=600",
    ]
    run = Run("jtr", ONELABEL, 0, seeded(resolve(str(RESULTS / "jtr.yaml"), ONELABEL, options), 0))
    assert run.name != name
    assert [each.name for each in found_again([run], tmp_path)] == [name]
