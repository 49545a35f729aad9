"""Does a method pull the network to where the missing labels would? Cosines between gradients, on Rooms.

    python benchmarks/gradient_alignment.py experiments/rooms/{jtr,jtr_crossed,consistency,mtpsl}.yaml --seeds 0 1 2

Rooms knows the labels that a scenario hides. One network is trained with the labels that there are, by the data,
network and optimizer of the first config; each config's regularizer looks on, training its own layers but not the
network. After some epochs, for each of many batches: the cosine between the gradient of the regularizer's terms and
that of the supervised loss of the hidden labels, both for all weights of the network. Above 0, a small step along the
method lowers the loss of the labels that are missing; below 0, it raises it. The last column has the cosine of the
gradients' means, in which what differs from batch to batch cancels. The table has the mean over the seeds, each a
training with other weights, hidden labels and draws, and their standard deviation.

``--oracle`` tells what limits JTR, by two more rows for each of its configs. One has the true hidden labels in place
of what stands in for them, in the gradient that is measured alone: the auto-encoder has learnt without them. The other
has the absolute difference of the same two stacks instead of the distance of their latents.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
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
from jtr_lightning.lightning_cli.command_line import CommandLine, command_line
from jtr_lightning.module import PartialLabelModule
from jtr_lightning.regularizers import JTR, Regularizer

sys.path.append(str(Path(__file__).resolve().parents[1]))
from benchmarks.oracle import latent_distance, plain_distance, stacks_with_hidden_labels

Gradients = dict[str, Tensor]
Methods = dict[str, tuple[Regularizer, Any]]
"""By name: the regularizer, and the optimizer of its own layers, if it has any."""
Rows = dict[str, dict[str, float]]
"""For each method: cosines, and the mean norm of its gradient."""

OF_THE_MEANS = "all, of the means"


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


def learn(model: PartialLabelModule, optimizer: Any, methods: Methods, batch: Batch) -> None:
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
    model: PartialLabelModule, methods: Methods, full: Batch, batch: Batch, oracle: bool = False
) -> tuple[Gradients, Gradients]:
    """Of the hidden labels' loss, for each task and all; and of each method's terms, with the rows of ``--oracle``."""
    weights = list(model.network.parameters())
    predictions = model(batch.image)
    losses = torch.where(batch.available, 0.0, model.supervised_losses(predictions, full)).mean(0)
    missing = {name: flat(loss, weights) for name, loss in zip(model.tasks, losses, strict=True)}
    missing["all"] = flat(losses.sum(), weights)
    found: Gradients = {}
    for name, (regularizer, _) in methods.items():
        views = regularizer.sample_views(batch)
        seen, features = model.run_views(batch, views)
        batches = [batch, *(view.batch for view in views)]
        terms = regularizer(seen, batches, features, 1.0)
        found[name] = flat(sum(terms.values()), weights)
        if oracle and isinstance(regularizer, JTR):
            with torch.random.fork_rng(devices=[]):  # its draws should not change the rows that follow
                stacks = stacks_with_hidden_labels(regularizer, seen, batches, full)
            found[f"{name}, true labels"] = flat(latent_distance(regularizer, stacks), weights)
            found[f"{name}, true labels, no latent"] = flat(plain_distance(stacks), weights)
    return missing, found


def alignment(
    model: PartialLabelModule,
    methods: Methods,
    batches: Sequence[Batch],
    available: Tensor,
    oracle: bool = False,
) -> Rows:
    """For each method the mean cosine with the missing labels of each task and of all, and that of the means."""
    cosines: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    sums: dict[str, Gradients] = {"missing": {}, "method": {}}
    norms: dict[str, list[float]] = defaultdict(list)
    buffers = {name: buffer.clone() for name, buffer in model.network.named_buffers()}
    for full in batches:
        missing, found = gradients_of(model, methods, full, hidden(full, available, model), oracle)
        for kind, gradients in (("missing", missing), ("method", found)):
            for name, gradient in gradients.items():
                sums[kind][name] = sums[kind].get(name, torch.zeros_like(gradient)) + gradient
        for name, gradient in found.items():
            norms[name].append(float(gradient.norm()))
            for task, wanted in missing.items():
                if float(wanted.norm()) > 0:  # a batch may have every label of a task
                    cosines[name][task].append(float(torch.cosine_similarity(gradient, wanted, dim=0)))
    for name, buffer in model.network.named_buffers():
        buffer.copy_(buffers[name])  # measuring should not change what is measured next
    rows: Rows = {}
    for name, tasks in cosines.items():
        rows[name] = {task: statistics.fmean(values) for task, values in tasks.items()}
        both = sums["method"][name], sums["missing"]["all"]
        rows[name][OF_THE_MEANS] = float(torch.cosine_similarity(*both, dim=0))
        rows[name]["gradient norm"] = statistics.fmean(norms[name])
    return rows


def table(found: dict[int, dict[int, Rows]], tasks: Sequence[str]) -> str:
    """What was found for each seed after each number of epochs, as Markdown: means and deviations over the seeds."""
    columns = [*tasks, "all", OF_THE_MEANS]
    head = ["epochs", "method", *columns]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    trainings = list(found.values())
    for epoch, rows in trainings[0].items():
        for name in rows:
            cells = []
            for column in columns:
                values = [training[epoch][name][column] for training in trainings]
                spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
                cells.append(f"{statistics.fmean(values):+.2f}{spread}")
            lines.append("| " + " | ".join([str(epoch), name, *cells]) + " |")
    return "\n".join(lines)


def training(
    configs: Sequence[str],
    options: Sequence[str],
    measured: Sequence[int],
    num_batches: int,
    oracle: bool,
) -> tuple[list[str], dict[int, Rows]]:
    """Trains once.

    Args:
        configs: The first one's network is trained, and each one's regularizer.
        options: Options of ``jtr fit`` for all of them.
        measured: After which epochs to measure.
        num_batches: On how many batches.
        oracle: Whether to add the rows of ``--oracle``.

    Returns:
        The tasks' names, and by epoch what was measured.
    """
    made = make(configs[0], *options)
    model, data = made.model, made.datamodule
    everything = make(configs[0], *options, "--data.scenario", "FullLabels").datamodule
    for module in (data, everything):
        module.prepare_data()
        module.setup("fit")
    available = torch.as_tensor(data.datasets["train"].available)
    optimizer = model.optimizer(model.network.parameters())
    methods: Methods = {}
    for config in configs:
        regularizer = make(config, *options).model.regularizer
        regularizer.start_training(available)
        groups = [{k: v for k, v in g.items() if k != "steps"} for g in regularizer.parameter_groups()]
        methods[Path(config).stem] = (regularizer, model.optimizer(groups) if groups else None)
    found: dict[int, Rows] = {}
    passes = epochs(everything.train_dataloader())
    model.train()
    for epoch in range(1, max(measured) + 1):
        for batch in next(passes):
            learn(model, optimizer, methods, hidden(batch, available, model))
        if epoch in measured:
            batches = list(itertools.islice(itertools.chain.from_iterable(passes), num_batches))
            found[epoch] = alignment(model, methods, batches, available, oracle)
    return list(model.tasks), found


def main() -> int:
    """Trains, measures, prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("configs", nargs="+", help="config files of `jtr fit`, one for each method")
    parser.add_argument("--epochs", type=int, nargs="+", default=[10, 20, 40], help="when to measure")
    parser.add_argument("--batches", type=int, default=60, help="how many to measure on")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        help="one training each: weights, hidden labels and order",
    )
    parser.add_argument("--oracle", action="store_true", help="add rows with the true hidden labels for JTR")
    parser.add_argument("--out", type=Path, help="a JSON file for the numbers of each training")
    given, options = parser.parse_known_args()
    for name, numbers in (("--epochs", given.epochs), ("--batches", [given.batches])):
        if min(numbers) < 1:
            parser.error(f"{name} should be at least 1; found {min(numbers)}.")
    if len(set(given.seeds)) < len(given.seeds):
        parser.error(f"--seeds should differ from each other; found {given.seeds}.")
    torch.set_num_threads(1)
    found: dict[int, dict[int, Rows]] = {}
    for seed in given.seeds:
        seeded = ["--seed_everything", str(seed), "--data.seed", str(seed), *options]
        tasks, found[seed] = training(given.configs, seeded, given.epochs, given.batches, given.oracle)
        print(f"Seed {seed}\n{table({seed: found[seed]}, tasks)}\n", flush=True)
    if len(found) > 1:
        print(f"Mean ± standard deviation over {len(found)} trainings\n{table(found, tasks)}", flush=True)
    if given.out is not None:
        given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
