"""What a parameter of a sweep file means, and every way to write one wrong."""

import math
from typing import Any

import optuna
import pytest
from optuna.trial import FixedTrial

from jtr_lightning.errors import ConfigError
from jtr_lightning.sweeps.parameters import Choice, Parameter, Real, Whole, read_parameters

optuna.logging.set_verbosity(optuna.logging.ERROR)


def one(**given: Any) -> Parameter:
    (parameter,) = read_parameters({"lr": given})
    return parameter


def drawn(parameter: Parameter, number: int = 60) -> list[Any]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [parameter.suggest(study.ask()) for _ in range(number)]


def test_values_are_choices_whatever_they_are_made_of() -> None:
    values = [[4, 4], "null", 3, True]
    found = drawn(one(values=values))
    assert all(any(v == w and type(v) is type(w) for w in values) for v in found)
    assert {str(v) for v in found} == {str(v) for v in values}


def test_a_value_is_constant_and_no_part_of_the_grid() -> None:
    assert set(drawn(one(value=7))) == {7}
    assert one(value=7).grid() == []


@pytest.mark.parametrize(
    ("given", "kind"),
    [({"min": 1, "max": 3}, Whole), ({"min": 1, "max": 3.0}, Real), ({"values": [1]}, Choice)],
)
def test_the_distribution_is_the_one_that_wandb_takes(given: dict[str, Any], kind: type) -> None:
    assert type(one(**given)) is kind


def test_whole_numbers_include_both_ends() -> None:
    assert set(drawn(one(min=1, max=3))) == {1, 2, 3}
    assert one(min=1, max=3).grid() == [1, 2, 3]


@pytest.mark.parametrize(
    ("given", "low", "high"),
    [
        ({"distribution": "uniform", "min": 0, "max": 2}, 0, 2),
        ({"distribution": "log_uniform_values", "min": 0.001, "max": 1.0}, 0.001, 1),
        ({"distribution": "log_uniform", "min": -2, "max": 3}, math.exp(-2), math.exp(3)),
    ],
)
def test_numbers_fill_their_range(given: dict[str, Any], low: float, high: float) -> None:
    found = drawn(one(**given))
    assert low <= min(found) < max(found) <= high
    middle = math.sqrt(low * high) if one(**given).logarithmic else (low + high) / 2
    below = sum(value < middle for value in found)
    assert 20 <= below <= 40  # half of 60, give or take


@pytest.mark.parametrize("distribution", ["q_uniform", "q_log_uniform_values"])
def test_steps_round_to_multiples(distribution: str) -> None:
    found = drawn(one(distribution=distribution, min=0.1, max=1.0, q=0.1))
    assert set(found) <= {round(0.1 * i, 1) for i in range(1, 11)}
    assert len(set(found)) > 4


def test_names_stay_whole() -> None:
    parameters = read_parameters({"model.optimizer.lr": {"min": 0.0, "max": 1.0}})
    trial = FixedTrial({"model.optimizer.lr": 0.25})
    assert [p.suggest(trial) for p in parameters] == [0.25]


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (
            {"distribution": "normal", "mu": 0, "sigma": 1},
            "distribution 'normal', which a local sweep does not",
        ),
        ({"distribution": "unifrom", "min": 0, "max": 1}, "did you mean 'uniform'"),
        ({"values": [1, 2], "probabilities": [0.5, 0.5]}, "has `probabilities`, which a local sweep"),
        ({"parameters": {"lr": {"value": 1}}}, "no nested parameters; found some in 'lr'.*lr.lr"),
        ({"min": 0}, "should have `max`; found"),
        ({"min": 2, "max": 1}, "`min` below `max`; found 2 and 1"),
        ({"min": "1e-4", "max": 0.1}, "write 1.0e-3 or 0.001"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "`min` above 0 for log_uniform_values"),
        ({"distribution": "int_uniform", "min": 0, "max": 1.5}, "whole numbers"),
        ({"distribution": ["uniform"], "min": 0, "max": 1}, "which a local sweep does not draw from"),
        ({"distribution": "log_uniform", "min": 1, "max": 1000}, "natural logarithms.*log_uniform_values"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "a number `q` above 0; found 0"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": "x"}, "a number `q` above 0; found 'x'"),
        ({"parameters": None}, "no nested parameters"),
        ({"parameters": 3}, "no nested parameters; found some in 'lr'.*lr.lr"),
        ({"values": []}, "should be a list; found"),
        ({"value": None}, "the text 'null'"),
        ({"values": [1, None]}, "the text 'null'"),
        (3, "should have `values`, `value` or"),
    ],
)
def test_what_a_local_sweep_cannot_draw_is_one_sentence(given: Any, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        read_parameters({"lr": given})


@pytest.mark.parametrize("tree", [None, [], {}])
def test_a_sweep_without_parameters_is_refused(tree: Any) -> None:
    with pytest.raises(ConfigError, match="should have `parameters`"):
        read_parameters(tree)


def test_a_grid_of_a_continuous_range_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"found a continuous range for 'lr'. Give `values`"):
        one(min=0.0, max=1.0).grid()
