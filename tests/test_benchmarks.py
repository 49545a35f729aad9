"""What the benchmarks compare is what they say."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

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
