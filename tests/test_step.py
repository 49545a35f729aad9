"""One training step: what it waits for, and what memory order and compilation change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.callbacks.progress import LossBar
from jtr_lightning.data.dataset import collate
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.networks.segnet import SegNet
from jtr_lightning.networks.single_task import SingleTask
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.consistency import ConsistencyRegularization
from jtr_lightning.regularizers.mapping import DirectMap, PerceptualMap
from jtr_lightning.regularizers.mtpsl import MTPSL
from jtr_lightning.regularizers.photometric import Change
from jtr_lightning.regularizers.views import ViewMaker
from tests.host_reads import HostReads
from tests.regularizers.helpers import random_batch
from tests.steps import ONE_LABEL, SMALL, small_batch, small_jtr, small_module, step
from tests.toy import ToyDataModule, ToyNetwork

REGULARIZERS: dict[str, Callable[[], Regularizer | None]] = {
    "supervised": lambda: None,
    "jtr": lambda: small_jtr(view_maker=ViewMaker(flip=0.5)),
    "jtr_efficient": lambda: small_jtr(views=1, stack_scale=0.5),
    "consistency": ConsistencyRegularization,
    "mtpsl": lambda: MTPSL(**SMALL),
    "direct_map": lambda: DirectMap(**SMALL),
    "perceptual_map": lambda: PerceptualMap(**SMALL),
}

# Float32 sums in another order: relative to the largest gradient of all, since some layers' gradients (a bias before a
# normalisation) are nothing but rounding.
TOLERANCE = 1e-4


def assert_same(found: tuple[Tensor, dict[str, Tensor]], expected: tuple[Tensor, dict[str, Tensor]]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=0)
    assert found[1].keys() == expected[1].keys()
    largest = max(float(gradient.abs().max()) for gradient in expected[1].values())
    for name, gradient in expected[1].items():
        assert float((found[1][name] - gradient).abs().max()) <= TOLERANCE * largest, name


# Waiting for the device


# Which samples and pairs these compute is decided in host memory, where nothing has to be waited for.
DECIDED_ON_HOST = {"mtpsl": 1, "direct_map": 24, "perceptual_map": 24, "single_task": 4}


def module_to_watch(name: str, **settings: Any) -> PartialLabelModule:
    if name == "single_task":
        return small_module(None, network=SingleTask(SegNet(**SMALL)), **settings)
    return small_module(REGULARIZERS[name](), **settings)


@pytest.mark.parametrize("name", [*REGULARIZERS, "single_task"])
def test_no_value_is_read_by_the_host(name: str) -> None:
    module, batch = module_to_watch(name), small_batch()
    batch.available_on_host = batch.available  # as a batch has it that was moved to a device
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    with HostReads() as host:
        module.backward(module.training_step(batch, 0))
        optimizer.step()
    assert host.seen > 300
    assert host.found == ["nonzero"] * DECIDED_ON_HOST.get(name, 0)


class Batches:
    """A loader of the same batch again and again, which reads no values of its own."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[Batch]:
        return repeat(small_batch(), self.number)


class CountedReads(L.Callback):
    """Notes what had been read when each step ended and its metrics were taken in."""

    def __init__(self, host: HostReads) -> None:
        self.host = host
        self.after: list[int] = []

    def on_train_batch_start(self, trainer: L.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        self.after.append(len(self.host.found))


@pytest.mark.parametrize("name", [*REGULARIZERS, "single_task"])
def test_a_trainer_reads_nothing_but_what_is_shown_and_logged(name: str, tmp_path: Path) -> None:
    """Logger and bar both take every fourth step: in the others nothing is read, neither by us nor by Lightning."""
    adam = partial(torch.optim.Adam, fused=True)
    module = module_to_watch(name, optimizer=adam)
    del module.log  # Lightning's own again
    host = HostReads()
    counted = CountedReads(host)
    bar = LossBar()
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=4,
        logger=CSVLogger(tmp_path),
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[counted, bar],
    )
    with host:
        trainer.fit(module, Batches(10), Batches(1))
    assert len(counted.after) == 10
    reads = [host.found[one:other] for one, other in pairwise(counted.after)]
    # Behind the step the next batch is moved, of which the host keeps what is labelled.
    on_host = [*["nonzero"] * DECIDED_ON_HOST.get(name, 0), "cpu"]
    quiet, shown = [found for step, found in enumerate(reads) if step % 4 != 3], [reads[3], reads[7]]
    assert quiet == [on_host] * 7
    assert all(len(found) > len(on_host) for found in shown)
    assert bar._loss is not None


