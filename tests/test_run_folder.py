"""Numbers of runs, and what metrics.json holds."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jtr_lightning.errors import ConfigError
from jtr_lightning.run_folder import (
    add_metrics,
    new_run_folder,
    remove_unused,
    run_of_checkpoint,
)


def test_runs_are_numbered_after_the_last(tmp_path: Path) -> None:
    assert new_run_folder(tmp_path, "jtr") == tmp_path / "jtr" / "0"
    (tmp_path / "jtr" / "9").mkdir()
    (tmp_path / "jtr" / "notes").mkdir()
    assert new_run_folder(tmp_path, "jtr") == tmp_path / "jtr" / "10"
    assert new_run_folder(tmp_path, "other") == tmp_path / "other" / "0"


@pytest.mark.parametrize("name", ["..", "a/../../b", ".", "/tmp/b"])
def test_a_run_stays_below_the_folder_of_all_runs(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"run's name should be that of a folder below '.*runs'; found"):
        new_run_folder(tmp_path / "runs", name)
    assert not list(tmp_path.iterdir())


def test_runs_that_start_together_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_run_folder(tmp_path, "jtr"), range(24)))
    assert len(set(folders)) == 24


def test_a_folder_is_removed_only_while_nothing_is_in_it(tmp_path: Path) -> None:
    first, second = (new_run_folder(tmp_path, "jtr") for _ in range(2))
    (first / "config.yaml").touch()
    remove_unused(first)
    remove_unused(second)
    assert [path.name for path in (tmp_path / "jtr").iterdir()] == ["0"]
    assert (first / "config.yaml").is_file()
    remove_unused(new_run_folder(tmp_path, "other"))
    assert [path.name for path in tmp_path.iterdir()] == ["jtr"]


def test_the_run_of_a_checkpoint_is_known_by_its_config(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    assert run_of_checkpoint(checkpoint) is None
    (tmp_path / "config.yaml").touch()
    assert run_of_checkpoint(checkpoint) == tmp_path


def test_metrics_are_added_to_those_that_are_there(tmp_path: Path) -> None:
    add_metrics(tmp_path, {"val/a": 1.0, "val/b": 2.0})
    add_metrics(tmp_path, {"test/a": 3.0, "val/b": 4.0})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"val/a": 1.0, "val/b": 4.0, "test/a": 3.0}
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.json"]
