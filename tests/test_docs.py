"""What the documentation shows is what runs: every page from top to bottom, on rooms of a few pixels."""

import json
import re
import shlex
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from jtr_lightning.cli.main import main
from jtr_lightning.lightning_cli.command_line import command_line
from jtr_lightning.tasks import Classification, DenseRegression, Depth, Normals, Regression, Segmentation

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LOGGED: dict[str, dict[str, list[str]]] = {
    "datasets.md": {},
    "getting_started.md": {"first": ["val/score", "train/jtr/distance"]},
    "own_data.md": {"mine": ["val/segmentation/miou", "val/depth/abs_err", "train/jtr/distance"]},
    "own_method.md": {"smooth": ["train/smoothness"]},
    "own_task.md": {"floor": ["val/floor/f1", "train/floor/loss", "train/jtr/distance"]},
}
"""For each page that is run, columns that it says its runs have."""
PAGES = list(LOGGED)
WALK_THROUGHS = {"own_task.md": "my_tasks.py", "own_method.md": "my_methods.py", "own_data.md": "mine.yaml"}
LONGEST = 40

_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+?) -->\n)?```(?P<language>\w+)"
    r'(?: title="(?P<file>[^"\n]+)")?(?: exec="1"[^\n]*)?\n'
    r"(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_TRAINING = [
    *("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.accelerator=cpu"),
    "--trainer.check_val_every_n_epoch=1",
    *(
        "--trainer.log_every_n_steps=1",
        "--trainer.enable_progress_bar=false",
        "--data.size=[32,40]",
        "--data.batch_size=4",
    ),
    *("--model.network=SMPNetwork", "--model.network.encoder=tu-mobilenetv3_small_050"),
]
_ROOMS = ["--data.num_train=8", "--data.num_val=2", "--data.num_test=2", "--data.make_workers=1"]
SMALL = {
    "data make": shlex.split("--num 16 --num_val 3 --num_test 3 --size 32 40 --workers 1"),
    "data check": ["--workers", "0"],
    "data pack": ["--workers", "0"],
    "fit": _TRAINING,
}
"""Options that make a command small; what a command line says later wins."""


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    language: str
    text: str
    file: str | None
    reason: str | None

    def lines_of_code(self) -> int:
        return sum(bool(line.strip()) and not line.strip().startswith("#") for line in self.text.splitlines())


def blocks_of(page: str) -> list[Block]:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(_BLOCK.findall(text)), f"{page} has a block that no test sees"
    return [Block(m["language"], m["text"], m["file"], m["reason"]) for m in _BLOCK.finditer(text)]


def commands(block: Block) -> list[str]:
    return [line for line in block.text.replace("\\\n", " ").splitlines() if line.strip()]


def run_command(command: str) -> None:
    program, *arguments = shlex.split(command, comments=True)
    assert program == "jtr", f"the tests can run jtr alone; mark the block of '{command}' with the reason"
    small = next((more for name, more in SMALL.items() if " ".join(arguments).startswith(name)), [])
    if arguments[0] == "fit" and "--config" in arguments and _data_of(arguments) == "RoomsDataModule":
        small = [*small, *_ROOMS]
    try:
        code: object = main([*arguments, *small])
    except SystemExit as leave:  # --help and --print_config end like this
        code = leave.code
    assert code in (0, None), command


def _data_of(arguments: list[str]) -> str:
    config = Path(arguments[arguments.index("--config") + 1])
    name: str = yaml.safe_load(config.read_text(encoding="utf-8"))["data"]["class_path"]
    return name


def run_page(page: str) -> None:
    """Runs a page in the current folder: files are written, Python and commands run, in the order of the page."""
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks_of(page):
        if block.file is not None:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.reason is not None or block.language == "text":
            continue
        elif block.language == "python":
            exec(compile(block.text, str(DOCS / page), "exec"), names)
        else:
            assert block.language == "sh", (
                f"{page} has a block of '{block.language}' without a file to write it to"
            )
            for command in commands(block):
                run_command(command)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder beside the repository's experiments; modules that a page writes are forgotten afterwards."""
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None)
        if (origin is not None and not Path(origin).is_absolute()) or str(origin).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("page", "columns"),
    # Six commands and a training in Python.
    [
        pytest.param(*p, marks=pytest.mark.slow if p[0] == "getting_started.md" else ())
        for p in LOGGED.items()
    ],
)
def test_a_page_runs_from_top_to_bottom(page: str, columns: dict[str, list[str]], workplace: Path) -> None:
    run_page(page)
    for run, wanted in columns.items():
        head = (workplace / "runs" / run / "0" / "metrics.csv").read_text(encoding="utf-8").splitlines()[0]
        assert set(wanted) <= set(head.split(",")), head


@pytest.mark.parametrize(("page", "file"), WALK_THROUGHS.items())
def test_a_walk_through_is_short(page: str, file: str) -> None:
    (block,) = [block for block in blocks_of(page) if block.file == file]
    assert 10 < block.lines_of_code() < LONGEST


def test_the_index_has_every_page() -> None:
    linked = set(re.findall(r"\]\((\w+\.md)\)", (DOCS / "index.md").read_text(encoding="utf-8")))
    assert linked == {path.name for path in DOCS.glob("*.md")} - {"index.md"}


@pytest.mark.parametrize("page", ["index.md", *PAGES])
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"<!--.*?-->", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (DOCS / target).exists(), f"{page} links to {target}"


def _modules_of(page: str) -> dict[str, types.ModuleType]:
    """The Python files of a page, each imported under its own name, for as long as they are being imported."""
    found: dict[str, types.ModuleType] = {}
    with pytest.MonkeyPatch.context() as patch:
        for block in blocks_of(page):
            if block.file is not None and block.language == "python":
                module = types.ModuleType(Path(block.file).stem)
                patch.setitem(sys.modules, module.__name__, module)
                exec(compile(block.text, str(DOCS / page), "exec"), module.__dict__)
                found[module.__name__] = module
    return found


_OWN_TASK = _modules_of("own_task.md")


class TestTheDocumentedTask(_OWN_TASK["test_my_tasks"].TestMask):
    """The tests that the page tells its reader to run."""

    @pytest.fixture(autouse=True)
    def _imported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "my_tasks", _OWN_TASK["my_tasks"])


# What getting_started.md tells in tables and trees.


def _table(page: str, head: str) -> list[list[str]]:
    """The rows of the table with this first heading, cell by cell."""
    text = (DOCS / page).read_text(encoding="utf-8")
    rows = text.split(f"\n| {head} |", 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


@pytest.mark.parametrize("switches_off", [False, True])
def test_every_flag_of_the_table_is_one(
    switches_off: bool, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = _table("getting_started.md", "Flag, with a value for example")
    flags = [shlex.split(row[0].strip("`")) for row in rows]
    # What is switched off has no arguments: the two cannot be in one command.
    chosen = [flag for flag in flags if ("null" in flag) is switches_off]
    arguments = [word for flag in chosen for word in flag]
    with pytest.raises(SystemExit) as leave:
        command_line(["fit", "--config", "experiments/rooms/jtr.yaml", *arguments, "--print_config"])
    assert leave.value.code == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    for name, value in zip(arguments[::2], arguments[1::2], strict=True):
        found = _found(tree, name[2:].split("."))
        assert yaml.safe_load(value) in (found, yaml.safe_load(str(found))), name


