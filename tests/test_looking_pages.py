"""Every command on the pages about looking at trainings and searching runs, in its order."""

import re
import shlex
from pathlib import Path

import pytest

from jtr_lightning.cli.main import main

ROOT = Path(__file__).parents[1]
TRAINING = [
    *("--data.num_train=8", "--data.num_val=2", "--data.num_test=2", "--data.size=[32,40]"),
    *("--data.make_workers=1", "--data.batch_size=4", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"),
    "--trainer.check_val_every_n_epoch=1",
    *(
        "--trainer.enable_progress_bar=false",
        "--data.root=rooms",
    ),
]
SMALL_JTR = ["--model.regularizer.widths=[4,4,4]", "--model.regularizer.depths=[1,1,1]"]
WITHOUT_REGULARIZER = {"experiments/rooms/supervised.yaml", "experiments/rooms/stl.yaml"}
BLOCK = re.compile(
    r'(<!-- not run: [^\n]+ -->\n)?```(\w+)(?: title="([^"\n]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE
)


def run_page(page: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(BLOCK.findall(text))
    for not_run, language, file, code in BLOCK.findall(text):
        if file:
            Path(file).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, page, "exec"), {})
        elif not not_run:
            assert language == "sh"
            for line in code.replace("\\\n", " ").splitlines():
                program, command, *rest = shlex.split(line)
                assert program == "jtr"
                if command in ("fit", "sweep"):
                    rest += TRAINING if WITHOUT_REGULARIZER & set(rest) else [*TRAINING, *SMALL_JTR]
                assert main([command, *rest]) == 0, line


@pytest.mark.slow
def test_the_page_about_looking_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run_page("logging.md", monkeypatch, tmp_path)
    runs = tmp_path / "runs"
    seen = (runs / "seen" / "0" / "report.html").read_text()
    assert "Test set" in seen
    compared = (runs / "compared" / "0" / "report.html").read_text()
    assert "supervised MTL" in compared
    assert "STL" in compared
    assert list(runs.glob("tracked/0/wandb/offline-run-*"))
    assert list(runs.glob("rooms-jtr/0/wandb/offline-run-*"))
    assert list(runs.glob("boarded/0/tensorboard/events.*"))


@pytest.mark.slow
def test_the_page_about_searching_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run_page("sweeps.md", monkeypatch, tmp_path)
    searches = tmp_path / "runs" / "sweeps"
    for name in ("random", "my_sweep"):
        assert len((searches / name / "results.csv").read_text().splitlines()) == 3
        assert (searches / name / "results.png").is_file()


def test_the_page_names_what_a_local_sweep_takes() -> None:
    from jtr_lightning.sweeps.parameters import _BOUNDS

    text = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in ("constant", "categorical", *_BOUNDS))
