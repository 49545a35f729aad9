"""Everything that is measured of a model in one pass over a validation or test set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torchmetrics import MetricCollection

from jtr_lightning.baseline import Baseline
from jtr_lightning.batch import Batch
from jtr_lightning.errors import ConfigError
from jtr_lightning.metric_facts import delta
from jtr_lightning.metrics import Sums
from jtr_lightning.tasks import Task


class Evaluation(nn.Module):
    """Every task's metrics over one set, exact for any batch size and under DDP.

    A task that had no label in the whole set, or labels without a valid place alone, has no result: no key, rather than
    0 or NaN.

    Args:
        tasks: Task name to task.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        super().__init__()
        self.tasks = dict(tasks)
        self.metrics = nn.ModuleDict({name: task.metrics() for name, task in tasks.items()})
        # Of the labelled samples: 1 where the label has a valid place, else 0.
        self.measurable = TaskMeans(len(tasks))

    def update(self, predictions: Mapping[str, Tensor], batch: Batch) -> None:
        """Adds a batch.

        Args:
            predictions: Task name to prediction ``[B, C, ...]``.
            batch: The batch they were made from.

        Raises:
            ConfigError: The batch has other tasks, or in another order.
        """
        batch.check_order(self.tasks)
        for name, metric in self.metrics.items():
            label = batch.labels[name]
            labelled = batch.labelled(name).view(-1, *[1] * (label.ndim - 1))
            # A loader of one's own may leave a hidden label in its place.
            known = torch.where(labelled, label, self.tasks[name].blank(1, 1).to(label))
            cast(MetricCollection, metric).update(predictions[name], known)
        self.measurable.update(measurable(self.tasks, batch).float(), batch.available)

    def compute(self) -> dict[str, float]:
        """The results so far, the same on every rank, with keys ``<task>/<metric>``; waits for the device.

        Warns about a task whose labels have no valid place.

        Raises:
            ConfigError: A task's metrics lack its headline metric, without which the score would pass the task over.
        """
        results: dict[str, float] = {}
        totals = zip(*self.measurable.totals(), strict=True)
        for (name, metric), (measurable, labelled) in zip(self.metrics.items(), totals, strict=True):
            if measurable:
                values = cast(MetricCollection, metric).compute()
                headline = self.tasks[name].headline
                if headline not in values:
                    raise ConfigError(
                        f"{type(self.tasks[name]).__name__}.metrics() should have the metric that `headline` names, "
                        f"'{headline}', which stands for the task '{name}' in tables and in the score; found "
                        f"{list(values)}. Name the metric in the MetricCollection ({{'{headline}': ...}}), or set "
                        "`headline` to one of these."
                    )
                results.update({f"{name}/{key}": float(value) for key, value in values.items()})
            elif labelled:
                rank_zero_warn(
                    f"The labels of task '{name}' should have a valid place somewhere; found none in {labelled:.0f} "
                    "of them. The task has no metrics and no part in the score; look at its labels with jtr data check."
                )
        return results

    def reset(self) -> None:
        """Forgets everything added."""
        # A state that is made anew inside inference mode (trainer.validate) could not be updated outside of it
        # (the validation during trainer.fit).
        with torch.inference_mode(False):
            for metric in self.metrics.values():
                cast(MetricCollection, metric).reset()
            self.measurable.reset()

    def summarize(
        self, results: Mapping[str, float], stage: str, baseline: Baseline | None
    ) -> dict[str, float]:
        """What stands for all tasks together.

        Args:
            results: What ``compute`` returned.
            stage: Which of the baseline's results to compare with.
            baseline: What to compare with, if anything.

        Returns:
            ``score`` where a task has a result; ``delta`` in percent where all have and the baseline knows all.
        """
        headlines = headline_values(results, self.tasks)
        summary = {"score": score(headlines, self.tasks)} if headlines else {}
        against = None if baseline is None else baseline.headlines(stage, self.tasks)
        if against is not None and len(headlines) == len(self.tasks):
            directions = {name: task.higher_is_better for name, task in self.tasks.items()}
            better = delta(headlines, against, directions)
            summary["delta"] = math.nan if better is None else better  # of a training that went astray
        return summary


