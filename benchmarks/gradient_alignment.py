"""Does a method pull the network to where the missing labels would? Cosines between gradients, on Rooms.

    python benchmarks/gradient_alignment.py experiments/rooms/{jtr,jtr_crossed,consistency,mtpsl}.yaml

Rooms knows the labels that a scenario hides. One network is trained with the labels that there are, by the data,
network and optimizer of the first config; each config's regularizer looks on, training its own layers but not the
network. After some epochs, for each of many batches: the cosine between the gradient of the regularizer's terms and
that of the supervised loss of the hidden labels, both for all weights of the network. Above 0, a small step along the
method lowers the loss of the labels that are missing; below 0, it raises it. The last column has the cosine of the
gradients' means, in which what differs from batch to batch cancels.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jtr_lightning.batch import Batch
from jtr_lightning.cli.lightning import CommandLine, command_line
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers import Regularizer

Gradients = dict[str, Tensor]


class Untrained(CommandLine):
    """Makes everything that a config names, and stops there."""

    def fit(self, **kwargs: Any) -> None:
        del kwargs


def make(config: str, *options: str) -> CommandLine:
    """What a config names, with options of ``jtr fit``."""
    with tempfile.TemporaryDirectory() as folder:
        return command_line(["fit", "--config", config, *options], Path(folder), kind=Untrained)


def hidden(batch: Batch, available: Tensor, model: PartialLabelModule) -> Batch:
    """The batch with only the labels that ``available`` has for each sample of the dataset."""
    shown = available[batch.index]
    labels = {}
    for k, (name, task) in enumerate(model.tasks.items()):
        label = batch.labels[name]
        blank = task.blank(*batch.size).to(label.dtype)
        labels[name] = torch.where(shown[:, k].view(-1, *(1,) * (label.ndim - 1)), label, blank)
    return replace(batch, labels=labels, available=shown)


def epochs(loader: Any) -> Iterator[list[Batch]]:
    """The batches of each epoch, augmented anew."""
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield list(loader)


def flat(loss: Tensor, weights: Sequence[nn.Parameter]) -> Tensor:
    """The gradient for all weights in one vector."""
    found = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
    return torch.cat(
        [(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(weights, found, strict=True)]
    )


def learn(
    model: PartialLabelModule, optimizer: Any, methods: dict[str, tuple[Regularizer, Any]], batch: Batch
) -> None:
    """One step of the network with its labels, and one of each regularizer's own layers."""
    predictions = model(batch.image)
    optimizer.zero_grad()
    model.supervised_losses(predictions, batch).sum(1).mean().backward()
    optimizer.step()
    for regularizer, own in methods.values():
        if own is None:
            continue
        views = regularizer.sample_views(batch)
        with torch.no_grad():
            seen, features = model.run_views(batch, views)
        own.zero_grad()
        batches = [batch, *(view.batch for view in views)]
        sum(regularizer(seen, batches, features, 1.0).values()).backward()
        own.step()


def gradients_of(
    model: PartialLabelModule, methods: dict[str, tuple[Regularizer, Any]], full: Batch, batch: Batch
) -> tuple[Gradients, Gradients]:
    """Of the hidden labels' loss, for each task and all; and of each method's terms."""
    weights = list(model.network.parameters())
    predictions = model(batch.image)
    losses = torch.where(batch.available, 0.0, model.supervised_losses(predictions, full)).mean(0)
    missing = {name: flat(loss, weights) for name, loss in zip(model.tasks, losses, strict=True)}
    missing["all"] = flat(losses.sum(), weights)
    found = {}
    for name, (regularizer, _) in methods.items():
        views = regularizer.sample_views(batch)
        seen, features = model.run_views(batch, views)
        terms = regularizer(seen, [batch, *(view.batch for view in views)], features, 1.0)
        found[name] = flat(sum(terms.values()), weights)
    return missing, found


