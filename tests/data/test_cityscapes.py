"""Cityscapes in both of its forms, written by Rooms or by hand with known values."""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from jtr_lightning.data.cityscapes import CityscapesDataModule
from jtr_lightning.data.cityscapes_official import CLASSES_7, CLASSES_19, ID_OF_CLASS, class_table
from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.cityscapes_layouts import STAND_INS
from jtr_lightning.data.rooms.scene import CLASS_NAMES
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import SplitFile
from jtr_lightning.tasks import Depth, Segmentation
from jtr_lightning.testing import DataModuleContract

SIZE = (24, 48)
STEM = "aachen/aachen_000003_000019"
BASELINE, FX = 0.209313, 2262.52


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rooms in both forms of Cityscapes, by the form's name."""
    root = tmp_path_factory.mktemp("city")
    for name in ("cityscapes", "cityscapes_npy"):
        layout = LAYOUTS[name]()
        test = 3 if "test" in layout.splits else 0
        spec = RoomsSpec(train=5, val=3, test=test, height=SIZE[0], width=SIZE[1])
        make_rooms(root / name, spec, layout, workers=1, progress=False)
    return root


class TestOfficialContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: CityscapesDataModule(rooms / "cityscapes", **{"batch_size": 2, **changes})


class TestMetricContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: CityscapesDataModule(
            rooms / "cityscapes", classes=19, depth="metres", **{"batch_size": 2, **changes}
        )


class TestNpyContract(DataModuleContract):
    @pytest.fixture
    def make(self, rooms: Path) -> Any:
        return lambda **changes: CityscapesDataModule(
            rooms / "cityscapes_npy", **{"batch_size": 2, **changes}
        )