def measurable(tasks: Mapping[str, Task], batch: Batch) -> Tensor:
    """Which labels have a valid place, bool ``[B, K]``."""
    valid = [task.valid(batch.labels[name]) for name, task in tasks.items()]
    return torch.stack([places.reshape(len(batch), -1).any(1) for places in valid], 1)


class TaskMeans(Sums):
    """Mean of a value over the samples that are labelled, for each task by itself.

    Args:
        num_tasks: Number of tasks ``K``.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(num_tasks, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros(num_tasks, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, values: Tensor, available: Tensor) -> None:
        """Adds values ``[B, K]`` where available, bool ``[B, K]``."""
        self.total += torch.where(available, values, 0.0).sum(0, dtype=self.total.dtype)
        self.count += available.sum(0)

    def compute(self) -> Tensor:
        """Mean of each task ``[K]``, NaN for one without a labelled sample."""
        return self.total / self.count

    def totals(self) -> tuple[list[float], list[float]]:
        """Each task's sum of values and number of labelled samples, over all ranks."""
        with self.sync_context():
            return self.total.tolist(), self.count.tolist()


class TaskLosses(Sums):
    """Mean loss of each task over an epoch, once over all labels and once over those that have a valid place.

    A label without one has a loss of 0, which belongs to what is minimised but measures nothing.

    Args:
        num_tasks: Number of tasks ``K``.
    """

    full_state_update = False
    total: Tensor
    count: Tensor
    measurable: Tensor

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        for name in ("total", "count", "measurable"):
            self.add_state(name, torch.zeros(num_tasks, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, losses: Tensor, available: Tensor, measurable: Tensor) -> None:
        """Adds losses ``[B, K]`` where available; ``measurable`` labels have a valid place, both bool ``[B, K]``."""
        self.total += torch.where(available, losses, 0.0).sum(0, dtype=self.total.dtype)
        self.count += available.sum(0)
        self.measurable += (available & measurable).sum(0)

    def compute(self) -> Tensor:
        """The means ``[2, K]`` over all labels and over the measurable ones, NaN where there is none."""
        return self.total / torch.stack([self.count, self.measurable])

    def sums(self) -> dict[str, Tensor]:
        """A copy of what was added on this rank, in host memory."""
        states = {"total": self.total, "count": self.count, "measurable": self.measurable}
        return {name: state.to("cpu", copy=True) for name, state in states.items()}

    def go_on(self, sums: Mapping[str, Tensor]) -> None:
        """Goes on from what ``sums`` gave."""
        self.total.copy_(sums["total"])
        self.count.copy_(sums["count"])
        # In a checkpoint of before, every label counted.
        self.measurable.copy_(sums.get("measurable", sums["count"]))
        self._update_count = 1  # or torchmetrics warns where nothing is added any more


def headline_values(results: Mapping[str, float], tasks: Mapping[str, Task]) -> dict[str, float]:
    """The headline metric of each task that has a result."""
    keys = {name: f"{name}/{task.headline}" for name, task in tasks.items()}
    return {name: results[key] for name, key in keys.items() if key in results}


def score(values: Mapping[str, float], tasks: Mapping[str, Task]) -> float:
    """One number to choose a checkpoint by, without a baseline and whatever the tasks' units.

    The mean over the tasks of ``s_k log max(M_k, floor_k)``: differences of it are mean relative changes, so that it
    ranks as the delta does against any baseline close by. ``Task.headline_floor`` bounds what a single 0 weighs.

    Args:
        values: Task name to headline metric, at least 0.
        tasks: Task name to task; those without a value are left out.

    Returns:
        Higher is better.
    """
    terms = [
        (1 if tasks[name].higher_is_better else -1) * math.log(max(value, tasks[name].headline_floor))
        for name, value in values.items()
    ]
    return sum(terms) / len(terms)
