"""Direct and perceptual maps: networks that turn one task's values into another's, rows of the papers' tables.

The papers (MTPSL, JTR) name these rows without publishing their settings. The choices made here, beside the classes'
own, are: a mapping network of its own for every ordered pair of dense tasks; inputs coded as for the joint-task
space; each unlabelled task is taught by the mean over the sample's labelled tasks, so that it weighs about as much as
a labelled task in the supervised loss, however many tasks there are.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from jtr_lightning.batch import Batch
from jtr_lightning.networks.base import zero_path
from jtr_lightning.networks.segnet_blocks import InstanceNorm, SegNetDecoder, SegNetEncoder, SegNetHead
from jtr_lightning.regularizers.base import Regularizer
from jtr_lightning.regularizers.pairs import cosine_distance, stacked_tasks
from jtr_lightning.tasks import Task


class MappingNetwork(nn.Module):
    """Maps the code of one task to the raw output of another.

    Args:
        in_channels: Channels of the source's code.
        out_channels: Channels of the target's raw output.
        widths: Channels of the stages.
        depths: Convolutions of each stage.
    """

    def __init__(
        self, in_channels: int, out_channels: int, widths: Sequence[int], depths: Sequence[int]
    ) -> None:
        super().__init__()
        self.encoder = SegNetEncoder(in_channels, widths, depths, InstanceNorm)
        self.decoder = SegNetDecoder(widths, depths, InstanceNorm)
        self.head = SegNetHead(widths[0], out_channels)

    def forward(self, code: Tensor) -> Tensor:
        """``[R, in_channels, H, W]`` to ``[R, out_channels, H, W]``."""
        latent, pools = self.encoder(code)
        raw: Tensor = self.head(self.decoder(latent, pools))
        return raw


class _MapRegularizer(Regularizer):
    """A mapping network for every ordered pair of tasks, its training, and a term that uses it frozen.

    The networks ``g_{s->t}`` are trained on samples where both tasks are labelled, from label to label. A pair that
    has no such sample in the training set (every pair, in onelabel) is trained jointly from the detached prediction of
    ``s`` to the label of ``t`` instead; where the training set does not tell its labels (loaders of one's own), both
    kinds of samples train it. Both terms are means over samples, and no sample's part depends on another's.

    Args:
        weight: Weight of the term that trains the network.
        map_weight: Weight of the mapping networks' own training.
        widths: Channels of the mapping networks' stages.
        depths: Convolutions of the mapping networks' stages.
        ramp: Share of the training over which ``weight`` rises linearly from 0; 0 for none.

    Raises:
        ConfigError: ``ramp`` outside [0, 1] or, when it is built, fewer than two dense tasks.
    """

    term: str

    def __init__(
        self,
        weight: float = 1.0,
        map_weight: float = 1.0,
        widths: Sequence[int] = (32, 64, 128),
        depths: Sequence[int] = (1, 1, 1),
        ramp: float = 0.0,
    ) -> None:
        super().__init__(ramp)
        self.check_weights(weight=weight, map_weight=map_weight)
        self.weight = weight
        self.map_weight = map_weight
        self.widths = tuple(widths)
        self.depths = tuple(depths)
        self._meeting: frozenset[tuple[str, str]] = frozenset()

    def make_layers(self, tasks: Mapping[str, Task], feature_channels: Sequence[int]) -> None:
        self.paired = stacked_tasks(tasks, type(self).__name__)
        self.maps = nn.ModuleDict(
            {
                f"{source}__to__{target}": MappingNetwork(
                    self.paired[source].joint_channels, self.paired[target].channels, self.widths, self.depths
                )
                for source, target in permutations(self.paired, 2)
            }
        )

    def start_training(self, available: Tensor) -> None:
        columns = dict(zip(self.tasks, available.T, strict=True))
        self._meeting = frozenset(
            pair for pair in permutations(self.paired, 2) if bool((columns[pair[0]] & columns[pair[1]]).any())
        )

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        prediction, batch = predictions[0], batches[0]
        on_host = dict(zip(batch.tasks, batch.labelled_on_host().T, strict=True))
        teachers = torch.stack([batch.labelled(name) for name in self.paired]).sum(0)
        to_model: list[Tensor] = []
        to_maps: list[Tensor] = []
        for source, target in permutations(self.paired, 2):
            task, label = self.paired[source], batch.labels[target]
            codes: list[Tensor] = []
            labels: list[Tensor] = []
            rows = _rows(~on_host[source] & on_host[target], batch)
            if len(rows):
                guess = task.encode_prediction(prediction[source][rows])
                distance = self.distance(source, target, guess, label[rows])
                to_model.append((distance / teachers[rows]).sum())
                if (source, target) not in self._meeting:
                    codes.append(guess.detach())
                    labels.append(label[rows])
            rows = _rows(on_host[source] & on_host[target], batch)
            if len(rows):
                codes.append(task.encode_target(batch.labels[source][rows]).to(batch.image.dtype))
                labels.append(label[rows])
            if codes:
                mapped = self.map(source, target, torch.cat(codes), frozen=False)
                to_maps.append(self.paired[target].loss(mapped, torch.cat(labels)).sum())
        path = zero_path([self.maps])
        weight = self.weight * self.ramp_factor(progress)
        return {
            self.term: weight * sum(to_model, start=path) / len(batch),
            f"{self.term}_training": self.map_weight * sum(to_maps, start=path) / len(batch),
        }

    @abstractmethod
    def distance(self, source: str, target: str, code: Tensor, label: Tensor) -> Tensor:
        """How far a coded prediction of one task is from the label of another.

        Args:
            source: Name of the unlabelled task.
            target: Name of the labelled task.
            code: Coded prediction of the source ``[R, C, H, W]``.
            label: Label of the target ``[R, ...]``.

        Returns:
            ``[R]``; no gradient for the mapping networks.
        """

    def map(self, source: str, target: str, code: Tensor, *, frozen: bool) -> Tensor:
        """Maps codes of one task to predictions of another.

        Args:
            source: Name of the task that the code is of.
            target: Name of the task to predict.
            code: ``[R, C, H, W]``.
            frozen: Whether the mapping network's parameters take no gradient.

        Returns:
            Prediction ``[R, channels, H, W]``.
        """
        network = self.maps[f"{source}__to__{target}"]
        raw = functional_call(network, frozen_parameters(network), (code,)) if frozen else network(code)
        return self.paired[target].activate(raw)


class DirectMap(_MapRegularizer):
    """``l_t(g_{s->t}(yhat_s), y_t)`` for every unlabelled ``s`` and labelled ``t``, with the target's supervised loss.

    Args:
        weight: Weight of the term that trains the network.
        map_weight: Weight of the mapping networks' own training.
        widths: Channels of the mapping networks' stages.
        depths: Convolutions of the mapping networks' stages.
        ramp: Share of the training over which ``weight`` rises linearly from 0; 0 for none.

    Raises:
        ConfigError: ``ramp`` outside [0, 1] or, when it is built, fewer than two dense tasks.
    """

    term = "direct_map"

    def distance(self, source: str, target: str, code: Tensor, label: Tensor) -> Tensor:
        return self.paired[target].loss(self.map(source, target, code, frozen=True), label)


class PerceptualMap(_MapRegularizer):
    """``d(e(g_{s->t}(yhat_s)), e(y_t))`` for every unlabelled ``s`` and labelled ``t``.

    ``e`` is the encoder of the mapping network back, ``g_{t->s}``, and ``d`` the cosine distance over channels,
    averaged over positions: what matters is the features that the mapped prediction and the label have, rather than
    their pixels. All mapping networks are frozen in this term. Where the label is invalid, both are blank.

    Args:
        weight: Weight of the term that trains the network.
        map_weight: Weight of the mapping networks' own training.
        widths: Channels of the mapping networks' stages.
        depths: Convolutions of the mapping networks' stages.
        ramp: Share of the training over which ``weight`` rises linearly from 0; 0 for none.

    Raises:
        ConfigError: ``ramp`` outside [0, 1] or, when it is built, fewer than two dense tasks.
    """

    term = "perceptual_map"

    def distance(self, source: str, target: str, code: Tensor, label: Tensor) -> Tensor:
        task = self.paired[target]
        valid = task.valid(label)
        mapped = task.encode_prediction(self.map(source, target, code, frozen=True))
        known = torch.where(valid, task.encode_target(label).to(mapped.dtype), 0.0)
        stacked = torch.cat([torch.where(valid, mapped, 0.0), known])
        encoder: nn.Module = self.maps[f"{target}__to__{source}"].encoder  # type: ignore[assignment]
        latent, _ = functional_call(encoder, frozen_parameters(encoder), (stacked,))
        # Two blanks have no direction that could be compared.
        return torch.where(valid.flatten(1).any(1), cosine_distance(*latent.chunk(2)), 0.0)


def frozen_parameters(module: nn.Module) -> dict[str, Tensor]:
    """The module's parameters, taking no gradient; for ``torch.func.functional_call``."""
    return {name: parameter.detach() for name, parameter in module.named_parameters()}


def _rows(chosen: Tensor, batch: Batch) -> Tensor:
    """Numbers of the chosen samples on the batch's device; chosen in host memory, so that nothing waits."""
    return chosen.nonzero().flatten().to(batch.image.device, non_blocking=True)