def alignment(
    model: PartialLabelModule,
    methods: dict[str, tuple[Regularizer, Any]],
    batches: Sequence[Batch],
    available: Tensor,
) -> dict[str, dict[str, Any]]:
    """For each method the cosine with each task's missing labels: mean, standard error, and that of the means."""
    cosines: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    sums: dict[str, Gradients] = {"missing": {}, "method": {}}
    norms: dict[str, list[float]] = defaultdict(list)
    statistics = {name: buffer.clone() for name, buffer in model.network.named_buffers()}
    for full in batches:
        missing, found = gradients_of(model, methods, full, hidden(full, available, model))
        for kind, gradients in (("missing", missing), ("method", found)):
            for name, gradient in gradients.items():
                sums[kind][name] = sums[kind].get(name, torch.zeros_like(gradient)) + gradient
        for name, gradient in found.items():
            norms[name].append(float(gradient.norm()))
            for task, wanted in missing.items():
                if float(wanted.norm()) > 0:  # a batch may have every label of a task
                    cosines[name][task].append(float(torch.cosine_similarity(gradient, wanted, dim=0)))
    for name, buffer in model.network.named_buffers():
        buffer.copy_(statistics[name])  # measuring should not change what is measured next
    rows: dict[str, dict[str, Any]] = {}
    for name, tasks in cosines.items():
        rows[name] = {"gradient norm": sum(norms[name]) / len(norms[name])}
        for task, values in tasks.items():
            of = torch.tensor(values)
            rows[name][task] = {
                "mean": float(of.mean()),
                "standard error": float(of.std() / math.sqrt(len(of))),
                "of the means": float(
                    torch.cosine_similarity(sums["method"][name], sums["missing"][task], dim=0)
                ),
            }
    return rows


def table(found: dict[int, dict[str, dict[str, Any]]], tasks: Sequence[str]) -> str:
    """As Markdown."""
    head = ["epochs", "method", *tasks, "all", "all, of the means"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for epoch, rows in found.items():
        for name, row in rows.items():
            cells = [f"{row[t]['mean']:+.2f} ± {row[t]['standard error']:.2f}" for t in (*tasks, "all")]
            lines.append(
                "| " + " | ".join([str(epoch), name, *cells, f"{row['all']['of the means']:+.2f}"]) + " |"
            )
    return "\n".join(lines)


def main() -> int:
    """Trains, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", help="config files of `jtr fit`, one for each method")
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 20, 40], help="when to measure")
    parser.add_argument("--batches", type=int, default=60, help="how many to measure on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers")
    given, options = parser.parse_known_args()
    torch.set_num_threads(1)
    made = make(given.configs[0], "--seed_everything", str(given.seed), *options)
    model, data = made.model, made.datamodule
    everything = make(given.configs[0], *options, "--data.scenario", "FullLabels").datamodule
    for module in (data, everything):
        module.prepare_data()
        module.setup("fit")
    available = torch.as_tensor(data.datasets["train"].available)
    optimizer = model.optimizer(model.network.parameters())
    methods: dict[str, tuple[Regularizer, Any]] = {}
    for config in given.configs:
        regularizer = make(config, *options).model.regularizer
        regularizer.start_training(available)
        groups = [{k: v for k, v in g.items() if k != "steps"} for g in regularizer.parameter_groups()]
        methods[Path(config).stem] = (regularizer, model.optimizer(groups) if groups else None)
    found: dict[int, dict[str, dict[str, Any]]] = {}
    passes = epochs(everything.train_dataloader())
    model.train()
    for epoch in range(1, max(given.epochs) + 1):
        for batch in next(passes):
            learn(model, optimizer, methods, hidden(batch, available, model))
        if epoch in given.epochs:
            batches = list(itertools.islice(itertools.chain.from_iterable(passes), given.batches))
            found[epoch] = alignment(model, methods, batches, available)
            print(table({epoch: found[epoch]}, list(model.tasks)), flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