READS: dict[str, Callable[[Tensor], Any]] = {
    "float": lambda values: float(values.sum()),
    "item": lambda values: values[0].item(),
    "bool": lambda values: bool(values[0] > 2),
    "by mask": lambda values: values[values > 0.5],
    "nonzero": lambda values: values.nonzero(),
    "tolist": lambda values: values.tolist(),
    "cpu": lambda values: values.cpu(),
    "numpy": lambda values: values.numpy(),
    "array": lambda values: np.asarray(values),
    "str": str,
    "format": lambda values: f"{values[0]:.2f}",
}


@pytest.mark.parametrize("read", READS)
def test_a_read_would_be_found(read: str) -> None:
    values = torch.rand(4)
    with HostReads() as host:
        values * 2
        assert host.found == []
        READS[read](values)
    assert host.found
    READS[read](values)  # none is left to watch
    assert torch.overrides._len_torch_function_stack() == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [*REGULARIZERS, "single_task"])
def test_a_step_on_the_gpu_never_waits(name: str) -> None:
    module, batch = module_to_watch(name).cuda(), small_batch().to("cuda")
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    module.backward(module.training_step(batch, 0))  # libraries wait when they are first used
    optimizer.step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        module.backward(module.training_step(batch, 0))
        optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(bool(p.isfinite().all()) for p in module.parameters())


# Memory order and compilation


@pytest.mark.parametrize("name", ["supervised", "jtr", "jtr_efficient"])
def test_channels_last_changes_nothing_but_the_order_in_memory(name: str) -> None:
    plain = small_module(REGULARIZERS[name]())
    ordered = small_module(REGULARIZERS[name](), channels_last=True)
    weights = [p for p in ordered.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[-1] > 1]
    assert weights
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in weights)
    assert not any(p.is_contiguous() for p in weights)
    batch = small_batch()
    assert_same(step(ordered, batch), step(plain, batch))


# torch's own look at every tensor, which it means to hide from warnings but cannot where they are errors.
TRACED = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


