"""``jtr compare`` from its arguments to its tables."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from jtr_lightning.cli.compare import split_overrides
from jtr_lightning.cli.main import main
from jtr_lightning.cli.run_display import duration
from jtr_lightning.comparison.commit import current_commit, short
from jtr_lightning.comparison.plan import Run, resolve, seeded
from jtr_lightning.comparison.results import CONFIG, LOG, write_result
from jtr_lightning.errors import ConfigError
from tests.comparison.parts import ONELABEL, fake_result, write_config


def test_options_with_a_dot_are_for_every_run() -> None:
    own, overrides = split_overrides(
        [
            "--trainer.max_epochs",
            "5",
            "a.yaml",
            "--data.size=[8,8]",
            "b.yaml",
            "--seeds",
            "0",
            "--data.x",
            "-1",
        ]
    )
    assert own == ["a.yaml", "b.yaml", "--seeds", "0"]
    assert overrides == ["--trainer.max_epochs", "5", "--data.size=[8,8]", "--data.x", "-1"]
    with pytest.raises(ConfigError, match=r"--data.size should be followed by a value; found none"):
        split_overrides(["a.yaml", "--data.size"])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(20, "less than a minute"), (95, "about 2 min"), (3600, "about 1 h 0 min"), (7530, "about 2 h 6 min")],
)
def test_times_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "--jobs should be at least 1; found 0"),
        (["--seeds", "-1"], "--seeds should be from 0 to 4294967295; found -1"),
        (["--seeds", "0", "5000000000"], "--seeds should be from 0 to 4294967295; found 5000000000"),
        (["--baseline", "jtr"], "--baseline should be one of the compared methods; found 'jtr'"),
        (["--data.seed", "1"], "use --seeds instead"),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    config = write_config(tmp_path / "toy.yaml")
    assert main(["compare", str(config), "--out", str(tmp_path / "out"), *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--results-only", "--jobs=1"])
def test_a_folder_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    config = write_config(tmp_path / "toy.yaml")
    assert main(["compare", str(config), "--seeds", "0", option, "--out", str(config)]) == 1
    assert f"written into; found '{config}': Not a directory. Give another." in capsys.readouterr().err


def test_a_typo_in_an_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "a.yaml", "--seed", "0"]) == 1
    assert "jtr compare has no option '--seed'; did you mean '--seeds'" in capsys.readouterr().err


def test_a_dry_run_lists_the_runs_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [str(write_config(tmp_path / f"{name}.yaml")) for name in ("supervised", "jtr")]
    out = tmp_path / "out"
    assert main(["compare", *configs, "--seeds", "0", "1", "--out", str(out), "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "6 runs: 0 finished, 0 to go on, 6 to do."
    assert [line.split()[2].rpartition("-")[0] for line in lines[:-1]] == [
        *("supervised-onelabel-0", "jtr-onelabel-0", "supervised-onelabel-1", "jtr-onelabel-1"),
        *("supervised-fulllabels-0", "supervised-fulllabels-1"),
    ]
    assert not out.exists()


def plan(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[tuple[str, str]]:
    """State and name of every run."""
    assert main(["compare", *arguments, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()[:-1]
    return [(line[:9].strip(), line[10:]) for line in lines]


def test_results_of_what_is_finished(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configs = [str(write_config(tmp_path / f"{name}.yaml")) for name in ("supervised", "jtr")]
    out = tmp_path / "out"
    arguments = [*configs, "--seeds", "0", "--out", str(out)]
    _, (_, jtr), _ = plan(arguments, capsys)
    folder = out / "runs" / jtr
    folder.mkdir(parents=True)
    # Of a finished run this file is all that another machine needs.
    write_result(folder, fake_result({"seg": 0.5, "depth": 1.25}, points={"seg": [(10, 0.4)]}))
    assert [state for state, _ in plan(arguments, capsys)] == ["to do", "finished", "to do"]
    assert main(["compare", *arguments, "--results-only"]) == 0
    text = (out / "results.md").read_text(encoding="utf-8")
    assert "| supervised |  |  |" in text
    assert "| jtr | 0.5 | 1.25 |" in text
    assert (out / "curves.csv").read_text(encoding="utf-8").splitlines()[1:] == ["jtr,onelabel,0,seg,10,0.4"]
    assert f"* Command: `jtr compare {configs[0]} {configs[1]} --seeds 0 --out {out}`\n" in text


def test_a_run_of_earlier_code_is_not_repeated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_config(tmp_path / "jtr.yaml")
    arguments = [str(file), "--seeds", "0", "--out", str(tmp_path / "out")]
    ((state, name),) = plan(arguments, capsys)
    assert state == "to do"
    config = seeded(resolve(str(file), ONELABEL), 0)
    del config["data"]["init_args"]["on_error"]  # as if the data module did not have it yet
    earlier = Run("jtr", ONELABEL, 0, config)
    folder = tmp_path / "out" / "runs" / earlier.name
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(yaml.safe_dump(config))
    write_result(folder, fake_result({"seg": 0.5, "depth": 1.25}))
    assert earlier.name != name
    assert plan(arguments, capsys) == [("finished", earlier.name)]


def test_a_seed_whose_metric_is_no_number_is_told_in_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path / "jtr.yaml"))
    out = tmp_path / "out"
    arguments = [config, "--seeds", "0", "1", "--out", str(out)]
    for (_, name), depth in zip(plan(arguments, capsys), (0.5, math.nan), strict=True):
        (out / "runs" / name).mkdir(parents=True)
        write_result(out / "runs" / name, fake_result({"seg": 0.5, "depth": depth}))
    assert main(["compare", *arguments]) == 0
    assert "| jtr | 0.5 ± 0 | 0.5 (1 of 2) | 2 |" in (out / "results.md").read_text(encoding="utf-8")
    with (out / "results.csv").open(newline="") as file:
        assert [row["test/depth/abs_err"] for row in csv.DictReader(file)] == ["0.5", "nan"]


def test_finished_runs_of_other_code_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(write_config(tmp_path / "jtr.yaml"))
    out = tmp_path / "out"
    arguments = [config, "--seeds", "0", "1", "--out", str(out)]
    for (_, name), commit in zip(plan(arguments, capsys), ("a" * 40, current_commit()), strict=True):
        (out / "runs" / name).mkdir(parents=True)
        write_result(out / "runs" / name, fake_result({"seg": 0.5, "depth": 1.25}, commit=commit))
    assert main(["compare", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2 runs, 2 of them finished."
    assert lines[1] == (
        f"1 of the finished runs are of other code (aaaaaaaaaa) than this ({short(current_commit())}) and are not "
        f"repeated; remove their folders in {out / 'runs'} to train them again."
    )
    assert lines[2].startswith("Results are in")
    configs = [yaml.safe_load(path.read_text()) for path in (out / "configs").iterdir()]
    assert sorted(each["seed_everything"] for each in configs) == [0, 1]


def test_a_search_and_what_it_has_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(write_config(tmp_path / "jtr.yaml"))
    search = tmp_path / "search.yaml"
    search.write_text("jtr: {data.batch_size: [2, 3], data.on_error: [raise, skip]}")
    out = tmp_path / "out"
    arguments = [config, "--search", str(search), "--out", str(out)]
    trials = plan(arguments, capsys)
    assert len(trials) == 4
    assert all(name.startswith("jtr-onelabel-100-") for _, name in trials)
    for number, (_, name) in enumerate(trials):
        if number != 3:
            (out / "trials" / name).mkdir(parents=True)
            result = fake_result({}, metrics={"val/score": float(number)})
            write_result(out / "trials" / name, result)
    assert main(["compare", *arguments, "--results-only"]) == 0
    assert "Nothing is chosen yet" in capsys.readouterr().out
    assert (out / "search.md").read_text().count("not finished") == 1
    (out / "trials" / name).mkdir(parents=True)
    write_result(out / "trials" / name, result)
    assert main(["compare", *arguments, "--results-only"]) == 0
    assert f"Chosen: {out / 'chosen.yaml'}, for jtr compare --chosen" in capsys.readouterr().out
    with (out / "search.csv").open(newline="") as file:
        assert [float(row["val/score"]) for row in csv.DictReader(file)] == [0.0, 1.0, 2.0, 2.0]

    compared = [config, "--chosen", str(out / "chosen.yaml"), "--out", str(out)]
    assert main(["compare", *compared, "--seeds", "99", "100"]) == 1
    assert "--seeds should have none of the search's; found 100" in capsys.readouterr().err
    assert main(["compare", *compared, "--results-only"]) == 0
    text = (out / "results.md").read_text()
    assert "* Search: 4 trials of each method on onelabel with seed 100" in text
    assert "| jtr | `data.batch_size=3`, `data.on_error=raise` | 2 | 0 |" in text
    configs = [yaml.safe_load(path.read_text()) for path in (out / "configs").iterdir()]
    assert {each["data"]["init_args"]["batch_size"] for each in configs} == {3}
    assert sorted(each["seed_everything"] for each in configs) == [0, 1, 2]


def test_a_search_has_one_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(write_config(tmp_path / "jtr.yaml"))
    two = ["--scenarios", "onelabel", "halflabels"]
    assert main(["compare", config, "--search", "s.yaml", *two]) == 1
    assert "A search should have one scenario; found onelabel, halflabels." in capsys.readouterr().err


@pytest.mark.slow
def test_a_search_trains_without_a_test_and_goes_on_where_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_config(tmp_path / "jtr.yaml", epochs=1))
    search = tmp_path / "search.yaml"
    search.write_text("jtr: {data.batch_size: [2, 3], data.number: [6, 0]}")  # without a sample it fails
    out = tmp_path / "out"
    arguments = ["compare", config, "--search", str(search), "--jobs", "2", "--out", str(out)]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "finished: jtr, onelabel, seed 100, batch_size=2, number=6" in printed
    assert printed.count("FAILED") == 2
    chosen = yaml.safe_load((out / "chosen.yaml").read_text())
    assert chosen["methods"]["jtr"]["options"]["data.number"] == 6
    assert chosen["methods"]["jtr"]["failed"] == 2
    results = [json.loads(path.read_text()) for path in out.glob("trials/*/result.json")]
    assert [any(key.startswith("test/") for key in each["metrics"]) for each in results] == [False, False]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "4 runs, 2 of them finished." in printed
    assert "number=6" not in printed


@pytest.mark.slow
def test_trains_reports_failures_and_reuses_what_is_finished(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = write_config(tmp_path / "good.yaml", epochs=1)
    bad = write_config(tmp_path / "bad.yaml", epochs=1, number=0)
    out = tmp_path / "out"
    arguments = [
        *("compare", str(bad), str(good), "--seeds", "0", "--jobs", "2", "--out", str(out)),
        *("--data.batch_size", "2"),
    ]
    assert main(arguments) == 1
    printed = capsys.readouterr().out
    assert "2 runs, 0 of them finished." in printed
    assert "finished: good, onelabel, seed 0" in printed
    failed = next(
        line for line in printed.splitlines() if line.startswith("Failed: bad, onelabel, seed 0; see ")
    )
    assert (
        "error: The split 'train' should have at least one sample"
        in Path(failed.partition("see ")[2]).read_text()
    )
    with (out / "results.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first["method"] == "bad"
    assert first["test/depth/abs_err"] == ""
    assert float(second["test/depth/abs_err"]) > 0
    assert (out / "results.png").is_file()
    log = out / "runs" / second["run"] / LOG
    before = log.read_bytes()
    assert "batch_size: 2" in (log.parent / "config.yaml").read_text()

    assert [state for state, _ in plan(arguments[1:], capsys)] == ["to do", "finished"]
    assert main(["compare", str(good), *arguments[3:]]) == 0
    printed = capsys.readouterr().out
    assert "1 runs, 1 of them finished." in printed
    assert "begun" not in printed
    assert log.read_bytes() == before


@pytest.mark.slow
def test_shares_of_labels_from_the_command_to_the_tables(tmp_path: Path) -> None:
    configs = [str(write_config(tmp_path / f"{name}.yaml", epochs=1)) for name in ("supervised", "jtr")]
    out = tmp_path / "out"
    arguments = [*configs, "--fractions", "0.5", "--seeds", "0", "--jobs", "2", "--out", str(out)]
    assert main(["compare", *arguments]) == 0
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["scenario"], row["fraction"]) for row in rows] == [
        *(("supervised", "fractionlabels", "0.5"), ("jtr", "fractionlabels", "0.5")),
        ("supervised", "fulllabels", ""),
    ]
    assert all(float(row["test/depth/abs_err"]) > 0 for row in rows)
    given = yaml.safe_load((out / rows[0]["config"]).read_text())["data"]["init_args"]["scenario"]
    assert given["init_args"] == {"fraction": 0.5}
    text = (out / "results.md").read_text(encoding="utf-8")
    overview, _, share = text.partition("## 50 % of the labels")
    assert "| depth abs_err [m] ↓ | 50 % |" in overview
    for head in ("gap closed [%] ↑ | seeds |", "| method - jtr |", "| method | time [min] |"):
        assert head in share
    assert (out / "fractions.png").is_file()
    assert not (out / "results.png").exists()


def test_help_imports_no_torch() -> None:
    code = (
        "import sys; from jtr_lightning.cli.compare import run\n"
        "try: run(['--help'])\n"
        "except SystemExit as leave: print(leave.code, sorted({'torch', 'lightning'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--scenarios" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 []"
