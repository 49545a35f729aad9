"""The tables against numbers worked out by hand."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from jtr_lightning.comparison.plan import FULL, Labels
from jtr_lightning.comparison.report import deltas, gaps, report, results_table
from jtr_lightning.comparison.results import Results, TaskFacts
from jtr_lightning.comparison.search import Choice, Chosen
from tests.comparison.parts import EXAMPLE, ONELABEL, fake_result, fake_results, fake_run

RESULTS_TABLE = """\
| method | seg miou ↑ | depth abs_err [m] ↓ | delta vs supervised MTL [%] ↑ | delta vs STL [%] ↑ | gap closed [%] ↑ \
| seeds |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| stl | 0.4 ± 0 | 1 ± 0 | -10.00 ± 0.00 | +0.00 ± 0.00 | -10.0 ± 0.0 | 2 |
| supervised | 0.50 ± 0.14 | 1.00 ± 0.14 | +0.00 ± 7.07 | +12.50 ± 10.61 | 0.0 ± 3.5 | 2 |
| mtpsl | 0.5 | 0.8 | +18.06 | +22.50 | 20.8 | 1 |
| jtr | 0.650 ± 0.071 | 0.80 ± 0.14 | +25.00 ± 0.00 | +41.25 ± 1.77 | 40.0 ± 10.6 | 2 |
| perceptual_map |  |  |  |  |  |  |"""

COST_TABLE = """\
| method | time [min] | time / supervised MTL | memory [MiB] |
| --- | ---: | ---: | ---: |
| stl | 1.5 ± 0.7 | 1.00 ± 0.47 | 1024 ± 0 |
| supervised | 1.5 ± 0.7 | 1.00 ± 0.47 | 1024 ± 0 |
| mtpsl | 1.0 | 0.67 | 1024 |
| jtr | 1.5 ± 0.7 | 1.00 ± 0.47 | 1024 ± 0 |
| perceptual_map |  |  |  |"""

GAP_TABLE = """\
| gap closed [%] ↑ | seg | depth | mean |
| --- | ---: | ---: | ---: |
| stl | -20.0 ± 0.0 | 0.0 ± 0.0 | -10.0 ± 0.0 |
| mtpsl | 16.7 | 25.0 | 20.8 |
| jtr | 30.0 ± 14.1 | 50.0 ± 35.4 | 40.0 ± 10.6 |
| perceptual_map |  |  |  |"""

PAIRED_ROWS = """\
| mtpsl | -0.1 | +0.1 | -18.06 | 1 |
| perceptual_map |  |  |  |  |"""


def test_the_papers_table() -> None:
    assert results_table(fake_results(EXAMPLE), ONELABEL) == RESULTS_TABLE


def test_the_document_has_every_table_the_command_and_the_notes() -> None:
    text = report(fake_results(EXAMPLE), "jtr compare a.yaml --seeds 0 1", {"Methods": "results.png"})
    for part in (RESULTS_TABLE, COST_TABLE, GAP_TABLE, PAIRED_ROWS, "9 of 12 runs"):
        assert part in text
    assert "* Command: `jtr compare a.yaml --seeds 0 1`\n" in text
    assert "* Commit: abc\n* Device: x86_64 CPU (1 thread)" in text
    assert "| supervised | 1 ± 0 | 0.60 ± 0.14 |" in text.partition("## fulllabels")[2]
    assert "![Methods](results.png)" in text


def test_paired_interval_of_two_seeds() -> None:
    text = report(fake_results(EXAMPLE), "")
    row = next(line for line in text.splitlines() if line.startswith("| stl | -0.25"))
    # Differences of seg -0.2 and -0.3: t(0.975, 1) = 12.706, standard error 0.05.
    assert row.startswith("| stl | -0.25 [-0.89, +0.39] | +0.2 [-1.1, +1.5] |")


def test_a_task_without_a_gap_is_left_out_of_the_mean() -> None:
    numbers = {**EXAMPLE, ("supervised", FULL): [(0.3, 0.5), (0.5, 0.7)]}
    results = fake_results(numbers)
    assert gaps(results, "jtr", ONELABEL)["seg"] == {}
    assert "| jtr |  | 50.0 ± 35.4 | 50.0 ± 35.4 |" in report(results, "")


def test_without_the_other_methods_their_columns_are_left_out_and_it_says_so() -> None:
    text = report(fake_results({("mtpsl", ONELABEL): [(0.5, 0.8)]}), "")
    assert "delta vs supervised MTL [%]" not in text
    assert "| method - " not in text
    assert "gap closed [%]" not in text
    assert "* Supervised MTL: none of the methods" in text
    assert "* STL: none of the methods" in text
    assert "| mtpsl | 0.5 | 0.8 | 1 |" in text
    assert "| mtpsl | 1.0 | 1024 |" in text


def test_a_delta_needs_every_task() -> None:
    results = fake_results(EXAMPLE)
    run = next(run for run in results.runs if run.method == "jtr" and run.seed == 1)
    metrics = results.by_name[run.name].metrics
    del metrics["test/seg/miou"]  # type: ignore[attr-defined]
    # Of seed 0 alone: mIoU 0.4 to 0.6 and depth 0.9 to 0.7.
    assert deltas(results, "jtr", "supervised", ONELABEL) == {0: pytest.approx(100 * (1 / 2 + 2 / 9) / 2)}


def test_a_method_with_fewer_seeds_is_held_against_the_baseline_of_those_seeds() -> None:
    results = fake_results(EXAMPLE)
    # Of seed 0 alone: mIoU 0.4 to 0.5 and depth 0.9 to 0.8, with 1.0 and 0.5 for full labels.
    assert deltas(results, "mtpsl", "supervised", ONELABEL) == {0: pytest.approx(100 * (1 / 4 + 1 / 9) / 2)}
    assert gaps(results, "mtpsl", ONELABEL) == {
        "seg": {0: pytest.approx(100 / 6)},
        "depth": {0: pytest.approx(25)},
    }
    assert deltas(results, "mtpsl", "perceptual_map", ONELABEL) == {}


def test_a_metric_that_is_no_number_is_left_out_and_told() -> None:
    nan = math.nan
    numbers = {
        ("supervised", ONELABEL): [(0.4, 1.0), (0.6, 1.0), (0.5, nan)],
        ("jtr", ONELABEL): [(0.5, 0.8), (0.6, nan), (0.7, 1.0)],
        ("mtpsl", ONELABEL): [(nan, nan)] * 3,
        ("supervised", FULL): [(1.0, 0.5), (nan, nan), (1.0, math.inf)],
    }
    text = report(fake_results(numbers), "")
    # Seed 0 alone has every number: +25 % and +20 %, and of the gap 1/6 and 2/5.
    assert "| jtr | 0.60 ± 0.10 | 0.90 ± 0.14 (2 of 3) | +22.50 (1 of 3) | 28.3 (1 of 3) | 3 |" in text
    assert "| mtpsl | (0 of 3) | (0 of 3) |  |  | 3 |" in text
    assert "nan" not in text
    assert "inf " not in text


def test_a_seed_that_went_astray_counts_as_one_that_was_not_run() -> None:
    """Its other tasks' numbers would be held against the baseline of other seeds."""
    numbers = {
        ("supervised", ONELABEL): [(0.3, 0.5), (0.4, 0.52), (0.5, 0.51)],
        ("supervised", FULL): [(0.8, 0.4)] * 3,
    }
    astray = fake_results({**numbers, ("jtr", ONELABEL): [(0.45, math.nan), (0.42, 0.5), (0.5, 0.5)]})
    not_run = fake_results({**numbers, ("jtr", ONELABEL): [None, (0.42, 0.5), (0.5, 0.5)]})
    assert deltas(astray, "jtr", "supervised", ONELABEL) == deltas(not_run, "jtr", "supervised", ONELABEL)
    assert gaps(astray, "jtr", ONELABEL) == gaps(not_run, "jtr", ONELABEL)
    row = next(line for line in report(astray, "").splitlines() if line.startswith("| jtr | 0.4"))
    assert row.count("(2 of 3)") == 3, "depth, delta and gap"


