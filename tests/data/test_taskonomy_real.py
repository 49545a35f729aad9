"""Files that the annotator of Omnidata made, where there are some."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from jtr_lightning.data.taskonomy import TaskonomyDataModule
from jtr_lightning.errors import DataError
from tests.data.training import train_and_predict

REAL = os.environ.get("JTR_TEST_DATA")


@pytest.mark.skipif(REAL is None, reason="JTR_TEST_DATA does not name a folder with real files")
class TestRealViews:
    """Five views that the annotator of Omnidata made, with a maximum depth of 8 m."""

    tasks = ("depth_zbuffer", "normal", "edge_texture", "edge_occlusion", "keypoints3d", "reshading")

    @pytest.fixture
    def data(self, tmp_path: Path) -> TaskonomyDataModule:
        assert REAL is not None
        root = tmp_path / "mini"
        shutil.copytree(
            Path(REAL) / "taskonomy_mini" / "hm3d_mini", root / "hm3d_mini", copy_function=shutil.copyfile
        )
        return TaskonomyDataModule(root, list(self.tasks), depth_scale=8 / 65535, size=(64, 64), batch_size=2)

    def test_what_is_there_is_found(self, data: TaskonomyDataModule) -> None:
        index = data.tree()
        assert [index.name(i).split("/")[1] for i in range(len(index))] == [
            *("point_0_view_3", "point_7_view_1", "point_12_view_1", "point_27_view_0", "point_29_view_2")
        ]
        assert index.domains == sorted([*self.tasks, "rgb", "segment_unsup25d"])
        assert all(index.has(task).all() for task in self.tasks)

    @pytest.mark.filterwarnings("ignore:.*1 building")
    def test_depth_normals_and_their_masks_are_as_measured(self, data: TaskonomyDataModule) -> None:
        # Median depth in metres, pixels without depth, pixels without normal, focal length in pixels.
        measured = {
            "point_0_view_3": (1.448, 170, 170, 170),
            "point_7_view_1": (2.421, 2245, 2245, 600),
            "point_12_view_1": (2.764, 744, 0, 370),
            "point_27_view_0": (3.909, 601, 601, 320),
            "point_29_view_2": (1.503, 585, 0, 180),
        }
        y, x = np.mgrid[:512, :512] - 255.5
        seen = []
        for split in ("train", "val", "test"):
            source = data.source(split)
            for i in range(len(source)):
                name = source.name(i).split("/")[1]
                depth, normals = source.read_label(i, "depth_zbuffer"), source.read_label(i, "normal")
                median, no_depth, no_normal, focal = measured[name]
                assert np.median(depth[depth > 0]) == pytest.approx(median, abs=0.002)
                assert int((depth == 0).sum()) == no_depth
                missing = (normals == 0).all(-1)
                assert int(missing.sum()) == no_normal
                np.testing.assert_allclose(np.linalg.norm(normals[~missing], axis=-1), 1, atol=1e-5)
                towards = (normals * np.stack([x / focal, y / focal, np.ones_like(x)], -1)).sum(-1)
                assert (towards[~missing] < 0.02).mean() > 0.999, "what is seen faces the camera"
                seen.append(name)
        assert sorted(seen) == sorted(measured)

    @pytest.mark.filterwarnings("ignore:.*1 building")
    def test_they_train_and_predict(self, data: TaskonomyDataModule, tmp_path: Path) -> None:
        predictions = train_and_predict(data, tmp_path)
        assert [p["normal"].shape for p in predictions] == [(1, 3, 64, 64)]

    @pytest.mark.filterwarnings("ignore:.*1 building")
    def test_the_holes_of_depth_are_those_of_reshading(self, data: TaskonomyDataModule) -> None:
        masked = TaskonomyDataModule(data.root, ["reshading"], mask_from={"reshading": "depth_zbuffer"})
        source = masked.source("train")
        for i in range(len(source)):
            depth = data.source("train").read_label(i, "depth_zbuffer")
            np.testing.assert_array_equal(np.isnan(source.read_label(i, "reshading")), depth == 0)

    def test_a_task_that_the_files_lack_is_told(self, data: TaskonomyDataModule) -> None:
        with pytest.raises(DataError, match=r"'segment_semantic' should be in folders .*'edge_occlusion'"):
            TaskonomyDataModule(data.root).setup("fit")
