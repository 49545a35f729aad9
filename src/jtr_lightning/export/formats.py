"""The kinds of files that a network is exported to: how each is written, and how it is run again."""

from __future__ import annotations

import json
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jtr_lightning._version import __version__
from jtr_lightning.described import rebuild
from jtr_lightning.errors import ConfigError
from jtr_lightning.module import Predictions
from jtr_lightning.networks.base import Network
from jtr_lightning.tasks import Task

INPUT = "image"
METADATA = "jtr_lightning"
"""The key of a safetensors file under which it says how to rebuild the network."""
STEP = 32
"""What height and width are a multiple of where a network cannot be exported for any size: most encoders' stride."""
_PROTOBUF_LIMIT = 1.8e9  # bytes; above 2 GB, ONNX keeps weights in a file of their own


class Deployed(nn.Module):
    """The network and the tasks' activations, all that prediction needs.

    Args:
        network: A built network.
        tasks: Task name to task.
    """

    def __init__(self, network: Network, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.network = network
        self.tasks = dict(tasks)

    def forward(self, image: Tensor) -> Predictions:
        """Predicts as ``PartialLabelModule.forward``: task name to prediction, for RGB ``[B, 3, H, W]`` in [0, 1]."""
        raw, _ = self.network(image)
        return {name: task.activate(raw[name]) for name, task in self.tasks.items()}


@dataclass(frozen=True)
class Sizes:
    """What an exported network takes.

    Attributes:
        batch: ``any``, or how many images at once.
        height: ``any``, ``above 32``, ``multiple of 32, at least 64`` or a number of pixels.
        width: Likewise.
    """

    batch: str | int
    height: str | int
    width: str | int


@dataclass(frozen=True)
class Promise:
    """What is said of a written file once it has been shown.

    Attributes:
        sizes: What the file takes.
        checks: Shapes ``(B, H, W)`` that show it.
    """

    sizes: Sizes
    checks: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Attempt:
    """One way to write a file.

    Attributes:
        dimensions: torch's description of the dimensions that vary, by their position in ``[B, 3, H, W]``.
        example: Shape ``(B, H, W)`` of the image to trace with.
        promises: What may be said of the file, from the most to the least.
    """

    dimensions: dict[int, Any]
    example: tuple[int, int, int]
    promises: tuple[Promise, ...]


class ExportFormat(ABC):
    """A kind of file.

    Attributes:
        suffix: The file's ending.
        packages: What must be installed.
        tolerance: Largest difference from the module's predictions, relative to the largest value of each task's
            prediction (and absolute below 1).
    """

    suffix: str
    packages: tuple[str, ...]
    tolerance: float

    @abstractmethod
    def write(self, model: Deployed, path: Path, attempt: Attempt) -> None:
        """Writes the file."""

    @abstractmethod
    def load(self, path: Path) -> Callable[[Tensor], Predictions]:
        """The written file as a function of an image, run as a user of the file would."""

    def attempts(self, height: int, width: int) -> Sequence[Attempt]:
        """The ways to try, in order; by default any size, multiples of ``STEP``, and the one size."""
        dim = torch.export.Dim
        # torch may take a length of 1, such as that of the deepest feature of a small image, for a constant; and
        # dimensions that are alike for one.
        least = 2 * STEP
        up, along = max(least, _up(height)), max(least, _up(width))
        example = (2, up, along + STEP if up == along else along)
        other = (3, up + STEP + 5, along + 2 * STEP + 3)
        multiple = f"multiple of {STEP}, at least {least}"
        steps = {2: STEP * dim("_height", min=2, max=1024), 3: STEP * dim("_width", min=2, max=1024)}
        multiples = ((1, up, along), (3, up + STEP, along + 2 * STEP))
        one = (1, height, width)
        return (
            Attempt(
                {0: dim.DYNAMIC, 2: dim.DYNAMIC, 3: dim.DYNAMIC},
                example,
                (
                    Promise(Sizes("any", "any", "any"), (one, other, (1, 1, 1))),
                    # torch may have bound itself to a deepest feature of more than one pixel.
                    *(
                        Promise(Sizes("any", f"above {n}", f"above {n}"), ((1, n + 1, n + 1), other))
                        for n in (4, 8, 16, STEP)
                    ),
                ),
            ),
            Attempt(
                {0: dim.DYNAMIC, **steps}, example, (Promise(Sizes("any", multiple, multiple), multiples),)
            ),
            Attempt(
                {0: dim.DYNAMIC},
                (2, height, width),
                (Promise(Sizes("any", height, width), (one, (3, height, width))),),
            ),
            Attempt({}, one, (Promise(Sizes(1, height, width), (one,)),)),
        )


class TorchExport(ExportFormat):
    """A program of torch.export: runs in torch without this library, and is what further compilers take."""

    suffix = ".pt2"
    packages = ()
    # The same kernels; sums may be in another order.
    tolerance = 1e-5

    def write(self, model: Deployed, path: Path, attempt: Attempt) -> None:
        with _silence():
            program = torch.export.export(model, (_example(attempt),), dynamic_shapes=(attempt.dimensions,))
            torch.export.save(program, path)

    def load(self, path: Path) -> Callable[[Tensor], Predictions]:
        with _silence():
            loaded: Callable[[Tensor], Predictions] = torch.export.load(path).module()
        return loaded


class Onnx(ExportFormat):
    """An ONNX model, for onnxruntime and many others; each task is an output of its name."""

    suffix = ".onnx"
    packages = ("onnx", "onnxscript", "onnxruntime")
    # Other kernels, and normalisations folded into convolutions: some hundred roundings of 6e-8.
    tolerance = 1e-4

    def write(self, model: Deployed, path: Path, attempt: Attempt) -> None:
        names = {0: "batch", 2: "height", 3: "width"}
        # A dimension that varies may have a name since torch 2.7; torch 2.6 takes a named one for fixed.
        named = torch.__version__ >= "2.7"
        dynamic = torch.export.Dim.DYNAMIC
        shapes = {k: names[k] if named and v is dynamic else v for k, v in attempt.dimensions.items()}
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        with _silence():
            torch.onnx.export(
                model,
                (_example(attempt),),
                path,
                dynamo=True,
                input_names=[INPUT],
                output_names=list(model.tasks),
                dynamic_shapes=(shapes,),
                external_data=size > _PROTOBUF_LIMIT,
                verbose=False,
            )

    def load(self, path: Path) -> Callable[[Tensor], Predictions]:
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]

        def run(image: Tensor) -> Predictions:
            outputs = session.run(names, {INPUT: image.numpy()})
            return {name: torch.from_numpy(values) for name, values in zip(names, outputs, strict=True)}

        return run


