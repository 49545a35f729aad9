"""The tables against numbers worked out by hand."""

from __future__ import annotations

import pytest

from jtr_lightning.comparison.plan import FULL, Labels
from jtr_lightning.comparison.report import deltas, gaps, report, results_table
from tests.comparison.parts import EXAMPLE, ONELABEL, fake_results

RESULTS_TABLE = """\
| method | seg miou ↑ | depth abs_err [m] ↓ | delta vs supervised MTL [%] ↑ | delta vs STL [%] ↑ | gap closed [%] ↑ \
| time [min] | memory [MiB] | seeds |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| stl | 0.4 ± 0 | 1 ± 0 | -10.00 ± 0.00 | +0.00 ± 0.00 | -10.0 ± 0.0 | 1.5 ± 0.7 | 1024 ± 0 | 2 |
| supervised | 0.5 ± 0.1414 | 1 ± 0.1414 | +0.00 ± 7.07 | +12.50 ± 10.61 | 0.0 ± 3.5 | 1.5 ± 0.7 | 1024 ± 0 | 2 |
| mtpsl | 0.5 | 0.8 | +10.00 | +22.50 | 25.0 | 1.0 | 1024 | 1 |
| jtr | 0.65 ± 0.07071 | 0.8 ± 0.1414 | +25.00 ± 0.00 | +41.25 ± 1.77 | 40.0 ± 10.6 | 1.5 ± 0.7 | 1024 ± 0 | 2 |
| perceptual_map |  |  |  |  |  |  |  |  |"""

GAP_TABLE = """\
| gap closed [%] ↑ | seg | depth | mean |
| --- | ---: | ---: | ---: |
| stl | -20.0 ± 0.0 | 0.0 ± 0.0 | -10.0 ± 0.0 |
| mtpsl | 0.0 | 50.0 | 25.0 |
| jtr | 30.0 ± 14.1 | 50.0 ± 35.4 | 40.0 ± 10.6 |
| perceptual_map |  |  |  |"""

PAIRED_ROWS = """\
| mtpsl | -0.1 | +0.1 | -15.00 | 1 |
| perceptual_map |  |  |  |  |"""


def test_the_papers_table() -> None:
    assert results_table(fake_results(EXAMPLE), ONELABEL) == RESULTS_TABLE


def test_the_document_has_every_table_the_command_and_the_notes() -> None:
    text = report(fake_results(EXAMPLE), "jtr compare a.yaml --seeds 0 1", {"Methods": "results.png"})
    for part in (RESULTS_TABLE, GAP_TABLE, PAIRED_ROWS, "9 of 12 runs", "`jtr compare a.yaml --seeds 0 1`"):
        assert part in text
    assert "* Commit: abc\n* Device: x86_64 CPU (1 threads)" in text
    assert "| supervised | 1 ± 0 | 0.6 ± 0.1414 |" in text.partition("## fulllabels")[2]
    assert "![Methods](results.png)" in text


def test_paired_interval_of_two_seeds() -> None:
    text = report(fake_results(EXAMPLE), "")
    row = next(line for line in text.splitlines() if line.startswith("| stl | -0.25"))
    # Differences of seg -0.2 and -0.3: t(0.975, 1) = 12.706, standard error 0.05.
    assert row.startswith("| stl | -0.25 [-0.8853, +0.3853] | +0.2 [-1.071, +1.471] |")


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
    assert "| mtpsl | 0.5 | 0.8 | 1.0 | 1024 | 1 |" in text


def test_a_delta_needs_every_task() -> None:
    results = fake_results(EXAMPLE)
    run = next(run for run in results.runs if run.method == "jtr" and run.seed == 1)
    metrics = results.by_name[run.name].metrics
    del metrics["test/seg/miou"]  # type: ignore[attr-defined]
    assert deltas(results, "jtr", "supervised", ONELABEL) == {0: pytest.approx(25.0)}


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
    assert "| jtr | +50.00 ± 0.00 | +10.00 |" in text
    assert "gap closed [%]" not in text
