"""``jtr data make``: what it writes, prints and returns."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jtr_lightning.cli import data_make
from jtr_lightning.cli.main import main
from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from tests.cli.data_commands import SMALL, check, make


class TestMake:
    @pytest.mark.parametrize(
        ("layout", "dataset", "rest"),
        [
            ("taskonomy", "rooms", []),
            ("nyuv2", "nyuv2", []),
            ("nyuv2_mat", "nyuv2", ["--data.classes", "40"]),
            ("cityscapes", "cityscapes", ["--data.classes", "19", "--data.depth", "metres"]),
            ("cityscapes_npy", "cityscapes", []),
        ],
    )
    def test_every_layout_is_whole_for_its_loader(
        self, tmp_path: Path, layout: str, dataset: str, rest: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = make(tmp_path / layout, layout)
        assert check(folder, "--dataset", dataset, *rest) == 0
        printed = capsys.readouterr().out
        assert "train: 4 samples" in printed
        assert "Nothing is wrong." in printed

    def test_again_is_no_work_and_other_rooms_are_refused(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        nyu = make(tmp_path / "nyu", "nyuv2")
        before = (nyu / "train/image/0.npy").stat().st_mtime_ns
        make(nyu, "nyuv2")
        assert (nyu / "train/image/0.npy").stat().st_mtime_ns == before
        command = ["data", "make", "rooms", "--out", str(nyu), "--layout", "nyuv2", *SMALL, "--seed", "1"]
        assert main(command) == 1
        assert "seed 0 instead of 1" in capsys.readouterr().err

    def test_what_is_printed_can_be_typed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        folder = make(tmp_path / "a folder" / "my rooms", "taskonomy")
        assert [path.name for path in folder.parent.iterdir()] == ["my rooms"]
        told = re.search(r"Look at it with `(.+)`; train on it with `(.+)`", capsys.readouterr().out)
        assert told is not None
        command, *arguments = shlex.split(told.group(1))
        assert arguments == ["data", "check", str(folder), "--dataset", "rooms"]
        assert shutil.which(command) is not None
        command, *arguments = shlex.split(told.group(2))
        assert shutil.which(command) is not None
        monkeypatch.chdir(Path(__file__).parents[2])
        one_step = ["--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu"]
        assert main([*arguments, *one_step, "--data.batch_size", "2"]) == 0

    def test_a_folder_comes_with_its_config(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        make(tmp_path / "my rooms", "folder")
        look, train = re.findall("`(.+?)`", capsys.readouterr().out)
        assert main([*shlex.split(look)[1:], "--sheet", "", "--workers", "0"]) == 0
        printed = capsys.readouterr().out
        assert "Nothing is wrong." in printed
        assert re.search(r"^ *depth +\S+ +\S+ +\S+ +[1-5]\.", printed, re.MULTILINE), "metres"
        one_step = ["--trainer.fast_dev_run", "1", "--trainer.accelerator", "cpu"]
        assert main([*shlex.split(train)[1:], *one_step, "--data.batch_size", "2"]) == 0
        config = tmp_path / "my rooms/folder.yaml"
        config.write_text(f"# mine\n{config.read_text()}")
        make(tmp_path / "my rooms", "folder")
        assert config.read_text().startswith("# mine\n"), "never written anew"

    @pytest.mark.parametrize("layout", ["taskonomy", "nyuv2", "cityscapes", "folder"])
    @pytest.mark.parametrize("numbers", [(0, 2, 2), (4, 0, 2)])
    def test_a_split_without_rooms_is_in_no_command(
        self, tmp_path: Path, layout: str, numbers: tuple[int, int, int], capsys: pytest.CaptureFixture[str]
    ) -> None:
        options = ("--num", "--num_val", "--num_test")
        command = ["data", "make", "rooms", "--out", str(tmp_path / "rooms"), "--layout", layout, *SMALL]
        for option, number in zip(options, numbers, strict=True):
            command[command.index(option) + 1] = str(number)
        assert main(command) == 0
        (look,) = re.findall("`(.+?)`", capsys.readouterr().out)
        # The option takes all that follows it.
        assert main([*shlex.split(look)[1:], "--sheet", "", "--workers", "0"]) == 0
        assert "Nothing is wrong." in capsys.readouterr().out

    def test_two_rooms_are_too_few_for_one_label_each_of_three_tasks(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["data", "make", "rooms", "--out", str(tmp_path / "two"), *SMALL, "--num", "2"]) == 0
        assert "jtr fit" not in capsys.readouterr().out

    @pytest.mark.parametrize("layout", ["nyuv2_h5", "nyuv2_sync"])
    def test_depth_only_frames_are_looked_at_beside_labelled_ones(
        self, tmp_path: Path, layout: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make(tmp_path / "more rooms", layout)
        labelled, look = (
            shlex.split(command)[1:] for command in re.findall("`(.+?)`", capsys.readouterr().out)
        )
        assert main([*labelled, *SMALL]) == 0
        assert main([*look, "--sheet", "", "--workers", "0"]) == 0
        assert "train: 8 samples" in capsys.readouterr().out

    def test_every_layout_has_a_next_step_and_help_imports_no_torch(self) -> None:
        assert set(data_make._NEXT) == set(LAYOUTS)
        code = (
            "import sys; from jtr_lightning.cli.main import main\n"
            "try: main(['data', 'make', '--help'])\n"
            "except SystemExit as leave: print(leave.code, sorted({'torch', 'lightning', 'cv2'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert "--num_val" in done.stdout
        assert done.stdout.splitlines()[-1] == "0 []"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["rooms"], "error: The following arguments are required: --out; see 'jtr data make --help'"),
            ([], "are required: what, --out"),
            (["house", "--out", "x"], "'rooms'; found 'house'"),
            (["rooms", "--out", "x", "--layout", "nyu"], "did you mean 'nyuv2'"),
            (
                ["rooms", "--out", "x", "--layout", "nyuv2_h5", "--num", "0"],
                "Option --num should be at least 1, so that the form 'nyuv2_h5' has a room; found 0.",
            ),
            (
                ["rooms", "--out", "x", "--num", "0", "--num_val", "0", "--num_test", "0"],
                "Option --num or --num_val or --num_test should be at least 1",
            ),
            (["rooms", "--out", "x", "--num", "-3"], "Option --num should be at least 0; found -3"),
            (["rooms", "--out", "x", "--workers", "0"], "Option --workers should be at least 1; found 0"),
            (["rooms", "--out", "x", "--num_v", "3"], "no option '--num_v'; did you mean"),
            (["rooms", "--out", "x", "--numm", "3"], "did you mean '--num'"),
        ],
    )
    def test_mistakes(
        self, tmp_path: Path, arguments: list[str], message: str, monkeypatch: Any, capsys: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["data", "make", *arguments]) == 1
        assert message in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
