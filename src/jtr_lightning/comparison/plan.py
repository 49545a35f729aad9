"""Which runs a comparison consists of, each known by its whole configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import yaml

from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.sweeps.names import described

_NO_PART_OF_THE_RESULT = (
    *("name", "runs", "predictions", "panels", "report"),
    *("ckpt_path", "resume", "checkpoint_every_n_steps"),
)
"""What a configuration says besides what is trained on what: it is left out of a run's key."""

_DECIDED_HERE = {
    "seed_everything": "--seeds",
    "data.seed": "--seeds",
    "data.scenario": "--scenarios or --fractions",
}


@dataclass(frozen=True)
class Labels:
    """Which training labels a run may use.

    Attributes:
        name: The scenario's class in lower case, e.g. ``onelabel``.
        class_name: The scenario's class; None for the scenario that each config itself has.
        fraction: The share of labels of ``FractionLabels``; None for every other scenario.
    """

    name: str
    class_name: str | None
    fraction: float | None = None

    @property
    def title(self) -> str:
        """For people, e.g. ``onelabel`` or ``10 % of the labels``."""
        if self.class_name is None:
            return "the configs' own labels"
        return self.name if self.fraction is None else f"{100 * self.fraction:g} % of the labels"

    @property
    def options(self) -> list[str]:
        """The scenario as an argument of ``jtr fit``; none for a config's own."""
        if self.class_name is None:
            return []
        arguments = {} if self.fraction is None else {"fraction": self.fraction}
        return [f"--data.scenario={json.dumps({'class_path': self.class_name, 'init_args': arguments})}"]

    @property
    def complete(self) -> bool:
        """Whether no label is hidden."""
        return self.class_name == "FullLabels" or self.fraction == 1


FULL = Labels("fulllabels", "FullLabels")
OWN = Labels("own", None)
"""What each config says itself, such as a published label split. It has to be the same in all of them."""


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        name: The config file's name without its end.
        config: The config file.
    """

    name: str
    config: str


@dataclass(frozen=True)
class Run:
    """One training and its test.

    Attributes:
        method: The method's name.
        labels: Which labels it may use.
        seed: Seed of the weights, the scenario and the order.
        config: The whole configuration, defaults included, as plain values.
        values: Of a search's trial, the options that it tries.
    """

    method: str
    labels: Labels
    seed: int
    config: Mapping[str, Any] = field(hash=False)
    values: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def key(self) -> str:
        """Twelve hexadecimal digits that change with every part of the configuration that matters."""
        text = json.dumps(what_matters(self.config), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """The name of its folder."""
        share = "" if self.labels.fraction is None else f"-{self.labels.fraction:g}"
        return f"{self.method}-{self.labels.name}{share}-{self.seed}-{self.key}"

    def __str__(self) -> str:
        tried = f", {described(self.values)}" if self.values else ""
        return f"{self.method}, {self.labels.title}, seed {self.seed}{tried}"


def what_matters(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without what says nothing of the result, such as where it is written."""
    return {name: value for name, value in config.items() if name not in _NO_PART_OF_THE_RESULT}


def methods_of(configs: Sequence[str]) -> list[Method]:
    """The methods of config files.

    Args:
        configs: Paths of config files.

    Returns:
        A method for each, named after the file.

    Raises:
        ConfigError: A file is missing, or two have one name.
    """
    methods: list[Method] = []
    for config in configs:
        path = Path(config)
        if not path.is_file():
            raise ConfigError(f"A method's config should be a file; found none at '{config}'.")
        same = next((m for m in methods if m.name == path.stem), None)
        if same is not None:
            raise ConfigError(
                f"Each method should have a config file of its own name; '{same.config}' and '{config}' are both "
                f"'{path.stem}'. Rename one."
            )
        methods.append(Method(path.stem, config))
    return methods


