"""Joining the tasks' gradients instead of their losses, by the aggregators of torchjd."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from jtr_lightning.balancing import FixedWeights
from jtr_lightning.errors import ConfigError, did_you_mean
from jtr_lightning.tasks import Task


class GradientAggregation(FixedWeights):
    """Replaces the sum of the tasks' gradients by an aggregator of torchjd (UPGrad, PCGrad, MGDA, CAGrad ...).

    Row ``k`` of the Jacobian is the gradient of task ``k``'s weighted loss with respect to all of the network's
    parameters. A task without a label on any rank has no row in that step (a row of zeros would make MGDA stand
    still). What a regularizer adds keeps its own gradient, added to the aggregated one. Each row costs a backward
    pass.

    Under DDP the rows are averaged over the ranks, and the first rank's aggregate of them is every rank's: an
    aggregator may draw (PCGrad draws the order of its projections). A step waits for the device, to learn which rows
    there are; many aggregators (UPGrad among them) do so again, since they solve a small problem on the host.

    Args:
        aggregator: Name of a class in ``torchjd.aggregation``.
        arguments: Arguments of that class, for those that need some (CAGrad: ``{c: 0.5}``).
        weights: Task name to weight of its loss; 1 for a task that is not named.

    Raises:
        ConfigError: torchjd is not installed, the aggregator does not exist or lacks an argument.
    """

    def __init__(
        self,
        aggregator: str = "UPGrad",
        arguments: dict[str, Any] | None = None,
        weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(weights)
        self.aggregator = _make_aggregator(aggregator, arguments or {})

    def build(self, tasks: Mapping[str, Task]) -> GradientAggregation:
        super().build(tasks)
        return self

    def backward(self, loss: Tensor, losses: Tensor, available: Tensor, parameters: Sequence[Tensor]) -> None:
        several_ranks = dist.is_available() and dist.is_initialized()
        labelled = available.any(0).float()
        if several_ranks:
            dist.all_reduce(labelled, dist.ReduceOp.MAX)
        present = labelled.nonzero().flatten().tolist()
        task_losses = (losses * self.weight).mean(0)
        rows = [
            _flat(
                torch.autograd.grad(task_losses[k], parameters, retain_graph=True, allow_unused=True),
                parameters,
            )
            for k in present
        ]
        # The gradient of everything; then the tasks' share of it, a sum, is exchanged for the aggregated one.
        loss.backward()  # type: ignore[no-untyped-call]
        if not rows:
            return
        jacobian = torch.stack(rows)
        if several_ranks:
            dist.all_reduce(jacobian)
            jacobian /= dist.get_world_size()
        with torch.autocast(jacobian.device.type, enabled=False):
            change = self.aggregator(jacobian) - jacobian.sum(0)
        if several_ranks:
            dist.broadcast(change, src=0)
        sizes = [parameter.numel() for parameter in parameters]
        for parameter, part in zip(parameters, change.split(sizes), strict=True):
            shaped = part.view_as(parameter)
            parameter.grad = shaped.clone() if parameter.grad is None else parameter.grad + shaped


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """One row of the Jacobian; 0 where a loss does not reach a parameter."""
    whole = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([part.flatten() for part in whole])


def _make_aggregator(name: str, arguments: Mapping[str, Any]) -> Any:
    try:
        from torchjd import aggregation
    except ImportError as error:
        raise ConfigError(
            "GradientAggregation needs torchjd, which is not installed; run: pip install 'jtr-lightning[torchjd]'."
        ) from error
    classes = {name: getattr(aggregation, name) for name in aggregation.__all__}
    known = [
        n for n, c in classes.items() if issubclass(c, aggregation.Aggregator) and not inspect.isabstract(c)
    ]
    if name not in known:
        raise ConfigError(
            f"Parameter `aggregator` should be a class of torchjd; found '{name}', {did_you_mean(name, known)}"
        )
    try:
        return classes[name](**arguments)
    except (TypeError, ImportError) as error:
        raise ConfigError(
            f"The aggregator {name} could not be made with the arguments {dict(arguments)}: {error}."
        ) from error
