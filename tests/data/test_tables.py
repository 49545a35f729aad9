from pathlib import Path

import numpy as np
import pytest

from jtr_lightning.data.tables import read_image_labels, read_rows
from jtr_lightning.errors import DataError
from jtr_lightning.tasks import Classification, Depth, Regression

TASKS = {
    "room": Classification(["kitchen", "living room"]),
    "pitch": Regression(unit="deg"),
    "light": Regression(channels=2),
    "depth": Depth(),
}


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_every_kind_of_line_end_is_read(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf" + end.join(["id, train", "allensville,1 ", "", "beach ,0"]).encode())
    rows = [row for _, row in read_rows(path, ("id", "train"))]
    assert rows == [{"id": "allensville", "train": "1"}, {"id": "beach", "train": "0"}]


def test_image_labels_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,room,pitch,light,depth,note\na,living room,-3.5,1 2,7,hello\nb,0,,,,\n")
    samples, values = read_image_labels(path, ("id",), TASKS)
    assert samples == [("a",), ("b",)]
    assert set(values) == {"room", "pitch", "light"}, "a dense task has no column"
    np.testing.assert_array_equal(values["room"], [[1], [0]])
    np.testing.assert_array_equal(values["pitch"], [[-3.5], [np.nan]])
    np.testing.assert_array_equal(values["light"], [[1, 2], [np.nan, np.nan]])
    assert int(TASKS["room"].to_target(values["room"][0])) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "a,kitchn,1",
            r"Table '.*l\.csv', line 2, column 'room': found 'kitchn' where one of 2 classes.*'kitchen'\?",
        ),
        ("a,2,1", r"line 2, column 'room': found '2' where one of 2 classes should be"),
        ("a,0,north", r"line 2, column 'pitch': found 'north' where 1 number"),
        ("a,0,nan", r"line 2, column 'pitch': found 'nan' where 1 number"),
        ("a,0,1 2", r"line 2, column 'pitch': found '1 2' where 1 number"),
        ("a,0,1\na,0,1", r"should have one row for each sample; found \('a',\) again in line 3"),
        ("a,0", r"should have 3 cells; found 2 in line 2"),
    ],
)
def test_a_wrong_cell_is_named(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "l.csv"
    path.write_text(f"id,room,pitch\n{rows}\n")
    with pytest.raises(DataError, match=message):
        read_image_labels(path, ("id",), TASKS)


@pytest.mark.parametrize("row", ["a,kitchn,1", "a,2,1", "a,0,north"])
def test_a_sentence_about_a_cell_ends_once(tmp_path: Path, row: str) -> None:
    (tmp_path / "l.csv").write_text(f"id,room,pitch\n{row}\n")
    with pytest.raises(DataError) as caught:
        read_image_labels(tmp_path / "l.csv", ("id",), TASKS)
    assert str(caught.value)[-1] in ".?"
    assert str(caught.value)[-2] not in ".?"


def test_a_table_without_its_columns_or_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    with pytest.raises(DataError, match=r"l\.csv' should be a readable CSV file"):
        list(read_rows(path, ("id",)))
    path.write_text("name,room\n")
    with pytest.raises(
        DataError, match=r"should have the columns \['id'\], each once; found \['name', 'room'\]"
    ):
        read_image_labels(path, ("id",), TASKS)
    path.write_text("id,room,room\n")
    with pytest.raises(DataError, match=r"each once; found \['id', 'room', 'room'\]"):
        read_image_labels(path, ("id",), TASKS)
    path.write_bytes(b"\xff\xfe\x00id")
    with pytest.raises(DataError, match=r"should be a readable CSV file in UTF-8; found: .*utf-8"):
        read_image_labels(path, ("id",), TASKS)
