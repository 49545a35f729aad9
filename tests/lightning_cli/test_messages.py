"""Messages of the parser as sentences, for every place of a config where something may be wrong."""

import re
from argparse import ArgumentError
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from jtr_lightning.data import FolderDataModule, NYUv2DataModule, TaskonomyDataModule
from jtr_lightning.data.base import PartialLabelDataModule
from jtr_lightning.data.codings import Coding
from jtr_lightning.lightning_cli.messages import sentence
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.scenarios import Scenario
from tests.tiny import TinyData, ToyNetwork

# Found by their short names once imported.
__all__ = ["FolderDataModule", "NYUv2DataModule", "TaskonomyDataModule", "TinyData", "ToyNetwork"]

TINY: dict[str, Any] = {"class_path": "TinyData", "init_args": {}}
MODEL: dict[str, Any] = {"class_path": "PartialLabelModule", "init_args": {"network": "ToyNetwork"}}


@pytest.fixture(scope="module")
def parser() -> LightningArgumentParser:
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(PartialLabelDataModule, "data", subclass_mode=True)
    parser.add_lightning_class_args(PartialLabelModule, "model", subclass_mode=True)
    parser.link_arguments("data.tasks", "model.init_args.tasks", apply_on="instantiate")
    return parser


def told(parser: LightningArgumentParser, data: Any = TINY, model: Any = MODEL) -> str:
    with pytest.raises(ArgumentError, match=r".") as caught:
        parser.parse_object({"data": data, "model": model})
    return sentence(str(caught.value))


def data(**init_args: Any) -> dict[str, Any]:
    return {**TINY, "init_args": init_args}


def model(**init_args: Any) -> dict[str, Any]:
    return {**MODEL, "init_args": {**MODEL["init_args"], **init_args}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (
            {"data": {"class_path": "TinyDta"}},
            "Parameter `data` should name a class; found 'TinyDta', did you mean 'TinyData'",
        ),
        (
            {"model": model(network={"class_path": "my.ToyNetwrk"})},
            "Parameter `model.network` should name a class; found 'my.ToyNetwrk', did you mean 'ToyNetwork'",
        ),
        (
            {"model": model(network={"class_path": "tests.toy.ToyNetwrk"})},
            "Parameter `model.network` should name a class; found 'tests.toy.ToyNetwrk', did you mean 'ToyNetwork'",
        ),
        (
            {"model": model(network={"class_path": "tests.tiny.TinyData"})},
            "Parameter `model.network` should name a class; found 'tests.tiny.TinyData', known are ",
        ),
        (
            {"data": data(scenario={"class_path": "OneLable"})},
            "Parameter `data.scenario` should name a class; found 'OneLable', did you mean 'OneLabel'",
        ),
        (
            {"data": data(tasks={"a": {"class_path": "Depht"}})},
            "Parameter `data.tasks` should name a class; found 'Depht', did you mean 'Depth'?",
        ),
        (
            {"model": model(optimizer={"class_path": "AdmaW"})},
            "Parameter `model.optimizer` should name a class; found 'AdmaW', did you mean 'AdamW'",
        ),
        (
            {"data": data(tasks={"a": {"class_path": "Depth", "init_args": {"stdd": 3}}})},
            "Depth has no parameter 'stdd'; did you mean 'std'?",
        ),
        (
            {"model": model(network={"class_path": "ToyNetwork", "init_args": {"widht": 3}})},
            "ToyNetwork has no parameter 'widht'; did you mean 'width'?",
        ),
        (
            {"model": model(optimizer={"class_path": "torch.optim.Adam", "init_args": {"lrr": 0.1}})},
            "Adam has no parameter 'lrr'; did you mean 'lr'?",
        ),
        (
            {"model": model(optimizer={"class_path": "torch.optim.Adam", "init_args": {"lr": "fast"}})},
            "Parameter `model.optimizer.lr` should be float or Tensor; found fast.",
        ),
        ({"data": data(seed="x")}, "Parameter `data.seed` should be int; found x."),
        *(
            (
                {"data": data(size=size)},
                f"Parameter `data.size` should be a height and a width (such as [64, 80]) or null; found {found}.",
            )
            for size, found in (([64], "[64]"), (64, "64"), ([64, "a"], "[64, 'a']"))
        ),
        ({"data": data(on_error="x")}, "Parameter `data.on_error` should be 'raise' or 'skip'; found x."),
        (
            {"data": data(tasks=3)},
            "Parameter `data.tasks` should be list[str] or dict[str, Task] or null; found 3.",
        ),
        (
            {"data": data(tasks={"a": {"class_path": "Depth", "init_args": {"std": "big"}}})},
            "Parameter `data.tasks.std` should be float; found big.",
        ),
        (
            {"model": {"class_path": "PartialLabelModule"}},
            "PartialLabelModule should be given network; give --model.network, or a --config that does.",
        ),
        (
            {"model": model(lr_scheduler="StepLR")},
            "StepLR should be given step_size; give --model.lr_scheduler.step_size, or a --config that does.",
        ),
        (
            {"model": model(optimizer="Adam", lr_scheduler="CyclicLR")},
            "CyclicLR should be given base_lr, max_lr; give --model.lr_scheduler.base_lr --model.lr_scheduler.max_lr",
        ),
    ],
)
def test_the_innermost_mistake_is_named(
    parser: LightningArgumentParser, given: dict[str, Any], expected: str
) -> None:
    assert told(parser, **given).startswith(expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--data.help", "TinyDat"],
            "Option --data.help should name a class; found 'TinyDat', did you mean 'TinyData'",
        ),
        (
            ["--data.scenario.help", "OneLable"],
            "Option --data.scenario.help should name a class; found 'OneLable', did you mean 'OneLabel'",
        ),
        (
            ["--model.network.help", "ToyNet"],
            "Option --model.network.help should name a class; found 'ToyNet'",
        ),
    ],
)
def test_help_of_an_unknown_class_is_told(
    parser: LightningArgumentParser, arguments: list[str], expected: str
) -> None:
    with pytest.raises(ArgumentError, match=r".") as caught:
        parser.parse_args(["--data=TinyData", "--model=PartialLabelModule", *arguments])
    assert sentence(str(caught.value)).startswith(expected)


