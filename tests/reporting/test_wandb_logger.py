"""What W&B is told, and when it is told anything at all."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jtr_lightning.reporting.wandb_logger import PartialLabelWandbLogger, grouped, has_key


class Run:
    """Remembers what a run is told."""

    id = "abc"

    def __init__(self) -> None:
        self.logged: dict[str, Any] = {}
        self.artifacts: list[tuple[Any, list[str]]] = []
        self.finished = 0

    def log(self, values: dict[str, Any]) -> None:
        self.logged.update(values)

    def log_artifact(self, artifact: Any, aliases: list[str]) -> None:
        self.artifacts.append((artifact, aliases))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


def logger(**options: Any) -> tuple[PartialLabelWandbLogger, Run]:
    made = PartialLabelWandbLogger(**options)
    run = Run()
    made._experiment = run  # type: ignore[assignment]
    return made, run


# Names


def test_metrics_are_grouped_by_task() -> None:
    made, run = logger()
    made.log_metrics(
        {
            "val/depth/abs_err": 1.0,
            "train/depth/loss": 2.0,
            "val/score": 3.0,
            "epoch": 4,
            "val/jtr/separation/depth": 6.0,
        },
        step=5,
    )
    assert run.logged == {
        "depth/val/abs_err": 1.0,
        "depth/train/loss": 2.0,
        "val/score": 3.0,
        "epoch": 4,
        "jtr/val/separation/depth": 6.0,
        "trainer/global_step": 5,
    }


@given(st.lists(st.sampled_from(["val", "depth", "score", "a_b"]), min_size=1, max_size=4).map("/".join))
def test_a_name_can_be_brought_back(key: str) -> None:
    assert grouped(grouped(key)) == key


def test_wandb_is_told_nothing_that_it_only_warns_of() -> None:
    assert "anonymous" not in logger()[0]._wandb_init
    assert logger(anonymous=True)[0]._wandb_init["anonymous"] == "allow"


# Offline


@pytest.mark.parametrize(
    ("key", "offline", "mode"),
    [("", None, "offline"), ("k", None, "online"), ("k", True, "offline"), ("", False, "online")],
)
def test_without_a_key_nothing_is_sent(
    monkeypatch: pytest.MonkeyPatch, key: str, offline: bool | None, mode: str
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    assert PartialLabelWandbLogger(offline=offline)._wandb_init["mode"] == mode


def test_the_environment_decides_before_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert PartialLabelWandbLogger(offline=True)._wandb_init["mode"] == "disabled"


@pytest.mark.parametrize(
    ("content", "base", "found"),
    [
        ("machine api.wandb.ai login user password k", None, True),
        ("machine elsewhere.org login user password k", None, False),
        ("machine wandb.firm.org login user password k", "https://wandb.firm.org:8080", True),
        ("machine", None, False),
    ],
)
def test_a_key_is_found_where_wandb_login_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, base: str | None, found: bool
) -> None:
    assert not has_key()
    path = tmp_path / "netrc"
    path.write_text(content)
    path.chmod(0o600)
    if base is not None:
        monkeypatch.setenv("WANDB_BASE_URL", base)
    assert has_key() is found


# Folder, project and name


def test_the_run_folder_is_taken_unless_one_is_given(tmp_path: Path) -> None:
    made = PartialLabelWandbLogger()
    made.use_folder(tmp_path, "rooms/0")
    assert (made.save_dir, made._wandb_init["dir"]) == (str(tmp_path), str(tmp_path))
    assert made._wandb_init["name"] == "rooms/0"
    own = PartialLabelWandbLogger(save_dir="mine", name="best of all")
    own.use_folder(tmp_path, "rooms/0")
    assert (own.save_dir, own._wandb_init["name"]) == ("mine", "best of all")


def test_the_project_is_the_users_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PartialLabelWandbLogger().name == "jtr-lightning"
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    assert PartialLabelWandbLogger().name == "theirs"
    assert PartialLabelWandbLogger(project="given").name == "given"


def test_other_options_reach_wandb() -> None:
    made = PartialLabelWandbLogger(group="g", tags=["a"])
    assert (made._wandb_init["group"], made._wandb_init["tags"]) == ("g", ["a"])


# Table, pictures, artifact


def test_results_are_a_table() -> None:
    made, run = logger()
    made.log_results(["task", "this run"], [["depth", 0.5], ["all", None]], "test")
    table = run.logged["results/test"]
    assert (table.columns, table.data) == (["task", "this run"], [["depth", 0.5], ["all", None]])


@pytest.mark.parametrize("wanted", [True, False])
def test_the_best_checkpoint_is_an_artifact_on_request(tmp_path: Path, wanted: bool) -> None:
    best = tmp_path / "best.ckpt"
    best.write_bytes(b"weights")
    made, run = logger(log_best=wanted)
    checkpoint: Any = SimpleNamespace(monitor="val/score", best_model_path=str(best), best_model_score=0.5)
    made.after_save_checkpoint(checkpoint)
    made.after_save_checkpoint(SimpleNamespace(monitor=None, best_model_path="last.ckpt"))  # type: ignore[arg-type]
    made.finalize("failed")
    assert run.artifacts == []
    made.finalize("success")
    made.finalize("success")  # of a test after the training: no checkpoint is new
    assert len(run.artifacts) == wanted
    for artifact, aliases in run.artifacts:
        assert (artifact.name, artifact.type, aliases) == ("model-abc", "model", ["best"])
        assert artifact.metadata == {"monitor": "val/score", "score": 0.5}
        assert list(artifact.manifest.entries) == ["best.ckpt"]


def test_a_closed_run_is_ended_once() -> None:
    made, run = logger()
    made.close()
    made.close()
    assert run.finished == 1


def test_a_real_run_offline_keeps_table_and_picture(tmp_path: Path) -> None:
    made = PartialLabelWandbLogger(save_dir=tmp_path)
    made.log_hyperparams({"model": {"network": "ToyNetwork"}})
    made.log_metrics({"val/depth/abs_err": 1.0}, step=1)
    made.log_image("panels", [Image.new("RGB", (4, 3), "red")], step=1)
    made.log_results(["task", "this run"], [["depth", 0.5]], "val")
    assert made.experiment.config["model"] == {"network": "ToyNetwork"}
    made.close()
    (files,) = tmp_path.glob("wandb/offline-run-*/files")
    (picture,) = files.rglob("panels*.png")
    with Image.open(picture) as kept:
        assert kept.size == (4, 3)
    (table,) = files.rglob("*.table.json")
    assert json.loads(table.read_text())["data"] == [["depth", 0.5]]
