"""The published recipes train on Rooms that look like their dataset, with the authors' settings."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from jtr_lightning.data.rooms.all_layouts import LAYOUTS
from jtr_lightning.data.rooms.writing import RoomsSpec, make_rooms
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from jtr_lightning.metric_facts import delta
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.networks.segnet_blocks import DEPTHS, WIDTHS
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.scenarios import HalfLabels, OneLabel, RandomLabels, SplitFile
from jtr_lightning.tasks import Depth, Normals, Segmentation
from tests.shell import SMALL_TRAINING, run_commands
from tests.test_docs import blocks_of

REPOSITORY = Path(__file__).parents[1]
EXPERIMENTS = REPOSITORY / "experiments"
PUBLISHED = {
    "nyuv2/jtr_onelabel.yaml": SplitFile,
    "nyuv2/jtr_onelabel_efficient.yaml": SplitFile,
    "nyuv2/jtr_onelabel_extra.yaml": SplitFile,
    "nyuv2/jtr_randomlabels.yaml": SplitFile,
    "cityscapes/jtr_onelabel.yaml": SplitFile,
    "taskonomy/jtr_onelabel.yaml": OneLabel,
    "taskonomy/jtr_randomlabels.yaml": RandomLabels,
    "taskonomy/jtr_halflabels.yaml": HalfLabels,
}
EXTRA = "nyuv2/jtr_onelabel_extra.yaml"
BATCH_SIZE = {"nyuv2": 4, "cityscapes": 16, "taskonomy": 16}
TRAINING_ROOMS = 16
NARROW_NETWORK = ["--model.network.widths=[4,4,4,4,4]", "--model.network.depths=[1,1,1,1,1]"]
NARROW = [
    *NARROW_NETWORK,
    *("--model.regularizer.widths=[4,4,4,4,4]", "--model.regularizer.depths=[1,1,1,1,1]"),
]
SHORT = [
    *("--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"),
    *("--trainer.check_val_every_n_epoch=1", "--trainer.accelerator=cpu", "--data.num_workers=0"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_checkpointing=false"),
]


def published_rows(k: int) -> torch.Tensor:
    """A split in the form of the published files, every task in turn."""
    return torch.eye(k)[torch.arange(TRAINING_ROOMS) % k]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Rooms in the layout of each dataset, small ones."""
    root = tmp_path_factory.mktemp("published")
    layouts = {
        "nyuv2": "nyuv2",
        "nyudepthv2": "nyuv2_h5",
        "cityscapes": "cityscapes_npy",
        "taskonomy": "taskonomy",
    }
    found = {}
    for dataset, name in layouts.items():
        layout = LAYOUTS[name]()
        numbers = {split: 2 if split in layout.splits else 0 for split in ("val", "test")}
        spec = RoomsSpec(TRAINING_ROOMS, **numbers, height=64, width=64)
        found[dataset] = make_rooms(root / dataset, spec, layout, workers=1)
    for dataset, k in (("nyuv2", 3), ("cityscapes", 2)):
        torch.save({"labels_weights": published_rows(k)}, root / f"{dataset}.pth")
    return found


def run(config: str, folders: dict[str, Path], tmp_path: Path, *more: str) -> CommandLine:
    dataset = config.partition("/")[0]
    where = ["--data.root", str(folders[dataset])]
    if PUBLISHED[config] is SplitFile:
        where += ["--data.scenario.path", str(folders[dataset].parent / f"{dataset}.pth")]
    if config == EXTRA:
        where += ["--data.extra_root", str(folders["nyudepthv2"])]
    if config == EXTRA or PUBLISHED[config] is not SplitFile:
        where += ["--data.size=[64,64]"]
    options = [*SHORT, *NARROW, "--runs", str(tmp_path), *more]
    return command_line(["fit", "--config", str(EXPERIMENTS / config), *where, *options])


def content(config: str) -> Any:
    return yaml.safe_load((EXPERIMENTS / config).read_text())


def test_every_published_config_is_tested() -> None:
    found = {
        str(path.relative_to(EXPERIMENTS))
        for dataset in BATCH_SIZE
        for path in (EXPERIMENTS / dataset).glob("jtr_*.yaml")
    }
    assert found == set(PUBLISHED)


