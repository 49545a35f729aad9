"""The page of a run: what is on it, that it stands alone, and that no name can break it."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from PIL import Image

from jtr_lightning.baseline import Baseline
from jtr_lightning.callbacks.best_metrics import BestMetrics
from jtr_lightning.callbacks.panel_logger import PanelLogger
from jtr_lightning.callbacks.report import Report
from jtr_lightning.cli.main import main
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.reporting import curves
from jtr_lightning.reporting.curves import panels_of, read_log
from jtr_lightning.reporting.facts import label_facts
from jtr_lightning.reporting.page import _pictures, page, results_table, write_report
from jtr_lightning.scenarios import OneLabel
from tests.tiny import Agreement, TinyData, ToyNetwork

EVIL = "<script>alert('x')</script> & $\\alpha"
FACTS: dict[str, Any] = {
    "tasks": {
        "depth": {
            "kind": "Depth",
            "channels": 1,
            "headline": "abs_err",
            "higher_is_better": False,
            "unit": "m",
            "metrics": {"rmse": {"unit": "m", "higher_is_better": False}},
            "classes": [],
        },
        "seg": {
            "kind": "Segmentation",
            "channels": 2,
            "headline": "miou",
            "higher_is_better": True,
            "unit": "",
            "classes": ["wall", "floor"],
        },
    },
    "labels": label_facts(np.array([[True, False]] * 3 + [[False, True]] + [[True, True]]), ["depth", "seg"]),
    "data": {"dataset": "Tiny", "scenario": "OneLabel", "samples": "5 train", "seed": 0},
    "model": {"network": "Toy, 3 parameters", "regularizer": "none"},
    "baselines": [{"role": "supervised", "name": "supervised MTL", "values": {"depth": 0.5, "seg": 0.4}}],
}
METRICS = {
    "val/depth/abs_err": 0.4,
    "val/depth/rmse": 0.9,
    "val/seg/miou": 0.5,
    "val/score": 0.71,
    "test/depth/abs_err": 0.6,
    "test/seg/miou": 0.2,
    "best_epoch": 7,
}


class Page(HTMLParser):
    """Elements, addresses and visible text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.words += f" {data.strip()}" if data.strip() else ""


def run_folder(path: Path, facts: dict[str, Any] = FACTS, metrics: dict[str, float] = METRICS) -> Path:
    (path / "facts.json").write_text(json.dumps(facts))
    (path / "metrics.json").write_text(json.dumps(metrics))
    (path / "config.yaml").write_text("model:\n  name: <b>\n")
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        task = next(iter(facts["tasks"]))
        writer.writerow(["epoch", "step", "train/loss", f"val/{task}/abs_err", "val/score"])
        writer.writerows([[0, 1, 2.5, "", ""], [0, 1, "", 0.9, -1], [1, 2, 2.0, "", ""], [1, 2, "", 0.4, 1]])
    (path / "panels").mkdir()
    for epoch, colour in ((1, "red"), (10, "blue")):
        Image.new("RGB", (30, 20), colour).save(path / "panels" / f"epoch_{epoch:04d}.png")
    return path


def shown(path: Path, facts: dict[str, Any] = FACTS, metrics: dict[str, float] = METRICS) -> Page:
    return Page(page(run_folder(path, facts, metrics)))


def test_results_of_both_stages_stand_beside_the_baseline(tmp_path: Path) -> None:
    words = shown(tmp_path).words
    test, val = words.split("Test set")[1].split("Validation set, best epoch (7)")
    assert "abs_err [m] ↓ 0.6 0.5 -20.0 %" in test
    assert "miou ↑ 0.2 0.4 -50.0 %" in test
    assert "delta mean over tasks -35.0 %" in test
    assert "abs_err [m] ↓ 0.4 0.5 +20.0 %" in val
    assert "delta mean over tasks +22.5 %" in val  # (20 + 25) / 2
    assert "rmse [m] ↓ 0.9" in val
    assert "all score ↑ 0.71 delta" in val
    assert "score" not in test


def test_both_deltas_are_named_after_their_baselines_and_a_missing_one_is_said(tmp_path: Path) -> None:
    assert "No delta to single-task training ( --report.single_task )" in shown(tmp_path).words
    single = {
        "role": "single_task",
        "name": "STL",
        "values": {"test/depth/abs_err": 0.3, "test/seg/miou": 0.4},
    }
    both = {**FACTS, "baselines": [*FACTS["baselines"], single]}
    (tmp_path / "both").mkdir()
    words = shown(tmp_path / "both", both).words
    assert "No delta" not in words
    test, val = words.split("Test set")[1].split("Validation set")
    assert "delta mean over tasks -35.0 % -75.0 %" in test  # (-100 - 50) / 2
    assert "delta mean over tasks +22.5 % not known" in val  # the baseline was tested only


