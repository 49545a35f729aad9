"""Taskonomy's tasks, masks and codings, on small trees of seeded values."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jtr_lightning.data.codings import Levels
from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.scenarios import OneLabel
from jtr_lightning.tasks import (
    Classification,
    DenseRegression,
    Depth,
    Normals,
    Regression,
    Segmentation,
    Task,
)
from jtr_lightning.testing import DataModuleContract
from tests.data.taskonomy_files import BUILDINGS, LAYOUTS, raw, seed_of, write_tree
from tests.data.training import data_from_docstring, train_and_predict


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three buildings in the layout of the dataset; the second view of the first has no depth."""
    root = write_tree(tmp_path_factory.mktemp("taskonomy"))
    (root / "allen_ville" / "depth_zbuffer" / "point_0_view_12_domain_depth_zbuffer.png").unlink()
    return root


@pytest.fixture(scope="module")
def larger_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    domains = ("rgb", "segment_semantic", "depth_zbuffer", "normal", "reshading")
    views = [(point, point % 2) for point in range(9)]
    return write_tree(tmp_path_factory.mktemp("contract"), views=views, domains=domains)


class TestContract(DataModuleContract):
    @pytest.fixture
    def make(self, larger_tree: Path):
        usual = {"batch_size": 2, "tasks": ["segment_semantic", "depth_zbuffer", "normal", "reshading"]}
        return lambda **changes: TaskonomyDataModule(larger_tree, **{**usual, **changes})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_values_that_were_written(tmp_path: Path, layout: str) -> None:
    write_tree(tmp_path, layout, views=((3, 1), (4, 0)))
    data = TaskonomyDataModule(tmp_path, train_buildings=["beach"])
    dataset = data.dataset("train")
    assert [dataset.source.name(i) for i in range(2)] == ["beach/point_3_view_1", "beach/point_4_view_0"]
    values = {name: raw(name, seed_of("beach", 4, 0, name)) for name in ("rgb", *data.tasks)}
    sample = dataset[1]
    np.testing.assert_allclose(sample.image.permute(1, 2, 0), values["rgb"] / 255, atol=1e-6)
    assert sample.available.all()
    classes = values["segment_semantic"].astype(int) - 1
    np.testing.assert_array_equal(sample.labels["segment_semantic"], classes)
    depth = values["depth_zbuffer"]
    np.testing.assert_allclose(
        sample.labels["depth_zbuffer"][0], np.where(depth == 65535, 0, depth / 512), rtol=1e-6
    )
    hole = (values["normal"] == 128).all(-1)
    normals = sample.labels["normal"].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal((normals == 0).all(-1), hole)
    np.testing.assert_allclose(normals[~hole], (values["normal"] / 127.5 - 1)[~hole], atol=0.01)
    np.testing.assert_allclose(sample.labels["reshading"][0], values["reshading"][..., 0] / 255, atol=1e-6)
    np.testing.assert_allclose(
        sample.labels["keypoints2d"][0], np.minimum(values["keypoints2d"] / (65535 * 0.005), 1), atol=1e-6
    )


def test_masks_are_each_domains_own(tree: Path) -> None:
    data = TaskonomyDataModule(tree, ["depth_zbuffer", "normal", "principal_curvature", "segment_semantic"])
    sample = data.dataset("train")[0]
    masks = {name: task.valid(sample.labels[name][None])[0, 0] for name, task in data.tasks.items()}
    for name, mask in masks.items():
        assert 0 < (~mask).float().mean() < 0.5, name
    shares = {tuple(mask.flatten().tolist()) for mask in masks.values()}
    assert len(shares) == 4


