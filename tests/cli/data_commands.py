"""``jtr data make`` and ``jtr data check`` as the tests of ``jtr data`` call them."""

from pathlib import Path
from typing import Any

from jtr_lightning.cli.main import main

SMALL = ["--num", "4", "--num_val", "2", "--num_test", "2", "--size", "24", "32", "--workers", "1"]


def make(folder: Path, layout: str) -> Path:
    assert main(["data", "make", "rooms", "--out", str(folder), "--layout", layout, *SMALL]) == 0
    return folder


def check(*arguments: Any, sheet: Any = "") -> int:
    return main(["data", "check", *map(str, arguments), "--sheet", str(sheet), "--workers", "0"])
