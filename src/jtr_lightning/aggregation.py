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
    parameters that are trained. A task without a label on any rank, or with labels that have no valid place, has no row
    in that step (a row of zeros would make MGDA and CAGrad stand still), and of an argument with a value for each task
    that task's is left out, too. What a regularizer adds keeps its own gradient, added to the aggregated one. Each row
    costs a backward pass. Gradients that are not finite are not aggregated, since several aggregators fail on them; a
    scaler of 16-bit gradients then skips the step.

    Rows that come and go are also why an aggregator that keeps something of each row from step to step (GradVac,
    ExcessMTL, NashMTL, PCD) is refused.

    Under DDP the rows are averaged over the ranks, and the first rank's aggregate of them is every rank's: an
    aggregator may draw (PCGrad draws the order of its projections). A step waits for the device, to learn which rows
    there are; many aggregators (UPGrad among them) do so again, since they solve a small problem on the host.

    Args:
        aggregator: Name of a class in ``torchjd.aggregation``.
        arguments: Arguments of that class, for those that need some (CAGrad: ``{c: 0.5}``). A list has a value for
            each task in their order (UPGrad: ``{pref_vector: [1, 2, 1]}``).
        weights: Task name to weight of its loss; 1 for a task that is not named.

    Raises:
        ConfigError: torchjd is not installed, the aggregator does not exist, has a state, or lacks an argument; in a
            step, if it is not defined for as few tasks as have a label (Krum).
    """

    def __init__(
        self,
        aggregator: str = "UPGrad",
        arguments: dict[str, Any] | None = None,
        weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(weights)
        self.aggregator = _find_class(aggregator)
        self.arguments = dict(arguments or {})
        self._make(torch.zeros(()))  # so that a wrong argument is told at once

    def build(self, tasks: Mapping[str, Task]) -> GradientAggregation:
        super().build(tasks)
        for name, value in self.arguments.items():
            if isinstance(value, list) and len(value) != len(tasks):
                raise ConfigError(
                    f"The argument `{name}` of {self.aggregator.__name__} should have a value for each of the "
                    f"{len(tasks)} tasks ({', '.join(tasks)}); found {value}."
                )
        return self

    def _make(self, like: Tensor, rows: slice | list[int] = slice(None)) -> Any:
        """The aggregator for some of the tasks; it has no state, so that one for each step will do.

        Args:
            like: Of the dtype and on the device of the Jacobian.
            rows: The tasks that have a row.
        """
        try:
            arguments = {
                name: like.new_tensor(value)[rows] if isinstance(value, list) else value
                for name, value in self.arguments.items()
            }
            return self.aggregator(**arguments)
        except (TypeError, ValueError, AttributeError, ImportError) as error:  # torchjd checks little
            raise ConfigError(
                f"The aggregator {self.aggregator.__name__} could not be made with the arguments {self.arguments}: "
                f"{str(error).rstrip('.')}."
            ) from error

    def _aggregate(self, jacobian: Tensor, rows: list[int]) -> Tensor:
        try:
            with torch.autocast(jacobian.device.type, enabled=False):
                joined: Tensor = self._make(jacobian, rows)(jacobian)
        except ValueError as error:
            raise ConfigError(
                f"The aggregator {self.aggregator.__name__} could not join the gradients of this step, in which "
                f"{len(rows)} of {len(self.weight)} tasks have a label: {str(error).rstrip('.')}. Take one for any "
                "number of tasks, such as UPGrad."
            ) from error
        return joined

    def backward(self, loss: Tensor, losses: Tensor, available: Tensor, parameters: Sequence[Tensor]) -> None:
        several_ranks = dist.is_available() and dist.is_initialized()
        labelled = available.any(0).float()
        if several_ranks:
            dist.all_reduce(labelled, dist.ReduceOp.MAX)
        present = labelled.nonzero().flatten().tolist()
        task_losses = (losses * self.weight).mean(0)
        parameters = [parameter for parameter in parameters if parameter.requires_grad]
        if not parameters:  # a frozen network, beside which a regularizer may learn
            present = []
        rows = [
            _flat(
                torch.autograd.grad(task_losses[k], parameters, retain_graph=True, allow_unused=True),
                parameters,
            )
            for k in present
        ]
        # The gradient of everything; then the tasks' share of it, a sum, is exchanged for the aggregated one.
        # Compiled graphs give their buffers away if the first of all backward passes does not ask to retain them.
        loss.backward(retain_graph=not rows)  # type: ignore[no-untyped-call]
        if not rows:
            return
        jacobian = torch.stack(rows)
        if several_ranks:
            dist.all_reduce(jacobian)
            jacobian /= dist.get_world_size()
        if not jacobian.isfinite().all():
            return
        moving = [row for row, moves in enumerate(jacobian.any(1).tolist()) if moves]
        if not moving:
            return
        jacobian, present = jacobian[moving], [present[row] for row in moving]
        change = self._aggregate(jacobian, present) - jacobian.sum(0)
        if several_ranks:
            dist.broadcast(change, src=0)
        sizes = [parameter.numel() for parameter in parameters]
        parts = change.split(sizes)  # type: ignore[no-untyped-call]
        for parameter, part in zip(parameters, parts, strict=True):
            shaped = part.view_as(parameter)
            parameter.grad = shaped.clone() if parameter.grad is None else parameter.grad + shaped


def _flat(gradients: Sequence[Tensor | None], parameters: Sequence[Tensor]) -> Tensor:
    """One row of the Jacobian; 0 where a loss does not reach a parameter."""
    whole = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([part.flatten() for part in whole])


def _find_class(name: str) -> type[Any]:
    try:
        from torchjd import Stateful, aggregation
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
    if issubclass(classes[name], Stateful):
        raise ConfigError(
            f"Parameter `aggregator` should be a class of torchjd that keeps nothing from step to step, since a "
            f"step has the gradients of its labelled tasks alone; found '{name}'. Take another, such as UPGrad."
        )
    found: type[Any] = classes[name]
    return found
