import enum
import io
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from jtr_lightning.described import Described, differences, rebuild, written_out
from jtr_lightning.errors import ConfigError
from jtr_lightning.tasks import Depth, Segmentation


class Part(Described):
    def __init__(self, size: int, *, names: tuple[str, ...] = ("a",)) -> None:
        self.size = size
        self.names = names


class Whole(Part):
    not_described = ("secret",)

    def __init__(self, parts: dict[str, Part], secret: object = None, **kwargs: int) -> None:
        super().__init__(**kwargs)
        self.parts = parts
        self.secret = secret


class HandedOn(Part):
    def __init__(self, parts: list[Part], *args: int, secret: int = 0, **kwargs: tuple[str, ...]) -> None:
        super().__init__(*args, **kwargs)
        self.parts = parts
        self.secret = secret


def test_arguments_by_position_come_back_where_a_class_hands_them_on() -> None:
    part = HandedOn([Part(1)], 7, secret=3, names=("b",))
    for _ in range(2):
        again = rebuild(part.describe())
        assert (again.size, again.secret, list(again.names), again.parts[0].size) == (7, 3, ["b"], 1)
        assert differences(part.describe(), again) is None
        part = again
    assert differences(part.describe(), HandedOn([Part(1)], 8, secret=3, names=("b",))) is not None
    # Without any, they have their names.
    assert set(HandedOn(parts=[], size=7).describe()["init_args"]) == {"parts", "size"}


@dataclass
class Nearby(Depth):
    reach: float = 5.0

    def __post_init__(self) -> None:
        super().__init__(std=self.reach / 2)


def test_a_dataclass_comes_back_with_its_arguments() -> None:
    task = rebuild(Nearby(3.0).describe())
    assert (task.reach, task.std) == (3.0, 1.5)
    assert differences(Nearby(3.0).describe(), Nearby()) == ("Nearby(reach=3.0)", "Nearby(reach=5.0)")
    assert written_out(Nearby(3.0)) == "Nearby(reach=3.0)"


def test_an_object_comes_back_with_its_parts() -> None:
    whole = Whole({"x": Part(2, names=("b", "c"))}, secret=object(), size=5)
    again = rebuild(whole.describe())
    assert type(again) is Whole
    assert (again.size, again.secret, again.parts["x"].size) == (5, None, 2)
    assert list(again.parts["x"].names) == ["b", "c"]


def test_tasks_come_back_equal() -> None:
    task = rebuild(Segmentation(["wall", "floor"], ignore_index=9).describe())
    assert (task.class_names, task.ignore_index) == (["wall", "floor"], 9)
    assert rebuild(Depth(mean=1.5).describe()).mean == 1.5


def test_what_differs_between_a_description_and_a_part() -> None:
    part = Part(2)
    assert differences(Part(size=2, names=("a",)).describe(), part) is None
    assert differences(Part(3).describe(), part) == ("Part(size=3)", "Part(size=2)")
    assert differences(Part(2, names=("b",)).describe(), part) == ("Part(names=['b'])", "Part(names=['a'])")
    assert differences(Segmentation(2).describe(), part) == ("Segmentation", "Part")
    # An argument handed on by **kwargs has the default of the base.
    assert differences(Whole({}, size=5, names=("a",)).describe(), Whole({}, secret=1, size=5)) is None
    assert differences({"class_path": "other.Part", "init_args": {}}, part) == (
        "other.Part",
        f"{__name__}.Part",
    )


class Colour(str, enum.Enum):
    RED = "red"


class Number(enum.IntEnum):
    TWO = 2


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (np.float64(1.5), 1.5),  # a mean over a dataset
        (np.array(["wall", "floor"])[1], "floor"),
        (Colour.RED, "red"),
        (Number.TWO, 2),
        (True, True),
        (None, None),
    ],
)
def test_a_description_is_of_plain_types_alone(given: object, plain: object) -> None:
    described = Part(given).describe()  # type: ignore[arg-type]
    found = described["init_args"]["size"]
    assert (found, type(found)) == (plain, type(plain))
    file = io.BytesIO()
    torch.save(described, file)
    assert torch.load(io.BytesIO(file.getvalue()), weights_only=True) == described


def test_an_argument_without_a_plain_form_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Part\(size=...\).*found object"):
        Part(object()).describe()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        ("os.system", "no class derived from"),
        ("subprocess.Popen", "no class derived from"),
        ("jtr_lightning.module.torch", "no class derived from"),
        ("this_is_no_module.Task", "import the module 'this_is_no_module' before loading"),
    ],
)
def test_a_description_cannot_name_anything_else(class_path: str, message: str) -> None:
    import subprocess  # noqa: F401 - must be imported already, so that only the type check can refuse it

    import jtr_lightning.module  # noqa: F401

    with pytest.raises(ConfigError, match=message):
        rebuild({"class_path": class_path, "init_args": {}})