class TestMaskFrom:
    def test_holes_of_another_domain(self, tree: Path) -> None:
        options = {"tasks": ["reshading", "edge_occlusion"], "train_buildings": ["allen_ville"]}
        bare = TaskonomyDataModule(tree, **options).dataset("train")
        masks = dict.fromkeys(options["tasks"], "depth_zbuffer")
        data = TaskonomyDataModule(tree, **options, mask_from=masks)
        dataset = data.dataset("train")
        assert dataset.available.tolist() == [[True] * 2, [False] * 2, [True] * 2, [True] * 2]
        assert any(
            "'reshading': 1 of 4 labels have no file of 'depth_zbuffer'" in r
            for r in dataset.source.remarks()
        )
        hole = raw("depth_zbuffer", seed_of("allen_ville", 0, 1, "depth_zbuffer")) == 65535
        assert 0 < hole.mean() < 0.5
        for name, task in data.tasks.items():
            before, after = bare[0].labels[name], dataset[0].labels[name]
            assert task.valid(before[None]).all()
            np.testing.assert_array_equal(~task.valid(after[None])[0, 0].numpy(), hole)
            np.testing.assert_array_equal(after[0].numpy()[~hole], before[0].numpy()[~hole])

    def test_the_usual_masks_are_taken_where_the_tree_has_them(self, tmp_path: Path) -> None:
        import cv2

        tasks = ["reshading", "edge_occlusion", "edge_texture"]
        write_tree(tmp_path, domains=("rgb", *tasks), views=((0, 0), (1, 0)), buildings=("beach",))
        options = {"tasks": tasks, "train_buildings": ["beach"]}
        bare = TaskonomyDataModule(tmp_path, **options).dataset("train")
        remarks = bare.source.remarks()
        assert [r.split(":")[0] for r in remarks] == ["Task 'reshading'", "Task 'edge_occlusion'"]
        assert all("has no 'mask_valid', so that holes are trained as values" in r for r in remarks)
        known = np.zeros((12, 16), np.uint8)
        known[3:] = 255
        (tmp_path / "beach/mask_valid").mkdir()
        assert cv2.imwrite(str(tmp_path / "beach/mask_valid/point_0_view_0_domain_mask_valid.png"), known)
        data = TaskonomyDataModule(tmp_path, **options)
        dataset = data.dataset("train")
        assert dataset.available.tolist() == [[True] * 3, [False, False, True]]
        assert ["1 of 2 labels have no file of 'mask_valid'" in r for r in dataset.source.remarks()] == [
            True
        ] * 2
        valid = {name: task.valid(dataset[0].labels[name][None])[0, 0] for name, task in data.tasks.items()}
        for name in ("reshading", "edge_occlusion"):
            np.testing.assert_array_equal(valid[name].numpy(), known > 0)
        assert valid["edge_texture"].all()
        unmasked = TaskonomyDataModule(tmp_path, **options, mask_from=dict.fromkeys(tasks[:2])).dataset(
            "train"
        )
        assert unmasked.available.all()
        assert unmasked.source.remarks() == []
        assert torch.equal(unmasked[0].labels["reshading"], bare[0].labels["reshading"])

    def test_a_mask_of_8_bits(self, tmp_path: Path) -> None:
        import cv2

        write_tree(tmp_path, domains=("rgb", "segment_semantic"), views=((0, 0),), buildings=("beach",))
        (tmp_path / "beach/mask_valid").mkdir()
        # As one copy of the data keeps it: the name ends like that of another domain.
        mask = tmp_path / "beach/mask_valid/point_0_view_0_domain_depth_zbuffer.png"
        known = np.zeros((12, 16), np.uint8)
        known[3:] = 255
        cv2.imwrite(str(mask), known)
        options = {"tasks": ["segment_semantic"], "train_buildings": ["beach"]}
        data = TaskonomyDataModule(tmp_path, **options, mask_from={"segment_semantic": "mask_valid"})
        label = data.dataset("train")[0].labels["segment_semantic"]
        assert (label[:3] == -1).all()
        assert (label[3:] >= 0).float().mean() > 0.7
        cv2.imwrite(str(mask), known[:5])
        with pytest.raises(
            DataError, match=r"mask .* should have the size of the label.*\[12, 16\]; found \[5, 16\]"
        ):
            data.dataset("train")[0]

    def test_mistakes(self, tree: Path) -> None:
        with pytest.raises(ConfigError, match=r"`mask_from` should name tasks of the data; found 'normals'"):
            TaskonomyDataModule(tree, ["normal"], mask_from={"normals": "mask_valid"})
        data = TaskonomyDataModule(tree, ["normal"], mask_from={"normal": "mask_valid"})
        with pytest.raises(
            DataError, match=r"masks of task 'normal' should be in folders named 'mask_valid'"
        ):
            data.setup("fit")
        with pytest.raises(ConfigError, match="label for each pixel; found 'room'"):
            TaskonomyDataModule(tree, {"room": Classification(2)}, mask_from={"room": "mask_valid"})