def test_a_method_that_went_astray_in_one_task_closes_no_gap_in_the_others() -> None:
    numbers = {
        ("supervised", ONELABEL): [(0.3, 0.5), (0.4, 0.52)],
        ("jtr", ONELABEL): [(0.45, math.nan), (0.5, math.nan)],
        ("supervised", FULL): [(0.8, 0.4)] * 2,
    }
    results = fake_results(numbers)
    assert gaps(results, "jtr", ONELABEL) == {"seg": {}, "depth": {}}
    assert re.search(r"\| jtr \| 0\.\S+ ± \S+ \| \(0 of 2\) \|  \|  \| 2 \|", report(results, ""))


def test_each_run_has_its_commit_and_its_config() -> None:
    results = fake_results({("supervised", ONELABEL): [(0.4, 0.9)], ("jtr", ONELABEL): [(0.5, 0.8), None]})
    first, second, third = results.runs
    found = dict(results.by_name)
    found[second.name] = replace(found[second.name], commit="d" * 40 + "-dirty")
    text = report(replace(results, by_name=found), "")
    assert "* Commit: abc, dddddddddd-dirty, see the runs below\n" in text
    assert f"| supervised | onelabel | 0 | 3 | abc | [{first.key}](configs/{first.key}.yaml) |" in text
    assert (
        f"| jtr | onelabel | 0 | 3 | dddddddddd-dirty | [{second.key}](configs/{second.key}.yaml) |" in text
    )
    assert third.key not in text


