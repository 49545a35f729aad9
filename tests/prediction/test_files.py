"""Raw values come back from their files; what they mean stands beside them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from jtr_lightning.errors import ConfigError
from jtr_lightning.prediction.files import RAW_FORMATS, PredictionFiles, as_path, find_raw_format
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Normals, Regression, Segmentation

SAMPLE = Path("täg 1") / "a.b"


def read_png(path: Path) -> np.ndarray:
    """The stored numbers, in RGB order."""
    pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    return pixels if pixels.ndim == 2 else pixels[..., ::-1]


def write(folder: Path, raw: str, **values) -> tuple[PredictionFiles, dict]:
    tasks = {name: task for name, (task, _) in values.items()}
    files = PredictionFiles(folder, tasks, raw=RAW_FORMATS[raw])
    return files, files.write(SAMPLE, {name: value for name, (_, value) in values.items()})


def test_arrays_in_the_layout_that_programs_expect(tmp_path: Path) -> None:
    depth, normals, ids = torch.rand(1, 4, 5), torch.rand(3, 4, 5), torch.randint(3, (4, 5))
    write(tmp_path, "npy", depth=(Depth(), depth), normals=(Normals(), normals), rooms=(Segmentation(3), ids))
    found = {
        name: np.load(tmp_path / "raw" / name / "täg 1" / "a.b.npy") for name in ("depth", "normals", "rooms")
    }
    assert np.array_equal(found["depth"], depth[0])
    assert np.array_equal(found["normals"], normals.permute(1, 2, 0))
    assert found["rooms"].dtype == np.int16
    assert np.array_equal(found["rooms"], ids)


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_pictures_hold_values_to_half_a_step(tmp_path: Path, channels: int) -> None:
    values = torch.randn(channels, 6, 7) * 40 - 5
    task = DenseRegression(channels, unit="mm")
    write(tmp_path, "png", field=(task, values))
    stored = read_png(tmp_path / "raw" / "field" / "täg 1" / "a.b.png")
    note = json.loads((tmp_path / "raw" / "field" / "täg 1" / "a.b.json").read_text())
    assert stored.dtype == np.uint16
    assert note["unit"] == "mm"
    found = note["offset"] + note["scale"] * stored.astype(np.float64)
    expected = values[0].numpy() if channels == 1 else values.permute(1, 2, 0).numpy()
    assert np.abs(found - expected).max() <= 0.5001 * note["scale"]
    assert note["scale"] < (values.max() - values.min()) / 65000


def test_values_that_are_not_finite_are_stored_as_missing(tmp_path: Path) -> None:
    values = torch.tensor([[[1.0, float("nan"), float("inf"), 3.0]]])
    write(tmp_path, "png", depth=(Depth(), values))
    stored = read_png(tmp_path / "raw" / "depth" / "täg 1" / "a.b.png")
    note = json.loads((tmp_path / "raw" / "depth" / "täg 1" / "a.b.json").read_text())
    assert stored[0, 1:3].tolist() == [note["missing"]] * 2
    assert (note["offset"] + note["scale"] * stored[0, [0, 3]]).tolist() == pytest.approx([1, 3])


@pytest.mark.parametrize("value", [2.5, float("nan")])
def test_a_picture_of_one_value_has_that_value(tmp_path: Path, value: float) -> None:
    write(tmp_path, "png", depth=(Depth(), torch.full((1, 2, 2), value)))
    stored = read_png(tmp_path / "raw" / "depth" / "täg 1" / "a.b.png")
    note = json.loads((tmp_path / "raw" / "depth" / "täg 1" / "a.b.json").read_text())
    found = np.where(stored == note["missing"], np.nan, note["offset"] + note["scale"] * stored)
    assert found == pytest.approx(np.full((2, 2), value), nan_ok=True)


@pytest.mark.parametrize(("classes", "dtype"), [(3, np.uint8), (300, np.uint16)])
def test_class_ids_are_stored_as_they_are(tmp_path: Path, classes: int, dtype: type) -> None:
    ids = torch.tensor([[0, classes - 1]])
    write(tmp_path, "png", rooms=(Segmentation(classes), ids))
    stored = read_png(tmp_path / "raw" / "rooms" / "täg 1" / "a.b.png")
    assert stored.dtype == dtype
    assert stored.tolist() == ids.tolist()


def test_what_png_cannot_hold_is_an_array(tmp_path: Path) -> None:
    values = torch.rand(2, 4, 5)
    files, _ = write(tmp_path, "png", flow=(DenseRegression(2), values))
    files.write_description()
    assert np.array_equal(np.load(tmp_path / "raw/flow/täg 1/a.b.npy"), values.permute(1, 2, 0))
    assert json.loads((tmp_path / "tasks.json").read_text())["flow"]["raw"] == ".npy"


def test_pictures_are_what_the_task_renders(tmp_path: Path) -> None:
    depth = torch.rand(1, 4, 5) * 8
    write(tmp_path, "npy", depth=(Depth(), depth))
    found = np.asarray(Image.open(tmp_path / "pictures" / "depth" / "täg 1" / "a.b.png"))
    assert np.array_equal(found, Depth().render(depth[None])[0].permute(1, 2, 0))


def test_image_level_values_are_cells(tmp_path: Path) -> None:
    _, cells = write(
        tmp_path,
        "npy",
        room=(Classification(["kitchen", "office"]), torch.tensor(1)),
        pitch=(Regression(), torch.tensor([2.5])),
        pose=(Regression(2), torch.tensor([1.0, -1.0])),
    )
    assert cells == {"room": "office", "pitch": 2.5, "pose_0": 1.0, "pose_1": -1.0}
    assert list(tmp_path.iterdir()) == []


def test_the_description_tells_classes_units_and_layout(tmp_path: Path) -> None:
    tasks = {"rooms": Segmentation(["a", "ü"]), "depth": Depth(unit="cm"), "pitch": Regression(unit="deg")}
    PredictionFiles(tmp_path, tasks).write_description()
    found = json.loads((tmp_path / "tasks.json").read_text(encoding="utf-8"))
    assert found["rooms"]["init_args"]["classes"] == ["a", "ü"]
    assert (found["depth"]["unit"], found["depth"]["layout"], found["depth"]["raw"]) == (
        "cm",
        "[H, W]",
        ".npy",
    )
    assert found["pitch"]["layout"] == "columns of image_level.csv"


def test_a_folder_with_files_is_refused_unless_overwritten(tmp_path: Path) -> None:
    (tmp_path / "old").touch()
    files = PredictionFiles(tmp_path, {})
    with pytest.raises(ConfigError, match=r"a new or empty folder; .* is not\. Give --out another folder"):
        files.make_folder(overwrite=False)
    files.make_folder(overwrite=True)
    with pytest.raises(ConfigError, match=r"a new or empty folder"):
        PredictionFiles(tmp_path / "old", {}).make_folder(overwrite=True)
    with pytest.raises(ConfigError, match=r"a folder that can be made"):
        PredictionFiles(tmp_path / "old" / "below", {}).make_folder(overwrite=False)


@pytest.mark.parametrize(
    ("name", "path"), [("a/b c", "a/b c"), ("../../x", "x"), ("/x", "x"), ("a\\b", "a/b"), ("..", "_")]
)
def test_a_name_never_leaves_the_folder(name: str, path: str) -> None:
    assert as_path(name) == Path(path)


def test_an_unknown_format_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="found 'pngs', did you mean 'png'"):
        find_raw_format("pngs")


def test_a_picture_that_cannot_be_encoded_is_named_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "imencode", lambda *_: (False, None))
    with pytest.raises(OSError, match=r"could not encode the picture '.*a\.b\.png'"):
        write(tmp_path, "png", depth=(Depth(), torch.rand(1, 4, 5)))
    assert not list(tmp_path.rglob("*.png"))