def test_the_table_for_loggers_has_the_same_numbers(tmp_path: Path) -> None:
    table = results_table("val", run_folder(tmp_path))
    assert table is not None
    heads, rows = table
    assert heads == ["task", "metric", "headline", "this run", "better than supervised MTL by percent"]
    assert rows[0] == ["depth", "abs_err [m] ↓", True, 0.4, pytest.approx(20)]
    assert rows[1] == ["depth", "rmse [m] ↓", False, 0.9, None]
    assert rows[-2] == ["all", "score ↑", True, 0.71, None]
    assert rows[-1] == ["all", "delta", True, None, pytest.approx(22.5)]


def test_the_availability_table_counts_tasks_patterns_and_pairs(tmp_path: Path) -> None:
    labels = FACTS["labels"]
    assert labels["counts"] == {"depth": 4, "seg": 2}
    assert labels["pairs"] == [[4, 1], [1, 2]]
    assert labels["patterns"][0] == {"labelled": [True, False], "samples": 3}
    assert sum(pattern["samples"] for pattern in labels["patterns"]) == 5
    words = shown(tmp_path).words
    assert "depth Depth 4 80.0 % seg Segmentation 2 40.0 %" in words
    assert "● ○ 3 60.0 % ● ● 1 20.0 % ○ ● 1 20.0 %" in words


def test_rare_patterns_are_counted_together(tmp_path: Path) -> None:
    names = [f"task{i}" for i in range(6)]
    available = np.array([[bool(i >> bit & 1) for bit in range(6)] for i in range(64)])
    tasks = dict.fromkeys(names, FACTS["tasks"]["depth"])
    words = shown(tmp_path, {**FACTS, "tasks": tasks, "labels": label_facts(available, names)}).words
    assert "40 more, each rarer 40" in words


def test_the_page_needs_neither_network_nor_files(tmp_path: Path) -> None:
    text = page(run_folder(tmp_path))
    addresses = Page(text).addresses
    assert [a for a in addresses if not a.startswith(("#", "data:image/"))] == []
    assert sum(a.startswith("data:image/") for a in addresses) == 2
    assert not re.search(r"url\((?!#)|@import|<link|<script|<iframe", text)


def test_the_last_picture_comes_first_and_looks_as_it_was_drawn(tmp_path: Path) -> None:
    import base64
    import io

    first, second = (a for a in shown(tmp_path).addresses if a.startswith("data:"))
    for address, colour in ((first, (0, 0, 255)), (second, (255, 0, 0))):
        picture = Image.open(io.BytesIO(base64.b64decode(address.partition("base64,")[2])))
        assert picture.convert("RGB").getpixel((3, 3)) == colour


def test_no_name_can_break_the_page(tmp_path: Path) -> None:
    evil_task = {
        **FACTS["tasks"]["seg"],
        "classes": [EVIL],
        "kind": EVIL,
        "unit": EVIL,
        "headline": "abs_err",
    }
    facts = {
        **FACTS,
        "tasks": {EVIL: evil_task},
        "labels": label_facts(np.ones((2, 1), dtype=bool), [EVIL]),
        "data": {**FACTS["data"], "dataset": EVIL, EVIL: EVIL},
        "model": {**FACTS["model"], "network": EVIL},
        "baselines": [{"role": "supervised", "name": EVIL, "values": {EVIL: 1.0}}],
    }
    folder = tmp_path / "<b>runs" / "<i>0"
    folder.mkdir(parents=True)
    found = shown(folder, facts, {f"val/{EVIL}/abs_err": 0.5})
    assert set(found.tags) & {"script", "b", "i"} == set()
    # Results, labels, tasks and the curves all show it as text.
    assert found.words.count(EVIL) >= 8
    assert "<b>runs/<i>0" in found.words
    assert "name: <b>" in found.words


