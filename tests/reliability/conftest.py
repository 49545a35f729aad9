"""Datasets in every form, to be damaged and mended; a training that nothing happens to."""

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jtr_lightning.data.base import PartialLabelDataModule
from tests.reliability.damages import Damage, remove, unreadable
from tests.reliability.forms import FORMS
from tests.reliability.trainings import Order, fit, state

Open = tuple[PartialLabelDataModule, PartialLabelDataModule, Path]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[int, list[int]]]:
    """What the uninterrupted training ends with, and the order of its samples."""
    order = Order()
    done = fit("--runs", str(tmp_path_factory.mktemp("whole")), callbacks=[order])
    return state(done), order.samples


@pytest.fixture(scope="session")
def written() -> Iterator[Callable[[str], Path]]:
    """Each form, written when it is first asked for, in a folder that other users may enter."""
    # A name with spaces and Unicode, too.
    top = Path(tempfile.mkdtemp(prefix="bad däta 数据 "))
    top.chmod(0o755)
    done: dict[str, Path] = {}

    def write(form: str) -> Path:
        if form not in done:
            done[form] = top / form
            FORMS[form].write(done[form])
            for path in top.rglob("*"):
                path.chmod(path.stat().st_mode | stat.S_IRGRP | stat.S_IROTH | stat.S_IXOTH | stat.S_IXGRP)
        return done[form]

    yield write
    shutil.rmtree(top)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A scratch folder that other users may enter and write to."""
    folder = Path(tempfile.mkdtemp(prefix="öpen folder "))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def damaged(written: Callable[[str], Path]) -> Iterator[Callable[..., Open]]:
    """Opens a form twice, to raise and to skip, and damages a file of it, which is mended afterwards."""
    mend: list[tuple[Path, bytes]] = []
    user = os.geteuid()

    def damage(form: str, part: str, how: Damage) -> Open:
        both = [FORMS[form].make(written(form), on_error=on_error) for on_error in ("raise", "skip")]
        for data in both:
            data.datasets["train"] = data.dataset("train")
        source = both[0].datasets["train"].source
        path = source.file_of(FORMS[form].sample, None if part == "image" else part)
        assert path is not None
        mend.append((path, path.read_bytes()))
        how(path)
        if how is unreadable and user == 0:
            os.seteuid(65534)  # nothing is unreadable for root
        return both[0], both[1], path

    yield damage
    os.seteuid(user)
    for path, content in mend:
        remove(path)
        path.write_bytes(content)
        path.chmod(0o644)
