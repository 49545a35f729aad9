from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.networks.single_task import SingleTask
from jtr_lightning.networks.smp import SMPNetwork
from jtr_lightning.tasks import Depth, Normals
from tests.regularizers.helpers import four_tasks, random_batch
from tests.toy import ToyNetwork, toy_tasks

# Nobody is labelled for the last task.
LABELLED = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0], [1, 0, 1, 0]]).bool()


def test_no_task_reaches_anothers_network() -> None:
    network = SingleTask(ToyNetwork(4)).build(toy_tasks())
    raw, features = network(torch.rand(2, 3, 16, 20))
    raw["depth"].sum().backward()
    reached = {
        name.split(".")[1]
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.any()
    }
    assert reached == {"depth"}
    assert [f.shape[1] for f in features] == network.feature_channels


def test_the_prototype_itself_is_not_trained() -> None:
    network = SingleTask(ToyNetwork(4)).build(toy_tasks())
    one = sum(p.numel() for p in ToyNetwork(4).parameters())
    heads = sum(4 * t.channels + t.channels for t in toy_tasks().values())
    assert sum(p.numel() for p in network.parameters()) == 4 * one + heads


def test_it_is_described_with_the_network_it_repeats() -> None:
    described = SingleTask(ToyNetwork(4)).describe()
    assert described["init_args"]["network"]["init_args"] == {"width": 4}


def single_task_module(**settings: bool) -> PartialLabelModule:
    torch.manual_seed(0)
    network = SingleTask(SegNet(widths=(4, 6), depths=(1, 1)))  # with BatchNorm
    module = PartialLabelModule(four_tasks(), network, **settings)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    return module


def step(module: PartialLabelModule, batch: Batch) -> Tensor:
    loss = module.training_step(batch, 0)
    module.backward(loss)
    return loss.detach()


def test_each_network_is_trained_as_by_itself_on_its_labelled_samples() -> None:
    """Loss, gradients and running statistics are those of each network run on these samples alone."""
    module, batch = single_task_module(), random_batch(four_tasks(), LABELLED)
    alone = copy.deepcopy(module.network.networks)
    expected = torch.zeros(())
    for k, (name, task) in enumerate(module.tasks.items()):
        rows = LABELLED[:, k].nonzero().flatten()
        if len(rows):
            raw = alone[name](batch.image[rows])[0][name]
            losses = task.loss(task.activate(raw), batch.labels[name][rows])
            expected = expected + losses.sum() / len(batch)
    expected.backward()
    torch.testing.assert_close(step(module, batch), expected.detach())
    for name in ("segmentation", "depth", "normals"):
        pairs = zip(module.network.networks[name].parameters(), alone[name].parameters(), strict=True)
        assert all(torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-7) for one, other in pairs)
        for key, buffer in alone[name].named_buffers():
            torch.testing.assert_close(module.network.networks[name].get_buffer(key), buffer)


def test_images_without_the_label_do_not_matter_to_a_network() -> None:
    module, batch = single_task_module(), random_batch(four_tasks(), LABELLED)
    other = copy.deepcopy(module)
    step(module, batch)
    batch.image[~LABELLED[:, 1]] = torch.rand(3, 3, *batch.size)
    step(other, batch)
    found, expected = other.network.networks["depth"], module.network.networks["depth"]
    for one, two in zip(found.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)
    assert all(torch.equal(one, two) for one, two in zip(found.buffers(), expected.buffers(), strict=True))


def test_a_task_without_a_label_in_the_step_has_a_gradient_of_zeros() -> None:
    """Not none: DDP would take its parameters for unused."""
    module = single_task_module()
    step(module, random_batch(four_tasks(), LABELLED))
    gradients = [p.grad for p in module.network.networks["edges"].parameters()]
    assert all(g is not None and not g.any() for g in gradients)
    assert int(next(iter(module.network.networks["edges"].buffers())).count_nonzero()) == 0


def test_all_samples_are_predicted_where_nothing_is_trained() -> None:
    module = single_task_module().eval()
    image = torch.rand(3, 3, 16, 12)
    found = module(image)
    for name, network in module.network.networks.items():
        torch.testing.assert_close(found[name], module.tasks[name].activate(network(image)[0][name]))


def test_compilation_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compile_module(module, backend="eager"))
    batch = random_batch(four_tasks(), LABELLED)
    compiled = single_task_module(compile=True)
    assert all(n._compiled_call_impl is not None for n in compiled.network.networks.values())
    torch.testing.assert_close(step(compiled, batch), step(single_task_module(), batch))


def test_normalisation_over_devices_is_refused() -> None:
    module = single_task_module()
    module.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(module.network)
    with pytest.raises(ConfigError, match="Leave out --trainer"):
        step(module, random_batch(four_tasks(), LABELLED))


def test_one_label_that_is_too_few_for_batch_norm_is_told_by_its_task() -> None:
    tasks = {"depth": Depth(), "normals": Normals()}
    module = PartialLabelModule(tasks, SingleTask(SMPNetwork("resnet18", decoder="unet")))
    available = torch.tensor([[1, 0], [0, 1], [0, 1], [0, 1]], dtype=torch.bool)
    batch = random_batch(tasks, available, size=(32, 32))
    with pytest.raises(
        ConfigError, match=r"'depth' has 1 of 4 labels in this batch.*choose a decoder that pools no"
    ):
        step(module, batch)
