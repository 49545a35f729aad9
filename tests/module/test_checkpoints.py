"""What a checkpoint of PartialLabelModule brings back, and for which module it is refused."""

from pathlib import Path

import pytest
import torch

from jtr_lightning.balancing import FixedWeights
from jtr_lightning.checkpoint import read_checkpoint
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks import SMPNetwork
from jtr_lightning.tasks import DenseRegression, Depth
from tests.module.parts import data, model, trainer
from tests.tiny import Agreement, ToyNetwork, tiny_tasks


@pytest.fixture
def checkpoint(tmp_path: Path) -> tuple[str, PartialLabelModule]:
    module = model(regularizer=Agreement(0.5), balancing=FixedWeights({"depth": 2.0}))
    fitting = trainer(tmp_path)
    fitting.fit(module, data())
    fitting.save_checkpoint(tmp_path / "my.ckpt")
    return str(tmp_path / "my.ckpt"), module


def test_a_module_comes_back_from_its_checkpoint_alone(checkpoint: tuple[str, PartialLabelModule]) -> None:
    path, module = checkpoint
    loaded = PartialLabelModule.load_from_checkpoint(path)
    assert not loaded.training
    assert loaded.describe() == module.describe()
    assert loaded.state_dict().keys() == module.state_dict().keys()
    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    image = torch.rand(2, 3, 8, 10)
    for name, prediction in module.eval()(image).items():
        assert torch.equal(loaded(image)[name], prediction)


def test_a_checkpoint_may_be_loaded_in_inference_mode_and_trained_then(
    checkpoint: tuple[str, PartialLabelModule], tmp_path: Path
) -> None:
    module = PartialLabelModule(tiny_tasks(), SMPNetwork("resnet18"))
    fitting = trainer(tmp_path / "smp", max_epochs=0)
    fitting.fit(module, data())
    fitting.save_checkpoint(tmp_path / "smp.ckpt")
    for path in (checkpoint[0], tmp_path / "smp.ckpt"):
        with torch.inference_mode():
            loaded = PartialLabelModule.load_from_checkpoint(path)
        raw, _ = loaded.network(torch.rand(2, 3, 32, 32))
        torch.stack([values.sum() for values in raw.values()]).sum().backward()
        assert any(p.grad is not None for p in loaded.network.parameters())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_weights_are_put_where_they_are_wanted(checkpoint: tuple[str, PartialLabelModule]) -> None:
    loaded = PartialLabelModule.load_from_checkpoint(checkpoint[0], map_location="cuda")
    assert {p.device.type for p in loaded.parameters()} == {"cuda"}


def test_parts_can_be_replaced_while_loading(checkpoint: tuple[str, PartialLabelModule]) -> None:
    loaded = PartialLabelModule.load_from_checkpoint(checkpoint[0], regularizer=None, strict=False)
    assert loaded.regularizer is None
    with pytest.raises(ConfigError, match=r"regularizer\.scale"):
        PartialLabelModule.load_from_checkpoint(checkpoint[0], regularizer=None)


def test_a_subclass_refuses_the_checkpoint_of_another_class(
    checkpoint: tuple[str, PartialLabelModule],
) -> None:
    class Mine(PartialLabelModule):
        pass

    with pytest.raises(ConfigError, match="should hold a Mine; found a PartialLabelModule"):
        Mine.load_from_checkpoint(checkpoint[0])


def test_the_trainer_refuses_other_tasks_and_other_networks(
    checkpoint: tuple[str, PartialLabelModule], tmp_path: Path
) -> None:
    path, _ = checkpoint
    two = ["depth", "normals"]
    fewer = PartialLabelModule({name: tiny_tasks()[name] for name in two}, ToyNetwork(), Agreement())
    with pytest.raises(ConfigError, match="should be of the same tasks as the model"):
        trainer(tmp_path).test(fewer, data(tasks=two), ckpt_path=path, weights_only=True)
    wider = PartialLabelModule(tiny_tasks(), ToyNetwork(9), Agreement())
    with pytest.raises(ConfigError, match=r"'network.encoder.weight' it has \[8, 3, 3, 3\], the model \[9"):
        trainer(tmp_path).test(wider, data(), ckpt_path=path, weights_only=True)
    with pytest.raises(ConfigError, match=r"'regularizer.scale' it has \[\], the model no such weight"):
        trainer(tmp_path).test(model(), data(), ckpt_path=path, weights_only=True)


def test_the_trainer_refuses_a_task_of_another_kind_or_with_other_arguments(
    checkpoint: tuple[str, PartialLabelModule], tmp_path: Path
) -> None:
    path, _ = checkpoint
    for edges, told in {
        Depth(): "its 'edges' is DenseRegression, the model's Depth",
        DenseRegression(
            high=2.0
        ): r"its 'edges' is DenseRegression\(high=1.0\), the model's DenseRegression\(high=2.0\)",
    }.items():
        other = PartialLabelModule({**tiny_tasks(), "edges": edges}, ToyNetwork(), Agreement())
        with pytest.raises(ConfigError, match=told):
            trainer(tmp_path).test(other, data(), ckpt_path=path, weights_only=True)
    spelled_out = {**tiny_tasks(), "edges": DenseRegression(1, 0.0, 1.0, signed_channels=[])}
    same = PartialLabelModule(spelled_out, ToyNetwork(), Agreement())
    assert trainer(tmp_path).test(same, data(), ckpt_path=path, weights_only=True, verbose=False)


def test_the_order_of_the_tasks_matters_to_a_training_that_goes_on_and_to_nothing_else(
    checkpoint: tuple[str, PartialLabelModule], tmp_path: Path
) -> None:
    path, _ = checkpoint
    names = list(tiny_tasks())[::-1]

    def reversed_model() -> PartialLabelModule:
        return PartialLabelModule({n: tiny_tasks()[n] for n in names}, ToyNetwork(), Agreement())

    with pytest.raises(
        ConfigError, match=r"in the order of the checkpoint, \['segmentation'.*found \['pitch'"
    ):
        trainer(tmp_path / "on", max_epochs=2).fit(
            reversed_model(), data(tasks=names), ckpt_path=path, weights_only=True
        )
    tested = [
        trainer(tmp_path).test(module, data(tasks=order), ckpt_path=path, weights_only=True, verbose=False)[0]
        for module, order in ((model(regularizer=Agreement()), names[::-1]), (reversed_model(), names))
    ]
    assert tested[0] == pytest.approx(tested[1], rel=1e-6)


def test_objects_in_a_file_are_never_unpickled(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "object": model()}, tmp_path / "objects.ckpt")
    with pytest.raises(ConfigError, match="never unpickled"):
        read_checkpoint(tmp_path / "objects.ckpt")