def test_buildings_that_are_missing_or_unused_are_counted(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,train,val,test\nbeach,1,0,0\nallensville,1,0,0\nallen_ville,0,1,0\n")
    data = TaskonomyDataModule(tree, ["normal"], split_file=tmp_path / "s.csv")
    missing, unused = data.source("train").remarks()
    assert "1 of the 2 buildings for 'train' in" in missing
    assert "the first that is not is 'allensville'" in missing
    assert "1 of the 3 buildings" in unused
    assert "in no split" in unused
    assert "the first 'cauthron'" in unused
    assert len(data.source("val").remarks()) == 1
    assert TaskonomyDataModule(tree, ["normal"]).source("train").remarks() == []


def test_the_default_is_seven_tasks_and_any_subset_will_do(tree: Path) -> None:
    data = TaskonomyDataModule(tree)
    assert len(data.tasks) == 7
    assert isinstance(data.tasks["segment_semantic"], Segmentation)
    assert data.tasks["segment_semantic"].channels == 17
    subset = TaskonomyDataModule(tree, ["normal", "depth_zbuffer"])
    assert list(subset.dataset("train")[0].labels) == ["normal", "depth_zbuffer"]
    with pytest.raises(ConfigError, match=r"found 'normals', did you mean 'normal'"):
        TaskonomyDataModule(tree, ["normals"])
    with pytest.raises(ConfigError, match=r"found 'segment_unsup2d'"):
        TaskonomyDataModule(tree, ["segment_unsup2d"])


def test_a_missing_file_is_a_missing_label(tree: Path) -> None:
    data = TaskonomyDataModule(tree, ["normal", "depth_zbuffer"], train_buildings=["allen_ville"])
    dataset = data.dataset("train")
    assert dataset.available.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    assert not data.tasks["depth_zbuffer"].valid(dataset[1].labels["depth_zbuffer"][None]).any()


def test_a_task_without_any_folder_is_told_with_what_is_there(tree: Path) -> None:
    data = TaskonomyDataModule(tree, ["normal", "keypoints3d"])
    with pytest.raises(
        DataError, match=r"task 'keypoints3d' should be in folders named 'keypoints3d' .*'keypoints2d'"
    ):
        data.setup("fit")
    data.setup("test")
    assert data.datasets["test"].available.tolist() == [[True, False]] * 4, "predicting needs no labels"


def test_a_depth_scale_and_a_codings_parameter_change_the_values(tree: Path) -> None:
    usual = TaskonomyDataModule(tree, ["depth_zbuffer", "edge_texture"], train_buildings=["beach"]).dataset(
        "train"
    )[0]
    changed = TaskonomyDataModule(
        tree,
        ["depth_zbuffer", "edge_texture"],
        train_buildings=["beach"],
        depth_scale=8 / 65535,
        codings={"edge_texture": Levels(maximum=65535)},
    ).dataset("train")[0]
    torch.testing.assert_close(
        changed.labels["depth_zbuffer"], usual.labels["depth_zbuffer"] * (8 / 65535 * 512), rtol=1e-5, atol=0
    )
    assert changed.labels["edge_texture"].mean() < usual.labels["edge_texture"].mean() - 0.3
    with pytest.raises(
        ConfigError, match=r"`codings` should name tasks of the data; found 'normals', did you mean 'normal'"
    ):
        TaskonomyDataModule(tree, ["normal"], codings={"normals": Levels()})


def test_display_depth_is_refused_by_name(tmp_path: Path) -> None:
    import cv2

    root = write_tree(tmp_path, domains=("rgb", "depth_zbuffer"), views=((0, 0),))
    cv2.imwrite(
        str(root / "beach/depth_zbuffer/point_0_view_0_domain_depth_zbuffer.png"), np.ones((12, 16), np.uint8)
    )
    data = TaskonomyDataModule(root, ["depth_zbuffer"], train_buildings=["beach"])
    with pytest.raises(DataError, match=r"beach/depth_zbuffer/point_0.*16-bit grey PNG; found 8 bits"):
        data.dataset("train")[0]


def test_a_task_of_your_own_reads_the_folder_of_its_name(tmp_path: Path) -> None:
    import cv2

    write_tree(tmp_path, domains=("rgb", "normal"), views=((0, 0),))
    for building in BUILDINGS:
        (tmp_path / building / "albedo").mkdir()
        blue_green_red = np.zeros((12, 16, 3), np.uint8) + np.array([0, 51, 255], np.uint8)
        cv2.imwrite(str(tmp_path / building / "albedo" / "point_0_view_0_domain_albedo.png"), blue_green_red)
    tasks = {"albedo": DenseRegression(channels=3), "facing": Normals()}
    data = TaskonomyDataModule(tmp_path, tasks, folders={"facing": "normal"})
    sample = data.dataset("train")[0]
    np.testing.assert_allclose(sample.labels["albedo"][:, 3, 4], [1, 0.2, 0], atol=1e-6)
    assert data.tasks["facing"].valid(sample.labels["facing"][None]).float().mean() > 0.5
    with pytest.raises(ConfigError, match=r"`folders` should name tasks of the data; found 'face'"):
        TaskonomyDataModule(tmp_path, tasks, folders={"face": "normal"})


def test_holes_are_invalid_for_any_kind_of_task(tree: Path) -> None:
    tasks: dict[str, Task] = {
        "depth_zbuffer": DenseRegression(high=128.0),
        "normal": DenseRegression(3, low=-1.0, signed_channels=[0]),
        "principal_curvature": DenseRegression(2, low=-1.0),
    }
    usual = TaskonomyDataModule(tree, list(tasks)).dataset("train")
    for index in (0, 2):
        expected, found = usual[index].labels, TaskonomyDataModule(tree, tasks).dataset("train")[index].labels
        for name, task in tasks.items():
            valid = usual.tasks[name].valid(expected[name][None])[0, 0]
            assert 0 < valid.float().mean() < 1
            assert torch.equal(task.valid(found[name][None])[0, 0], valid), name
            assert torch.equal(found[name][:, valid], expected[name][:, valid]), name


def test_the_config_of_the_docstring_works(tmp_path: Path) -> None:
    write_tree(tmp_path, domains=("rgb", "normal"), views=((0, 0),))
    write_tree(tmp_path, domains=("albedo",), views=((0, 0),), buildings=("beach",))
    (tmp_path / "s.csv").write_text("id,train,val,test\nbeach,1,0,0\n")
    data = data_from_docstring(TaskonomyDataModule, root=str(tmp_path), split_file=str(tmp_path / "s.csv"))
    sample = data.dataset("train")[0]
    assert {name: tuple(label.shape) for name, label in sample.labels.items()} == {
        "normal": (3, 256, 256),
        "albedo": (3, 256, 256),
    }
    assert sample.available.all()
    assert 0 <= sample.labels["albedo"].min() < 0.1
    assert 0.9 < sample.labels["albedo"].max() <= 1


def test_image_level_labels_come_from_a_table(tmp_path: Path) -> None:
    write_tree(tmp_path, domains=("rgb",), views=((0, 0), (5, 1)))
    (tmp_path / "image_labels.csv").write_text(
        "building,point,view,room,pitch\nbeach,5,1,office,-3.5\nbeach,0,0,kitchen,\nelsewhere,0,0,office,1\n"
    )
    tasks = {"room": Classification(["kitchen", "office"]), "pitch": Regression(unit="deg")}
    data = TaskonomyDataModule(tmp_path, tasks, train_buildings=["beach"], val_buildings=["cauthron"])
    dataset = data.dataset("train")
    assert dataset.available.tolist() == [[True, False], [True, True]]
    assert [int(dataset[i].labels["room"]) for i in range(2)] == [0, 1]
    assert dataset[1].labels["pitch"].tolist() == [-3.5]
    assert not data.dataset("val").available.any()
    (tmp_path / "image_labels.csv").write_text("building,point,view,room\nbeach,5,1,office\n")
    with pytest.raises(
        DataError,
        match=r"task 'pitch' should be in folders named 'pitch'.*or its table in `image_labels_file`",
    ):
        TaskonomyDataModule(tmp_path, tasks, train_buildings=["beach"]).dataset("train")
    for point in ("x", 10**20):
        (tmp_path / "image_labels.csv").write_text(f"building,point,view,room\nbeach,{point},1,office\n")
        with pytest.raises(
            DataError, match=r"image_labels\.csv' should have whole numbers as point and view"
        ):
            TaskonomyDataModule(tmp_path, tasks).source("test")
    (tmp_path / "image_labels.csv").write_text("building,point,view,room\nbeach,77,1,office\n")
    with pytest.raises(DataError, match=r"found none of them, its first row is of \('beach', '77', '1'\)"):
        TaskonomyDataModule(tmp_path, tasks).source("test")


def test_class_vectors_are_image_level_labels(tmp_path: Path) -> None:
    write_tree(tmp_path, domains=("rgb",), views=((0, 0),))
    for i, building in enumerate(BUILDINGS):
        (tmp_path / building / "class_scene").mkdir()
        np.save(
            tmp_path / building / "class_scene" / "point_0_view_0_domain_class_scene.npy", np.eye(365)[40 + i]
        )
    data = TaskonomyDataModule(tmp_path, ["class_scene"])
    assert int(data.dataset("train")[0].labels["class_scene"]) == 40


def test_a_scenario_hides_labels_that_exist(tree: Path) -> None:
    data = TaskonomyDataModule(tree, ["normal", "reshading"], scenario=OneLabel())
    assert data.dataset("train").available.sum(1).tolist() == [1] * 4
    assert data.dataset("val").available.all()


def test_generated_views_train_and_predict(tree: Path, tmp_path: Path) -> None:
    data = TaskonomyDataModule(tree, batch_size=2, scenario=OneLabel(), train_buildings=["beach", "cauthron"])
    data.lists.update(val=["allen_ville"], test=["allen_ville"])
    predictions = train_and_predict(data, tmp_path)
    assert [p["normal"].shape for p in predictions] == [(2, 3, 12, 16)] * 2


def test_known_tasks_match_units(tree: Path) -> None:
    tasks = TaskonomyDataModule(tree).known_tasks()
    assert isinstance(tasks["depth_euclidean"], Depth)
    assert (tasks["depth_zbuffer"].unit, tasks["principal_curvature"].unit) == ("m", "1/(3 cm)")
    assert tasks["principal_curvature"].channels == 2
