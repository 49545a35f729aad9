"""JTR's term of the network as it would be with the missing labels in the place of what stands in for them."""

# ruff: noqa: SLF001  It takes JTR's term apart, whose parts nobody else needs.

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from jtr_lightning.batch import Batch
from jtr_lightning.regularizers.jtr import JTR, Stacks
from jtr_lightning.tasks.base import masked_mean


def stacks_with_hidden_labels(
    jtr: JTR, predictions: Sequence[Mapping[str, Tensor]], batches: Sequence[Batch], full: Batch
) -> Stacks:
    """The stacks that JTR compares, but for the labels that the batch lacks: they are in ``target``, too.

    All else is as in JTR: the view and its mask, the stack of predictions and its draws, and which predictions have a
    gradient. Where a hidden label is not defined, what JTR has there goes on standing in.

    Args:
        jtr: Has just drawn the views.
        predictions: Of the batch and its views.
        batches: The batch and its views, as JTR is given them.
        full: The batch with every label.

    Returns:
        The stacks at JTR's own scale.
    """
    number = min(1, jtr.views - 1)
    view = batches[number]
    whole = copy.copy(jtr)  # the same layers and settings, without shrinking the stacks
    whole.cell = 1
    stacks = whole._network_stacks(predictions[0], predictions[number], view)
    targets = []
    codes = stacks.target.split([task.joint_channels for task in jtr.stack_tasks.values()], 1)
    for (name, task), code in zip(jtr.stack_tasks.items(), codes, strict=True):
        label = full.labels[name] if number == 0 else jtr._geometry.apply(full.labels[name], task)
        missing = ~view.labelled(name).view(-1, 1, 1, 1)
        defined = task.valid(label)
        defined = defined if defined.ndim == 4 else defined.view(-1, 1, 1, 1)
        targets.append(torch.where(missing & defined, task.encode_target(label).to(code.dtype), code))
    return jtr._finish(torch.cat(targets, 1), stacks.prediction, stacks.mask)


def latent_distance(jtr: JTR, stacks: Stacks) -> Tensor:
    """JTR's term of the network, a scalar."""
    return jtr.distance_weight * jtr._network_distance(stacks).mean()


def plain_distance(stacks: Stacks) -> Tensor:
    """What the term would be without a latent: the absolute difference of the stacks, a scalar."""
    return masked_mean((stacks.prediction - stacks.target).abs(), stacks.mask).mean()
