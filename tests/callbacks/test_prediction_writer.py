"""Written predictions against those of the module."""

import csv
import json
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from jtr_lightning.callbacks.prediction_writer import PredictionWriter
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.tasks import Task
from tests.tiny import TinyData, ToyNetwork, tiny_tasks


def predict(writer: PredictionWriter, **options: Any) -> tuple[PartialLabelModule, TinyData]:
    data = TinyData(number=5, tasks=list(tiny_tasks()))
    module = PartialLabelModule(data.tasks, ToyNetwork())
    trainer = L.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, callbacks=[writer], **options
    )
    trainer.predict(module, data, return_predictions=False)
    return module.eval(), data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PartialLabelModule, TinyData]:
    folder = tmp_path_factory.mktemp("predictions") / "out"
    return folder, *predict(PredictionWriter(str(folder)))


def expected(module: PartialLabelModule, data: TinyData, index: int) -> dict[str, torch.Tensor]:
    with torch.inference_mode():
        predictions = module(data.datasets["test"][index].image[None])
    return {name: task.decode(predictions[name]) for name, task in data.tasks.items()}


def dense(data: TinyData) -> dict[str, Task]:
    return {name: task for name, task in data.tasks.items() if task.dense}


def test_raw_values_and_pictures_are_the_modules(written: tuple[Path, PartialLabelModule, TinyData]) -> None:
    folder, module, data = written
    for index in range(5):
        values = expected(module, data, index)
        for name, task in dense(data).items():
            raw = torch.from_numpy(np.load(folder / "raw" / name / "building" / f"sample_{index}.npy"))
            target = values[name][0]
            in_layout = raw.movedim(-1, 0) if raw.ndim == 3 else raw.view(target.shape)
            torch.testing.assert_close(in_layout.to(target.dtype), target)
            picture = Image.open(folder / "pictures" / name / "building" / f"sample_{index}.png")
            rendered = task.render(values[name])[0].permute(1, 2, 0)
            # Within 1: the batch and the single sample round differently.
            assert np.abs(np.asarray(picture).astype(int) - rendered.numpy().astype(int)).max() <= 1


def test_layouts_and_types_are_those_that_tasks_json_tells(
    written: tuple[Path, PartialLabelModule, TinyData],
) -> None:
    folder, _, data = written
    told = json.loads((folder / "tasks.json").read_text())
    assert list(told) == list(data.tasks)
    assert told["depth"]["unit"] == "m"
    assert told["segmentation"]["init_args"]["classes"] == ["floor", "wall", "chair"]
    for name, layout, dtype in (
        ("segmentation", "[H, W]", np.int16),
        ("depth", "[H, W]", np.float32),
        ("normals", "[H, W, C]", np.float32),
    ):
        raw = np.load(folder / "raw" / name / "building" / "sample_0.npy")
        assert told[name]["layout"] == layout
        assert raw.dtype == dtype
        assert raw.ndim == layout.count(",") + 1
        assert raw.shape[:2] == (8, 10)


def test_image_level_predictions_are_a_table(written: tuple[Path, PartialLabelModule, TinyData]) -> None:
    folder, module, data = written
    with (folder / "image_level.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == [f"building/sample_{i}" for i in range(5)]
    for index, row in enumerate(rows):
        values = expected(module, data, index)
        assert row["room"] == ["kitchen", "office"][int(values["room"])]
        assert float(row["pitch"]) == pytest.approx(float(values["pitch"]), rel=1e-4)


def test_two_processes_write_one_table(tmp_path: Path) -> None:
    predict(PredictionWriter(str(tmp_path / "out")), devices=2, strategy="ddp_fork")
    with (tmp_path / "out" / "image_level.csv").open() as file:
        assert [row["sample"] for row in csv.DictReader(file)] == [f"building/sample_{i}" for i in range(5)]
    assert len(list((tmp_path / "out" / "raw" / "depth" / "building").iterdir())) == 5


def test_pictures_can_be_left_out(tmp_path: Path) -> None:
    predict(PredictionWriter(str(tmp_path / "out"), pictures=False))
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["image_level.csv", "raw", "tasks.json"]


def test_a_folder_with_files_is_not_written_into_unasked(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(ConfigError, match="should be a new or empty folder"):
        predict(PredictionWriter(str(tmp_path)))
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
    predict(PredictionWriter(str(tmp_path), overwrite=True))
    assert (tmp_path / "mine.txt").exists()
    assert (tmp_path / "tasks.json").exists()
