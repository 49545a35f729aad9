"""Every config that is shipped runs: training, test and predictions, on rooms of a few pixels."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from jtr_lightning.comparison.plan import labels_of, methods_of
from jtr_lightning.comparison.search import plan_trials, read_search
from jtr_lightning.data.rooms.datamodule import RoomsDataModule
from jtr_lightning.lightning_cli.command_line import command_line
from jtr_lightning.regularizers import JTR, MTPSL
from tests.test_published import PUBLISHED

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
ROOMS = sorted(path.name for path in (EXPERIMENTS / "rooms").glob("*.yaml"))
SEARCH = EXPERIMENTS / "searches" / "rooms.yaml"
NOT_FOR_FIT = {"loggers", "searches", "sweeps"}
NARROW = {
    "JTR": ["--model.regularizer.widths=[4,4,4]", "--model.regularizer.depths=[1,1,1]"],
    "MTPSL": ["--model.regularizer.widths=[4,4,4,4,4]"],
}
SMALL = [
    *("--data.num_train=8", "--data.num_val=2", "--data.num_test=2", "--data.size=[32,40]"),
    *("--data.make_workers=1", "--data.batch_size=4"),
    *("--trainer.max_epochs=1", "--trainer.check_val_every_n_epoch=1", "--trainer.limit_train_batches=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"),
]


def content(name: str) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load((EXPERIMENTS / "rooms" / name).read_text())
    return tree


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the rooms are made by the first config and found by the others."""
    return tmp_path_factory.mktemp("rooms")


def test_every_config_is_run_by_a_test() -> None:
    found = {path.relative_to(EXPERIMENTS).as_posix() for path in EXPERIMENTS.glob("*/*.yaml")}
    fitted = {name for name in found if name.partition("/")[0] not in NOT_FOR_FIT}
    assert fitted == {*PUBLISHED, *(f"rooms/{name}" for name in ROOMS)}


@pytest.mark.parametrize("name", ROOMS)
def test_a_config_trains_tests_and_predicts(
    name: str, rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    regularizer = content(name)["model"]["init_args"].get("regularizer")
    kind = regularizer["class_path"] if isinstance(regularizer, dict) else regularizer
    config = ["--config", str(EXPERIMENTS / "rooms" / name)]
    fitted = command_line(["fit", *config, f"--data.root={rooms}", *SMALL, *NARROW.get(kind, [])])
    assert fitted.folder == Path("runs", content(name)["name"], "0")
    assert type(fitted.model.regularizer).__name__ == (kind or "NoneType")
    assert isinstance(fitted.datamodule, RoomsDataModule)
    assert fitted.datamodule.datasets["train"].available.sum(1).tolist() == [1] * 8

    best = str(fitted.folder / "checkpoints" / "best.ckpt")
    tested = command_line(["test", "--ckpt_path", best])
    assert {"test/segmentation/miou", "test/depth/abs_err", "test/normals/mean_angle"} <= set(tested.metrics)
    command_line(["predict", "--ckpt_path", best])
    written = {path.parts[4:6] for path in fitted.folder.glob("predictions/*/*/*/*")}
    assert written == {
        (where, task) for where in ("pictures", "raw") for task in ("segmentation", "depth", "normals")
    }  # fmt: skip


@pytest.mark.parametrize(("scenario", "labels"), [("FullLabels", [3] * 8), ("HalfLabels", None)])
def test_the_scenario_is_one_flag(
    scenario: str, labels: list[int] | None, rooms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = str(EXPERIMENTS / "rooms" / "supervised.yaml")
    done = command_line(
        ["fit", "--config", config, "--data.scenario", scenario, f"--data.root={rooms}", *SMALL]
    )
    counts = done.datamodule.datasets["train"].available.sum(1).tolist()
    assert counts == labels if labels else set(counts) == {1, 2}


def test_methods_differ_in_nothing_but_the_method() -> None:
    def rest(name: str) -> dict[str, Any]:
        tree = content(name)
        del tree["name"]
        tree["model"]["init_args"].pop("regularizer", None)
        del tree["model"]["init_args"]["network"]  # single-task networks have one each
        return tree

    for name in set(ROOMS) - {"demo.yaml", "supervised_crops.yaml"}:
        assert rest(name) == rest("supervised.yaml"), name


def test_the_crops_alone_differ_in_nothing_but_the_colours() -> None:
    tree, supervised = content("supervised_crops.yaml"), content("supervised.yaml")
    augmentation = tree["data"]["init_args"].pop("augmentation")
    assert augmentation == {"class_path": supervised["data"]["init_args"].pop("augmentation")} | {
        "init_args": {"colour_changes": 0}
    }
    del tree["name"], supervised["name"]
    assert tree == supervised


@pytest.mark.slow
def test_the_search_tries_as_much_for_each_method_and_its_published_weights() -> None:
    methods = methods_of(
        [str(EXPERIMENTS / "rooms" / f"{name}.yaml") for name in yaml.safe_load(SEARCH.read_text())]
    )
    trials = read_search(SEARCH, methods)
    weights = {"mtpsl": ("weight", MTPSL().weight), "jtr": ("distance_weight", JTR().distance_weight)}
    for name, (option, published) in weights.items():
        assert {f"model.regularizer.{option}": published, "model.regularizer.ramp": 0.0} in trials[name]
    # Refuses trials that are one, options that do not exist and values that do not fit.
    assert len(plan_trials(methods, trials, labels_of(["onelabel"], [])[0], [100])) == 4 * len(methods)


def test_the_demos_baseline_is_of_the_demos_tasks() -> None:
    baseline = json.loads((EXPERIMENTS / "rooms" / "results" / "demo_supervised.json").read_text())
    for stage in ("val", "test"):
        for key in ("segmentation/miou", "depth/abs_err", "normals/mean_angle"):
            assert baseline[f"{stage}/{key}"] > 0
    assert "--model.regularizer null" in baseline["command"]