def find_method(methods: Sequence[Method], wanted: str | None, default: str, flag: str) -> str | None:
    """The method with a special part, such as the baseline.

    Args:
        methods: All methods.
        wanted: What the user gave: a method's name, its config file, or None.
        default: The name to look for otherwise.
        flag: The option that names it, for the error message.

    Returns:
        The method's name; None if the user named none and there is none of the default name.

    Raises:
        ConfigError: What the user gave is none of the methods.
    """
    for method in methods:
        if method.name == (wanted or default) or (wanted and Path(method.config) == Path(wanted)):
            return method.name
    if wanted is None:
        return None
    hint = did_you_mean(wanted, [method.name for method in methods])
    raise ConfigError(f"{flag} should be one of the compared methods; found '{wanted}', {hint}")


def labels_of(scenarios: Iterable[str], fractions: Iterable[float]) -> list[Labels]:
    """The columns of a comparison.

    Args:
        scenarios: Names of scenarios, in any case: ``onelabel``, ``OneLabel``; ``full`` is short for ``FullLabels``,
            and ``own`` is what the configs say.
        fractions: Shares of labels in (0, 1].

    Returns:
        Scenarios, then shares from the smallest; each once.

    Raises:
        ConfigError: An unknown scenario, or a share out of range.
    """
    from jtr_lightning import scenarios as module

    classes = {
        name.lower(): name
        for name, cls in vars(module).items()
        if isinstance(cls, type) and issubclass(cls, module.Scenario) and cls is not module.Scenario
    }
    # These two need a parameter, which a name cannot give.
    known = {name: cls for name, cls in classes.items() if cls not in ("FractionLabels", "SplitFile")}
    labels = {name: Labels(name, cls) for name, cls in known.items()} | {OWN.name: OWN}
    chosen: list[Labels] = []
    for scenario in scenarios:
        name = FULL.name if scenario.lower() == "full" else scenario.lower()
        if name not in labels:
            needs_more = {
                "fractionlabels": "give --fractions.",
                "splitfile": "give 'own' for what the configs say.",
            }
            raise ConfigError(
                f"--scenarios should name scenarios; found '{scenario}', "
                f"{needs_more.get(name) or did_you_mean(name, labels)}"
            )
        chosen.append(labels[name])
    for fraction in sorted(fractions):
        if not 0 < fraction <= 1:
            raise ConfigError(f"--fractions should be above 0 and at most 1; found {fraction:g}.")
        chosen.append(Labels("fractionlabels", "FractionLabels", fraction))
    return list(dict.fromkeys(chosen))


def make_plan(
    methods: Sequence[Method],
    labels: Sequence[Labels],
    seeds: Sequence[int],
    overrides: Sequence[str] = (),
    baseline: str | None = None,
    chosen: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Run]:
    """All runs of a comparison.

    Args:
        methods: The methods.
        labels: Which labels they are trained with.
        seeds: The seeds.
        overrides: Options for every run, as after ``jtr fit``.
        baseline: The method that is also trained with full labels, unless they are among ``labels``.
        chosen: For each method the options that a search has chosen; they win over ``overrides``.

    Returns:
        Runs by labels, seed and method, in this order; those with full labels last.

    Raises:
        ConfigError: A config or an override does not fit.
    """
    refuse_decided(overrides)
    options = {method: [*overrides, *as_options((chosen or {}).get(method.name, {}))] for method in methods}
    pairs = [(method, which) for which in labels for method in methods]
    if baseline is not None and not any(which.complete for which in labels):
        pairs += [(method, FULL) for method in methods if method.name == baseline]
    configs = {(method, which): resolve(method.config, which, options[method]) for method, which in pairs}
    _refuse_different_labels(
        {method.config: configs[method, which] for method, which in pairs if which == OWN}
    )
    order = list(dict.fromkeys(which for _, which in pairs))
    return [
        Run(method.name, which, seed, seeded(configs[method, which], seed))
        for which in order
        for seed in seeds
        for method in methods
        if (method, which) in configs
    ]


