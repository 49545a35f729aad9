"""Cross-task consistency in joint pairwise task spaces (MTPSL).

Li, Liu and Bilen, "Learning Multiple Dense Prediction Tasks from Partially Annotated Data" (CVPR 2022,
arXiv 2111.14893). Its cost grows with the number of pairs of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.errors import check_whole
from jtr_lightning.networks.base import zero_path
from jtr_lightning.networks.segnet_blocks import DEPTHS, WIDTHS, InstanceNorm, init_xavier
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.regularizers.pairs import cosine_distance, cross_task_pairs, stacked_tasks
from jtr_lightning.regularizers.views import ViewMaker
from jtr_lightning.tasks import Task


class FiLMConv(nn.Module):
    """``ReLU(gamma_p norm(conv(x)) + beta_p)`` with a gamma and beta of its own for every pair ``p``.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        num_pairs: Number of pairs ``P``.
    """

    def __init__(self, in_channels: int, out_channels: int, num_pairs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = InstanceNorm(out_channels)
        self.gamma = nn.Parameter(torch.ones(num_pairs, out_channels))
        self.beta = nn.Parameter(torch.zeros(num_pairs, out_channels))

    def forward(self, x: Tensor, pair: Tensor) -> Tensor:
        """One layer.

        Args:
            x: ``[R, in_channels, h, w]``.
            pair: Number of each row's pair, int64 ``[R]``.

        Returns:
            ``[R, out_channels, h, w]``.
        """
        gamma, beta = self.gamma[pair][:, :, None, None], self.beta[pair][:, :, None, None]
        return F.relu(gamma * self.norm(self.conv(x)) + beta)


class PairwiseMapping(nn.Module):
    """``m``: a stem for each task, then one shared encoder whose layers know the pair.

    Args:
        in_channels: Channels of each task's code.
        widths: Channels of each stage; every stage halves the resolution.
        depths: Convolutions of each stage.
    """

    def __init__(self, in_channels: Sequence[int], widths: Sequence[int], depths: Sequence[int]) -> None:
        super().__init__()
        k = len(in_channels)
        self.stems = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, widths[0], 3, padding=1), InstanceNorm(widths[0]), nn.ReLU())
            for c in in_channels
        )
        before = [widths[0], *widths[:-1]]
        self.stages = nn.ModuleList(
            nn.ModuleList(FiLMConv(first if i == 0 else width, width, k * (k - 1)) for i in range(depth))
            for first, width, depth in zip(before, widths, depths, strict=True)
        )
        init_xavier(self)

    def forward(self, stems: Tensor, pair: Tensor) -> Tensor:
        """Maps what the stems gave.

        Args:
            stems: ``[R, widths[0], H, W]``.
            pair: Number of each row's pair, int64 ``[R]``.

        Returns:
            ``[R, widths[-1], ~H / 2**stages, ~W / 2**stages]``.
        """
        x = stems
        for stage in self.stages:
            for layer in stage:  # type: ignore[attr-defined]
                x = layer(x, pair)
            x = F.max_pool2d(x, 2, ceil_mode=True)
        return x

    def film(self) -> list[nn.Parameter]:
        """Every gamma and beta."""
        return [p for m in self.modules() if isinstance(m, FiLMConv) for p in (m.gamma, m.beta)]


class MTPSL(Regularizer):
    """``(w / B) sum_b sum_{s in U_b} sum_{t in S_b} L_pair(s, t)`` on one further view.

    ``L_pair(s, t) = d(m(yhat_s), m(y_t)) + (d(m(yhat_s), sg f) + d(m(y_t), sg f)) / 2`` with ``m`` conditioned on the
    pair, ``d`` the cosine distance and ``f`` the network's deepest feature. Of a fully labelled sample every ordered
    pair takes part. Only the pairs that a batch has are computed, all of them in one pass; one whose label has no valid
    place in the view adds nothing.

    As published, gamma and beta have a learning rate and a schedule of their own. All else is the optimizer's; what was
    published is 200 epochs of Adam with 1e-4 and StepLR(100, 0.5).

    Stated choices: normalisation by each row's own statistics (the authors run one sample at a time); where ``f`` has
    another width than ``m``, both sides being fixed otherwise, it goes through a fixed random projection (which keeps
    angles on average and cannot collapse), and where it has another resolution, it is repeated or averaged to ``m``'s.

    Args:
        weight: ``w``; the authors' 2 for NYU-v2 (1 for Cityscapes).
        film_lr: Learning rate of gamma and beta: the authors' 1e-3 for NYU-v2 (1e-5 for Cityscapes).
        film_step_size: Epochs after which the learning rate of gamma and beta is multiplied by ``film_gamma``, again
            and again, whatever the optimizer's schedule does; None to follow that schedule.
        film_gamma: The factor.
        widths: Channels of the mapping network's stages.
        depths: Convolutions of the mapping network's stages.
        views: Makes the view; random scale crops and colours by default.
        ramp: Share of the training over which the weight, of the one term that trains network and mapping network,
            rises linearly from 0; 0, as published, for none.

    Raises:
        ConfigError: A parameter is out of range or, when it is built, there are fewer than two dense tasks.
    """

    projection: Tensor

    def __init__(
        self,
        weight: float = 2.0,
        film_lr: float = 1e-3,
        film_step_size: int | None = 30,
        film_gamma: float = 0.5,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        views: ViewMaker | None = None,
        ramp: float = 0.0,
    ) -> None:
        super().__init__(ramp)
        self.check_weights(weight=weight, film_lr=film_lr, film_gamma=film_gamma)
        if film_step_size is not None:
            check_whole("film_step_size", film_step_size, 1)
        self.weight = weight
        self.film_lr = film_lr
        self.film_steps = None if film_step_size is None else (film_step_size, film_gamma)
        self.widths = tuple(widths)
        self.depths = tuple(depths)
        self.views = ViewMaker() if views is None else views

    def make_layers(self, tasks: Mapping[str, Task], feature_channels: Sequence[int]) -> None:
        self.paired = stacked_tasks(tasks, type(self).__name__)
        self.mapping = PairwiseMapping(
            [t.joint_channels for t in self.paired.values()], self.widths, self.depths
        )
        deepest, width = feature_channels[-1], self.widths[-1]
        projection = torch.eye(width) if deepest == width else torch.randn(width, deepest) / deepest**0.5
        self.register_buffer("projection", projection[:, :, None, None])

    def compilable(self) -> Sequence[nn.Module]:
        return self.views.compilable()

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        return (View(self.views(batch, self.tasks)[0]),)

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        batch, prediction, deepest = batches[1], predictions[1], features[1][-1]
        columns = [batch.tasks.index(name) for name in self.paired]
        pairs = cross_task_pairs(batches[0].labelled_on_host()[:, columns])
        path = zero_path([self.mapping])
        if not len(pairs.sample):
            return {"mtpsl": path}
        rows = pairs.to(deepest.device)
        pair = rows.number(len(self.paired))
        codes = [task.encode_prediction_for_pair(prediction[name]) for name, task in self.paired.items()]
        labels = [task.encode_target_for_pair(batch.labels[name]) for name, task in self.paired.items()]
        predicted = self._stems(codes)[rows.source, rows.sample]
        labelled = self._stems([label.to(codes[0].dtype) for label in labels])[rows.target, rows.sample]
        latents = self.mapping(torch.cat([predicted, labelled]), torch.cat([pair, pair]))
        from_prediction, from_label = latents.chunk(2)
        feature = self._match(deepest.detach(), latents, batch.image)[rows.sample]
        distance = cosine_distance(from_prediction, from_label) + 0.5 * (
            cosine_distance(from_prediction, feature) + cosine_distance(from_label, feature)
        )
        valid = [task.valid(batch.labels[name]).flatten(1).any(1) for name, task in self.paired.items()]
        distance = torch.where(torch.stack(valid)[rows.target, rows.sample], distance, 0.0)
        weight = self.weight * self.ramp_factor(progress)
        return {"mtpsl": weight * distance.sum() / len(batch) + path}

    def _stems(self, codes: Sequence[Tensor]) -> Tensor:
        """Every task's code through its stem, ``[K, B, widths[0], H, W]``."""
        return torch.stack([stem(code) for stem, code in zip(self.mapping.stems, codes, strict=True)])

    def _match(self, feature: Tensor, latents: Tensor, image: Tensor) -> Tensor:
        """The projected feature, one value for each place of the latents, and of the same part of the image."""
        projected = F.conv2d(feature.to(self.projection.dtype), self.projection)
        places = 2 ** len(self.widths)
        pooled = [1, 1]
        for axis in (-2, -1):
            # What the network halves again and again may be padded beyond the image, the latents are of the image.
            pixels = 2 ** max(0, math.ceil(math.log2(image.shape[axis] / feature.shape[axis])))
            pooled[axis] = max(1, places // pixels)
            if pixels > places:
                projected = projected.repeat_interleave(pixels // places, axis)
        projected = F.avg_pool2d(projected, pooled, ceil_mode=True, count_include_pad=False)
        return projected[..., : latents.shape[-2], : latents.shape[-1]]

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        film = self.mapping.film()
        chosen = {id(parameter) for parameter in film}
        yield {"params": [p for p in self.parameters() if id(p) not in chosen]}
        steps = {} if self.film_steps is None else {"steps": self.film_steps}
        yield {"params": film, "lr": self.film_lr, **steps}