@pytest.mark.parametrize(
    ("given", "base", "own"),
    [
        (
            {"data": data(scenario="Unheard")},
            Scenario,
            "DomainSplit FractionLabels FullLabels HalfLabels OneLabel RandomLabels SplitFile",
        ),
        (
            {"data": {"class_path": "FolderDataModule", "init_args": {"codings": {"depth": "Unheard"}}}},
            Coding,
            "AsStored ClassIds CurvatureColours DepthSteps HeatMap Levels MostLikely Scaled UnitVectors",
        ),
        ({"model": model(optimizer="Unheard")}, Optimizer, ""),
        ({"model": model(lr_scheduler="Unheard")}, LRScheduler, ""),
    ],
    ids=["scenario", "coding", "optimizer", "lr_scheduler"],
)
def test_known_classes_are_those_that_can_be_chosen(
    given: dict[str, Any], base: type, own: str, parser: LightningArgumentParser
) -> None:
    names = re.findall(r"'(\w+)'", told(parser, **given).partition("known are")[2])
    assert len(names) == len(set(names)) > 0
    assert base.__name__ not in names
    classes = {cls.__name__ for cls in _subclasses(base) if cls.__module__.startswith("jtr_lightning.")}
    assert classes & set(names) == set(own.split())  # other tests have classes of their own


def _subclasses(base: type) -> Iterator[type]:
    for cls in base.__subclasses__():
        yield from (cls, *_subclasses(cls))


def test_a_parameter_before_its_class_is_told(parser: LightningArgumentParser) -> None:
    with pytest.raises(ArgumentError, match=r"abstract") as caught:
        parser.parse_args(["--data.seed", "3"])
    message = sentence(str(caught.value))
    assert message.startswith(
        "Parameter `data` should name a class before its `seed` is given; found none. Give --data"
    )
    assert "'TinyData'" in message


def test_an_unknown_option_is_compared_with_those_that_are() -> None:
    options = ["trainer.max_epochs", "model", "data.root"]
    assert sentence("Subcommand 'fit' does not accept option 'trainer.max_epoch'", options) == (
        "There is no option 'trainer.max_epoch'; did you mean 'trainer.max_epochs'?"
    )
    assert sentence("unrecognized arguments: --data.rot=3", options).endswith(
        "'data.rot'; did you mean 'data.root'?"
    )
    assert sentence("unrecognized arguments: --quick", options) == "There is no option 'quick'; see --help."


def test_a_config_without_its_option_is_told_how_it_is_given() -> None:
    assert sentence("Unrecognized arguments: my.yaml", ["config"]).endswith(
        "found 'my.yaml' without one. A config file is given as --config my.yaml."
    )


def test_types_within_types_are_told_apart() -> None:
    types = "dict[str, tuple[int, int]], typing.Literal['a', 'b'], <class 'NoneType'>"
    told = sentence(
        f"Parser key \"x\":\n  Does not validate\n  Subtypes: [{types}]\n  Errors:\n    - Expected a <class 'dict'>\n"
        "  Given value: 3\nGiven value: Namespace(x=3)"
    )
    assert told == "Parameter `x` should be dict[str, tuple[int, int]] or 'a' or 'b' or null; found 3."


def test_what_is_not_understood_is_passed_on_in_one_line() -> None:
    with pytest.raises(yaml.YAMLError, match="flow node") as caught:
        yaml.safe_load("a: [")
    told = sentence(f"Problems parsing config: {caught.value}")
    assert told.startswith(
        "The arguments could not be read: Problems parsing config: while parsing a flow node"
    )
    assert "\n" not in told
