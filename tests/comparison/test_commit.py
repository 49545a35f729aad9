"""The commit beside each result."""

from __future__ import annotations

import pytest

from jtr_lightning.comparison import commit


def test_the_commit_is_a_commit_or_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"ls-files": "__init__.py", "rev-parse": "0" * 40, "status": ""}
    monkeypatch.setattr(commit, "_git", lambda folder, command, *rest: answers[command])
    assert commit.current_commit() == "0" * 40
    answers["status"] = " M module.py"
    assert commit.current_commit() == "0" * 40 + "-dirty"
    answers["ls-files"] = ""  # inside of a repository that does not know this package
    assert commit.current_commit().startswith("version ")


@pytest.mark.parametrize(
    ("whole", "expected"),
    [
        ("0123456789abcdef" * 2, "0123456789"),
        ("0123456789abcdef-dirty", "0123456789-dirty"),
        ("version 0.3.0", "version 0.3.0"),
    ],
)
def test_for_people_a_commit_is_short(whole: str, expected: str) -> None:
    assert commit.short(whole) == expected
