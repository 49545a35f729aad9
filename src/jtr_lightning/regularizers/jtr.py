"""Joint-Task Regularization (JTR).

Nishi, Kim, Li, Pfister, "Joint-Task Regularization for Partially Labeled Multi-Task Learning", CVPR 2024
(arXiv 2404.01976), in the form of the authors' released recipe (KentoNishi/JTR-CVPR-2024 at f6a2279), with its
slips mended; the documentation lists each departure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.errors import ConfigError, check_number
from jtr_lightning.networks.segnet_blocks import DEPTHS, WIDTHS
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.regularizers.joint_autoencoder import JointAutoencoder
from jtr_lightning.regularizers.views import Geometry, ViewMaker
from jtr_lightning.tasks import Task
from jtr_lightning.tasks.base import at_least_float32
from jtr_lightning.tasks.dense import unit_length

StandIns = Literal["own_view", "supervised_view"]

_EPSILON = 1e-12  # added to a latent's squared length; a latent is zero only where every channel's ReLU is


class Stacks(NamedTuple):
    """All tasks of a batch side by side, coded into [0, 1].

    Attributes:
        target: ``Y``: the label where the sample is labelled for the task, else a prediction that stands in
            ``[B, C, H, W]``.
        prediction: ``Yhat``: predictions alone; those of labelled tasks have no gradient ``[B, C, H, W]``.
        mask: Pixels where every label that the sample has is valid, bool ``[B, 1, H, W]``. Both stacks hold the
            code of a blank target at all others.
    """

    target: Tensor
    prediction: Tensor
    mask: Tensor


class JTR(Regularizer):
    """Regularizes all tasks together in the latent space of an auto-encoder of their stacked values.

    With stacks ``Y`` and ``Yhat`` (see ``Stacks``) of views 1 and 2, an encoder ``g1``, the auto-encoder ``g`` and
    ``d = 1 - cos`` over channels, averaged over positions::

        jtr/distance              = distance_weight * d(g1_frozen(Y1), g1_frozen(Yhat1))
        jtr/autoencoder_distance  = autoencoder_distance_weight * d(g1(sg Y2), g1(sg Yhat2))
        jtr/reconstruction        = reconstruction_weight * (R(g(sg Y2); Y2) + R(g(sg Yhat2); Yhat2))

    The first term trains the network through its predictions of the unlabelled tasks, the others the auto-encoder.
    Each is a mean over samples, and no sample sees another (with ``norm='instance'``). Segmentation enters ``Yhat1``
    and, where it has no label, ``Y1`` and ``Y2`` as a one-hot draw (one draw each) and ``Yhat2`` as probabilities.
    A sample whose mask is empty adds nothing. Tasks without ``joint_channels`` take no part, such as the image-level
    ones of this library; one that has some stands in the stack with its code at every pixel.

    With ``stand_ins='own_view'``, as published, the same prediction of an unlabelled task is in both stacks, so the
    first term asks it for whatever hides the error of the labelled task. With ``'supervised_view'`` what stands in for
    a missing label of view 1 is the supervised view's prediction, moved there by the known crop, without a gradient and
    as probabilities, as on the other side. Then the term asks an unlabelled task to agree with the less distorted view,
    as the joint latent sees both. It should see the difference: train the auto-encoder by reconstruction alone
    (``autoencoder_distance_weight=0``).

    The second term can be met by a latent that is the same for every stack, and in a short training or at a high
    learning rate it is: then the first term teaches nothing. ``val/jtr/separation/<task>`` tells; see ``diagnose``.

    Args:
        distance_weight: Weight of the term that trains the network.
        autoencoder_distance_weight: Weight of the same distance as a loss of the auto-encoder. The authors multiply
            two of their flags, 4 * 2.
        reconstruction_weight: Weight of the reconstruction.
        views: 3 as published: the supervised one, one for the network's term and one, without a gradient for the
            network, for the auto-encoder's. 2: the second serves both. 1: the supervised view's predictions do.
        view_maker: Makes the further views; the crops and colours of the published recipe by default.
        stack_scale: Size of the stacks relative to the predictions, 1, 1/2, 1/3 ...: each value is the mean over the
            valid pixels of its cell.
        widths: Channels of the auto-encoder's stages, from the finest to the deepest.
        depths: Convolutions of each stage.
        norm: Name of the auto-encoder's normalisation. 'instance' equals the authors' BatchNorm on one sample at a
            time; 'batch' normalises ``Y`` and ``Yhat`` of the whole batch together, which is another method.
        ramp: Share of the training over which ``distance_weight`` rises linearly from 0; 0, as published, for none.
        stand_ins: Whose prediction stands in for a missing label in the network's term: the view's own, as published,
            or the supervised view's.
        autoencoder_lr: Learning rate of the auto-encoder; None for the optimizer's own. The published recipe has 1e-4
            for both.

    Raises:
        ConfigError: A parameter is out of range or, when it is built, fewer than two tasks have a place in the stack.
    """

    blank_code: Tensor
    _geometry: Geometry

    def __init__(
        self,
        distance_weight: float = 4.0,
        autoencoder_distance_weight: float = 8.0,
        reconstruction_weight: float = 2.0,
        views: int = 3,
        view_maker: ViewMaker | None = None,
        stack_scale: float = 1.0,
        widths: Sequence[int] = WIDTHS,
        depths: Sequence[int] = DEPTHS,
        norm: str = "instance",
        ramp: float = 0.0,
        stand_ins: StandIns = "own_view",
        autoencoder_lr: float | None = None,
    ) -> None:
        super().__init__(ramp)
        self.check_weights(
            distance_weight=distance_weight,
            autoencoder_distance_weight=autoencoder_distance_weight,
            reconstruction_weight=reconstruction_weight,
        )
        if views not in (1, 2, 3):
            raise ConfigError(f"Parameter `views` of JTR should be 1, 2 or 3; found {views}.")
        if stand_ins not in get_args(StandIns):
            raise ConfigError(
                f"Parameter `stand_ins` of JTR should be one of {', '.join(get_args(StandIns))}; found '{stand_ins}'."
            )
        if stand_ins == "supervised_view" and views == 1:
            raise ConfigError(
                "Parameter `views` of JTR should be 2 or 3 where the supervised view stands in for another's labels "
                "(`stand_ins: supervised_view`); found 1."
            )
        check_number("stack_scale", stack_scale)
        if not 0 < stack_scale <= 1 or abs(1 / stack_scale - round(1 / stack_scale)) > 0.01:
            raise ConfigError(
                "Parameter `stack_scale` of JTR should be 1 over a whole number (1, 0.5, 0.25 ...); found "
                f"{stack_scale}."
            )
        if autoencoder_lr is not None:
            check_number("autoencoder_lr", autoencoder_lr)
        if autoencoder_lr is not None and not 0 < autoencoder_lr < float("inf"):
            raise ConfigError(
                "Parameter `autoencoder_lr` of JTR should be above 0 and finite, or null for the optimizer's own; "
                f"found {autoencoder_lr}."
            )
        self.distance_weight = distance_weight
        self.autoencoder_distance_weight = autoencoder_distance_weight
        self.reconstruction_weight = reconstruction_weight
        self.views = views
        self.view_maker = ViewMaker() if view_maker is None else view_maker
        self.cell = round(1 / stack_scale)
        self.stand_ins = stand_ins
        self.widths, self.depths, self.norm = tuple(widths), tuple(depths), norm
        self.autoencoder_lr = autoencoder_lr
        self.stack_tasks: dict[str, Task] = {}

    def make_layers(self, tasks: Mapping[str, Task], feature_channels: Sequence[int]) -> None:
        del feature_channels
        self.stack_tasks = {name: task for name, task in tasks.items() if task.joint_channels > 0}
        if len(self.stack_tasks) < 2:
            raise ConfigError(
                "JTR should have at least 2 tasks that have a place in its stack (joint_channels above 0, such as "
                f"Segmentation, Depth, Normals and DenseRegression); found {list(self.stack_tasks)} among the tasks "
                f"{list(tasks)}. Add one, or set the regularizer to null."
            )
        codes = [task.encode_target(task.blank(1, 1).unsqueeze(0)) for task in self.stack_tasks.values()]
        self.register_buffer("blank_code", torch.cat(codes, 1), persistent=False)
        self.autoencoder = JointAutoencoder(
            self.blank_code.shape[1], self.widths, self.depths, norm=self.norm
        )

    def compilable(self) -> Sequence[nn.Module]:
        views = self.view_maker.compilable() if self.views > 1 else ()
        return (self.autoencoder, self.autoencoder.encoder, *views)

    def parameter_groups(self) -> Iterator[dict[str, Any]]:
        own = {} if self.autoencoder_lr is None else {"lr": self.autoencoder_lr}
        yield {"params": list(self.parameters()), **own}

    def sample_views(self, batch: Batch) -> tuple[View, ...]:
        """View 1, and view 2 without a gradient: further crops of the batch, which is view 0."""
        drawn = [self.view_maker(batch, self.tasks) for _ in range(1, self.views)]
        if drawn:
            self._geometry = drawn[0][1]
        return tuple(View(view, grad=number == 0) for number, (view, _) in enumerate(drawn))

    def forward(
        self,
        predictions: Sequence[dict[str, Tensor]],
        batches: Sequence[Batch],
        features: Sequence[list[Tensor]],
        progress: float,
    ) -> dict[str, Tensor]:
        """The three terms of the class's docstring; see ``Regularizer.forward``."""
        del features
        network_view, autoencoder_view = min(1, self.views - 1), self.views - 1
        stacks = self._network_stacks(predictions[0], predictions[network_view], batches[network_view])
        distance = self._network_distance(stacks)
        with torch.no_grad():
            stacks = self.stacks(predictions[autoencoder_view], batches[autoencoder_view], hard=False)
        autoencoder_distance, reconstruction = self._autoencoder_losses(stacks)
        distance_weight = self.distance_weight * self.ramp_factor(progress)
        return {
            "jtr/distance": distance_weight * distance.mean(),
            "jtr/autoencoder_distance": self.autoencoder_distance_weight * autoencoder_distance.mean(),
            "jtr/reconstruction": self.reconstruction_weight * reconstruction.mean(),
        }

    def _network_stacks(
        self, supervised: Mapping[str, Tensor], predictions: Mapping[str, Tensor], batch: Batch
    ) -> Stacks:
        if self.stand_ins == "own_view":
            return self.stacks(predictions, batch, hard=True)
        moved = {
            name: self._geometry.apply(supervised[name].detach(), task, smooth=True)
            for name, task in self.stack_tasks.items()
        }
        return self.stacks(predictions, batch, hard=False, stand_ins=moved)

    def stacks(
        self,
        predictions: Mapping[str, Tensor],
        batch: Batch,
        *,
        hard: bool,
        stand_ins: Mapping[str, Tensor] | None = None,
    ) -> Stacks:
        """Codes a view's predictions and labels.

        Args:
            predictions: Task name to prediction ``[B, C, H, W]``.
            batch: The view's labels.
            hard: Whether ``prediction`` holds one-hot draws, or probabilities.
            stand_ins: What stands in ``target`` where a label is missing, as probabilities; by default draws of
                ``predictions``.

        Returns:
            Both stacks, at ``stack_scale`` of the predictions' size.
        """
        targets: list[Tensor] = []
        guesses: list[Tensor] = []
        size = batch.size
        for name, task in self.stack_tasks.items():
            label, labelled, prediction = batch.labels[name], batch.labelled(name), predictions[name]
            detached = labelled.view(-1, *[1] * (prediction.ndim - 1))
            prediction = torch.where(detached, prediction.detach(), prediction)
            guess = at_least_float32(task.encode_prediction(prediction, hard=hard))
            standing_in = at_least_float32(
                task.encode_prediction(prediction, hard=True)
                if stand_ins is None
                else task.encode_prediction(stand_ins[name], hard=False)
            )
            target = torch.where(
                _as_map(labelled), task.encode_target(label).to(standing_in.dtype), standing_in
            )
            # What holds for the whole image holds at every pixel.
            guesses.append(guess.expand(-1, -1, *size))
            targets.append(target.expand(-1, -1, *size))
        return self._finish(torch.cat(targets, 1), torch.cat(guesses, 1), self._mask(batch))

    def diagnose(self, predictions: Mapping[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Whether the latent still sees each task: ``jtr/separation/<task>``, in [0, 2].

        The distance between the latents of a stack of labels and of the same stack with one task's values taken from
        another sample of the batch (where a label is missing, the prediction stands), averaged over the samples. It is
        what JTR could at most notice about a prediction of that task that is right for another image. Near 0 the
        latent is blind to the task, and the loss teaches nothing about it.

        Args:
            predictions: Task name to prediction ``[B, C, H, W]``.
            batch: Their labels.

        Returns:
            Name to scalar for each task of the stack; nothing for a batch of one sample.
        """
        if len(batch) < 2:
            return {}
        codes = {}
        for name, task in self.stack_tasks.items():
            code = at_least_float32(task.encode_prediction(predictions[name]))
            label = task.encode_target(batch.labels[name]).to(code.dtype)
            codes[name] = torch.where(_as_map(batch.labelled(name)), label, code).expand(-1, -1, *batch.size)
        mask = self._mask(batch)
        mask = mask & mask.roll(1, 0)
        whole = torch.cat(list(codes.values()), 1)
        found = {}
        for name, code in codes.items():
            exchanged = torch.cat(list({**codes, name: code.roll(1, 0)}.values()), 1)
            stacks = self._finish(whole, exchanged, mask)
            latent = self.autoencoder.encode(torch.cat([stacks.target, stacks.prediction]))
            compared = stacks.mask.flatten(1).any(1).sum().clamp(min=1)
            found[f"jtr/separation/{name}"] = cosine_distance(latent, stacks.mask).sum() / compared
        return found

    def _mask(self, batch: Batch) -> Tensor:
        """Pixels where every label that the sample has is valid, bool ``[B, 1, H, W]``."""
        mask = torch.ones((len(batch), 1, *batch.size), dtype=torch.bool, device=batch.image.device)
        for name, task in self.stack_tasks.items():
            mask = mask & (_as_map(task.valid(batch.labels[name])) | ~_as_map(batch.labelled(name)))
        return mask

    def _finish(self, target: Tensor, prediction: Tensor, mask: Tensor) -> Stacks:
        """Shrinks the stacks if asked to and blanks both outside the mask."""
        if self.cell > 1:
            share = F.avg_pool2d(mask.to(target.dtype), self.cell, ceil_mode=True)
            mean = [
                F.avg_pool2d(torch.where(mask, stack, 0.0), self.cell, ceil_mode=True) / share.clamp(min=1e-6)
                for stack in (target, prediction)
            ]
            (target, prediction), mask = mean, share > 0
        blank = self.blank_code.to(target.dtype)
        return Stacks(torch.where(mask, target, blank), torch.where(mask, prediction, blank), mask)

    def _network_distance(self, stacks: Stacks) -> Tensor:
        """``d(g1_frozen(Y), g1_frozen(Yhat))`` of each sample ``[B]``: gradients for the stacks alone."""
        latent = self.autoencoder.encode(torch.cat([stacks.target, stacks.prediction]), frozen=True)
        return cosine_distance(latent, stacks.mask)

    def _autoencoder_losses(self, stacks: Stacks) -> tuple[Tensor, Tensor]:
        """``d(g1(Y), g1(Yhat))`` and ``R(g(Y); Y) + R(g(Yhat); Yhat)`` of each sample, ``[B]`` each."""
        both = torch.cat([stacks.target, stacks.prediction])
        mask = torch.cat([stacks.mask, stacks.mask])
        latent, output = self.autoencoder(both)
        sizes = [task.joint_channels for task in self.stack_tasks.values()]
        outputs, codes = torch.split(output, sizes, 1), torch.split(both, sizes, 1)
        parts = zip(self.stack_tasks.values(), outputs, codes, strict=True)
        losses = torch.stack([task.reconstruction_loss(out, code, mask) for task, out, code in parts])
        of_target, of_prediction = losses.sum(0).chunk(2)
        return cosine_distance(latent, stacks.mask), of_target + of_prediction


def _as_map(values: Tensor) -> Tensor:
    """Values ``[B]`` or ``[B, 1, H, W]``, as a task's ``valid`` gives them, as ``[B, 1, ...]``."""
    return values if values.ndim == 4 else values.view(-1, 1, 1, 1)


def cosine_distance(latent: Tensor, mask: Tensor) -> Tensor:
    """``1 - cos`` over channels, averaged over positions, in float32 or better whatever the precision of training.

    Args:
        latent: The latents of ``B`` stacks and then of the ``B`` stacks to compare them with ``[2B, C, h, w]``.
        mask: The stacks' pixels that count, bool ``[B, 1, H, W]``.

    Returns:
        Distance ``[B]`` in [0, 2]; 0 for a sample whose mask is empty, since its two stacks are alike.
    """
    # Products and sums alone: autocast lowers the precision of none of them once the latent is float32.
    first, second = unit_length(at_least_float32(latent), _EPSILON).chunk(2)
    distance = 1 - (first * second).sum(1).flatten(1).mean(1)
    return torch.where(mask.flatten(1).any(1), distance, 0.0)
