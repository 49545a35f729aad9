"""Label splits as files: ours, and those that were published with the methods."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jtr_lightning.errors import DataError
from jtr_lightning.splits import read_split, write_split

TASKS = ["segmentation", "depth", "normals"]

names = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1), min_size=1, max_size=12, unique=True
)


@given(names=names, data=st.data())
def test_what_is_written_is_read_in_any_order_of_samples_and_tasks(
    names: list[str], data: st.DataObject
) -> None:
    import tempfile

    rows = st.lists(st.booleans(), min_size=3, max_size=3)
    available = np.array(data.draw(st.lists(rows, min_size=len(names), max_size=len(names))), dtype=bool)
    samples = data.draw(st.permutations(range(len(names))))[: data.draw(st.integers(1, len(names)))]
    tasks = data.draw(st.permutations(range(3)))[: data.draw(st.integers(1, 3))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "split.csv"
        write_split(path, names, TASKS, available)
        found = read_split(path, [names[i] for i in samples], [TASKS[k] for k in tasks])
    assert np.array_equal(found, available[np.ix_(samples, tasks)])


def test_a_split_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_split(tmp_path / "s.csv", ["a"], ["depth"], np.array([[True]]))
    assert read_split("~/s.csv", ["a"], ["depth"]).tolist() == [[True]]


def test_the_text_can_be_read_and_compared_by_people(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    write_split(path, ["room/1", "room/2"], ["depth", "normals"], np.array([[1, 0], [0, 1]], dtype=bool))
    assert path.read_bytes() == b"id,depth,normals\nroom/1,1,0\nroom/2,0,1\n"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_of_other_programs_are_read(tmp_path: Path, end: str) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(("\ufeffdepth,remark,id" + end + '0,"a, b",x' + end + "1,,y" + end).encode())
    assert read_split(path, ["y", "x"], ["depth"]).tolist() == [[True], [False]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "id,depth\nx,1\n",
            r"columns \['id', 'depth', 'normals'\].*found \['id', 'depth'\], so \['normals'\] are missing",
        ),
        ("", r"found \[\], so \['id', 'depth', 'normals'\] are missing"),
        ("id,depth,normals,depth\nx,1,0,0\n", r"so \['depth'\] are missing or doubled"),
        ("id,depth,normals\nx,1,0\nx,1,0\n", r"found the id a second time in line 3 \(id 'x'\)"),
        ("id,depth,normals\nx,1,2\n", r"found \{'depth': '1', 'normals': '2'\} in line 2 \(id 'x'\)"),
        ("id,depth,normals\nx,1\n", r"found \{'depth': '1', 'normals': None\} in line 2"),
        (
            "id,depth,normals\ny,1,0\n",
            r"each of the dataset's 1 samples; found 1 rows, and none for 'x' \(1 are missing\)",
        ),
    ],
)
def test_a_csv_that_does_not_fit_is_an_error_that_shows_where(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        read_split(path, ["x"], ["depth", "normals"])


def test_a_csv_that_is_no_text_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(DataError, match="should be a readable CSV in UTF-8; found"):
        read_split(path, ["x"], ["depth"])


@pytest.mark.parametrize("name", ["split.txt", "split.npy"])
def test_another_kind_of_file_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("id\n")
    with pytest.raises(DataError, match=r"should be a \.csv or \.pth file; found"):
        read_split(tmp_path / name, ["x"], ["depth"])


# Published files


def published(path: Path, content: Any) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert not path.read_bytes().startswith(b"PK")  # the old format of the published files
    return path


ROWS = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 1, 0]])
NUMBERS = [str(i) for i in range(4)]


@pytest.mark.parametrize("tasks", [TASKS, ["normals", "segmentation"], ["depth"]])
def test_columns_of_a_published_file_are_known_by_their_order(tmp_path: Path, tasks: list[str]) -> None:
    path = published(tmp_path / "onelabel.pth", {"labels_weights": ROWS})
    expected = ROWS.numpy().astype(bool)[:, [TASKS.index(task) for task in tasks]]
    assert np.array_equal(read_split(path, NUMBERS, tasks), expected)


def test_a_published_file_of_two_tasks_has_the_first_two(tmp_path: Path) -> None:
    path = published(tmp_path / "onelabel.pth", {"labels_weights": ROWS[:, :2]})
    assert read_split(path, NUMBERS, ["depth"])[:, 0].tolist() == [False, False, True, True]
    with pytest.raises(
        DataError, match=r"columns for the tasks \['normals'\].*2 columns \['segmentation', 'depth'\]"
    ):
        read_split(path, NUMBERS, ["normals"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"labels_weights": ROWS[:3]}, "each of the dataset's 4 samples.*found 3 rows and 3 columns"),
        ({"labels_weights": torch.zeros(4, 5)}, "found 4 rows and 5 columns"),
        ({"labels_weights": ROWS * 0.5}, "should hold 0 and 1 alone"),
        ({"labels_weights": ROWS.where(ROWS > 0, float("nan"))}, "should hold 0 and 1 alone"),
        ({"weights": ROWS}, r"should hold \{'labels_weights': tensor \[N, K\]\}; found other content"),
        (ROWS, "found other content"),
        ({"labels_weights": ROWS[0]}, "found other content"),
    ],
)
def test_a_published_file_that_does_not_fit_is_an_error(tmp_path: Path, content: Any, message: str) -> None:
    path = published(tmp_path / "split.pth", content)
    with pytest.raises(DataError, match=re.escape(str(path)) + ".*" + message):
        read_split(path, NUMBERS, TASKS)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (sorted(str(i) for i in range(12)), "'10' in place of '2'"),
        ([f"{i:03d}" for i in range(12)], "'000' in place of '0'"),
        ([f"aachen_{i}" for i in range(12)], "'aachen_0' in place of '0'"),
    ],
)
def test_rows_are_never_given_to_samples_in_another_order(
    tmp_path: Path, names: list[str], found: str
) -> None:
    path = published(tmp_path / "onelabel.pth", {"labels_weights": torch.ones(12, 3)})
    with pytest.raises(DataError, match=f"its row i to i.npy.*; found {found}"):
        read_split(path, names, TASKS)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_code_in_a_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = published(tmp_path / "split.pth", {"labels_weights": Harmful()})
    with pytest.raises(DataError, match=r"could not be read safely \(UnpicklingError\)"):
        read_split(path, NUMBERS, TASKS)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("content", [b"", b"no torch file at all", b"PK\x03\x04 broken"])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "split.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match="could not be read safely"):
        read_split(path, NUMBERS, TASKS)


@pytest.mark.parametrize(
    ("file", "shape", "per_task", "first"),
    [
        ("nyuv2_settings/onelabel.pth", (795, 3), [265, 265, 265], ["100", "001", "001", "001"]),
        ("nyuv2_settings/randomlabels.pth", (795, 3), [392, 408, 385], ["011", "110", "010", "010"]),
        ("cityscapes_settings/onelabel.pth", (2975, 2), [1487, 1488], ["01", "10", "01", "10"]),
    ],
)
def test_the_files_published_with_mtpsl_and_jtr(
    file: str, shape: tuple[int, int], per_task: list[int], first: list[str]
) -> None:
    folder = Path(os.environ.get("JTR_TEST_DATA", "")) / "label_splits"
    if "JTR_TEST_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("set JTR_TEST_DATA to a folder that has label_splits/ with the published files")
    tasks = TASKS[: shape[1]]
    found = read_split(folder / file, [str(i) for i in range(shape[0])], tasks)
    assert found.shape == shape
    assert found.sum(0).tolist() == per_task
    assert ["".join(str(int(v)) for v in row) for row in found[:4]] == first
    with pytest.raises(DataError, match=rf"dataset's 3 samples.*found {shape[0]} rows"):
        read_split(folder / file, ["0", "1", "2"], tasks)