def _found(tree: object, path: list[str]) -> object:
    """The value of a flag in a whole configuration; for a class its name."""
    for part in path:
        assert isinstance(tree, dict)
        tree = tree[part] if part in tree else tree["init_args"][part]
    if not isinstance(tree, dict):
        return tree
    name: str = tree["class_path"]
    return name if name.startswith("torch.") else name.rpartition(".")[2]


def test_the_table_of_metrics_has_them_all() -> None:
    tasks = [Segmentation(2), Depth(), Normals(), DenseRegression(), Classification(2), Regression()]
    rows = _table("getting_started.md", "Task")
    assert [kind.strip("`") for kind, _ in rows] == [type(task).__name__ for task in tasks]
    for task, (_, text) in zip(tasks, rows, strict=True):
        listed = re.findall(r"`(\w+)`", text)
        metrics = task.metrics()
        shape = (1, task.channels, 4, 4) if task.dense else (1, task.channels)
        prediction = task.activate(torch.rand(shape))
        metrics.update(prediction, task.decode(prediction))
        assert listed[0] == task.headline
        assert set(listed) == set(metrics.compute())


def test_a_run_leaves_what_the_tree_says(workplace: Path) -> None:
    small = ["--runs", "runs", "--name", "first", *_TRAINING, *_ROOMS]
    done = command_line(["fit", "--config", "experiments/rooms/jtr.yaml", *small])
    command_line(["predict", "--ckpt_path", str(done.folder / "checkpoints" / "best.ckpt")])
    found = {path.relative_to(done.folder).parts for path in done.folder.rglob("*") if path.is_file()}
    (tree,) = [b.text for b in blocks_of("getting_started.md") if b.text.startswith("runs/first/0/")]
    listed = {tuple(line.split()[0].strip("/").split("/")) for line in tree.splitlines()[1:]}
    assert {parts if parts in listed else parts[:1] for parts in found} == listed


# Notebooks


NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def test_there_are_four_notebooks() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped(path: Path) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["cells"][0]["cell_type"] == "markdown"
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the extra `notebooks` is not installed")
    nbformat = pytest.importorskip("nbformat", reason="the extra `notebooks` is not installed")
    monkeypatch.delenv("MPLBACKEND", raising=False)  # or the figures would not be among the outputs
    beside = workplace / "notebooks"  # of experiments/, as in the repository
    beside.mkdir()
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    nbclient.NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": str(beside)}}).execute()
    outputs = [cell["outputs"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert any(outputs)
