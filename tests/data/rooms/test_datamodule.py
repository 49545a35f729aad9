"""Rooms through the data module: labels keep their values and holes, the scenario hides them, a network trains."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import lightning as L
import numpy as np
import platformdirs
import pytest
import torch

from jtr_lightning.batch import Batch
from jtr_lightning.data.rooms.datamodule import RoomsDataModule
from jtr_lightning.data.rooms.rendering import render
from jtr_lightning.data.rooms.scene import CLASS_NAMES, ROOM_TYPES, Scene
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.errors import ConfigError, DataError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.scenarios import OneLabel
from jtr_lightning.tasks import DenseRegression, Depth
from jtr_lightning.testing import DataModuleContract
from tests.toy import ToyNetwork

H, W = 32, 40
ROOMS = {"size": (H, W), "num_train": 12, "num_val": 5, "num_test": 3, "make_workers": 1}
ALL_TASKS = [
    *("segmentation", "depth", "normals", "reshading", "edge_texture", "edge_occlusion", "keypoints2d"),
    *("principal_curvature", "room_type", "camera_pitch"),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cache")
    RoomsDataModule(root=root, **ROOMS).prepare_data()
    return root


class TestContract(DataModuleContract):
    """Three tasks by default; each test may ask for others."""

    @pytest.fixture
    def make(self, root: Path) -> Callable[..., RoomsDataModule]:
        return lambda **changes: RoomsDataModule(root=root, **{"batch_size": 2, **ROOMS, **changes})


def opened(root: Path, **kwargs: object) -> RoomsDataModule:
    data = RoomsDataModule(root=root, **ROOMS, **kwargs)  # type: ignore[arg-type]
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def batches(loader: torch.utils.data.DataLoader) -> list[Batch]:
    return list(loader)


def test_default_tasks_and_the_whole_catalogue(root: Path) -> None:
    data = RoomsDataModule(root=root)
    assert list(data.tasks) == ["segmentation", "depth", "normals"]
    assert set(data.known_tasks()) == set(ALL_TASKS)


def test_labels_are_what_was_rendered_and_holes_are_invalid(root: Path) -> None:
    data = opened(root, tasks=ALL_TASKS, batch_size=5)
    (batch,) = batches(data.val_dataloader())
    batch.validate(data.tasks)
    assert batch.available.all()
    holes = 0
    spec = RoomsSpec(12, 5, 3, H, W)
    rooms = [room for room in spec.rooms() if room.split == "val"]
    for i, index in enumerate(batch.index.tolist()):
        labels = render(Scene.random(0, rooms[index].scene), H, W)
        valid = torch.from_numpy(~np.isnan(labels["depth_zbuffer"]))
        holes += int((~valid).sum())
        target = {name: label[i] for name, label in batch.labels.items()}
        torch.testing.assert_close(
            batch.image[i].mul(255).round().byte().permute(1, 2, 0).numpy(), labels["image"]
        )
        assert (target["segmentation"].numpy() == labels["segmentation"]).all()
        for name in ("depth", "normals", "reshading", "principal_curvature"):
            assert (data.tasks[name].valid(target[name][None])[0, 0] == valid).all(), name
        for name in ("segmentation", "edge_texture", "edge_occlusion", "keypoints2d"):
            assert data.tasks[name].valid(target[name][None]).all(), name
        for name, expected, tolerance in (
            ("depth", labels["depth_zbuffer"][None], 1 / 1024),
            ("normals", np.moveaxis(labels["normal"], -1, 0), 0.006),
            ("reshading", np.clip(labels["reshading"], 14 / 255, 1)[None], 1 / 510),
            (
                "principal_curvature",
                np.clip(0.03 * np.moveaxis(labels["principal_curvature"], -1, 0), -1, 1),
                1 / 254,
            ),
            ("edge_texture", np.clip(labels["edge_texture"] / 0.2, 0, 1)[None], 1e-3),
            ("edge_occlusion", np.clip(labels["edge_occlusion"] / 0.02, 0, 1)[None], 2e-3),
            ("keypoints2d", np.clip(labels["keypoints2d"] / 0.005, 0, 1)[None], 2e-3),
        ):
            kept = torch.broadcast_to(
                data.tasks[name].valid(target[name][None])[0], target[name].shape
            ).numpy()
            np.testing.assert_allclose(
                target[name].numpy()[kept], expected[kept], atol=tolerance + 1e-6, err_msg=name
            )
        assert int(target["room_type"]) == labels["room_type"]
        assert float(target["camera_pitch"]) == pytest.approx(labels["camera_pitch"], abs=1e-3)
    assert holes > 0


def test_onelabel_hides_training_labels_only(root: Path) -> None:
    data = opened(root, scenario=OneLabel(), batch_size=12)
    (batch,) = batches(data.train_dataloader())
    assert (batch.available.sum(1) == 1).all()
    assert batch.available.sum(0).tolist() == [4, 4, 4]
    for name, task in data.tasks.items():
        blank = task.blank(H, W)
        hidden = batch.labels[name][~batch.labelled(name)]
        assert torch.equal(hidden, blank.expand_as(hidden))
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert all(b.available.all() for b in loader)


def test_workers_give_the_same_batches(root: Path) -> None:
    alone, helped = (
        batches(opened(root, tasks=ALL_TASKS, num_workers=workers, batch_size=4).train_dataloader())
        for workers in (0, 2)
    )
    assert len(alone) == 3
    for a, b in zip(alone, helped, strict=True):
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.index, b.index)
        for name in ALL_TASKS:
            assert torch.equal(torch.nan_to_num(a.labels[name]), torch.nan_to_num(b.labels[name])), name


def test_source_survives_the_way_to_a_spawned_worker(root: Path) -> None:
    source = opened(root).source("test")
    again = pickle.loads(pickle.dumps(source))
    assert list(again.names()) == list(source.names())
    np.testing.assert_array_equal(again.read_label(1, "depth"), source.read_label(1, "depth"))


def test_splits_have_the_numbers_asked_for_and_no_sample_in_common(root: Path) -> None:
    data = opened(root)
    names = {split: set(data.source(split).names()) for split in ("train", "val", "test")}
    assert {split: len(found) for split, found in names.items()} == {"train": 12, "val": 5, "test": 3}
    assert len(set.union(*names.values())) == 20


def test_rooms_are_made_once_and_other_parameters_get_another_folder(root: Path) -> None:
    first = RoomsDataModule(root=root, **ROOMS)
    before = (first.root / "rooms.json").stat().st_mtime_ns
    first.prepare_data()
    assert (first.root / "rooms.json").stat().st_mtime_ns == before
    other = RoomsDataModule(root=root, **{**ROOMS, "rooms_seed": 1, "num_train": 1})
    assert other.root != first.root
    other.prepare_data()
    other.setup("fit")
    assert len(other.datasets["train"]) == 1


def test_rooms_made_by_hand_are_read_from_their_own_folder(tmp_path: Path) -> None:
    spec = RoomsSpec(3, 2, 1, H, W, seed=7)
    folder = make_rooms(tmp_path / "mine", spec, workers=1, progress=False)
    before = sorted(tmp_path.rglob("*"))
    for asked in ({}, {"size": (H, W), "num_train": 3, "num_val": 2, "num_test": 1, "rooms_seed": 7}):
        data = RoomsDataModule(root=folder, **asked)  # type: ignore[arg-type]
        assert data.spec == spec
        assert data.size == (H, W)
        data.prepare_data()
        data.setup("fit")
        assert len(data.datasets["train"]) == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_other_rooms_than_those_made_by_hand_are_refused(tmp_path: Path) -> None:
    folder = make_rooms(tmp_path / "mine", RoomsSpec(3, 2, 1, H, W), workers=1, progress=False)
    with pytest.raises(DataError, match=r"found train 3 instead of 400\. .*take these rooms"):
        RoomsDataModule(root=folder, num_train=400).prepare_data()
    with pytest.raises(DataError, match=r"found height 32 instead of 16, width 40 instead of 24"):
        RoomsDataModule(root=folder, size=(16, 24)).prepare_data()


@pytest.mark.parametrize("damage", ["", "[]", '{"train": 3}', '{"train": -1}'])
def test_a_damaged_description_of_rooms_is_told(tmp_path: Path, damage: str) -> None:
    (tmp_path / "rooms.json").write_text(damage)
    with pytest.raises(DataError, match=r"readable rooms\.json|found layout None"):
        RoomsDataModule(root=tmp_path).prepare_data()


def test_a_size_of_one_number_is_refused(tmp_path: Path) -> None:
    for size in (128, (128,)):
        with pytest.raises(ConfigError, match="`size` should be a height and a width in pixels; found"):
            RoomsDataModule(root=tmp_path, size=size)  # type: ignore[arg-type]


def test_default_root_is_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platformdirs, "user_cache_path", lambda name, appauthor: tmp_path / name)
    assert RoomsDataModule().root == tmp_path / "jtr_lightning" / RoomsSpec().folder_name


def test_reading_before_making_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Call `prepare_data\(\)` first"):
        RoomsDataModule(root=tmp_path, **ROOMS).setup("fit")


def test_a_split_without_rooms_is_refused_by_its_parameter(tmp_path: Path) -> None:
    data = RoomsDataModule(root=tmp_path, size=(16, 16), num_train=2, num_val=1, num_test=0)
    data.prepare_data()
    data.setup("fit")
    with pytest.raises(DataError, match="`num_test` = 0"):
        data.setup("test")


def test_a_task_of_ones_own_reads_the_folder_of_its_name(tmp_path: Path) -> None:
    folder = make_rooms(tmp_path / "mine", RoomsSpec(3, 1, 1, 16, 16), workers=1, progress=False)
    for image in sorted(folder.glob("*/rgb/point_[01]_*.png")):
        copy = Path(str(image).replace("rgb", "albedo"))
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(image.read_bytes())
    data = RoomsDataModule(
        root=folder,
        tasks={"depth": Depth(), "albedo": DenseRegression(channels=3)},
        size=(16, 16),
        num_train=3,
        num_val=1,
        num_test=1,
    )
    data.setup("fit")
    assert data.datasets["train"].available.tolist() == [[True, True], [True, True], [True, False]]
    sample = data.datasets["train"][0]
    torch.testing.assert_close(sample.labels["albedo"], sample.image)


def test_unknown_tasks_are_refused_with_near_names(root: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'normals'"):
        RoomsDataModule(root=root, tasks=["normal"])
    data = RoomsDataModule(root=root, tasks={"dept": Depth()}, **ROOMS)
    with pytest.raises(DataError, match="labels of task 'dept' should be in folders named 'dept'"):
        data.setup("fit")


def test_statistics_of_the_depth_task_are_those_of_rooms() -> None:
    depth = np.concatenate([render(Scene.random(0, i), 32, 40)["depth_zbuffer"].ravel() for i in range(60)])
    task = RoomsDataModule().tasks["depth"]
    assert isinstance(task, Depth)
    assert task.mean == pytest.approx(np.nanmean(depth), abs=0.2)
    assert task.std == pytest.approx(np.nanstd(depth), abs=0.15)


def test_task_names_are_those_of_the_scenes(root: Path) -> None:
    tasks = RoomsDataModule(root=root).known_tasks()
    assert tasks["segmentation"].class_names == list(CLASS_NAMES)  # type: ignore[attr-defined]
    assert tasks["room_type"].class_names == list(ROOM_TYPES)  # type: ignore[attr-defined]


def test_a_network_learns_all_ten_tasks_from_one_label_per_image(root: Path, tmp_path: Path) -> None:
    data = RoomsDataModule(root=root, tasks=ALL_TASKS, scenario=OneLabel(), batch_size=4, **ROOMS)
    module = PartialLabelModule(data.tasks, ToyNetwork(), optimizer=lambda p: torch.optim.Adam(p, lr=0.02))
    trainer = L.Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        num_sanity_val_steps=0,
    )
    (before,) = trainer.validate(module, data, verbose=False)
    trainer.fit(module, data)
    (after,) = trainer.validate(module, data, verbose=False)
    for name in ALL_TASKS:
        assert any(key.startswith(f"val/{name}/") for key in after), name
    assert np.isfinite(list(after.values())).all()
    assert after["val/depth/abs_err"] < before["val/depth/abs_err"]
    assert after["val/normals/mean_angle"] < before["val/normals/mean_angle"]


def test_the_domain_of_a_room_is_its_type_whether_that_is_a_task_or_not(root: Path) -> None:
    with_task = opened(root, tasks=["depth", "room_type"], batch_size=5)
    (batch,) = batches(with_task.val_dataloader())
    assert batch.domain.tolist() == batch.labels["room_type"].tolist()
    assert len(set(batch.domain.tolist())) > 1
    (without,) = batches(opened(root, batch_size=5).val_dataloader())
    assert without.domain.tolist() == batch.domain.tolist()


def test_a_checkpoint_knows_the_size_of_the_rooms_and_larger_pictures_are_brought_to_it(
    root: Path, tmp_path: Path
) -> None:
    data = RoomsDataModule(root=root, batch_size=4, **ROOMS)
    trainer = L.Trainer(
        max_steps=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(PartialLabelModule(data.tasks, ToyNetwork()), data)
    trainer.save_checkpoint(tmp_path / "rooms.ckpt")
    module = PartialLabelModule.load_from_checkpoint(tmp_path / "rooms.ckpt")
    assert module.image_size == (H, W)
    seen = []
    module.network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    predicted = module.predict(np.zeros((2 * H, 2 * W, 3), np.uint8))
    assert seen == [(1, 3, H, W)]
    assert predicted["depth"].shape == (1, 2 * H, 2 * W)
