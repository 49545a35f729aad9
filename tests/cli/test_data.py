"""``jtr data``: what it writes, prints and returns; ``jtr data make`` is in ``test_data_make.py``."""

import csv
import os
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from jtr_lightning.cli.data_options import DATASETS
from jtr_lightning.cli.main import main
from jtr_lightning.data import taskonomy_index
from tests.cli.data_commands import check, make


@pytest.fixture
def nyu(tmp_path: Path) -> Path:
    return make(tmp_path / "nyu", "nyuv2")


def test_help_names_the_actions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(
        re.search(rf"^  {action} ", text, re.MULTILINE) for action in ("make", "check", "split", "pack")
    )
    assert main(["data"]) == 2
    assert main(["data", "chek"]) == 1
    assert "did you mean 'check'" in capsys.readouterr().err


@pytest.mark.parametrize("action", ["make", "check", "split", "pack"])
def test_each_action_has_help(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["data", action, "--help"])
    assert f"usage: jtr data {action}" in capsys.readouterr().out


class TestCheck:
    def test_wrong_files_give_exit_code_1_and_their_names(
        self, nyu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (nyu / "train/normal/1.npy").write_bytes(b"damaged")
        np.save(nyu / "train/label/2.npy", np.full((24, 32), 55.0))
        (nyu / "train/depth/3.npy").unlink()
        sheet = tmp_path / "deep/sheet.png"
        assert check(nyu, "--dataset", "nyuv2", "--rows", 4, sheet=sheet) == 1
        printed = capsys.readouterr().out
        assert re.search(r"Wrong: Sample '1', normals: The file '.*normal/1\.npy'", printed)
        assert re.search(r"Wrong: Sample '2', segmentation.*55", printed)
        assert "2 problems found." in printed
        assert re.search(r"depth +3 +3 +24x32x1 \(3\) +float32", printed)
        assert re.search(r"image +4 +24x32x3 \(4\) +float32", printed)
        assert re.search(r"segmentation +4 +3 +24x32 \(3\) +float32", printed)
        assert "has 4 images; the published split has 795." in printed
        assert re.search(r"^ *1 +yes +- +yes", printed, re.MULTILINE)  # the sample without a depth
        assert "The same samples as val." in printed
        with Image.open(sheet) as picture:
            assert picture.width == 8 + 4 * 208
            assert picture.height > 26 + (4 + 2) * (150 + 26)  # rows of training and validation, and legends

    def test_the_picture_goes_beside_the_runs_unless_told_otherwise(
        self, nyu: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        options = ["data", "check", str(nyu), "--dataset", "nyuv2", "--splits", "val", "--workers", "0"]
        assert main(options) == 0
        assert "Contact sheet: runs/check/nyu.png\n" in capsys.readouterr().out
        assert (tmp_path / "runs" / "check" / "nyu.png").is_file()
        assert main([*options, "--sheet", ""]) == 0
        assert "Contact sheet" not in capsys.readouterr().out

    def test_values_are_printed_for_the_coding(self, nyu: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert check(nyu, "--dataset", "nyuv2", "--splits", "train") == 0
        depth = np.concatenate([np.load(p).ravel() for p in (nyu / "train/depth").iterdir()])
        mean, std = depth[depth > 0].mean(), depth[depth > 0].std()
        printed = capsys.readouterr().out
        row = re.search(
            r"^ *depth +([\d.]+)% +(\S+) +(\S+) +(\S+) +(\S+) +0 to 10 m *$", printed, re.MULTILINE
        )
        assert row is not None
        assert [float(v) for v in row.groups()[3:]] == pytest.approx([mean, std], rel=1e-3)

    def test_a_config_says_which_data(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = make(tmp_path / "own", "folder")
        config = {
            "trainer": {"max_epochs": 3},
            "data": {
                "class_path": "FolderDataModule",
                "init_args": {
                    "root": str(folder),
                    "scales": {"depth": 0.001},
                    "tasks": {
                        "segmentation": {"class_path": "Segmentation", "init_args": {"classes": 12}},
                        "depth": {"class_path": "Depth"},
                    },
                },
            },
        }
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(config))
        assert check("--config", tmp_path / "fit.yaml") == 0
        assert "train: 4 samples" in capsys.readouterr().out
        # An option after it wins: with 3 classes most ids are out of range.
        assert check("--config", tmp_path / "fit.yaml", "--data.tasks.segmentation.classes", 3) == 1

    def test_the_limit(self, nyu: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert check(nyu, "--dataset", "nyuv2", "--limit", 2, "--splits", "train") == 0
        assert "2 of them were read." in capsys.readouterr().out

    def test_a_missing_split_is_wrong(self, nyu: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for path in (nyu / "val/image").iterdir():
            path.unlink()
        assert check(nyu, "--dataset", "nyuv2", "--splits", "train", "val") == 1
        assert "val/image' should hold the images" in capsys.readouterr().out

    @pytest.mark.parametrize("beside", [False, True])
    def test_rooms_are_not_made_by_a_look_at_them(
        self, tmp_path: Path, beside: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = tmp_path / "my rooms"
        if beside:
            folder.mkdir()
            (folder / "notes.txt").touch()
        sizes = ["--data.size", "[24, 32]", "--data.num_train", 4, "--data.num_val", 2, "--data.num_test", 2]
        assert check(folder, "--dataset", "rooms", *sizes) == 1
        told = re.fullmatch(
            r"error: The folder '(.+)' should hold rooms; found none\. Make them with `(.+)`\.\n",
            capsys.readouterr().err,
        )
        assert told is not None
        assert (Path(told[1]).parent if beside else Path(told[1])) == folder
        assert [path.name for path in tmp_path.rglob("*")] == ["my rooms", "notes.txt"] * beside
        assert main([*shlex.split(told[2])[1:], "--workers", "1"]) == 0
        assert check(folder, "--dataset", "rooms", *sizes) == 0
        assert "train: 4 samples" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "which dataset is meant"),
            (["{root}"], "what kind of dataset"),
            (["{root}/mine.yaml"], "A config file is given as --config"),
            (["{root}", "--dataset", "nyuv"], "did you mean 'nyuv2'"),
            (["{root}", "--dataset", "nyuv2", "--splits", "training"], "found 'training'"),
            (["{root}", "--dataset", "nyuv2", "--limit", "0"], "`limit` should be at least 1"),
            (["{root}", "--dataset", "nyuv2", "--data.clases", "13"], "did you mean 'classes'"),
            (["{root}", "--dataset", "nyuv2", "--data.scenario", "OneLable"], "did you mean 'OneLabel'"),
            (["{root}", "--dataset", "nyuv2", "--data.classes", "40"], "for 40 classes"),
            (["--config", "{root}/rooms.json"], "should say which `data`"),
            (["--config", "{root}/none.yaml"], "The config should be a file; found none at"),
        ],
    )
    def test_mistakes(
        self, nyu: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert check(*(argument.format(root=nyu) for argument in arguments)) == 1
        assert message in capsys.readouterr().err

    def test_the_help_of_a_dataset(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="0"):
            main(["data", "check", "--data.help", "cityscapes"])
        assert "--data.inverse_scaling" in capsys.readouterr().out

    @pytest.mark.skipif(
        "JTR_TEST_DATA" not in os.environ, reason="JTR_TEST_DATA does not name a folder with the real files"
    )
    def test_real_taskonomy_views(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = Path(os.environ["JTR_TEST_DATA"]) / "taskonomy_mini"
        sheet = tmp_path / "sheet.png"
        tasks = "[depth_zbuffer, normal, edge_occlusion, edge_texture, keypoints3d, reshading]"
        options = (
            "--data.tasks",
            tasks,
            "--data.depth_scale",
            0.00012207,  # what the check names below
            "--data.train_buildings",
            "[hm3d_mini]",
        )
        code = check(root, "--dataset", "taskonomy", *options, "--splits", "train", sheet=sheet)
        printed = capsys.readouterr().out
        assert code == 0, printed
        assert "train: 5 samples" in printed
        with Image.open(sheet) as picture:
            assert picture.width == 8 + 7 * 208
            assert picture.height > 26 + 4 * (200 + 26)
        # Read at the scale of other files, 16 times off.
        options = ("--data.tasks", tasks, "--data.train_buildings", "[hm3d_mini]")
        assert check(root, "--dataset", "taskonomy", *options, "--splits", "train") == 1
        told = capsys.readouterr().out
        assert "median of a depth should mostly be from 0.2 to 15 m; found 38.7" in told
        assert "`depth_scale` of TaskonomyDataModule, 0.00012207" in " ".join(told.split())


def split(*arguments: Any) -> int:
    return main(["data", "split", *map(str, arguments)])


class TestSplit:
    def test_of_numbers(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "new/split.csv"
        assert split("--num", 795, "--tasks", "a", "b", "c", "--scenario", "OneLabel", "--out", path) == 0
        rows = list(csv.reader(path.read_text().splitlines()))
        assert rows[0] == ["id", "a", "b", "c"]
        assert [row[0] for row in rows[1:]] == [str(i) for i in range(795)]
        values = np.array(rows[1:])[:, 1:].astype(int)
        assert values.sum(0).tolist() == [265, 265, 265]
        printed = capsys.readouterr().out
        assert re.search(r"with a label of b +265 +33\.3%", printed)
        assert re.search(r"with 1 label +795 +100\.0%", printed)

    def test_the_seed_decides(self, tmp_path: Path) -> None:
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            options = ("--num", 40, "--tasks", "x", "y", "z", "--scenario", "RandomLabels", "--seed", seed)
            assert split(*options, "--out", tmp_path / f"{name}.csv") == 0
        a, b, c = ((tmp_path / f"{name}.csv").read_text() for name in "abc")
        assert a == b != c

    def test_of_a_dataset_is_what_training_with_that_scenario_uses(
        self, nyu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from jtr_lightning.data.nyuv2 import NYUv2DataModule
        from jtr_lightning.scenarios import FractionLabels, SplitFile

        (nyu / "train/depth/3.npy").unlink()
        options = (
            "--dataset",
            "nyuv2",
            "--scenario",
            "FractionLabels",
            "--scenario.fraction",
            0.5,
            "--seed",
            5,
        )
        assert split(nyu, *options, "--out", tmp_path / "s.csv") == 0
        drawn = NYUv2DataModule(nyu, scenario=FractionLabels(0.5), seed=5).dataset("train").available
        read = NYUv2DataModule(nyu, scenario=SplitFile(tmp_path / "s.csv")).dataset("train").available
        assert np.array_equal(read, drawn)
        assert drawn.sum(0).tolist() == [2, 2, 2]
        assert not drawn[3, 1]
        assert re.search(r"with a label of depth +2 +50\.0%", capsys.readouterr().out)

    def test_of_a_config(self, nyu: Path, tmp_path: Path) -> None:
        data = {
            "class_path": "NYUv2DataModule",
            "init_args": {"root": str(nyu), "scenario": {"class_path": "OneLabel"}},
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({"data": data}))
        assert split("--config", tmp_path / "c.yaml", "--out", tmp_path / "s.csv") == 0
        rows = list(csv.reader((tmp_path / "s.csv").read_text().splitlines()))[1:]
        assert [sum(map(int, row[1:])) for row in rows] == [1] * 4

    def test_a_file_is_never_overwritten(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = tmp_path / "s.csv"
        path.write_text("precious")
        assert split("--num", 4, "--tasks", "a", "b", "--scenario", "OneLabel", "--out", path) == 1
        assert "found a file that exists" in capsys.readouterr().err
        assert path.read_text() == "precious"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--num", "4", "--tasks", "a", "b"], "should be given scenario"),
            (["--num", "0", "--tasks", "a", "b", "--scenario", "OneLabel"], "`num` should be at least 1"),
            (["--num", "4", "--tasks", "a", "a", "--scenario", "OneLabel"], "each task once"),
            (["--num", "4", "--tasks", "a", "--scenario", "OneLabel"], "at least 2 tasks"),
            (
                ["--num", "4", "--tasks", "a", "--scenario", "FractionLabels", "--scenario.fraction", "2"],
                "error: Parameter `fraction` should be above 0 and at most 1; found 2",
            ),
            (["--num", "4", "--tasks", "a", "b", "--scenario", "OneLable"], "did you mean 'OneLabel'"),
        ],
    )
    def test_mistakes(
        self, tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert split(*arguments, "--out", tmp_path / "s.csv") == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "s.csv").exists()


@pytest.mark.parametrize("action", ["check", "split", "pack"])
def test_what_a_data_module_refuses_is_told_in_one_line(
    action: str, nyu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out = [] if action == "check" else ["--out", str(tmp_path / "out.csv")]
    for dataset, options, told in (
        ("packed", [], "error: A packed dataset should have a file"),
        (
            "nyuv2",
            ["--data.classes", "13", "--data.batch_size", "0"],
            "error: Parameter `batch_size` should be",
        ),
    ):
        assert main(["data", action, str(nyu), "--dataset", dataset, *options, *out]) == 1
        printed = capsys.readouterr().err
        assert printed.startswith(told)
        assert printed.count("\n") == 1


def test_values_of_a_config_that_json_does_not_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("2024-05-01"), "folder")
    Path("c.yaml").write_text("""
        data:
          class_path: FolderDataModule
          init_args:
            root: 2024-05-01
            scales: {depth: 1e-3}
            tasks:
              segmentation: {class_path: Segmentation, init_args: {classes: 12}}
              depth: {class_path: Depth, init_args: {expected_range: [0, .inf], unit: "m\\"\\n"}}
    """)
    assert check("--config", "c.yaml") == 0
    assert split("--config", "c.yaml", "--out", "s.csv") == 0
    assert Path("s.csv").read_text().startswith("id,segmentation,depth\n")


def test_a_folder_behind_the_options_is_not_passed_over(
    nyu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"class_path": "NYUv2DataModule", "init_args": {"root": str(nyu)}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"data": data}))
    assert check("--config", tmp_path / "c.yaml", tmp_path / "another") == 1
    told = capsys.readouterr()
    assert f"folder should stand in front of all options; found '{tmp_path / 'another'}'" in told.err
    assert "samples" not in told.out


@pytest.mark.parametrize("dataset", ["taskonomy", "rooms"])
def test_a_check_writes_nothing_into_a_large_tree(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taskonomy_index, "REMEMBER_FROM", 1)
    monkeypatch.setattr(taskonomy_index, "_SETTLED_NS", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = make(tmp_path / "rooms", "taskonomy")
    before = sorted(root.rglob("*"))
    task = "normals" if dataset == "rooms" else "normal"
    assert check(root, "--dataset", dataset, "--data.tasks", f"[{task}]") == 0
    assert sorted(root.rglob("*")) == before
    # But a training that follows need not look again.
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1


def test_every_named_dataset_can_be_imported() -> None:
    from importlib import import_module

    for class_path in DATASETS.values():
        module, _, name = class_path.rpartition(".")
        assert hasattr(import_module(module), name)


class TestPack:
    def test_what_it_prints_trains(
        self, nyu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tmp_path / "packed rooms"
        pack = ["data", "pack", str(nyu), "--dataset", "nyuv2", "--data.size", "[16, 20]", "--workers", "0"]
        assert main([*pack, "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        assert re.search(r"Packed in .* \(4 train, 2 val, 2 test; 0\.00 GB\)", printed)
        assert f"--data.root {shlex.quote(str(out))}" in printed
        assert check(out, "--dataset", "packed") == 0
        checked = capsys.readouterr().out
        assert "16x20" in checked
        assert "Nothing is wrong." in checked

    def test_mistakes(self, nyu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        pack = ["data", "pack", str(nyu), "--dataset", "nyuv2", "--out"]
        assert main([*pack, str(nyu)]) == 1
        assert "should be a new or an empty folder" in capsys.readouterr().err
        assert main([*pack, str(tmp_path / "new"), "--workers", "-1"]) == 1
        assert "`workers` should be at least 0" in capsys.readouterr().err
        blocked = tmp_path / "file"
        blocked.touch()
        assert main([*pack, str(blocked / "new")]) == 1
        assert "should be a folder that can be written" in capsys.readouterr().err
