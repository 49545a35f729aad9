"""Every exported file predicts what the module predicts, at sizes that it was not made with, and says what it is."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jtr_lightning.errors import ConfigError
from jtr_lightning.export import FORMATS, Deployed, export_model, load_network
from jtr_lightning.export import exporting as exporting_module
from jtr_lightning.export.formats import SafeTensors, TorchExport
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks import SegNet, SMPNetwork
from jtr_lightning.tasks import Classification, Depth, Normals, Segmentation
from tests.tiny import Agreement, ToyNetwork, tiny_tasks

ONNX = pytest.mark.skipif(
    any(find_spec(package) is None for package in FORMATS["onnx"].packages),
    reason="the export extra is not installed",
)
SIZE = (20, 28)
TASKS = {"segmentation": Segmentation(3), "depth": Depth(), "normals": Normals(), "room": Classification(2)}


class OneSizeNetwork(ToyNetwork):
    """Has weights for every row, so it takes images of 20 rows only."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = torch.nn.Parameter(torch.randn(1, 1, SIZE[0], 1))

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        return super().forward(image + self.rows)


class UnpaddedNetwork(ToyNetwork):
    """Halves the image five times without padding it, as many networks do."""

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        coarse = torch.nn.functional.avg_pool2d(image, 32)
        return super().forward(image + torch.nn.functional.interpolate(coarse, scale_factor=32.0))