def compile_with(backend: str | Callable[..., object], monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Lets modules be compiled by this backend, and notes which."""
    compiled: list[nn.Module] = []
    compile_module = nn.Module.compile

    def record(module: nn.Module) -> None:
        compiled.append(module)
        compile_module(module, backend=backend)

    monkeypatch.setattr(nn.Module, "compile", record)
    return compiled


@TRACED
@pytest.mark.parametrize(
    "backend",
    # aot_eager: traced as for the real one, forward and backward, but run by the usual kernels.
    ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)],
)
def test_compilation_changes_nothing(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = small_batch()
    expected = step(small_module(small_jtr()), batch)
    compiled = compile_with(backend, monkeypatch)
    module = small_module(small_jtr(), compile=True)
    assert compiled == [
        module.network,
        module.regularizer.autoencoder,
        module.regularizer.autoencoder.encoder,
        module.regularizer.view_maker.photometric.change,
    ]
    assert_same(step(module, batch), expected)


@TRACED
def test_every_pass_of_a_step_is_compiled_for_its_own_number_of_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network sees views 0 and 1 together and view 2 by itself: two sizes, neither of which changes."""
    torch.compiler.reset()
    graphs: list[bool] = []

    def note(graph: torch.fx.GraphModule, inputs: Sequence[object]) -> Callable[..., object]:
        # An old compiler has further graphs, of what comes after the network's layers.
        if any("conv" in str(node.target) for node in graph.graph.nodes):
            graphs.append(any(isinstance(value, torch.SymInt) for value in inputs))
        return graph.forward

    compile_with(note, monkeypatch)
    module = small_module(small_jtr(), compile=True)
    for _ in range(2):
        module.training_step(small_batch(), 0)
    torch.compiler.reset()
    assert len(graphs) >= 2
    assert not any(graphs)


@TRACED
def test_images_of_many_sizes_do_not_make_a_graph_each(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    graphs: list[torch.fx.GraphModule] = []

    def note(graph: torch.fx.GraphModule, inputs: Sequence[object]) -> Callable[..., object]:
        if any("conv" in str(node.target) for node in graph.graph.nodes):
            graphs.append(graph)
        return graph.forward

    compile_with(note, monkeypatch)
    module = small_module(None, compile=True)
    for height in range(24, 48, 4):
        batch = random_batch(module.tasks, ONE_LABEL, (height, 20), 0.1)
        module.run_views(batch, ())
    torch.compiler.reset()
    assert 1 <= len(graphs) <= 3


@pytest.mark.parametrize("name", ["jtr", "consistency", "mtpsl"])
def test_the_colours_of_views_are_compiled(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compile_with("eager", monkeypatch)
    small_module(REGULARIZERS[name](), compile=True)
    assert any(isinstance(part, Change) for part in compiled)


@pytest.mark.slow
def test_a_compiled_network_takes_batches_and_images_of_other_sizes() -> None:
    network = small_module(None).network.train()
    images = [torch.rand(*size) for size in ((3, 3, 24, 20), (2, 3, 24, 20), (2, 3, 33, 40))]
    with torch.no_grad():
        expected = [network(image) for image in images]
        network.compile()
        for image, prediction in zip(images, expected, strict=True):
            torch.testing.assert_close(network(image), prediction, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_is_the_same_with_and_without_the_flags(tmp_path: Path) -> None:
    data = ToyDataModule(4, tasks=["segmentation", "depth"], batch_size=2)
    jtr = small_jtr()
    flagged = PartialLabelModule(data.tasks, ToyNetwork(), jtr, compile=True, channels_last=True)
    plain = PartialLabelModule(data.tasks, ToyNetwork(), small_jtr())
    assert list(flagged.state_dict()) == list(plain.state_dict())
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(accelerator="cpu", max_epochs=0, num_sanity_val_steps=0, **quiet)
    trainer.fit(flagged, data)
    path = tmp_path / "flagged.ckpt"
    trainer.save_checkpoint(path)
    loaded = PartialLabelModule.load_from_checkpoint(path)
    for name, value in flagged.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
    image = torch.rand(1, 3, 16, 20)
    assert loaded(image)["depth"].shape == (1, 1, 16, 20)
    assert "compile" not in loaded.describe()["init_args"]


def test_fused_adam_is_adam() -> None:
    """On a network without a normalisation: a bias before one has rounding for a gradient, which Adam enlarges."""
    data = ToyDataModule(4, tasks=["segmentation", "depth"])
    data.setup("fit")
    batch = collate([data.datasets["train"][i] for i in range(4)])
    ends = []
    for fused in (False, True):
        torch.manual_seed(0)
        module = PartialLabelModule(data.tasks, ToyNetwork(), None)
        module.log = lambda *_, **__: None  # type: ignore[method-assign]
        before = torch.cat([p.detach().flatten().clone() for p in module.parameters()])
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, fused=fused)
        for _ in range(3):
            step(module, batch)
            optimizer.step()
        ends.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
        assert float((ends[-1] - before).abs().max()) > 1e-3
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)
