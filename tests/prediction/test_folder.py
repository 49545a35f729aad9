"""Any folder of pictures: names, sizes, unreadable files, and what is left behind."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jtr_lightning.data.files import read_image
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.prediction import Predictor, predict_folder
from jtr_lightning.prediction.folder import find_images, passed_over
from jtr_lightning.tasks import Depth
from tests.pointwise import point_module

NAMES = ("b.png", "täg 1/ü x.jpg", "täg 1/deep er/c.v2.png", "d.npy")


def save(path: Path, height: int = 4, width: int = 6, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for i, name in enumerate(NAMES):
        save(tmp_path / "images" / name, height=4 + i % 2, seed=i)
    return tmp_path / "images"


def test_every_picture_is_predicted_under_its_own_name(images: Path, tmp_path: Path) -> None:
    module, out = point_module(), tmp_path / "out"
    calls: list[tuple[int, int]] = []
    summary = predict_folder(
        Predictor(module, batch_size=2), images, out, progress=lambda *call: calls.append(call)
    )
    assert (summary.written, summary.skipped) == (4, ())
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for name in NAMES:
        pixels = read_image(images / name)
        found = np.load(out / "raw" / "depth" / Path(name).with_suffix(".npy"))
        assert found == pytest.approx(1 + pixels[..., 0].astype(np.float32) / 255, abs=1e-6)
        assert read_image(out / "pictures" / "normals" / Path(name).with_suffix(".png")).shape == pixels.shape
    rows = list(csv.DictReader((out / "image_level.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["sample"] for row in rows] == ["b", "d", "täg 1/deep er/c.v2", "täg 1/ü x"]
    assert {row["room"] for row in rows} <= {"kitchen", "office"}
    blue = np.load(images / "d.npy")[..., 2].mean() / 255
    assert float(rows[1]["pitch"]) == pytest.approx(blue, abs=1e-5)
    assert set(json.loads((out / "tasks.json").read_text())) == set(module.tasks)


def test_how_it_was_made_is_kept(images: Path, tmp_path: Path) -> None:
    predict_folder(Predictor(point_module(), tile=3, flip=True), images, tmp_path / "out", pictures=False)
    found = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert (found["tile"], found["flip"], found["size"], found["written"]) == ([3, 3], True, None, 4)
    assert not (tmp_path / "out" / "pictures").exists()


def test_predictions_are_not_written_among_the_images(images: Path) -> None:
    before = sorted(images.rglob("*"))
    with pytest.raises(ConfigError, match=r"`out` .* should be another folder than that of the images"):
        predict_folder(Predictor(point_module()), images, images / "täg 1" / "..", overwrite=True)
    assert sorted(images.rglob("*")) == before


def test_tasks_of_pixels_alone_leave_no_table(images: Path, tmp_path: Path) -> None:
    predict_folder(Predictor(point_module(tasks={"depth": Depth()})), images, tmp_path / "out", raw="png")
    assert not (tmp_path / "out" / "image_level.csv").exists()
    assert (tmp_path / "out" / "raw" / "depth" / "täg 1" / "ü x.json").is_file()


def test_unreadable_pictures_are_skipped_and_counted_if_wanted(images: Path, tmp_path: Path) -> None:
    whole = (images / "b.png").read_bytes()
    (images / "cut.png").write_bytes(whole[: len(whole) // 2])
    (images / "empty.jpg").touch()
    summary = predict_folder(Predictor(point_module()), images, tmp_path / "out", on_error="skip")
    assert summary.written == 4
    assert [sentence.split("'")[1].rsplit("/")[-1] for sentence in summary.skipped] == [
        "cut.png",
        "empty.jpg",
    ]
    assert json.loads((tmp_path / "out" / "prediction.json").read_text())["skipped"] == list(summary.skipped)
    with pytest.raises(
        DataError, match=r"'.*cut\.png' should be a whole picture .* Or give --on_error skip --overwrite\."
    ):
        predict_folder(Predictor(point_module()), images, tmp_path / "again")


def test_no_readable_picture_at_all_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"At least one image .* found 1 that are not\. The first: The file"):
        predict_folder(Predictor(point_module()), tmp_path / "images", tmp_path / "out", on_error="skip")


def test_pictures_that_differ_by_their_ending_keep_it(tmp_path: Path) -> None:
    for name in ("a.png", "A.jpg", "b.png", "b.png.jpg", "c.png"):
        save(tmp_path / name)
    found = find_images(tmp_path)
    assert {str(key): path.name for key, path in found.items()} == {
        "A.jpg": "A.jpg",
        "a.png": "a.png",
        "b": "b.png",
        "b.png.jpg": "b.png.jpg",
        "c": "c.png",
    }


def test_hidden_files_other_files_and_the_output_are_left_out(tmp_path: Path) -> None:
    for name in ("a.png", ".hidden.png", ".thumbs/b.png", "out/pictures/c.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder.png").mkdir()
    assert list(find_images(tmp_path, leave_out=tmp_path / "out")) == [Path("a")]


def test_files_of_other_kinds_are_counted_where_pictures_are_searched(tmp_path: Path) -> None:
    for name in ("a.png", "b.gif", ".hidden.gif", "deeper/c.GIF", "out/d.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert passed_over(tmp_path, leave_out=tmp_path / "out") == {".gif": 2}
    assert passed_over(tmp_path / "a.png") == {}
    with pytest.raises(DataError, match="found nothing at"):
        passed_over(tmp_path / "nowhere")


def test_a_picture_of_a_camera_held_upright_is_predicted_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # held on its side: to be turned by 90 degrees
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:, 0, 0] = 255  # the left column, which will be the upper row
    (tmp_path / "images").mkdir()
    Image.fromarray(pixels).save(tmp_path / "images" / "a.png", exif=exif)
    predict_folder(Predictor(point_module(tasks={"depth": Depth()})), tmp_path / "images", tmp_path / "out")
    depth = np.load(tmp_path / "out" / "raw" / "depth" / "a.npy")
    assert depth.shape == (6, 4)
    assert (depth[0] == 2).all()
    assert (depth[1:] == 1).all()
    with Image.open(tmp_path / "images" / "a.png") as picture:
        assert np.array_equal(point_module().predict(picture)["depth"][0].numpy(), depth)


def test_one_picture_is_a_folder_of_one(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    assert find_images(tmp_path / "b.png") == {Path("b"): tmp_path / "b.png"}


def test_an_empty_or_missing_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"folder of pictures \(png, .*; found none in"):
        find_images(tmp_path)
    with pytest.raises(DataError, match=r"found nothing at '.*nowhere'"):
        find_images(tmp_path / "nowhere")


def test_nothing_is_made_before_everything_is_known_to_fit(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="`on_error` should be 'raise' or 'skip'; found 'stop'"):
        predict_folder(Predictor(point_module()), images, out, on_error="stop")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`raw` should be the name of a file format"):
        predict_folder(Predictor(point_module()), images, out, raw="tiff")
    with pytest.raises(DataError, match="found nothing at"):
        predict_folder(Predictor(point_module()), tmp_path / "nowhere", out)
    assert not out.exists()