def write_png(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def write_official(root: Path, stem: str = STEM, split: str = "train") -> None:
    """All 34 ids in the first row; disparity steps 0, 1, 2, 257, 12801, 65535 in the second."""
    image = np.zeros((2, 34, 3), np.uint8)
    image[..., 2] = 200  # red, in OpenCV's order
    ids = np.tile(np.arange(34, dtype=np.uint8), (2, 1))
    steps = np.full((2, 34), 5121, np.uint16)
    steps[1, :6] = [0, 1, 2, 257, 12801, 65535]
    write_png(root / f"leftImg8bit/{split}/{stem}_leftImg8bit.png", image)
    write_png(root / f"gtFine/{split}/{stem}_gtFine_labelIds.png", ids)
    write_png(root / f"disparity/{split}/{stem}_disparity.png", steps)
    camera = root / f"camera/{split}/{stem}_camera.json"
    camera.parent.mkdir(parents=True, exist_ok=True)
    camera.write_text(json.dumps({"extrinsic": {"baseline": BASELINE}, "intrinsic": {"fx": FX}}))


class TestOfficial:
    def test_nineteen_classes(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        label = CityscapesDataModule(tmp_path, classes=19).dataset("train")[0].labels["segmentation"]
        expected = [ID_OF_CLASS.index(i) if i in ID_OF_CLASS else -1 for i in range(34)]
        assert label[0].tolist() == expected
        assert label[0, [7, 8, 11, 26, 33]].tolist() == [0, 1, 2, 13, 18]
        assert CLASSES_19[13] == "car"

    def test_seven_categories_ignore_what_the_evaluation_ignores(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        label = CityscapesDataModule(tmp_path).dataset("train")[0].labels["segmentation"][0]
        names = [CLASSES_7[c] if c >= 0 else "" for c in label.tolist()]
        assert names[7:9] == ["flat"] * 2
        assert names[11:14] == ["construction"] * 3
        assert [names[i] for i in (17, 19, 20)] == ["object"] * 3
        assert names[21:26] == ["nature", "nature", "sky", "human", "human"]
        assert [names[i] for i in (26, 27, 28, 31, 32, 33)] == ["vehicle"] * 6
        assert [names[i] for i in (0, 4, 6, 9, 10, 14, 15, 16, 18, 29, 30)] == [""] * 11

    def test_classes_of_a_task_of_ones_own(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        with pytest.raises(ConfigError, match=r"`classes`.*of its task 'segmentation', 19; found 7"):
            CityscapesDataModule(tmp_path, {"segmentation": Segmentation(19)})
        task = Segmentation(list(CLASSES_19), ignore_index=0)
        with pytest.raises(
            ConfigError, match=r"left out with the official files.*found 0, which is class 'road'"
        ):
            CityscapesDataModule(tmp_path, {"segmentation": task}, classes=19).dataset("val")

    def test_two_classes(self) -> None:
        table = class_table(2)
        assert np.flatnonzero(table == 1).tolist() == [24, 25, 26, 27, 28, 31, 32, 33]
        assert np.array_equal(table >= 0, class_table(19) >= 0)

    def test_inverse_depth_is_the_share_of_the_16_bits(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        data = CityscapesDataModule(tmp_path)
        depth = data.dataset("train")[0].labels["depth"]
        expected = torch.tensor([0, 1, 2, 257, 12801, 65535]) / 65535
        assert torch.allclose(depth[0, 1, :6], expected)
        # Not measured is invalid; infinitely far is a value.
        assert data.tasks["depth"].valid(depth[None])[0, 0, 1, :6].tolist() == [False] + [True] * 5

    def test_metres(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        depth = CityscapesDataModule(tmp_path, depth="metres").dataset("train")[0].labels["depth"][0, 1]
        # Infinitely far and beyond 80 m have no metric depth; 50 and 255.99 pixels have.
        assert depth[:4].tolist() == [0, 0, 0, 0]
        assert depth[4:7].tolist() == pytest.approx(
            [BASELINE * FX / d for d in (50, 65534 / 256, 20)], rel=1e-5
        )
        far = CityscapesDataModule(tmp_path, depth="metres", max_depth=1000).dataset("train")[0]
        assert far.labels["depth"][0, 1, 3] == pytest.approx(BASELINE * FX, rel=1e-5)

    def test_images_are_rgb(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        image = CityscapesDataModule(tmp_path).dataset("train")[0].image
        assert torch.allclose(image[:, 0, 0], torch.tensor([200 / 255, 0, 0]))

    def test_missing_files_are_missing_labels(self, tmp_path: Path) -> None:
        for i, missing in enumerate(("", "gtFine", "disparity", "camera")):
            stem = f"ulm/ulm_{i:06d}_000019"
            write_official(tmp_path, stem)
            if missing:
                next((tmp_path / missing).rglob(f"ulm_{i:06d}*")).unlink()
        inverse = CityscapesDataModule(tmp_path).dataset("train")
        assert inverse.available.tolist() == [[True, True], [False, True], [True, False], [True, True]]
        metres = CityscapesDataModule(tmp_path, depth="metres").dataset("train")
        assert metres.available[:, 1].tolist() == [True, True, False, False]

    def test_names_and_order(self, tmp_path: Path) -> None:
        for stem in ("ulm/ulm_000001_000019", "aachen/aachen_000002_000019", "aachen/aachen_000001_000019"):
            write_official(tmp_path, stem)
        names = list(CityscapesDataModule(tmp_path).dataset("train").source.names())
        assert names == ["aachen_000001_000019", "aachen_000002_000019", "ulm_000001_000019"]

    def test_hidden_files_are_none_of_the_dataset(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        before = CityscapesDataModule(tmp_path).source("train")
        for path in [*tmp_path.rglob("*.png"), *tmp_path.rglob("*.json")]:
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")  # as macOS leaves them
        source = CityscapesDataModule(tmp_path).source("train")
        assert list(source.names()) == list(before.names())
        assert not source.problems()

    def test_test_split(self, tmp_path: Path) -> None:
        write_official(tmp_path, "ulm/ulm_000000_000019", "val")
        write_official(tmp_path, "bonn/bonn_000000_000019", "test")
        assert CityscapesDataModule(tmp_path).dataset("test").source.name(0) == "ulm_000000_000019"
        official = CityscapesDataModule(tmp_path, official_test=True).dataset("test")
        assert official.source.name(0) == "bonn_000000_000019"
        assert official.available.tolist() == [[False, True]]  # its public classes are dummies

    def test_wrong_files_are_named(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        labels = tmp_path / f"gtFine/train/{STEM}_gtFine_labelIds.png"
        data = CityscapesDataModule(tmp_path, depth="metres")
        write_png(labels, np.full((2, 34), 255, np.uint8))
        with pytest.raises(DataError, match=r"labelIds\.png' should hold label ids 0\.\.33; found 255"):
            data.dataset("train")[0]
        labels.write_bytes(b"\x89PNG\r\n\x1a\n")
        with pytest.raises(DataError, match=r"labelIds\.png' should be a whole picture"):
            data.dataset("train")[0]
        write_official(tmp_path)
        write_png(tmp_path / f"disparity/train/{STEM}_disparity.png", np.zeros((2, 34), np.uint8))
        with pytest.raises(DataError, match=r"disparity\.png' should hold uint16 values; found uint8"):
            data.dataset("train")[0]
        write_official(tmp_path)
        (tmp_path / f"camera/train/{STEM}_camera.json").write_text('{"intrinsic": {"fx": 1}}')
        with pytest.raises(DataError, match=r"camera\.json' should hold the camera's extrinsic\.baseline"):
            data.dataset("train")[0]

    def test_published_rows_are_refused(self, tmp_path: Path) -> None:
        write_official(tmp_path)
        torch.save({"labels_weights": torch.ones(1, 2)}, tmp_path / "a.pth")
        with pytest.raises(ConfigError, match=r"preprocessed \.npy layout alone"):
            CityscapesDataModule(tmp_path, scenario=SplitFile(tmp_path / "a.pth")).dataset("train")

    def test_no_dataset(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="found neither"):
            CityscapesDataModule(tmp_path).dataset("train")
        write_official(tmp_path)
        with pytest.raises(DataError, match="found no such folder"):
            CityscapesDataModule(tmp_path).dataset("val")


class TestNpy:
    @pytest.mark.parametrize("classes", [2, 7, 19])
    def test_label_folders(self, rooms: Path, classes: Any) -> None:
        official = CityscapesDataModule(rooms / "cityscapes", classes=classes).dataset("val")
        npy = CityscapesDataModule(rooms / "cityscapes_npy", classes=classes).dataset("val")
        for i in range(3):
            a, b = official[i].labels, npy[i].labels
            assert torch.equal(a["segmentation"], b["segmentation"])
            assert torch.allclose(a["depth"], b["depth"], rtol=1e-6, atol=0)

    def test_label_without_a_number_is_taken_for_the_categories(self, rooms: Path, tmp_path: Path) -> None:
        for split in ("train", "val"):
            for kind in ("image", "depth"):
                (tmp_path / split).mkdir(exist_ok=True)
                (tmp_path / split / kind).symlink_to(rooms / "cityscapes_npy" / split / kind)
            (tmp_path / split / "label").symlink_to(rooms / "cityscapes_npy" / split / "label_7")
        assert CityscapesDataModule(tmp_path).dataset("train").available.all()
        with pytest.raises(ConfigError, match=r"none for task 'segmentation' \(0 of 5"):
            CityscapesDataModule(tmp_path, classes=19).dataset("train")

    def test_what_the_arrays_do_not_have(self, rooms: Path) -> None:
        with pytest.raises(ConfigError, match="come without cameras"):
            CityscapesDataModule(rooms / "cityscapes_npy", depth="metres").dataset("train")
        with pytest.raises(ConfigError, match="hold no test images"):
            CityscapesDataModule(rooms / "cityscapes_npy", official_test=True).dataset("test")

    @pytest.mark.skipif(
        "JTR_TEST_DATA" not in os.environ, reason="JTR_TEST_DATA does not name a folder with the real files"
    )
    def test_real_published_split(self, tmp_path: Path) -> None:
        images = tmp_path / "train/image"
        images.mkdir(parents=True)
        for i in range(2975):
            (images / f"{i}.npy").touch()
        for kind in ("label_7", "depth"):
            (tmp_path / "train" / kind).symlink_to(images)
        path = Path(os.environ["JTR_TEST_DATA"]) / "label_splits/cityscapes_settings/onelabel.pth"
        available = CityscapesDataModule(tmp_path, scenario=SplitFile(path)).dataset("train").available
        assert available.sum(0).tolist() == [1487, 1488]
        assert available[:4].tolist() == [[False, True], [True, False], [False, True], [True, False]]


class TestZoom:
    """A crop of 1 / s resized back brings things s times nearer."""

    ZOOM, DEPTH = torch.tensor([1.5]), torch.full((1, 1, 2, 2), 0.2)

    @pytest.mark.parametrize(
        ("parameters", "factor"),
        [
            ({}, 1.5),
            ({"inverse_scaling": "published"}, 1 / 1.5),
            ({"depth": "metres"}, 1 / 1.5),
            ({"depth": "metres", "inverse_scaling": "published"}, 1 / 1.5),
        ],
    )
    def test_rule(self, parameters: dict[str, Any], factor: float) -> None:
        task = CityscapesDataModule("anywhere", **parameters).tasks["depth"]
        assert torch.allclose(task.zoomed(self.DEPTH, self.ZOOM), self.DEPTH * factor)

    @pytest.mark.parametrize(
        ("parameters", "inverse"),
        [({}, True), ({"inverse_scaling": "published"}, False), ({"depth": "metres"}, False)],
    )
    def test_a_task_of_ones_own_follows_the_rule(self, parameters: dict[str, Any], inverse: bool) -> None:
        CityscapesDataModule("anywhere", {"depth": Depth(0.1, 0.1, inverse=inverse)}, **parameters)
        with pytest.raises(ConfigError, match=rf"`inverse`.* should be {str(inverse).lower()} with .*a zoom"):
            CityscapesDataModule("anywhere", {"depth": Depth(0.1, 0.1, inverse=not inverse)}, **parameters)

    def test_the_physical_rule_is_that_of_a_metric_depth(self) -> None:
        """Disparities zoomed and then turned to metres are the metres zoomed."""
        inverse, metres = (
            CityscapesDataModule("x", depth=kind).tasks["depth"] for kind in ("inverse", "metres")
        )  # type: ignore[arg-type]
        steps = torch.linspace(2000.0, 30000.0, 7).view(1, 1, 1, 7)
        zoomed = inverse.zoomed(steps / 65535, self.ZOOM)
        depth = BASELINE * FX * 256 / (steps - 1)
        assert torch.allclose(
            BASELINE * FX * 256 / (zoomed * 65535 - 1), metres.zoomed(depth, self.ZOOM), rtol=1e-3
        )


def test_statistics_are_those_of_the_dataset() -> None:
    depth = CityscapesDataModule("anywhere").tasks["depth"]
    assert isinstance(depth, Depth)
    # A disparity of 0 and one of 100 pixels should use most of the coding's range.
    values = torch.tensor([1 / 65535, 100 * 256 / 65535]).view(2, 1, 1, 1)
    low, high = depth.encode_prediction(values).flatten().tolist()
    assert low < 0.15
    assert high > 0.95
    own = CityscapesDataModule("anywhere", depth_statistics=(0.2, 0.05)).tasks["depth"]
    assert isinstance(own, Depth)
    assert (own.mean, own.std) == (0.2, 0.05)


def test_unknown_values_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"`classes` should be one of \[19, 7, 2\]; found 8"):
        CityscapesDataModule("x", classes=8)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`inverse_scaling` should be one of"):
        CityscapesDataModule("x", inverse_scaling="linear")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`max_depth` should be above 0"):
        CityscapesDataModule("x", max_depth=0)


def test_every_class_of_rooms_has_a_stand_in_of_its_own() -> None:
    assert sorted(STAND_INS) == sorted(CLASS_NAMES)
    assert len(set(STAND_INS.values()) & set(CLASSES_19)) == len(CLASS_NAMES)