class SafeTensors(ExportFormat):
    """The weights alone, with a plain description of the network; ``load_network`` reads it with this library."""

    suffix = ".safetensors"
    packages = ("safetensors",)  # always there; its version goes into the description
    tolerance = 0.0

    def attempts(self, height: int, width: int) -> Sequence[Attempt]:
        """One: the network is written as it is, with all sizes that it was made for."""
        size = (1, height, width)
        other = (2, height + STEP, width + 2 * STEP)
        return (Attempt({}, size, (Promise(Sizes("any", "any", "any"), (size, other)),)),)

    def write(self, model: Deployed, path: Path, attempt: Attempt) -> None:
        from safetensors.torch import save_file

        description = {
            "network": model.network.describe(),
            "tasks": {name: task.describe() for name, task in model.tasks.items()},
            "version": __version__,
        }
        # Copies: tensors that share memory are refused.
        weights = {k: v.contiguous().clone() for k, v in model.network.state_dict().items()}
        save_file(weights, path, {"format": "pt", METADATA: json.dumps(description)})

    def load(self, path: Path) -> Callable[[Tensor], Predictions]:
        return load_network(path)


FORMATS: dict[str, ExportFormat] = {
    "torch.export": TorchExport(),
    "onnx": Onnx(),
    "safetensors": SafeTensors(),
}
"""Kinds of files by the name that the command line uses."""


def load_network(path: str | Path) -> Deployed:
    """Reads what ``jtr export --format safetensors`` wrote.

    Args:
        path: The file.

    Returns:
        The network with the tasks' activations, in evaluation mode.

    Raises:
        ConfigError: No such file, or not written by this library.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"The file '{path}' should be a safetensors file; found: {error}.") from error
    if METADATA not in metadata:
        raise ConfigError(
            f"The file '{path}' should be written by `jtr export`; found a safetensors file of another kind."
        )
    description = json.loads(metadata[METADATA])
    tasks: dict[str, Task] = rebuild(description["tasks"])
    network: Network = rebuild(description["network"]).build(tasks)
    network.load_state_dict(weights)
    return Deployed(network, tasks).eval()


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps to itself what torch's exporters say: that parts of them are deprecated, and where an attempt failed."""
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _example(attempt: Attempt) -> Tensor:
    batch, height, width = attempt.example
    return torch.rand(batch, 3, height, width)


def _up(length: int) -> int:
    return -(-length // STEP) * STEP
