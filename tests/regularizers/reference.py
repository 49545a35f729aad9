"""JTR the slow way, sample by sample from the equations: what the batched version must equal, and outpace."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.base import View
from jtr_lightning.regularizers.jtr import JTR
from jtr_lightning.tasks import DenseRegression, Depth, Normals, Segmentation, Task, dense


class LoopJTR(JTR):
    """Joint-Task Regularization as a loop over samples, with a deep copy of the auto-encoder for each.

    BatchNorm in training mode on one sample stands where the batched version has InstanceNorm. All three views are
    recorded for the backward pass. ``stack_scale`` is not supported.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "norm": "batch"})

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        return tuple(View(view.batch, grad=True) for view in super().sample_views(batch))

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        first, second = min(1, self.views - 1), self.views - 1
        ramp = min(1.0, progress / self.ramp) if self.ramp else 1.0
        terms = [
            self.sample_terms(
                self._sample(predictions[first], batches[first], b),
                self._sample(predictions[second], batches[second], b),
            )
            for b in range(len(batches[0]))
        ]
        distance, autoencoder_distance, reconstruction = (
            torch.stack(t).mean() for t in zip(*terms, strict=True)
        )
        return {
            "jtr/distance": self.distance_weight * ramp * distance,
            "jtr/autoencoder_distance": self.autoencoder_distance_weight * autoencoder_distance,
            "jtr/reconstruction": self.reconstruction_weight * reconstruction,
        }

    def _sample(self, predictions: Mapping[str, Tensor], batch: Batch, b: int) -> Sample:
        return Sample(
            self.stack_tasks,
            {name: predictions[name][b : b + 1] for name in self.stack_tasks},
            {
                name: batch.labels[name][b : b + 1]
                for name in self.stack_tasks
                if bool(batch.available[b, batch.tasks.index(name)])
            },
        )

    def sample_terms(self, one: Sample, two: Sample) -> tuple[Tensor, Tensor, Tensor]:
        """The three terms of one sample, without their weights."""
        frozen = copy.deepcopy(self.autoencoder)
        distance = _distance(frozen.encoder(one.target())[0], frozen.encoder(one.prediction(hard=True))[0])

        target, prediction = two.target().detach(), two.prediction(hard=False).detach()
        latent_target, output_target = self.autoencoder(target)
        latent_prediction, output_prediction = self.autoencoder(prediction)
        autoencoder_distance = _distance(latent_target, latent_prediction)
        reconstruction = two.reconstruction_loss(output_target, target) + two.reconstruction_loss(
            output_prediction, prediction
        )
        return distance * bool(one.mask.any()), autoencoder_distance * bool(two.mask.any()), reconstruction


class Sample:
    """One sample's predictions and labels of the tasks in the stack, all with a leading dimension of 1."""

    def __init__(
        self, tasks: Mapping[str, Task], predictions: Mapping[str, Tensor], labels: Mapping[str, Tensor]
    ) -> None:
        self.tasks = tasks
        self.labels = labels
        self.predictions = {n: p.detach() if n in labels else p for n, p in predictions.items()}
        like = next(iter(predictions.values()))
        self.mask = torch.ones_like(like[:, :1], dtype=torch.bool)
        for name, label in labels.items():
            self.mask = self.mask & _validity(tasks[name], label)

    def target(self) -> Tensor:
        """``Y``."""
        return torch.cat([self._target(name) for name in self.tasks], 1)

    def prediction(self, *, hard: bool) -> Tensor:
        """``Yhat``."""
        return torch.cat([self._prediction(name, hard) for name in self.tasks], 1)

    def _target(self, name: str) -> Tensor:
        if name not in self.labels:
            return self._prediction(name, hard=True)
        task, label = self.tasks[name], self.labels[name]
        if isinstance(task, Segmentation):
            one_hot = F.one_hot(label.clamp(min=0), task.channels).movedim(-1, 1)
            return (one_hot * self.mask).to(next(iter(self.predictions.values())).dtype)
        return _code(task, torch.where(self.mask, label, torch.zeros_like(label)))

    def _prediction(self, name: str, hard: bool) -> Tensor:
        task, prediction = self.tasks[name], self.predictions[name]
        if not isinstance(task, Segmentation):
            return _code(task, prediction * self.mask)
        if not hard:
            return prediction.softmax(1) * self.mask
        soft = (prediction + dense.gumbel_noise(prediction)).softmax(1)
        drawn = F.one_hot(soft.argmax(1), task.channels).movedim(-1, 1)
        return (drawn - soft.detach() + soft) * self.mask

    def reconstruction_loss(self, output: Tensor, stack: Tensor) -> Tensor:
        """``R``: for each task a sum over valid pixels divided by their number."""
        total = output.new_zeros(())
        start = 0
        for task in self.tasks.values():
            channels = slice(start, start + task.joint_channels)
            pixels = _pixel_reconstruction(task, output[:, channels], stack[:, channels])
            total = total + (pixels * self.mask).sum() / self.mask.sum().clamp(min=1)
            start += task.joint_channels
        return total


def _validity(task: Task, label: Tensor) -> Tensor:
    if isinstance(task, Segmentation):
        return (label != -1)[:, None]
    if isinstance(task, Depth):
        return label.isfinite() & (label > 0)
    if isinstance(task, Normals):
        return label.isfinite().all(1, keepdim=True) & (label.norm(dim=1, keepdim=True) > 0)
    return label.isfinite().all(1, keepdim=True)


def _code(task: Task, values: Tensor) -> Tensor:
    if isinstance(task, Depth):
        return Normal(task.mean, task.std).cdf(values)
    if isinstance(task, Normals):
        return (values + 1) / 2
    assert isinstance(task, DenseRegression)
    assert (task.low, task.high) == (0, 1)
    return values.clamp(0, 1)


def _pixel_reconstruction(task: Task, output: Tensor, code: Tensor) -> Tensor:
    if isinstance(task, Segmentation):
        return nn.BCEWithLogitsLoss(reduction="none")(output, code).sum(1, keepdim=True)
    if isinstance(task, Normals):
        length = (output.square().sum(1, keepdim=True) + 1e-6).sqrt()
        return 1 - (output / length * (2 * code - 1)).sum(1, keepdim=True)
    return (output.sigmoid() - code).abs().mean(1, keepdim=True)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(first, second, dim=1).mean()
