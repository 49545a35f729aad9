"""Which runs there are, and when two of them are the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jtr_lightning.comparison.plan import (
    FULL,
    Labels,
    Method,
    Run,
    find_method,
    labels_of,
    make_plan,
    methods_of,
    resolve,
)
from jtr_lightning.errors import ConfigError
from tests.comparison.parts import ONELABEL, fake_run, write_config


def config(**parts: Any) -> dict[str, Any]:
    return {"model": {"lr": 0.1}, "data": {"seed": 0}, "name": "a", "runs": "runs", **parts}


def test_the_key_changes_with_whatever_changes_the_result_and_with_nothing_else() -> None:
    run = Run("jtr", ONELABEL, 0, config())
    assert replace(run, config=config(name="b", runs="elsewhere", ckpt_path=None)).key == run.key
    assert replace(run, config=config(panels={"every_n_epochs": 1}, report={}, resume=None)).key == run.key
    assert replace(run, config=dict(reversed(config().items()))).key == run.key
    assert replace(run, config=config(model={"lr": 0.2})).key != run.key
    assert replace(run, config=config(data={"seed": 1})).key != run.key
    assert run.name == f"jtr-onelabel-0-{run.key}"
    assert len(run.key) == 12


def test_the_name_tells_the_share_of_labels() -> None:
    assert fake_run("jtr", Labels("fractionlabels", "FractionLabels", 0.05), 2).name.startswith(
        "jtr-fractionlabels-0.05-2-"
    )


def test_scenarios_in_any_case_each_once_then_shares_in_order() -> None:
    found = labels_of(["OneLabel", "onelabel", "full", "domainsplit"], [0.5, 0.1])
    assert [which.title for which in found] == [
        *("onelabel", "fulllabels", "domainsplit"),
        *("10 % of the labels", "50 % of the labels"),
    ]
    assert found[1] == FULL


@pytest.mark.parametrize(
    ("scenarios", "fractions", "message"),
    [
        (["onelabels"], [], r"found 'onelabels', did you mean 'onelabel'"),
        (["scenario"], [], r"--scenarios should name scenarios"),
        (["fractionlabels"], [], r"found 'fractionlabels', give --fractions"),
        (["SplitFile"], [], r"found 'SplitFile', give 'own' for what the configs say"),
        ([], [0.0], r"--fractions should be above 0 and at most 1; found 0"),
        ([], [1.5], r"--fractions should be above 0 and at most 1; found 1.5"),
    ],
)
def test_wrong_scenarios_and_shares(scenarios: list[str], fractions: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        labels_of(scenarios, fractions)


def test_methods_are_named_after_their_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    paths = [tmp_path / "jtr.yaml", tmp_path / "stl.yaml", tmp_path / "a" / "jtr.yaml"]
    for path in paths:
        path.write_text("{}")
    assert [m.name for m in methods_of([str(p) for p in paths[:2]])] == ["jtr", "stl"]
    with pytest.raises(ConfigError, match=r"are both 'jtr'. Rename one"):
        methods_of([str(p) for p in paths])
    with pytest.raises(ConfigError, match=r"found none at 'nowhere.yaml'"):
        methods_of(["nowhere.yaml"])


def test_special_methods_are_found_by_name_file_or_default() -> None:
    methods = [Method("jtr", "rooms/jtr.yaml"), Method("supervised", "rooms/supervised.yaml")]
    assert find_method(methods, None, "supervised", "--baseline") == "supervised"
    assert find_method(methods, "jtr", "supervised", "--baseline") == "jtr"
    assert find_method(methods, "rooms/jtr.yaml", "supervised", "--baseline") == "jtr"
    assert find_method(methods, None, "stl", "--single-task") is None
    with pytest.raises(
        ConfigError, match=r"--baseline should be one of .* 'supervisd', did you mean 'superv"
    ):
        find_method(methods, "supervisd", "supervised", "--baseline")


def test_the_resolved_configuration_has_defaults_overrides_and_the_scenario(tmp_path: Path) -> None:
    file = write_config(tmp_path / "toy.yaml", scenario="HalfLabels")
    share = Labels("fractionlabels", "FractionLabels", 0.25)
    found = resolve(str(file), share, ["--trainer.max_epochs", "7", "--data.batch_size=2"])
    assert found["trainer"]["max_epochs"] == 7
    data = found["data"]["init_args"]
    assert data["batch_size"] == 2
    assert data["on_error"] == "raise"
    assert data["scenario"]["class_path"].rpartition(".")[2] == "FractionLabels"
    assert data["scenario"]["init_args"] == {"fraction": 0.25}


def test_the_plan_adds_the_baseline_with_full_labels(tmp_path: Path) -> None:
    files = [str(write_config(tmp_path / f"{name}.yaml")) for name in ("supervised", "jtr")]
    methods = methods_of(files)
    plan = make_plan(methods, [ONELABEL], [0, 3], baseline="supervised")
    assert [(run.method, run.labels.name, run.seed) for run in plan] == [
        *(("supervised", "onelabel", 0), ("jtr", "onelabel", 0)),
        *(("supervised", "onelabel", 3), ("jtr", "onelabel", 3)),
        *(("supervised", "fulllabels", 0), ("supervised", "fulllabels", 3)),
    ]
    assert [run.config["seed_everything"] for run in plan] == [0, 0, 3, 3, 0, 3]
    assert [run.config["data"]["init_args"]["seed"] for run in plan] == [0, 0, 3, 3, 0, 3]
    # The two configs are the same, so are their keys; seeds and labels make others.
    assert len({run.key for run in plan}) == 4
    share = Labels("fractionlabels", "FractionLabels", 0.5)
    assert {run.labels for run in make_plan(methods, [share], [0], baseline="supervised")} == {share, FULL}
    every = Labels("fractionlabels", "FractionLabels", 1.0)
    assert {run.labels for run in make_plan(methods, [share, every], [0], baseline="supervised")} == {
        share,
        every,
    }


def test_the_configs_own_labels_are_compared_where_they_are_the_same(tmp_path: Path) -> None:
    split = {"class_path": "SplitFile", "init_args": {"path": "published.csv"}}
    files = [
        str(write_config(tmp_path / f"{name}.yaml", scenario=split))
        for name in ("supervised", "jtr", "mtpsl")
    ]
    (own,) = labels_of(["own"], [])
    plan = make_plan(methods_of(files), [own], [0], baseline="supervised")
    assert [(run.method, run.labels.name) for run in plan] == [
        *(("supervised", "own"), ("jtr", "own"), ("mtpsl", "own")),
        ("supervised", "fulllabels"),
    ]
    scenarios = [run.config["data"]["init_args"]["scenario"] for run in plan]
    assert all(s["class_path"].endswith("SplitFile") for s in scenarios[:3])
    assert all(s["init_args"]["path"] == "published.csv" for s in scenarios[:3])
    assert scenarios[3]["class_path"].endswith("FullLabels")
    other = write_config(tmp_path / "other.yaml", scenario="OneLabel")
    with pytest.raises(
        ConfigError, match=r"the same `data.scenario`.*published.csv.*supervised.yaml.*other.yaml"
    ):
        make_plan(methods_of([*files, str(other)]), [own], [0])


def test_what_a_search_has_chosen_is_given_to_its_method_and_wins(tmp_path: Path) -> None:
    methods = methods_of([str(write_config(tmp_path / f"{name}.yaml")) for name in ("supervised", "jtr")])
    chosen = {"jtr": {"data.batch_size": 4}, "supervised": {"data.batch_size": 6}}
    runs = make_plan(methods, [ONELABEL], [0], ["--data.batch_size=5"], "supervised", chosen)
    assert [(run.method, run.config["data"]["init_args"]["batch_size"]) for run in runs] == [
        *(("supervised", 6), ("jtr", 4), ("supervised", 6))
    ]


@pytest.mark.parametrize("devices", ["2", "-1", "[0,1]"])
def test_a_run_has_one_device(tmp_path: Path, devices: str) -> None:
    file = str(write_config(tmp_path / "toy.yaml"))
    with pytest.raises(
        ConfigError, match=r"toy.yaml: a compared run should have one device, .* \(--jobs\); found"
    ):
        resolve(file, ONELABEL, [f"--trainer.devices={devices}"])
    for one in ("1", "auto", "[0]"):
        resolve(file, ONELABEL, [f"--trainer.devices={one}"])


def test_a_run_without_checkpoints_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    file = str(write_config(tmp_path / "toy.yaml"))
    with pytest.raises(ConfigError, match=r"toy.yaml: a compared run should keep its best checkpoint"):
        resolve(file, ONELABEL, ["--trainer.enable_checkpointing=false"])


def test_a_run_of_one_step_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    file = str(write_config(tmp_path / "toy.yaml"))
    with pytest.raises(
        ConfigError, match=r"toy.yaml: a compared run should train, .* --trainer.max_epochs 1"
    ):
        resolve(file, ONELABEL, ["--trainer.fast_dev_run=true"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("--data.seed", r"decides `data.seed` of each run itself; .* use --seeds"),
        ("--data.init_args.seed=3", r"decides `data.seed`"),
        ("--data.scenario.fraction", r"decides `data.scenario` .* use --scenarios or --fractions"),
    ],
)
def test_what_a_comparison_decides_cannot_be_overridden(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plan([], [ONELABEL], [0], [override])


def test_a_checkpoint_to_begin_from_is_refused(tmp_path: Path) -> None:
    """It is no part of a run's name: a run from another one would be taken for it."""
    file = write_config(tmp_path / "toy.yaml")
    file.write_text(file.read_text() + "ckpt_path: other.ckpt\n")
    with pytest.raises(
        ConfigError, match=r"toy.yaml: a compared run should be trained from its beginning.*other.ckpt"
    ):
        resolve(str(file), ONELABEL)


def test_a_wrong_override_is_told_with_the_config(tmp_path: Path) -> None:
    file = write_config(tmp_path / "toy.yaml")
    with pytest.raises(ConfigError, match=r"toy.yaml: .*batch_sze"):
        resolve(str(file), ONELABEL, ["--data.batch_sze", "3"])
