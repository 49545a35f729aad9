"""Every mistake that a user may make with ``jtr fit | validate | test | predict`` is told in one line."""

from pathlib import Path

import pytest
import torch
import yaml

from jtr_lightning.cli.main import main
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from tests.lightning_cli.tiny_trainings import ALL_TASKS, BASE, TRAINER, best

pytestmark = pytest.mark.usefixtures("in_a_scratch_folder")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A finished training of all tasks, for the tests that only read it."""
    options = ["--data.scenario", "OneLabel", "--model.regularizer", "Agreement", ALL_TASKS]
    runs = tmp_path_factory.mktemp("finished")
    return command_line(["fit", *BASE, *options, "--name", "all", "--runs", str(runs)])


def mistakes() -> dict[str, tuple[list[str], str]]:
    rooms = ["--data", "NYUv2DataModule", "--data.root", "no_such_folder", "--model.network", "ToyNetwork"]
    return {
        "missing folder": ([*rooms, *TRAINER], "no_such_folder"),
        "empty split": ([*BASE, "--data.number", "0"], "should have at least one sample; found none"),
        "unknown task": ([*BASE, "--data.tasks=[depht]"], "found 'depht', did you mean 'depth'?"),
        "unknown encoder": (
            [*BASE, "--model.network", "SMPNetwork", "--model.network.encoder", "resnet81"],
            "'resnet18'",
        ),
        "sizes differ": (
            [*BASE, "--data.broken", "size"],
            "depth: a label should have the size of its image, 8x10 pixels",
        ),
        "sizes differ in a worker": (
            [*BASE, "--data.broken", "size", "--data.num_workers", "1"],
            "depth: a label should have the size of its image, 8x10 pixels",
        ),
        "class id": ([*BASE, "--data.broken", "id"], "should have class ids 0..2"),
        "task without label": (
            [*BASE, "--data.number", "2", "--data.scenario", "OneLabel"],
            "leaves none for task",
        ),
        "one task": (
            [*BASE, "--data.tasks=[depth]", "--data.scenario", "OneLabel"],
            "OneLabel should be used with at least 2 tasks",
        ),
        "batch size": ([*BASE, "--data.batch_size", "0"], "`batch_size` should be at least 1; found 0"),
        "no such class": (
            [*BASE, "--data.scenario", "OneLable"],
            "found 'OneLable', did you mean 'OneLabel'",
        ),
        "no such parameter": ([*BASE, "--data.batchsize", "4"], "TinyData has no parameter 'batchsize'"),
        "no such option": ([*BASE, "--traner.max_epochs", "4"], "did you mean 'trainer.max_epochs'"),
        "wrong type": ([*BASE, "--trainer.max_epochs", "many"], "`trainer.max_epochs` should be int or null"),
        "no data": (["--model.network", "ToyNetwork"], "should be given data; give --data"),
        "no network": (["--data", "TinyData"], "PartialLabelModule should be given network"),
        "no such config": (
            ["--config", "nowhere.yaml"],
            "The config should be a file; found none at 'nowhere.yaml'",
        ),
        "part of a config": (
            ["--config", "typo.yaml"],
            "The config file 'typo.yaml' has `dta`, which jtr fit does not take; did you mean 'data'?",
        ),
        "abbreviation": ([*BASE, "--trainer.max_epoch", "4"], "no option 'trainer.max_epoch'; did you mean"),
        "size of one number": (
            [*BASE, "--data.size", "64"],
            "should be a height and a width (such as [64, 80])",
        ),
        "tasks on the model": (
            [*BASE, "--model.tasks={x: Depth}"],
            "The tasks should be given on the data alone",
        ),
        "never validated": (
            [*BASE, "--trainer.max_epochs", "4", "--trainer.check_val_every_n_epoch", "5"],
            "should be at most `trainer.max_epochs`, or nothing is validated",
        ),
        "trainer": ([*BASE, "--trainer.devices", "-7"], "`devices` selected with"),
        "monitor": (
            [*BASE, "--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=val/scor"],
            "Early stopping conditioned on metric `val/scor` which is not available.",
        ),
        "rate": (
            [*BASE, "--model.optimizer=torch.optim.Adam", "--model.optimizer.lr=-1"],
            "The optimizer should be given arguments that it takes; found: Invalid learning rate: -1.0.",
        ),
        "seed": (
            [*BASE, "--seed_everything=-3"],
            "--seed_everything should be from 0 to 4294967295; found -3",
        ),
        "no folder": (
            [*BASE, "--runs", "typo.yaml"],
            "should be made in 'typo.yaml/run', but that failed: Not a dir",
        ),
    }


@pytest.mark.parametrize("which", mistakes())
def test_a_mistake_is_told_in_one_line(which: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments, told = mistakes()[which]
    Path("typo.yaml").write_text("dta: TinyData")
    assert main(["fit", *arguments]) in (1, 2)
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert told in lines[0]
    assert "Traceback" not in lines[0]
    assert "Subtypes" not in lines[0]


@pytest.mark.parametrize("which", ["empty split", "sizes differ", "trainer", "class id"])
def test_a_start_that_fails_leaves_no_empty_folder(which: str) -> None:
    assert main(["fit", *mistakes()[which][0], "--name", "mine"]) == 1
    left = list(Path("runs").rglob("*"))
    # What has begun to train keeps what it wrote.
    assert not left or Path("runs/mine/0/config.yaml") in left
    assert bool(left) == (which in ("sizes differ", "class id"))


@pytest.mark.parametrize("subcommand", ["validate", "test", "predict"])
@pytest.mark.parametrize("options", [[], BASE])
def test_a_trained_model_must_be_given(
    subcommand: str, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([subcommand, *options]) == 1
    assert f"jtr {subcommand} should be given a trained model" in capfd.readouterr().err


def test_a_config_may_name_the_checkpoint(trained: CommandLine) -> None:
    assert trained.folder is not None
    tree = yaml.safe_load((trained.folder / "config.yaml").read_text())
    Path("with_checkpoint.yaml").write_text(yaml.safe_dump({**tree, "ckpt_path": best(trained)}))
    assert command_line(["test", "--config", "with_checkpoint.yaml"]).metrics


def test_tasks_on_the_model_are_refused_in_a_config_too(capfd: pytest.CaptureFixture[str]) -> None:
    tree = {"model": {"init_args": {"tasks": {"x": "Depth"}}}}
    Path("mine.yaml").write_text(yaml.safe_dump(tree))
    assert main(["fit", *BASE, "--config", "mine.yaml"]) == 1
    assert "found tasks in `model.init_args.tasks`" in capfd.readouterr().err
    assert not Path("runs").exists()


def test_a_checkpoint_must_be_one_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {}}, "other.ckpt")
    Path("broken.ckpt").write_bytes(b"no checkpoint")
    for name, told in {
        "nowhere.ckpt": "found none at 'nowhere.ckpt'",
        "other.ckpt": "written by jtr-lightning",
        "broken.ckpt": "could not be read",
    }.items():
        for options in (BASE, []):
            assert main(["test", *options, "--ckpt_path", name]) == 1
            assert told in capfd.readouterr().err


def test_a_checkpoint_must_be_of_the_same_tasks(
    trained: CommandLine, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["test", "--data.tasks=[depth]", "--ckpt_path", best(trained)]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: The checkpoint should be of the same tasks as the model")


def test_a_checkpoint_must_be_of_the_same_classes(capfd: pytest.CaptureFixture[str]) -> None:
    three = "--data.tasks={segmentation: {class_path: Segmentation, init_args: {classes: 3}}}"
    done = command_line(["fit", *BASE, three])
    assert main(["test", *BASE, three.replace("3", "4"), "--ckpt_path", best(done)]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ")
    assert "its 'segmentation' is Segmentation(classes=3), the model's Segmentation(classes=4)" in error


def test_a_training_goes_on_with_its_tasks_in_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    done = command_line(
        ["fit", *BASE, "--data.tasks=[segmentation,depth]", "--model.regularizer", "Agreement"]
    )
    assert main(["fit", "--data.tasks=[depth,segmentation]", "--ckpt_path", best(done)]) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("error: A training should go on with its tasks in the order of the checkpoint")
    assert "['segmentation', 'depth']" in error
