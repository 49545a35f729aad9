"""What the benchmarks compare is what they say."""

from __future__ import annotations

import csv
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks.options_on_rooms import OPTIONS, write_configs
from benchmarks.variants import GraphOfEveryView
from jtr_lightning.regularizers.jtr import JTR
from tests.regularizers.helpers import four_tasks, random_batch
from tests.shell import SMALL_ROOMS, SMALL_TRAINING
from tests.steps import SMALL

ROOT = Path(__file__).parents[1]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder beside the repository's experiments and benchmarks."""
    for folder in ("experiments", "benchmarks"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("kind", "with_graph"), [(JTR, [True, False]), (GraphOfEveryView, [True, True])])
def test_view_2_has_a_graph_where_it_is_said(kind: type[JTR], with_graph: list[bool]) -> None:
    batch = random_batch(four_tasks(), torch.eye(4, dtype=torch.bool), (24, 20))
    views = kind(**SMALL).build(four_tasks()).sample_views(batch)
    assert [view.grad for view in views] == with_graph


def test_each_option_is_jtr_but_for_itself(workplace: Path) -> None:
    shipped = yaml.safe_load(Path("experiments/rooms/jtr.yaml").read_text(encoding="utf-8"))
    stated = {}
    for path in write_configs(Path("methods"), list(OPTIONS)):
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        regularizer = config["model"]["init_args"]["regularizer"]
        found = regularizer["init_args"]
        stated[path.stem] = (regularizer["class_path"], found.get("views", 3), found["stack_scale"])
        config["name"] = shipped["name"]
        config["model"]["init_args"]["regularizer"] = shipped["model"]["init_args"]["regularizer"]
        assert config == shipped
    assert stated == {
        "published": ("JTR", 3, 1.0),
        "view_2_with_graph": ("benchmarks.variants.GraphOfEveryView", 3, 1.0),
        "views_1": ("JTR", 1, 1.0),
        "half_stacks": ("JTR", 3, 0.5),
        "efficient": ("JTR", 1, 0.5),
    }


@pytest.mark.slow
def test_a_form_of_jtr_of_the_benchmarks_is_trained_and_compared(workplace: Path) -> None:
    options = ["--options", "view_2_with_graph", "--scenarios", "full", "--seeds", "0"]
    command = ["benchmarks/options_on_rooms.py", *options, "--out", "runs/options"]
    subprocess.run([sys.executable, *command, *SMALL_TRAINING, *SMALL_ROOMS], check=True)
    with Path("runs/options/results.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["supervised", "view_2_with_graph"]
    assert all(row["test/depth/abs_err"] for row in rows)


# The benchmark of a step


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``benchmarks/step.py``, which imports what lies beside it as a script does."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module("step")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rounds", "0"], "--rounds should be at least 1; found 0"),
        (["--warm-up", "-1"], "--warm-up should be at least 0; found -1"),
        (["--size", "64", "32"], "--size should be at least 64 64; found 64 32"),
        (["--variants", "published"], "--variants should have 'loop'"),
        (["--compile"], "--compile should be left out on a CPU"),
        (["--device", "cuda"], "--device cuda needs a GPU; found none"),
    ],
)
def test_a_wrong_option_is_told_in_one_sentence(
    options: list[str],
    message: str,
    step: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["step.py", *options])
    with pytest.raises(SystemExit):
        step.read_options()
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_the_table_has_the_share_of_the_peak_where_that_is_known(step: Any) -> None:
    seconds = {"wall": 0.5, "process": 0.25, "memory": 100.0}
    row = {**seconds, "wall_ratio": 0.5, "process_ratio": 0.4, "memory_ratio": 0.3}
    assert step.table({"published": row}).splitlines()[-1] == (
        "| published | 0.50 | 0.50 | 0.25 | 0.40 | 100 | 0.30 |"
    )
    head, line, known = step.table({"published": {**row, "share_of_peak": 0.25}}).splitlines()
    assert head.endswith("| share of the bf16 peak |")
    assert known.endswith("| 25.0 % |")
    assert head.count("|") == line.count("|") == known.count("|")


def test_the_arithmetic_of_a_step_is_counted(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["step.py", "--size", "64", "64", "--batch", "1"])
    options = step.read_options()
    counted = {name: step.flops(step.Stepper(name, options)) for name in ("published", "efficient")}
    # As docs/cost.md has it for 288x384 and batches of 4.
    pixels = 64 * 64 / (288 * 384 * 4)
    assert counted["published"] == pytest.approx(7.10e12 * pixels, rel=0.01)
    assert counted["efficient"] == pytest.approx(2.35e12 * pixels, rel=0.01)