def test_the_search_is_stated() -> None:
    results = fake_results({("jtr", ONELABEL): [(0.5, 0.8)]})
    assert "* Search: none, each method as in its config" in report(results, "")
    chosen = Chosen(
        command="jtr compare --search s.yaml",
        metric="val/score",
        labels="onelabel",
        seeds=[100, 101],
        trials=6,
        methods={"jtr": Choice({"model.regularizer.ramp": 0.5, "model.optimizer.lr": 0.002}, 0.123456, 1)},
    )
    text = report(results, "", chosen=chosen)
    assert (
        "* Search: 6 trials of each method on onelabel with seeds 100, 101, chosen by val/score of the best epoch, "
        "without a look at the test set: `jtr compare --search s.yaml`\n"
    ) in text
    assert "| jtr | `model.regularizer.ramp=0.5`, `model.optimizer.lr=0.002` | 0.1235 | 1 |" in text


def test_with_many_tasks_what_is_over_all_of_them_is_a_table_of_its_own() -> None:
    tasks = {f"t{i}": TaskFacts("rmse", False, "") for i in range(5)}
    runs = [fake_run(method, seed=seed) for method in ("supervised", "jtr") for seed in (0, 1)]
    found = {
        run.name: fake_result(
            {},
            metrics={
                f"test/{name}/rmse": 1.0 + run.seed * 0.1 - 0.5 * (run.method == "jtr") for name in tasks
            },
            tasks=tasks,
        )
        for run in runs
    }
    text = report(Results(runs, found, "supervised", None, "jtr"), "")
    assert f"| method | {' | '.join(f't{i} rmse ↓' for i in range(5))} |\n" in text
    assert "| method | delta vs supervised MTL [%] ↑ | gap closed [%] ↑ | seeds |\n" in text
    assert f"| jtr {'| 0.550 ± 0.071 ' * 5}|\n" in text
    assert "| method - jtr | delta vs supervised MTL [%] ↑ | pairs |\n" in text
    assert max(line.count("|") for line in text.splitlines()) == 8  # the gap's table: tasks and mean


def test_nothing_finished_yet() -> None:
    text = report(fake_results({("jtr", ONELABEL): [None]}), "")
    assert "0 of 1 runs" in text
    assert "* Commit: none yet" in text


def test_shares_of_labels_are_columns() -> None:
    tenth, half = (
        Labels("fractionlabels", "FractionLabels", 0.1),
        Labels("fractionlabels", "FractionLabels", 0.5),
    )
    text = report(
        fake_results(
            {
                ("supervised", tenth): [(0.2, 2.0), (0.2, 2.0)],
                ("jtr", tenth): [(0.3, 1.0), (0.3, 1.0)],
                ("supervised", half): [(0.4, 1.0), (0.6, 1.0)],
                ("jtr", half): [(0.5, 0.8), None],
            }
        ),
        "",
    )
    assert "| seg miou ↑ | 10 % | 50 % |" in text
    assert "| jtr | 0.3 ± 0 | 0.5 |" in text
    assert "| delta vs supervised MTL [%] ↑ | 10 % | 50 % |" in text
    # Of seed 0, which both have: mIoU 0.4 to 0.5, depth 1.0 to 0.8.
    assert "| jtr | +50.00 ± 0.00 | +22.50 |" in text
    tenth_alone = text.partition("## 10 % of the labels")[2].partition("## 50 % of the labels")[0]
    assert "| jtr | 0.3 ± 0 | 1 ± 0 | +50.00 ± 0.00 |" in tenth_alone
    assert "| method - jtr | seg miou ↑ |" in tenth_alone
    assert "| jtr | 1.5 ± 0.7 | 1.00 ± 0.47 | 1024 ± 0 |" in tenth_alone


def test_a_share_of_all_labels_is_what_the_gap_is_measured_with() -> None:
    half, whole = (Labels("fractionlabels", "FractionLabels", share) for share in (0.5, 1.0))
    results = fake_results(
        {
            ("supervised", half): [(0.4, 1.0)],
            ("jtr", half): [(0.5, 0.9)],
            ("supervised", whole): [(0.6, 0.5)],
        }
    )
    assert gaps(results, "jtr", half) == {"seg": {0: pytest.approx(50)}, "depth": {0: pytest.approx(20)}}
    parts = report(results, "").partition("## 100 % of the labels")
    assert "| jtr | 50.0 | 20.0 | 35.0 |" in parts[0]
    assert "gap closed" not in parts[2]