@pytest.mark.parametrize("config", PUBLISHED)
def test_it_trains_with_the_settings_of_the_authors(
    config: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    done = run(config, folders, tmp_path)
    assert done.trainer.global_step == 1
    assert all(bool(p.isfinite().all()) for p in done.model.parameters())
    optimizer, scheduler = done.trainer.optimizers[0], done.trainer.lr_scheduler_configs[0].scheduler
    assert type(optimizer) is torch.optim.Adam
    assert all(group["fused"] for group in optimizer.param_groups)
    weights_4d = [p for p in done.model.network.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
    assert weights_4d
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights_4d)
    assert {(group["initial_lr"], group["weight_decay"]) for group in optimizer.param_groups} == {(1e-4, 0)}
    assert type(scheduler) is torch.optim.lr_scheduler.StepLR
    assert (scheduler.step_size, scheduler.gamma) == (200, 0.5)
    assert done.datamodule.batch_size == BATCH_SIZE[config.partition("/")[0]]
    assert type(done.datamodule.scenario) is PUBLISHED[config]
    augmentation, jtr = done.datamodule.augmentation, done.model.regularizer
    assert augmentation is not None
    flip = 0.0 if config.startswith("nyuv2") else 0.5
    for scales, chance in (
        (augmentation.scales, augmentation.flip),
        (jtr.view_maker.scales, jtr.view_maker.flip),
    ):
        assert (scales, chance) == ((1.0, 1.2, 1.5), flip)
    colours = jtr.view_maker.photometric
    assert (augmentation.colour_changes, augmentation.colour_strength) == (2, 5)
    assert (colours.operations, colours.strength) == (2, 5)
    weights = (jtr.distance_weight, jtr.autoencoder_distance_weight, jtr.reconstruction_weight)
    assert weights == (4, 8, 2)
    assert (jtr.views, jtr.cell) == ((1, 2) if "efficient" in config else (3, 1))


@pytest.mark.parametrize("config", PUBLISHED)
def test_network_and_length_are_those_of_the_paper(config: str) -> None:
    given = content(config)
    assert given["trainer"]["max_epochs"] == 400
    model = given["model"]["init_args"]
    assert model["network"] == "SegNet"
    assert not {"widths", "depths", "norm"} & set(model["regularizer"]["init_args"])
    network, jtr = SegNet(), JTR()
    assert (tuple(network.widths), tuple(network.depths)) == (jtr.widths, jtr.depths) == (WIDTHS, DEPTHS)


def test_a_published_split_decides_what_is_labelled(folders: dict[str, Path], tmp_path: Path) -> None:
    done = run("nyuv2/jtr_onelabel.yaml", folders, tmp_path)
    available = torch.from_numpy(done.datamodule.datasets["train"].available)
    assert torch.equal(available.float(), published_rows(3))


@pytest.mark.parametrize(
    ("config", "published", "expected"),
    [
        ("nyuv2/jtr_randomlabels.yaml", {"segmentation": 0.3708, "depth": 0.5541, "normals": 29.44}, 21.92),
        ("cityscapes/jtr_onelabel.yaml", {"segmentation": 0.7233, "depth": 0.0163}, 8.219),
    ],
)
def test_the_published_results_give_the_published_delta(
    config: str, published: dict[str, float], expected: float
) -> None:
    """Units and baselines are those of the paper: its results against our baseline are its delta, as rounded there."""
    tasks = {"segmentation": Segmentation(13), "depth": Depth(), "normals": Normals()}
    baseline = content(config)["model"]["init_args"]["baseline"]["init_args"]["values"]
    assert baseline.keys() == published.keys()
    found = delta(published, baseline, {name: tasks[name].higher_is_better for name in published})
    assert found == pytest.approx(expected, abs=0.05)


def test_the_efficient_config_differs_in_its_preset_alone() -> None:
    efficient, full = content("nyuv2/jtr_onelabel_efficient.yaml"), content("nyuv2/jtr_onelabel.yaml")
    preset = efficient["model"]["init_args"]["regularizer"]["init_args"]
    assert (preset.pop("views"), preset.pop("stack_scale")) == (1, 0.5)
    assert efficient.pop("name") == full.pop("name") + "-efficient"
    assert efficient == full


def test_the_config_with_extra_frames_differs_in_them_alone() -> None:
    extra, alone = content(EXTRA), content("nyuv2/jtr_onelabel.yaml")
    own = {"extra_root", "extra_ratio", "size"}
    assert own == {name for name in extra["data"]["init_args"] if name not in alone["data"]["init_args"]}
    for name in own:
        del extra["data"]["init_args"][name]
    assert extra.pop("name") == alone.pop("name") + "-extra"
    assert extra == alone


def test_extra_frames_bring_depth_alone(folders: dict[str, Path], tmp_path: Path) -> None:
    available = run(EXTRA, folders, tmp_path).datamodule.datasets["train"].available
    assert torch.equal(torch.from_numpy(available[:TRAINING_ROOMS]).float(), published_rows(3))
    assert available[TRAINING_ROOMS:].tolist() == [[False, True, False]] * TRAINING_ROOMS


def test_the_page_names_every_config() -> None:
    page = (REPOSITORY / "docs" / "published.md").read_text()
    missing = [config for config in PUBLISHED if f"experiments/{config}" not in page]
    assert missing == []


@pytest.mark.slow
def test_the_commands_of_the_page_run(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the data below another folder than /data."""
    data = folders["nyuv2"].parent
    for settings, name in (("nyuv2", "onelabel"), ("nyuv2", "randomlabels"), ("cityscapes", "onelabel")):
        (data / f"{settings}_settings").mkdir(exist_ok=True)
        shutil.copy(data / f"{settings}.pth", data / f"{settings}_settings" / f"{name}.pth")
    (split,) = folders["taskonomy"].glob("train_val_test_*.csv")
    (data / "splits").mkdir()
    shutil.copy(split, data / "splits" / "train_val_test_tiny.csv")
    monkeypatch.chdir(tmp_path)
    small = [*SMALL_TRAINING, *NARROW_NETWORK, "--data.size=[64,64]", "--data.batch_size=2"]
    text = "\n".join(block.text for block in blocks_of("published.md"))
    run_commands(text.replace("/data/", f"{data}/"), {"fit": small})
    assert {path.parent.name for path in tmp_path.glob("runs/*/*")} == {
        "nyuv2-jtr-onelabel",
        "nyuv2-jtr-onelabel-extra",
        "nyuv2-jtr-randomlabels",
        "cityscapes-jtr-onelabel",
        "taskonomy-supervised",
        "taskonomy-jtr-onelabel",
    }
