"""The page of departures names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "departures.md"


def named_tests() -> list[tuple[str, str]]:
    """File below tests/ and the name that should stand in it."""
    found = []
    for reference in re.findall(
        r"`((?:[\w/]+\.py::)?(?:Test\w+|test_\w+)(?:::\w+)*)`", PAGE.read_text("utf-8")
    ):
        file, names = re.fullmatch(r"(?:([\w/]+\.py)::)?(.+)", reference).groups()
        file = "test_jtr.py" if file is None else file
        path = file if file.startswith("tests/") else f"tests/regularizers/{file}"
        found += [(path, name) for name in names.split("::")]
    return found


def test_every_departure_names_a_test() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 11))
    assert all("test" in shown for _, shown in rows)


def test_every_further_difference_names_a_test() -> None:
    table = PAGE.read_text("utf-8").partition("## Further differences")[2]
    rows = re.findall(r"^\| (.*) \|$", table, re.MULTILINE)[1:]  # without the heading
    assert len(rows) >= 10
    assert [row for row in rows if "::test_" not in row.rpartition(" | ")[2]] == []


@pytest.mark.parametrize(("path", "name"), named_tests())
def test_a_named_test_exists(path: str, name: str) -> None:
    assert re.search(rf"(def|class) {name}\b", (ROOT / path).read_text("utf-8"))
