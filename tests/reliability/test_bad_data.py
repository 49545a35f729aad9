"""Damaged datasets: every loader times every damage gives an error with the file's name, or a skip that is counted."""

from typing import Any

import pytest

from tests.reliability.checks import check_refused_and_skipped
from tests.reliability.damages import ANY_FILE, OF_KIND, Damage, larger
from tests.reliability.forms import FORMS


def damages_of(part: str, suffix: str) -> dict[str, Damage]:
    """Those that may befall a file: a label of another size than its image belongs to none."""
    sizes = {} if part == "image" else {"larger": larger}
    return {**ANY_FILE, **OF_KIND[suffix], **sizes}


CASES = [
    (form, part, name)
    for form, of in FORMS.items()
    for part, suffix in of.parts.items()
    for name in damages_of(part, suffix)
]


@pytest.mark.parametrize(("form", "part", "name"), CASES, ids=[" | ".join(case) for case in CASES])
def test_a_damaged_file_is_refused_by_name_or_skipped(damaged: Any, form: str, part: str, name: str) -> None:
    of = FORMS[form]
    how = damages_of(part, of.parts[part])[name]
    check_refused_and_skipped(*damaged(form, part, how), part, of.sample)


def test_there_are_enough_cases() -> None:
    assert len(CASES) >= 200
