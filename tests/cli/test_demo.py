"""``jtr demo``, cut down to seconds."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from jtr_lightning.cli import demo
from jtr_lightning.cli.main import main
from jtr_lightning.console import program
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.scenarios import OneLabel
from tests.tiny import Agreement, TinyData, ToyNetwork

__all__ = ["Agreement", "TinyData", "ToyNetwork"]  # found by their short names once imported


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A demo of its own, in a folder with a space in its name."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a folder" / "demo.yaml"
    (path.parent / "results").mkdir(parents=True)
    tree = {
        "name": "tiny-demo",
        "trainer": {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False},
        "data": {"class_path": "TinyData", "init_args": {"scenario": "OneLabel"}},
        "model": {"init_args": {"network": "ToyNetwork", "regularizer": "Agreement"}},
    }
    path.write_text(yaml.safe_dump(tree))
    return path


def write_baseline(config: Path, factor: float) -> None:
    values = {
        "segmentation/miou": 0.2 / factor,
        "depth/abs_err": 2.0 * factor,
        "normals/mean_angle": 50 * factor,
    }
    path = config.parent / "results" / demo.BASELINE
    path.write_text(json.dumps({f"test/{key}": value for key, value in values.items()}))


def test_it_trains_tests_and_draws(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_baseline(config, 1.0)
    assert main(["demo", "--config", str(config)]) == 0
    told = capsys.readouterr().out
    run = Path("runs/tiny-demo/0")
    kept = json.loads((run / "metrics.json").read_text())
    assert f"trained likewise without JTR: {kept['test/delta']:+.1f} %, one seed of each." in told
    assert "supervised MTL" in told
    assert "Data: 6 training samples, labelled (OneLabel, seed 0): segmentation 2, depth 2, normals 2" in told
    best = run / "checkpoints" / "best.ckpt"
    assert f"never seen ({program()} test --ckpt_path {best})" in told
    memory = re.search(r"\d+ seconds in all, and at most (\d+\.\d) GiB of memory\.", told)
    assert memory is not None
    assert float(memory.group(1)) > 0.1
    assert f"Picture of labels and predictions: {run / 'panels.png'}" in told
    assert np.asarray(Image.open(run / "panels.png")).std() > 10


@pytest.mark.parametrize(("factor", "gains"), [(1000.0, True), (0.001, False)])
def test_it_never_hides_a_loss(
    config: Path, factor: float, gains: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    write_baseline(config, factor)
    main(["demo", "--config", str(config)])
    told = " ".join(capsys.readouterr().out.split())
    kept = json.loads(Path("runs/tiny-demo/0/metrics.json").read_text())
    assert (kept["test/delta"] > 0) is gains
    assert ("No gain: " in told) is not gains
    assert "too little to judge JTR by" in told


def test_options_change_the_training_and_say_that_the_baseline_does_not_follow(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_baseline(config, 1.0)
    assert main(["demo", "--config", str(config), "--trainer.max_epochs", "2"]) == 0
    assert "the two do not compare" in capsys.readouterr().out
    assert json.loads(Path("runs/tiny-demo/0/metrics.json").read_text())["best_epoch"] in (0, 1)


def test_without_a_baseline_there_is_no_delta(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--config", str(config)]) == 0
    told = capsys.readouterr().out
    assert "There is no baseline" in told
    assert "better by" not in told


def test_the_pictures_samples_are_one_for_each_label_and_test_samples(config: Path) -> None:
    data = TinyData(scenario=OneLabel(), number=6)
    module = PartialLabelModule(data.tasks, ToyNetwork())
    seen = []
    module.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    demo.draw(module, data)
    (images,) = seen
    train, test = data.dataset("train"), data.dataset("test")
    for k in range(3):
        index = int(train.available[:, k].argmax())
        assert any((image == train[index].image).all() for image in images[:3])
        assert (images[3 + k] == test[k].image).all()


def test_the_repositorys_config_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo._find_config() == Path(__file__).parents[2] / demo.CONFIG


def test_without_the_repository_it_says_where_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        demo.jtr_lightning, "__file__", str(tmp_path / "site-packages" / "jtr_lightning" / "x.py")
    )
    assert main(["demo"]) == 1
    assert "should be started in a clone of the repository" in capsys.readouterr().err