def resolve(config: str, labels: Labels, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The whole configuration of a training, defaults included, as ``jtr fit --print_config`` prints it.

    Args:
        config: A config file.
        labels: Which labels to train with.
        overrides: Options in place of the file's.

    Returns:
        The configuration as plain values.

    Raises:
        ConfigError: The file or an override does not fit.
    """
    from jtr_lightning.lightning_cli.command_line import command_line

    # A log file is no place for progress bars. The seeds are replaced afterwards, for each run.
    decided = [
        *labels.options,
        "--data.seed=0",
        "--seed_everything=0",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
    ]
    printed = StringIO()
    try:
        with redirect_stdout(printed):
            command_line(["fit", "--config", config, *overrides, *decided, "--print_config"])
    except ConfigError as error:
        raise ConfigError(f"{config}: {error}") from error
    except SystemExit as leave:
        if leave.code:
            raise
    tree: dict[str, Any] = yaml.safe_load(printed.getvalue())
    _refuse_devices(config, tree["trainer"]["devices"])
    if tree["ckpt_path"] is not None:
        raise ConfigError(
            f"{config}: a compared run should be trained from its beginning; found `ckpt_path` = {tree['ckpt_path']}. "
            "Leave it out; pretrained weights of an encoder are an argument of the network (`encoder_weights`)."
        )
    if tree["trainer"]["fast_dev_run"]:
        raise ConfigError(
            f"{config}: a compared run should train, keep its best checkpoint and test that one, which "
            "--trainer.fast_dev_run leaves out. Try one step with `jtr fit`, or a short comparison with "
            "--trainer.max_epochs 1."
        )
    if tree["trainer"]["enable_checkpointing"] is False:
        raise ConfigError(
            f"{config}: a compared run should keep its best checkpoint, to test that one; found "
            "`trainer.enable_checkpointing` = false. Leave it out."
        )
    return tree


def _refuse_different_labels(configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Methods can be compared only on the same labels."""
    scenarios = {config: tree["data"]["init_args"]["scenario"] for config, tree in configs.items()}
    for config, scenario in scenarios.items():
        first = next(iter(scenarios))
        if scenario != scenarios[first]:
            raise ConfigError(
                f"With --scenarios own all configs should have the same `data.scenario`, since only then the methods "
                f"can be compared; found {json.dumps(scenarios[first])} in {first} and {json.dumps(scenario)} in "
                f"{config}."
            )


def _refuse_devices(config: str, devices: Any) -> None:
    """Each run has one device; several runs at once have one each."""
    number = len(devices) if isinstance(devices, list) else devices
    if str(number) not in ("auto", "1"):
        raise ConfigError(
            f"{config}: a compared run should have one device, since runs are trained side by side (--jobs); found "
            f"`trainer.devices` = {devices}. Leave it out."
        )


def as_options(values: Mapping[str, Any]) -> list[str]:
    """Option names and values as arguments of ``jtr fit``."""
    return [
        f"--{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()
    ]


def seeded(config: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A configuration with a run's seed: of the weights, the scenario and the order."""
    tree = deepcopy(dict(config))
    tree["seed_everything"] = seed
    tree["data"]["init_args"]["seed"] = seed
    return tree


def refuse_decided(overrides: Iterable[str]) -> None:
    """Refuses options that a comparison gives each run itself.

    Args:
        overrides: Arguments of ``jtr fit``.

    Raises:
        ConfigError: One of them is such an option.
    """
    for flag in _flags(overrides):
        parts = [part for part in flag.split(".") if part != "init_args"]
        for name, option in _DECIDED_HERE.items():
            if parts[: len(name.split("."))] == name.split("."):
                raise ConfigError(
                    f"A comparison decides `{name}` of each run itself; found --{flag}, use {option} instead."
                )


def _flags(arguments: Iterable[str]) -> Iterator[str]:
    for argument in arguments:
        if argument.startswith("--"):
            yield argument[2:].partition("=")[0]