def test_curves_have_a_panel_for_what_was_logged(tmp_path: Path) -> None:
    folder = run_folder(tmp_path)
    found = panels_of(read_log(folder / "metrics.csv"), FACTS["tasks"], {"depth": {"MTL": 0.5}})
    assert [panel.title for panel in found] == [
        "Training loss and its parts",
        "depth: abs_err [m], lower is better",
        "Score of all tasks, higher is better",
    ]
    assert found[0].lines == {"loss": [(1, 2.5), (2, 2.0)]}
    assert found[1].lines == {"depth": [(0, 0.9), (1, 0.4)]}
    assert found[1].marks == {"MTL": 0.5}
    words = Page(page(folder)).words
    assert "depth: abs_err [m], lower is better" in words
    assert "supervised MTL" in words


def test_terms_and_diagnostics_of_a_regularizer_are_drawn() -> None:
    logged = ["train/loss", "train/jtr/distance", "train/depth/loss", "val/jtr/separation/depth", "val/delta"]
    rows = [{"step": 1.0, "epoch": 0.0, **dict.fromkeys([*logged, "val/depth/rmse"], 2.0)}]
    found = {
        panel.title: list(panel.lines) for panel in panels_of(rows, FACTS["tasks"], {}, "supervised MTL")
    }
    assert found == {
        "Training loss and its parts": ["loss", "jtr/distance"],
        "Training loss of each task": ["depth"],
        "Delta against supervised MTL [%], higher is better": ["val/delta"],
        "jtr/separation, told by the regularizer": ["depth"],
    }


def test_long_curves_are_averaged() -> None:
    rows = [{"step": float(i), "train/loss": float(i % 2)} for i in range(3000)]
    (panel,) = panels_of(rows, {}, {})
    assert len(panel.lines["loss"]) == curves.POINTS
    assert {y for _, y in panel.lines["loss"]} == {0.5}


def test_rows_of_a_log_that_are_not_numbers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,a,b\n1,nan,2\n2,x,\n3,inf")
    assert read_log(path) == [{"step": 1, "b": 2}, {"step": 2}, {"step": 3}]
    assert read_log(tmp_path / "none.csv") == []


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"'facts.json', which the training writes; found '.*facts\.json': No such",
    ):
        write_report(tmp_path)
    with pytest.raises(
        ConfigError, match=r"nope/facts\.json': No such file or directory\. Give the folder of a training"
    ):
        write_report(tmp_path / "nope")
    (tmp_path / "facts.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"a file without 'tasks'\. Give the folder of a training"):
        write_report(tmp_path)


def test_jtr_report_makes_the_page_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_folder(tmp_path)
    assert main(["report", str(tmp_path)]) == 0
    assert (tmp_path / "report.html").is_file()
    assert f"Report: {tmp_path / 'report.html'}" in capsys.readouterr().out


def test_the_page_needs_no_picture_that_is_damaged_or_of_somebody_else(tmp_path: Path) -> None:
    run_folder(tmp_path)
    panels = tmp_path / "panels"
    for name in ("epoch_0001 (copy).png", "epoch_10000.png"):  # more digits than the others
        Image.new("RGB", (30, 20), "red").save(panels / name)
    assert _pictures(tmp_path)[0][0] == "Epoch 10000"
    first = min(panels.glob("epoch_????.png"))
    first.write_bytes(first.read_bytes()[:60])
    assert [title for title, _ in _pictures(tmp_path)] == ["Epoch 10000"]
    write_report(tmp_path)


def test_a_training_leaves_its_page(tmp_path: Path) -> None:
    data = TinyData(number=9, scenario=OneLabel())
    module = PartialLabelModule(
        data.tasks,
        ToyNetwork(),
        Agreement(),
        baseline=Baseline("MTL", dict.fromkeys(data.tasks, 1.0)),
    )
    torch.manual_seed(0)
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=2, logger=CSVLogger(tmp_path, name="", version=""),
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False, log_every_n_steps=1,
        callbacks=[BestMetrics(tmp_path), PanelLogger(1, 3, 1), Report(folder=tmp_path)],
    )  # fmt: skip
    trainer.fit(module, data)
    found = Page((tmp_path / "report.html").read_text())
    for text in (
        "9 train, 9 val",
        "Agreement, 1 parameters of its own",
        "depth Depth 3 33.3 %",
        "Validation set, best epoch",
        "agreement",  # the regularizer's own curve
        "segmentation: miou, higher is better",
        "floor, wall, chair",
    ):
        assert text in found.words
    assert "svg" in found.tags
    assert sum(a.startswith("data:image/") for a in found.addresses) == 2
