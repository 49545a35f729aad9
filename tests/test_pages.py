"""Every block of every page is run by a test that is named here, or says on the page why it is not."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from jtr_lightning.cli.main import main
from tests.shell import SMALL_ROOMS, SMALL_TRAINING, run_commands
from tests.test_docs import Block, blocks_of, commands, run_page, workplace
from tests.test_published import NARROW

__all__ = ["workplace"]  # a fixture

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

_WALKED = "tests/test_docs.py::test_a_page_runs_from_top_to_bottom"
RUN_BY = {
    "api/index.md": "tests/test_pages.py::test_what_a_page_of_the_reference_shows_can_be_made",
    "comparing.md": "tests/test_pages.py::test_the_page_on_comparing_runs",
    "concepts.md": "tests/test_pages.py::test_the_page_of_concepts_runs",
    "cost.md": "tests/test_pages.py::test_the_benchmarks_of_the_page_on_cost_run",
    "datasets.md": _WALKED,
    "getting_started.md": _WALKED,
    "logging.md": "tests/test_looking_pages.py::test_the_page_about_looking_runs",
    "multi_device.md": "tests/test_slurm.py::test_a_job_that_runs_out_of_time_goes_on_where_it_stopped",
    "own_data.md": _WALKED,
    "own_method.md": _WALKED,
    "own_task.md": _WALKED,
    "predict_and_export.md": "tests/test_predict_and_export_page.py::test_the_page_runs",
    "pretrained_encoders.md": "tests/test_pages.py::test_the_page_on_encoders_runs",
    "published.md": "tests/test_published.py::test_the_commands_of_the_page_run",
    "reliability.md": "tests/test_pages.py::test_the_commands_about_resuming_run",
    "reference/commands.md": "tests/test_pages.py::test_what_a_page_of_the_reference_shows_can_be_made",
    "reference/configuration.md": "tests/test_pages.py::test_what_a_page_of_the_reference_shows_can_be_made",
    "sweeps.md": "tests/test_looking_pages.py::test_the_page_about_searching_runs",
    "../README.md": "tests/test_pages.py::test_the_readme_runs",
    "../experiments/rooms/results/README.md": "tests/test_pages.py::test_the_commands_of_the_results_run",
}
"""For each page with blocks that are not marked, the test that runs all of them. Pages are named as seen from docs/."""

PAGES = [
    *(str(path.relative_to(DOCS)) for path in sorted(DOCS.rglob("*.md"))),
    *(f"../{path.relative_to(ROOT)}" for path in sorted(ROOT.glob("experiments/**/*.md"))),
    "../CHANGELOG.md",
    "../README.md",
]


def _read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def unmarked(page: str) -> list[Block]:
    return [block for block in blocks_of(page) if block.reason is None and block.file is None]


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_run_or_says_why_not(page: str) -> None:
    missing = [] if page in RUN_BY else [block.text.splitlines()[0] for block in unmarked(page)]
    assert missing == [], (
        f"name the test that runs {page} in RUN_BY, or mark the blocks: <!-- not run: ... -->"
    )
    assert [b.text for b in unmarked(page) if b.language not in ("sh", "python")] == [], (
        "what is no code is marked as such"
    )


@pytest.mark.parametrize(("page", "test"), RUN_BY.items())
def test_the_named_test_is_there(page: str, test: str) -> None:
    assert unmarked(page), f"{page} has nothing to run any more"
    file, _, name = test.partition("::")
    source = (ROOT / file).read_text(encoding="utf-8")
    body = re.search(rf"^def {name}\(.*?(?=^\S|\Z)", source, re.MULTILINE | re.DOTALL)
    assert body, f"{test} is not there"
    assert f'{Path(page).name}"' in source, f"{test} does not read {page}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file(page: str) -> None:
    text = re.sub(r"<!--.*?-->|^```.*?^```$", "", _read(page), flags=re.DOTALL | re.MULTILINE)
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    here = (DOCS / page).resolve().parent
    assert [target for target in targets if not (here / target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_no_block_hides_in_an_indentation(page: str) -> None:
    text = re.sub(r"^```.*?^```$", "", _read(page), flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"(?<=\n\n) {4,}\S.*", text) == []


def _not_run() -> list[tuple[str, str]]:
    """Every command of `jtr` in the blocks that are not run, without what starts it."""
    found = []
    for page in PAGES:
        for block in blocks_of(page):
            if block.reason is None or block.language != "sh":
                continue
            for line in commands(block):
                words = re.search(r"(?:^|[ /])(?:jtr|-m jtr_lightning) (fit .*)$", line)
                if words:
                    found.append((page, words[1]))
    return found


def test_commands_that_are_not_run_were_found() -> None:
    assert {page for page, _ in _not_run()} >= {"multi_device.md", "index.md"}


@pytest.mark.parametrize(("page", "command"), _not_run())
def test_the_options_of_a_command_that_is_not_run_can_be_read(
    page: str, command: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leave:
        main([*shlex.split(command), "--print_config"])
    assert leave.value.code == 0, page
    assert "class_path" in capsys.readouterr().out


def test_the_page_of_concepts_runs(workplace: Path) -> None:
    names: dict[str, object] = {}
    (block,) = unmarked("concepts.md")
    exec(compile(block.text, "concepts.md", "exec"), names)


def test_the_page_on_encoders_runs(workplace: Path) -> None:
    run_page("pretrained_encoders.md")
    for run, file in (
        ("pretrained", "encoder.safetensors"),
        ("again", "runs/pretrained/0/checkpoints/best.ckpt"),
    ):
        config = yaml.safe_load(Path("runs", run, "0", "config.yaml").read_text(encoding="utf-8"))
        assert config["model"]["init_args"]["network"]["init_args"]["encoder_weights"] == file


@pytest.mark.parametrize("page", ["api/index.md", "reference/commands.md", "reference/configuration.md"])
def test_what_a_page_of_the_reference_shows_can_be_made(
    page: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for block in unmarked(page):
        if "=comments" in block.text:
            pytest.importorskip("ruamel.yaml", reason="the extra `docs` is not installed")
        if block.language == "python":
            exec(compile(block.text, page, "exec"), {})
        else:
            run_commands(block.text)
        assert len(capsys.readouterr().out.splitlines()) > 5, block.text


@pytest.mark.slow
def test_the_page_on_comparing_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planned, trained, searched = (block.text for block in unmarked("comparing.md"))
    run_commands(planned)
    assert "27 runs: 0 finished, 0 to go on, 27 to do." in capsys.readouterr().out
    small = [*SMALL_TRAINING, *SMALL_ROOMS]
    run_commands(trained, {"compare": small})
    report = Path("runs/short/results.md").read_text(encoding="utf-8")
    for words in ("delta vs supervised MTL", "gap closed", "Difference to jtr of the same seed", "Commit: "):
        assert words in report
    assert {path.name for path in Path("runs/short").iterdir()} == {
        *("results.md", "results.csv", "results.png", "curves.png", "curves.csv", "configs", "runs")
    }
    (search,) = [block for block in blocks_of("comparing.md") if block.file is not None]
    Path("search.yaml").write_text(search.text, encoding="utf-8")
    run_commands(searched, {"compare": small})
    chosen = yaml.safe_load(Path("runs/search/chosen.yaml").read_text(encoding="utf-8"))
    assert (chosen["trials"], chosen["seeds"], set(chosen["methods"])) == (4, [100], {"supervised", "jtr"})


def _text(page: str) -> str:
    return "\n".join(block.text for block in unmarked(page))


@pytest.mark.slow
def test_the_benchmarks_of_the_page_on_cost_run(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny = ["--size", "64", "64", "--batch", "2", "--rounds", "1"]
    eager = ["--model.compile=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    run_commands(
        _text("cost.md"),
        {
            "benchmarks/step.py": tiny,
            "benchmarks/task_numbers.py": tiny,
            "benchmarks/options_on_rooms.py": ["--dry-run", "--out", "runs/options"],
            "benchmarks/loader.py": ["--dataset", "folder", "--rounds", "1"],
            "benchmarks/index.py": ["--files", "1000", "--per-folder", "50"],
            "data": ["--num", "8", "--size", "64", "64", "--workers", "1"],
            "bench": [
                "--steps=1",
                "--warm-up=1",
                "--data.num_workers=0",
                "--data.batch_size=2",
                *NARROW,
                *eager,
            ],
        },
    )
    printed = capfd.readouterr().out
    # What the page says of the arithmetic, and the rows of the other tables.
    counted = [
        row for row in printed.splitlines() if re.fullmatch(r"\| [a-z0-9 ]+ \| [\d.]+ \| [\d.]+ \|", row)
    ]
    assert len(counted) == 9
    page = _read("cost.md")
    assert [row for row in counted if row not in page] == []
    for row in ("| half stacks | ", "| 16 | ", "share of time: regularizer"):
        assert row in printed


@pytest.mark.slow
def test_the_commands_about_resuming_run(workplace: Path) -> None:
    Path("mine.yaml").write_bytes((ROOT / "experiments" / "rooms" / "supervised.yaml").read_bytes())
    resume, first_or_resume = (block.text for block in unmarked("reliability.md"))
    run = workplace / "runs" / "mine" / "0"
    small = [*SMALL_TRAINING, *SMALL_ROOMS]
    lengths = []
    for text, options in (
        (first_or_resume, small),
        (resume, ["--trainer.max_epochs=2"]),
        (first_or_resume, ["--trainer.max_epochs=3"]),
    ):
        run_commands(text, {"fit": options})
        rows = (run / "metrics.csv").read_text(encoding="utf-8").splitlines()
        lengths.append(len(rows))
    assert lengths == sorted(set(lengths)), "each went on behind the rows of before"
    assert [path.name for path in run.parent.iterdir()] == ["0"]


@pytest.mark.slow
def test_the_commands_of_the_results_run(workplace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = [*SMALL_TRAINING, *SMALL_ROOMS]
    aligned = ["--epochs", "1", "--batches", "2", "--seeds", "0", "1", "--out", "found.json", *small]
    run_commands(
        _text("../experiments/rooms/results/README.md"),
        {"fit": small, "benchmarks/gradient_alignment.py": aligned},
    )
    printed = capfd.readouterr().out
    assert re.findall(r"^\| 1 \| (\w+) \|", printed, re.MULTILINE)[:3] == [
        "jtr",
        "jtr_reconstruction",
        "jtr_crossed",
    ]
    assert "| 1 | jtr_crossed, true labels, no latent | " in printed
    metrics = Path("runs/rooms-demo-supervised/0/metrics.json").read_text(encoding="utf-8")
    assert "test/depth/abs_err" in metrics


@pytest.fixture
def photos_and_data(workplace: Path) -> Path:
    """What the README takes for granted: a folder of photos and one of data."""
    for name in ("photos", "mine/images", "mine/segmentation", "mine/depth"):
        (workplace / name).mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (60, 80, 3), dtype=np.uint8)).save("photos/one.jpg")
    for number in range(20):
        for folder, pixels in (
            ("images", random.integers(0, 256, (32, 40, 3), dtype=np.uint8)),
            ("segmentation", random.integers(0, 3, (32, 40), dtype=np.uint8)),
            ("depth", random.integers(500, 5000, (32, 40), dtype=np.uint16)),
        ):
            Image.fromarray(pixels).save(workplace / "mine" / folder / f"{number}.png")
    return workplace


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Starting from v1.9.0")  # the plain Trainer without TensorBoard
def test_the_readme_runs(photos_and_data: Path) -> None:
    """With one epoch, and the comparison listed instead of trained."""
    small = [*SMALL_TRAINING, "--data.size=[32,40]"]
    for block in blocks_of("../README.md"):
        text = block.text.replace(".venv/bin/jtr", "jtr")
        if block.file is not None:
            Path(block.file).write_text(text.replace("/data/mine ", "mine "), encoding="utf-8")
        elif block.reason is not None:
            continue
        elif block.language == "python":
            assert "max_epochs=20" in text
            exec(compile(text.replace("max_epochs=20", "max_epochs=1"), "README.md", "exec"), {})
        else:
            rooms = [] if "mine.yaml" in text else SMALL_ROOMS
            run_commands(text, {"fit": [*small, *rooms], "compare": ["--dry-run"]})
    assert Path("predictions/raw/depth/one.npy").is_file()
    assert {"rooms-jtr", "rooms-supervised", "mine"} <= {path.name for path in Path("runs").iterdir()}