class DrawingNetwork(ToyNetwork):
    """Predicts something else every time."""

    def forward(self, image: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        return super().forward(image + torch.rand(()))


def toy_module() -> PartialLabelModule:
    return PartialLabelModule(tiny_tasks(), ToyNetwork(), Agreement()).eval()


def with_statistics(module: PartialLabelModule) -> PartialLabelModule:
    """The module with batch statistics as after a training: fresh ones hide mistakes in their export."""
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module


def run_torch_export(path: Path, image: Tensor) -> dict[str, Tensor]:
    return torch.export.load(path).module()(image)


def run_onnx(path: Path, image: Tensor) -> dict[str, Tensor]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    names = [output.name for output in session.get_outputs()]
    outputs = session.run(None, {"image": image.numpy()})
    return {name: torch.from_numpy(values) for name, values in zip(names, outputs, strict=True)}


def run_safetensors(path: Path, image: Tensor) -> dict[str, Tensor]:
    return load_network(path)(image)


RUN = {"torch.export": run_torch_export, "onnx": run_onnx, "safetensors": run_safetensors}
EACH = pytest.mark.parametrize("kind", ["torch.export", pytest.param("onnx", marks=ONNX), "safetensors"])


def check(module: PartialLabelModule, path: Path, kind: str, shapes) -> None:
    with torch.no_grad():
        for shape in shapes:
            image = torch.rand(shape)
            expected, found = module(image), RUN[kind](path, image)
            assert list(found) == list(expected)
            for name, values in expected.items():
                torch.testing.assert_close(found[name], values, atol=1e-4, rtol=1e-4, msg=f"{name} {shape}")


@EACH
@pytest.mark.filterwarnings("ignore")  # of the exporters themselves
def test_any_batch_and_size_predict_as_the_module(kind: str, tmp_path: Path) -> None:
    module = toy_module()
    path = tmp_path / "new" / f"model{FORMATS[kind].suffix}"
    exported = export_model(module, path, kind, SIZE)
    assert (exported.sizes.batch, exported.sizes.height, exported.sizes.width) == ("any", "any", "any")
    check(module, path, kind, [(1, 3, *SIZE), (4, 3, 17, 45), (2, 3, 64, 32)])
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.json", path.name]
    assert not any("regularizer" in name or "scale" in name for name in _weights(path, kind))


def _weights(path: Path, kind: str) -> list[str]:
    if kind == "torch.export":
        return list(torch.export.load(path).state_dict)
    if kind == "onnx":
        import onnx

        return [tensor.name for tensor in onnx.load(path).graph.initializer]
    return list(load_network(path).state_dict())


@pytest.mark.slow
@EACH
@pytest.mark.parametrize("network", ["smp", "segnet"])
@pytest.mark.filterwarnings("ignore")  # of the exporters themselves
def test_networks_that_pad_inside_take_any_size(kind: str, network: str, tmp_path: Path) -> None:
    layers = SMPNetwork("resnet18") if network == "smp" else SegNet(widths=[4, 8], depths=[1, 1])
    module = with_statistics(PartialLabelModule(TASKS, layers)).eval()
    path = tmp_path / f"model{FORMATS[kind].suffix}"
    exported = export_model(module, path, kind, (64, 64))
    # torch.export binds itself to a deepest feature of more than one pixel.
    above = 0 if kind != "torch.export" else 4 if network == "segnet" else 32
    assert exported.sizes.height == (f"above {above}" if above else "any")
    check(module, path, kind, [(1, 3, 96, 128), (2, 3, 70, 91), (2, 3, above + 1, above + 8)])


def test_the_description_tells_all_that_a_user_needs(tmp_path: Path) -> None:
    module = toy_module()
    module.image_size = (20, 28)
    path = tmp_path / "net.safetensors"
    exported = export_model(module, path, "safetensors")
    found = json.loads((tmp_path / "net.json").read_text(encoding="utf-8"))
    assert exported.description == tmp_path / "net.json"
    assert found["file"] == "net.safetensors"
    assert found["input"]["range"] == [0, 1]
    assert found["input"]["resize"] == [20, 28]
    assert list(found["outputs"]) == list(module.tasks)
    assert found["outputs"]["segmentation"]["classes"] == ["floor", "wall", "chair"]
    assert found["outputs"]["segmentation"]["about"].startswith("Semantic segmentation. Prediction: log-prob")
    assert found["outputs"]["depth"]["unit"] == "m"
    assert found["outputs"]["depth"]["layout"] == "[batch, 1, height, width]"
    assert found["outputs"]["pitch"]["layout"] == "[batch, 1]"
    assert found["checked"]["largest_difference"] == dict.fromkeys(module.tasks, 0.0)
    assert len({tuple(shape[2:]) for shape in found["checked"]["shapes"]}) == 2
    assert {"jtr-lightning", "torch", "safetensors"} <= set(found["made_with"])


def test_the_module_is_left_as_it_was(tmp_path: Path) -> None:
    module = toy_module().double().train()
    export_model(module, tmp_path / "m.safetensors", "safetensors", SIZE)
    assert module.training
    assert {p.dtype for p in module.network.parameters()} == {torch.float64}
    assert {p.dtype for p in load_network(tmp_path / "m.safetensors").parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore")  # of the exporter itself
def test_a_network_of_one_size_is_exported_for_that_size(tmp_path: Path, caplog) -> None:
    module = PartialLabelModule(tiny_tasks(), OneSizeNetwork()).eval()
    exported = export_model(module, tmp_path / "m.pt2", "torch.export", SIZE)
    assert (exported.sizes.batch, exported.sizes.height, exported.sizes.width) == ("any", *SIZE)
    assert json.loads((tmp_path / "m.json").read_text())["why_not_any_size"] == exported.reason != ""
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    check(module, tmp_path / "m.pt2", "torch.export", [(1, 3, *SIZE), (5, 3, *SIZE)])


@pytest.mark.filterwarnings("ignore")  # of the exporter itself
def test_a_network_that_does_not_pad_is_exported_for_multiples(tmp_path: Path) -> None:
    module = PartialLabelModule(tiny_tasks(), UnpaddedNetwork()).eval()
    exported = export_model(module, tmp_path / "m.pt2", "torch.export", SIZE)
    assert (exported.sizes.batch, exported.sizes.height) == ("any", "multiple of 32, at least 64")
    assert json.loads((tmp_path / "m.json").read_text())["sizes"]["width"] == "multiple of 32, at least 64"
    check(module, tmp_path / "m.pt2", "torch.export", [(1, 3, 64, 160), (5, 3, 96, 96)])


@pytest.mark.filterwarnings("ignore")  # of the exporter itself
def test_a_network_that_cannot_be_exported_is_one_sentence(tmp_path: Path) -> None:
    module = PartialLabelModule(tiny_tasks(), DrawingNetwork()).eval()
    message = r"DrawingNetwork should be exportable to torch.export; it is not: .* differs by .* Try another"
    with pytest.raises(ConfigError, match=message):
        export_model(module, tmp_path / "m.pt2", "torch.export", SIZE)
    assert list(tmp_path.iterdir()) == []


@ONNX
@pytest.mark.filterwarnings("ignore")  # of the exporter itself
def test_an_onnx_file_names_its_input_outputs_and_dimensions(tmp_path: Path) -> None:
    import onnx

    export_model(PartialLabelModule(TASKS, ToyNetwork()), tmp_path / "m.onnx", "onnx", SIZE)
    graph = onnx.load(tmp_path / "m.onnx").graph
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    batch, height, width = ("batch", "height", "width") if torch.__version__ >= "2.7" else ("s0", "s1", "s2")
    assert shapes["image"] == [batch, 3, height, width]
    assert shapes["segmentation"] == [batch, 3, height, width]
    assert shapes["room"] == [batch, 2]
    assert list(shapes)[1:] == list(TASKS)


class _Wrong(SafeTensors):
    """Writes other weights than it was given."""

    def write(self, model: Deployed, path: Path, attempt) -> None:
        with torch.no_grad():
            weight = next(model.network.parameters())
            weight.mul_(1.01)
            super().write(model, path, attempt)
            weight.div_(1.01)


class _Nameless(TorchExport):
    """Loses an output."""

    def load(self, path: Path):
        return lambda image: {}


@pytest.mark.parametrize(
    ("fault", "message"),
    [(_Wrong(), r"differs by .* more than the tolerance 0"), (_Nameless(), r"has no output")],
)
@pytest.mark.filterwarnings("ignore")  # of the exporter itself
def test_a_file_that_predicts_something_else_is_not_kept(fault, message: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(FORMATS, "faulty", fault)
    with pytest.raises(ConfigError, match=message):
        export_model(toy_module(), tmp_path / f"m{fault.suffix}", "faulty", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_replaced_only_if_wanted(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"m\.json' exists\. Give another --out, or --overwrite"):
        export_model(toy_module(), tmp_path / "m.safetensors", "safetensors", SIZE)
    assert not (tmp_path / "m.safetensors").exists()
    export_model(toy_module(), tmp_path / "m.safetensors", "safetensors", SIZE, overwrite=True)
    assert json.loads((tmp_path / "m.json").read_text())["file"] == "m.safetensors"


def test_a_missing_package_is_named_with_what_installs_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporting_module, "find_spec", lambda name: None if "onnxs" in name else object())
    with pytest.raises(
        ConfigError, match=r"not installed: onnxscript; run pip install 'jtr-lightning\[export\]'"
    ):
        export_model(toy_module(), tmp_path / "m.onnx", "onnx")


def test_wrong_arguments_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"found 'onx', did you mean 'onnx'"):
        export_model(toy_module(), tmp_path / "m", "onx")
    with pytest.raises(ConfigError, match=r"`size` should be a height and a width in pixels; found \(0, 4\)"):
        export_model(toy_module(), tmp_path / "m.safetensors", "safetensors", size=(0, 4))
    message = (
        r"format 'onnx' should end in \.onnx; found '.*m\.pt'\. Give --out .*/m\.onnx, or another --format"
    )
    with pytest.raises(ConfigError, match=message):
        export_model(toy_module(), tmp_path / "m.pt", "onnx")


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"can be made and written into; found '.*file': File exists\. Give another"
    ):
        export_model(toy_module(), tmp_path / "file" / "m.safetensors", "safetensors")


def test_only_files_of_this_library_are_loaded(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="a safetensors file of another kind"):
        load_network(tmp_path / "other.safetensors")
    for name in ("broken.safetensors", "missing.safetensors"):
        with pytest.raises(ConfigError, match=f"{name}' should be a safetensors file; found"):
            load_network(tmp_path / name)
