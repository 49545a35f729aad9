"""A search is as large for each method, looks at validation alone, and its seeds are not the comparison's."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from jtr_lightning.comparison.plan import Method, Run, methods_of
from jtr_lightning.comparison.results import Result, Results
from jtr_lightning.comparison.search import (
    Choice,
    Chosen,
    best_of,
    choose,
    plan_trials,
    read_chosen,
    read_search,
    trials_of,
    write_chosen,
)
from jtr_lightning.comparison.search_report import search_report
from jtr_lightning.errors import ConfigError
from tests.comparison.parts import ONELABEL, fake_result, fake_run, write_config

METHODS = [Method("supervised", "supervised.yaml"), Method("jtr", "jtr.yaml")]
SEARCH = {
    "supervised": {"model.optimizer.lr": [0.1, 0.2, 0.3, 0.4]},
    "jtr": {"model.regularizer.weight": [1, 2], "model.regularizer.ramp": [0.0, 0.5]},
}


def write_search(path: Path, content: Any) -> Path:
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_every_combination_is_a_trial(tmp_path: Path) -> None:
    path = write_search(tmp_path / "search.yaml", {**SEARCH, "of no interest": 3})
    trials = read_search(path, METHODS)
    assert list(trials) == ["supervised", "jtr"]
    assert trials["supervised"] == [{"model.optimizer.lr": lr} for lr in (0.1, 0.2, 0.3, 0.4)]
    assert [tuple(each.values()) for each in trials["jtr"]] == [(1, 0.0), (1, 0.5), (2, 0.0), (2, 0.5)]
    assert set(trials["jtr"][0]) == {"model.regularizer.weight", "model.regularizer.ramp"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"jtr": SEARCH["jtr"]},
            r"options to vary for each method, or .* not fair; found none for 'supervised'",
        ),
        ({**SEARCH, "jtr": {}}, r"found none for 'jtr'$"),
        ({"jtr_": SEARCH["jtr"], "supervised": SEARCH["supervised"]}, r"'jtr', did you mean 'jtr_'"),
        ({**SEARCH, "jtr": {"a.b": 3}}, r"a list of values for 'a.b' of 'jtr'; found 3"),
        ({**SEARCH, "jtr": {"a.b": []}}, r"a list of values for 'a.b' of 'jtr'; found \[\]"),
        ({**SEARCH, "jtr": {"a.b": [1, 2]}}, r"same number of trials; found 4 for supervised, 2 for jtr"),
        ({**SEARCH, "jtr": {"data.seed": [1, 2]}}, r"decides `data.seed` of each run itself"),
        (["jtr"], r"should hold a method in each entry"),
    ],
)
def test_a_search_that_is_not_fair_or_makes_no_sense(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_search(write_search(tmp_path / "search.yaml", content), METHODS)


def test_a_search_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--search should be given a file; found '.*nowhere.yaml': No such"
    ):
        read_search(tmp_path / "nowhere.yaml", METHODS)
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"broken.yaml' should be YAML; found: while parsing"):
        read_search(tmp_path / "broken.yaml", METHODS)
    (tmp_path / "deep.yaml").write_text("[" * 10_000)
    with pytest.raises(ConfigError, match=r"deep.yaml' should be YAML; found: values nested too deeply"):
        read_search(tmp_path / "deep.yaml", METHODS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match=r"--chosen should be given a file; found '.*pipe': a named pipe"):
        read_chosen([tmp_path / "pipe"])


def test_trials_are_runs_whose_own_options_win(tmp_path: Path) -> None:
    methods = methods_of([str(write_config(tmp_path / f"{name}.yaml")) for name in ("a", "b")])
    trials = {
        "a": [{"data.batch_size": 1}, {"data.batch_size": 2}],
        "b": [{"data.on_error": "skip"}, {"data.on_error": "raise"}],
    }
    overrides = ["--data.batch_size", "5", "--trainer.max_epochs=7"]
    runs = plan_trials(methods, trials, ONELABEL, [100, 7], overrides)
    assert [(run.seed, run.method) for run in runs] == [
        *((100, "a"), (100, "b"), (100, "a"), (100, "b")),
        *((7, "a"), (7, "b"), (7, "a"), (7, "b")),
    ]
    facts = [run.config["data"]["init_args"] for run in runs[:4]]
    assert [each["batch_size"] for each in facts] == [1, 5, 2, 5]
    assert [each["on_error"] for each in facts] == ["raise", "skip", "raise", "raise"]
    assert {each["seed"] for each in facts} == {100}
    assert {run.config["trainer"]["max_epochs"] for run in runs} == {7}
    assert len({run.key for run in runs}) == 8
    assert str(runs[1]) == "b, onelabel, seed 100, on_error=skip"


def test_one_trial_twice_is_refused(tmp_path: Path) -> None:
    methods = methods_of([str(write_config(tmp_path / "a.yaml"))])
    trials = {"a": [{"data.batch_size": 1}, {"data.batch_size": "1"}]}
    with pytest.raises(ConfigError, match=r"Every trial of 'a' should be another; found batch_size=1"):
        plan_trials(methods, trials, ONELABEL, [0])


def trial_runs(method: str, seeds: tuple[int, ...] = (100,)) -> list[Run]:
    return [
        replace(fake_run(method, seed=seed, lr=lr), values={"lr": lr})
        for lr in (0.1, 0.2, 0.3)
        for seed in seeds
    ]


def scored(runs: list[Run], scores: list[float | None]) -> dict[str, Result]:
    return {
        run.name: fake_result({}, metrics={"val/score": score, "test/seg/miou": -score})
        for run, score in zip(runs, scores, strict=True)
        if score is not None
    }


def test_the_highest_mean_over_the_seeds_is_chosen_of_equal_ones_the_first() -> None:
    a, b = trial_runs("a", (100, 101)), trial_runs("b", (100, 101))
    found = scored(a, [0.9, 0.1, 0.6, 0.6, 0.5, 0.7]) | scored(b, [0.1, 0.1, 0.3, 0.2, 0.1, 0.1])
    results = Results([*a, *b], found)
    chosen = choose(results, "jtr compare")
    assert chosen == Chosen(
        command="jtr compare",
        metric="val/score",
        labels="onelabel",
        seeds=[100, 101],
        trials=3,
        methods={"a": Choice({"lr": 0.2}, 0.6), "b": Choice({"lr": 0.2}, 0.25)},
    )


def test_nothing_is_chosen_before_every_trial_has_ended() -> None:
    runs = trial_runs("a")
    results = Results(runs, scored(runs, [0.1, 0.3, None]))
    assert choose(results, "") is None
    assert best_of(trials_of(results, "a")) is None
    chosen = choose(results, "", failed=[runs[2]])
    assert chosen is not None
    assert chosen.methods["a"] == Choice({"lr": 0.2}, 0.3, failed=1)
    assert choose(Results(runs, {}), "", failed=runs) is None


def test_a_trial_without_a_score_is_never_chosen() -> None:
    runs = trial_runs("a")
    chosen = choose(Results(runs, scored(runs, [float("nan"), 0.1, 0.05])), "")
    assert chosen is not None
    assert chosen.methods["a"].options == {"lr": 0.2}


def test_a_choice_is_read_as_it_was_written(tmp_path: Path) -> None:
    chosen = Chosen(
        "c", "val/score", "onelabel", [100], 4, {"jtr": Choice({"a.b": 0.5, "c": [1, 2]}, 0.25, 1)}
    )
    write_chosen(chosen, tmp_path / "chosen.yaml")
    assert read_chosen([tmp_path / "chosen.yaml"]) == chosen


@pytest.mark.parametrize(
    "content", [{}, {"methods": {"jtr": {"lr": 1}}}, {"methods": 3}, {"methods": {"jtr": 3}}]
)
def test_another_file_is_no_choice(tmp_path: Path, content: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"--chosen should be given the `chosen.yaml` that `jtr compare --search"
    ):
        read_chosen([write_search(tmp_path / "other.yaml", content)])


@pytest.mark.parametrize("part", [{"seeds": 100}, {"options": None}, {"options": ["lr"]}, {"score": "good"}])
def test_a_choice_that_was_changed_by_hand_is_looked_at(tmp_path: Path, part: dict[str, Any]) -> None:
    path = tmp_path / "chosen.yaml"
    write_chosen(Chosen("c", "val/score", "onelabel", [100], 4, {"jtr": Choice({"a.b": 0.5}, 0.25)}), path)
    tree = yaml.safe_load(path.read_text())
    name = next(iter(part))
    (tree if name in tree else tree["methods"]["jtr"]).update(part)
    with pytest.raises(ConfigError, match=r"found other content in"):
        read_chosen([write_search(path, tree)])


def test_a_method_that_was_searched_for_later_joins_the_others(tmp_path: Path) -> None:
    first = Chosen("one", "val/score", "onelabel", [100], 4, {"jtr": Choice({"a.b": 0.5}, 0.25)})
    second = replace(first, command="two", methods={"stl": Choice({"c": 1}, 0.5)})
    paths = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    for chosen, path in zip((first, second), paths, strict=True):
        write_chosen(chosen, path)
    assert read_chosen(paths) == replace(
        first, command="one && two", methods={**first.methods, **second.methods}
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"methods": {"jtr": Choice({}, 0.0)}}, r"each method once; found 'jtr' in '.*second.yaml' again"),
        ({"trials": 8}, r"found the trials 4 in '.*first.yaml' and 8 in '.*second.yaml'"),
        ({"seeds": [101]}, r"found the seeds \[100\] in .* and \[101\] in"),
        ({"labels": "halflabels"}, r"found the labels onelabel in .* and halflabels in"),
        ({"metric": "val/loss"}, r"found the metric val/score in .* and val/loss in"),
    ],
)
def test_searches_that_are_not_alike_do_not_join(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    first = Chosen("one", "val/score", "onelabel", [100], 4, {"jtr": Choice({"a.b": 0.5}, 0.25)})
    second = replace(first, **{"methods": {"stl": Choice({"c": 1}, 0.5)}, **other})
    paths = [tmp_path / "first.yaml", tmp_path / "second.yaml"]
    for chosen, path in zip((first, second), paths, strict=True):
        write_chosen(chosen, path)
    with pytest.raises(ConfigError, match=message):
        read_chosen(paths)


def test_seeds_and_methods_of_a_comparison_are_checked() -> None:
    chosen = Chosen("c", "val/score", "onelabel", [100, 101], 4, {"jtr": Choice({"a.b": 0.5}, 0.25)})
    path = "chosen.yaml"
    assert chosen.options_of(METHODS[1:], [0, 1], path) == {"jtr": {"a.b": 0.5}}
    with pytest.raises(
        ConfigError, match=r"--seeds should have none of the search's; found 101 in 'chosen.yaml'"
    ):
        chosen.options_of(METHODS[1:], [0, 101], path)
    with pytest.raises(ConfigError, match=r"should have every compared method; found none for 'supervised'"):
        chosen.options_of(METHODS, [0], path)


def test_the_document_has_every_trial_and_the_chosen_one() -> None:
    a, b = trial_runs("a"), trial_runs("b")
    found = scored(a, [0.1, None, 0.05]) | scored(b, [0.1, None, None])
    results = Results([*a, *b], found)
    text = search_report(results, "jtr compare --search s.yaml", failed=[a[1]])
    assert "3 of 6 runs are finished" in text
    assert "* Command: `jtr compare --search s.yaml`\n" in text
    assert "* Budget: 3 trials of each method on onelabel, seeds 100\n" in text
    first, second = text.split("## a\n")[1].split("## b\n")
    assert "| lr | val/score ↑ | best epoch | time [min] |  |" in first
    assert "| **0.1** | **0.1** | **3** | **1.0** | **chosen** |" in first
    assert "| 0.2 |  |  |  | failed |" in first
    assert "| 0.3 | 0.05 | 3 | 1.0 |  |" in first
    assert "| 0.1 | 0.1 | 3 | 1.0 |  |" in second  # nothing is chosen yet
    assert second.count("not finished") == 2
