"""Which arguments of an earlier config survive a later one."""

from pathlib import Path

import pytest
import yaml

from jtr_lightning.cli.configs import forget_replaced_classes, option

ADAMW = {"class_path": "torch.optim.AdamW", "init_args": {"lr": 0.5, "weight_decay": 0.2}}


def write(path: Path, **init_args: object) -> str:
    path.write_text(yaml.safe_dump({"model": {"class_path": "PartialLabelModule", "init_args": init_args}}))
    return str(path)


def optimizer_of(argument: str) -> object:
    text = argument.removeprefix("--config=")
    tree = yaml.safe_load(Path(text).read_text() if text.endswith(".yaml") else text)
    return tree["model"]["init_args"]["optimizer"]


@pytest.mark.parametrize(
    "later",
    [
        ["--model.optimizer", "SGD"],
        ["--model.optimizer=torch.optim.SGD"],
        ["--model.init_args.optimizer.class_path", "torch.optim.SGD"],
    ],
)
def test_an_option_of_another_class_drops_the_arguments(tmp_path: Path, later: list[str]) -> None:
    first = write(tmp_path / "a.yaml", optimizer=ADAMW, network="ToyNetwork")
    _, config, *_ = forget_replaced_classes(["fit", f"--config={first}", *later])
    assert optimizer_of(config) == {"class_path": "torch.optim.AdamW"}
    assert yaml.safe_load(config.removeprefix("--config="))["model"]["init_args"]["network"] == "ToyNetwork"


@pytest.mark.parametrize("form", ["SGD", {"class_path": "SGD", "init_args": {"lr": 1}}])
def test_a_later_config_of_another_class_drops_the_arguments(tmp_path: Path, form: object) -> None:
    first, second = write(tmp_path / "a.yaml", optimizer=ADAMW), write(tmp_path / "b.yaml", optimizer=form)
    arguments = forget_replaced_classes(["fit", "--config", first, "-c", second])
    assert optimizer_of(arguments[2]) == {"class_path": "torch.optim.AdamW"}
    assert arguments[4] == second


@pytest.mark.parametrize(
    "later",
    [
        ["--model.optimizer", "AdamW"],
        ["--model.optimizer.lr", "0.1"],
        ["--model", "MyModule"],
        ["--trainer.max_epochs", "3"],
        [],
    ],
)
def test_arguments_stay_where_no_part_is_replaced(tmp_path: Path, later: list[str]) -> None:
    arguments = ["fit", "--config", write(tmp_path / "a.yaml", optimizer=ADAMW), *later]
    assert forget_replaced_classes(arguments) == arguments


def test_what_stands_before_a_config_is_replaced_by_it_not_the_other_way(tmp_path: Path) -> None:
    config = write(tmp_path / "a.yaml", optimizer=ADAMW)
    arguments = ["fit", "--model.optimizer", "SGD", "--config", config]
    assert forget_replaced_classes(arguments) == arguments


def test_unreadable_configs_are_left_to_the_parser(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [")
    arguments = ["fit", "--config", str(broken), "--config", "nowhere.yaml", "--model.optimizer", "SGD"]
    assert forget_replaced_classes(arguments) == arguments


def test_option_finds_both_spellings_in_order() -> None:
    arguments = ["test", "--ckpt_path", "a", "-c", "x", "--ckpt_path=b=c", "--ckpt"]
    assert option(arguments, "--ckpt_path") == ["a", "b=c"]
    assert option(arguments, "--config", "-c") == ["x"]
    assert option(arguments, "--name") == []
