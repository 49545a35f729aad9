"""Which arguments of an earlier config survive a later one."""

from pathlib import Path

import pytest
import yaml

from jtr_lightning.errors import ConfigError
from jtr_lightning.lightning_cli.configs import check_names, forget_replaced_classes, option, read_config

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


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"model: {}\ndata: [1\nb: 2", r"should be YAML; found in line 3, column 2: .*expected ',' or '\]'"),
        (
            b"model: !!python/object:os.system {}",
            "should be YAML; found in line 1, column 8: could not determine",
        ),
        (b"\xff\xfe", "should be readable YAML; found: .*can't decode byte 0xff"),
        (b"- model", r"should have names with values, such as `data: ...`; found \['model'\]"),
        (b"model", "should have names with values, such as `data: ...`; found 'model'"),
    ],
)
def test_what_is_wrong_with_a_config_file_is_told_with_its_name(
    tmp_path: Path, content: bytes, told: str
) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"The config file '.*broken\.yaml' {told}"):
        read_config(broken)
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        forget_replaced_classes(["fit", "--config", str(broken)])


def test_a_config_file_may_be_empty_or_missing(tmp_path: Path) -> None:
    (tmp_path / "empty.yaml").touch()
    assert read_config(tmp_path / "empty.yaml") == {}
    _, _, content = forget_replaced_classes(["fit", "--config", str(tmp_path / "empty.yaml")])
    assert yaml.safe_load(content) == {}
    with pytest.raises(ConfigError, match=r"The config should be a file; found none at '.*none\.yaml'"):
        read_config(tmp_path / "none.yaml")


def test_an_unknown_part_of_a_config_file_is_compared_with_those_that_are() -> None:
    check_names("a.yaml", {"data": {}, "trainer.max_epochs": 3}, {"data", "trainer"}, "jtr fit")
    with pytest.raises(
        ConfigError, match=r"'a\.yaml' has `dta`, which jtr fit does not take; did you mean 'data'"
    ):
        check_names("a.yaml", {"dta": {}}, {"data", "trainer"}, "jtr fit")


def test_option_finds_both_spellings_in_order() -> None:
    arguments = ["test", "--ckpt_path", "a", "-c", "x", "--ckpt_path=b=c", "--ckpt"]
    assert option(arguments, "--ckpt_path") == ["a", "b=c"]
    assert option(arguments, "--config", "-c") == ["x"]
    assert option(arguments, "--name") == []
