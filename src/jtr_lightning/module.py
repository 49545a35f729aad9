"""The LightningModule that trains one network for many tasks on partially labelled images."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from jtr_lightning.balancing import Balancing, FixedWeights
from jtr_lightning.baseline import Baseline
from jtr_lightning.batch import Batch
from jtr_lightning.checkpoint import (
    DESCRIPTION,
    IMAGE_SIZE,
    check_tasks,
    check_weights,
    image_size,
    read_checkpoint,
)
from jtr_lightning.described import Described, rebuild
from jtr_lightning.errors import ConfigError
from jtr_lightning.evaluation import Evaluation, TaskLosses, measurable
from jtr_lightning.networks.base import Network
from jtr_lightning.optimization import make_optimizer, show_score, stepping, training_steps
from jtr_lightning.regularizers.base import Regularizer, View
from jtr_lightning.requirements import check_length, check_names, check_parts, check_trainer
from jtr_lightning.tasks import Task

if TYPE_CHECKING:
    from jtr_lightning.prediction import ImageLike

Predictions = dict[str, Tensor]


@dataclass(frozen=True)
class StepLosses:
    """What the loss of a training step is made of, without gradients.

    Attributes:
        total: Scalar.
        tasks: Each sample's loss for each task, ``[B, K]``; 0 where there is no label.
        terms: The regularizer's terms by name, scalars.
        index: The samples' numbers, ``[B]``.
    """

    total: Tensor
    tasks: Tensor
    terms: dict[str, Tensor]
    index: Tensor


class PartialLabelModule(Described, L.LightningModule):
    """A network, its supervised losses and a regularizer for the labels that are missing.

    Without a regularizer it is supervised multi-task training. Subclass it to change a hook; a new task, network,
    regularizer or balancing is an argument instead.

    Logged: ``train/loss``, ``train/supervised``, ``train/<term>`` of the regularizer, ``train/<task>/loss``; for
    ``val`` and ``test``: ``<stage>/<task>/<metric>``, ``<stage>/score`` (``evaluation.score``; monitor it) and, with a
    baseline that knows every task, ``<stage>/delta`` in percent; ``val/<name>`` of what the regularizer diagnoses.

    Args:
        tasks: Task name to task, the same as the data's.
        network: Not yet built; it is built for the tasks here.
        regularizer: None for supervised training alone.
        balancing: How the tasks' losses become one; every weight 1 by default.
        optimizer: Makes the optimizer from parameter groups; Adam with learning rate 1e-4 by default.
        lr_scheduler: Makes the learning-rate schedule, stepped once per epoch; none by default. ReduceLROnPlateau looks
            at ``val/score`` after each validation.
        baseline: What the delta compares with; no delta by default.
        compile: Compile the network and what the regularizer names in ``compilable`` with ``torch.compile``. The first
            steps take minutes; checkpoints are the same with and without.
        channels_last: Keep the weights of convolutions in the memory order that matrix units read fastest.

    Attributes:
        image_size: Height and width that the data module resizes images to, learnt when training starts and kept in
            the checkpoint; None if they keep their own size.
        step_losses: What the last training step's loss was made of, for callbacks; None before the first.

    Raises:
        ConfigError: There is no task, or a part does not fit the tasks.
    """

    not_described = ("optimizer", "lr_scheduler", "compile", "channels_last")

    def __init__(
        self,
        tasks: dict[str, Task],
        network: Network,
        regularizer: Regularizer | None = None,
        balancing: Balancing | None = None,
        optimizer: Callable[[Iterable[Any]], Optimizer] | None = None,
        lr_scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        baseline: Baseline | None = None,
        compile: bool = False,  # noqa: A002  the name of what it switches on
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        check_names(tasks)
        check_parts(network, regularizer, balancing, baseline)
        self.tasks = dict(tasks)
        self.network = network.build(tasks)
        self.regularizer = None if regularizer is None else regularizer.build(tasks, network.feature_channels)
        self.balancing = (FixedWeights() if balancing is None else balancing).build(tasks)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.baseline = baseline
        self.image_size: tuple[int, int] | None = None
        self.train_losses = TaskLosses(len(tasks))
        self.evaluations = nn.ModuleDict({stage: Evaluation(tasks) for stage in ("val", "test")})
        trained: list[nn.Module] = (
            [self.network] if self.regularizer is None else [self.network, self.regularizer]
        )
        if channels_last:
            for part in trained:
                # Changes the 4-dimensional weights alone; a convolution with such
                # weights brings its input into the same order.
                part.to(memory_format=torch.channels_last)
        if compile:
            # In place: a wrapper (torch.compile(module)) would rename the weights in checkpoints.
            called = () if self.regularizer is None else self.regularizer.compilable()
            for part in (self.network, *called):
                part.compile()
        self._compiled = compile
        self._step: tuple[Tensor, Tensor, Tensor] | None = None
        self.step_losses: StepLosses | None = None
        self._total_steps: float = float("inf")

    # Prediction

    def forward(self, image: Tensor) -> Predictions:
        """Predicts all tasks.

        Args:
            image: RGB in [0, 1], ``[B, 3, H, W]``.

        Returns:
            Task name to prediction, ``[B, C, H, W]`` for dense tasks and ``[B, C]`` for image-level ones.
        """
        return self._run(image)[0]

    def predict(
        self,
        image: ImageLike,
        size: tuple[int, int] | Literal["trained", "own"] = "trained",
        tile: int | tuple[int, int] | None = None,
        overlap: float = 0.25,
        flip: bool = False,
        decode: bool = True,
    ) -> Predictions:
        """Predicts images of any size and kind, and undoes every preprocessing.

        Args:
            image: A PIL image, turned upright where its camera noted so (EXIF); an array ``[H, W, 3]``, ``[H, W]`` or
                ``[B, H, W, 3]``, uint8 or floating-point in [0, 1]; or a tensor ``[3, H, W]`` or ``[B, 3, H, W]`` of
                the same values.
            size: What to resize the image to before the network: as in training, nothing (``own``), or a height and
                a width. Predictions always have the size of the image.
            tile: Height and width of overlapping tiles, for images larger than this; predicted at their own size.
            overlap: Share of a tile that the next one covers again, in [0, 1).
            flip: Average with the prediction of the mirrored image.
            decode: Give labels (class ids, depth, unit vectors ...); otherwise what ``forward`` gives.

        Returns:
            Task name to values on the module's device: ``[H, W]`` or ``[C, H, W]`` for dense tasks, ``[]`` or ``[C]``
            for image-level ones; for a batch with ``B`` in front.

        Raises:
            ConfigError: The image or a parameter does not fit.
        """
        from jtr_lightning.prediction import Predictor, predict

        return predict(Predictor(self, size, tile, overlap, flip), image, decode)

    def _run(self, image: Tensor, labelled: Tensor | None = None) -> tuple[Predictions, list[Tensor]]:
        raw, features = self.network(image) if labelled is None else self.network(image, labelled)
        return {name: task.activate(raw[name]) for name, task in self.tasks.items()}, features

    def run_views(self, batch: Batch, views: Sequence[View]) -> tuple[list[Predictions], list[list[Tensor]]]:
        """Predicts a batch and its views: one pass for all that have a gradient, and one for those without.

        Args:
            batch: The supervised batch.
            views: Further views of it, of the same size.

        Returns:
            For the batch and then each view: its predictions, and the network's features.
        """
        if self.regularizer is None and self.network.takes_labelled:
            supervised, its_features = self._run(batch.image, batch.labelled_on_host())
            return [supervised], [its_features]
        wanted = [True, *(view.grad for view in views)]
        images = [batch.image, *(view.batch.image for view in views)]
        predictions: list[Predictions] = [{} for _ in wanted]
        features: list[list[Tensor]] = [[] for _ in wanted]
        for grad in (True, False):
            chosen = [i for i, has_grad in enumerate(wanted) if has_grad is grad]
            if not chosen:
                continue
            image = torch.cat([images[i] for i in chosen])
            if self._compiled:
                # The two passes have different numbers of images, but each the same in every step. The compiler would
                # take the second for a number that changes, and make slower kernels for any.
                torch._dynamo.mark_static(image, 0)  # noqa: SLF001  documented under this name
            with torch.set_grad_enabled(grad and torch.is_grad_enabled()):
                joined, joined_features = self._run(image)
            for part, i in enumerate(chosen):
                rows = slice(part * len(batch), (part + 1) * len(batch))
                predictions[i] = {name: values[rows] for name, values in joined.items()}
                features[i] = [values[rows] for values in joined_features]
        return predictions, features

    def supervised_losses(self, predictions: Predictions, batch: Batch) -> Tensor:
        """Each sample's loss for each task, ``[B, K]``; 0 with a gradient path where there is no label.

        Raises:
            ConfigError: The batch has other tasks, or in another order.
        """
        batch.check_order(self.tasks)
        losses = [task.loss(predictions[name], batch.labels[name]) for name, task in self.tasks.items()]
        # A loader of one's own may leave a hidden label in its place.
        return torch.where(batch.available, torch.stack(losses, 1), 0.0)

    # Training

    def setup(self, stage: str) -> None:
        """Looks at the strategy and the precision, and whether a checkpoint can be written.

        Raises:
            ConfigError: The strategy is the first FSDP; all numbers, those of labels and metrics too, are 16-bit; or
                a part was made with an argument that a checkpoint cannot hold.
        """
        check_trainer(self.trainer, stage)
        if stage == TrainerFn.FITTING and self.trainer.checkpoint_callbacks:
            self.describe()  # or it would be told with the first checkpoint, after hours perhaps

    def on_fit_start(self) -> None:
        # A trainer with loaders instead of a data module does not tell.
        self.image_size = getattr(getattr(self.trainer, "datamodule", None), "size", None)
        self.train_losses.reset()  # an earlier training may have ended within an epoch
        if self.trainer.world_size > 1:
            # Every rank was seeded alike; views and draws of one rank should not repeat those of another.
            torch.manual_seed(torch.initial_seed() + self.global_rank)

    def on_train_start(self) -> None:
        """Learns how long the training is, and tells the regularizer which labels there are.

        Raises:
            ConfigError: It is not known how long the training is, but the regularizer's ramp is a share of it.
        """
        # Not earlier: it opens the loader, and one that is opened before a checkpoint is read begins its epoch anew.
        self._total_steps = training_steps(self.trainer)
        check_length(self.regularizer, self._total_steps)
        # A loader of one's own may not tell.
        available = getattr(getattr(self.trainer.train_dataloader, "dataset", None), "available", None)
        if self.regularizer is not None and available is not None:
            self.regularizer.start_training(torch.as_tensor(available))

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]; 0 for a training without end."""
        return min(1.0, self.global_step / self._total_steps) if self._total_steps > 0 else 0.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        views = () if self.regularizer is None else self.regularizer.sample_views(batch)
        predictions, features = self.run_views(batch, views)
        losses = self.supervised_losses(predictions[0], batch)
        # A label without a valid place has no loss, and no more part in the balancing than one that is missing.
        usable = batch.available & measurable(self.tasks, batch)
        supervised = self.balancing(losses, usable)
        terms: dict[str, Tensor] = {}
        if self.regularizer is not None:
            batches = [batch, *(view.batch for view in views)]
            terms = self.regularizer(predictions, batches, features, self.progress)
        total: Tensor = sum(terms.values(), start=supervised)
        self._step = (total, losses, usable)
        detached = {name: term.detach() for name, term in terms.items()}
        self.step_losses = StepLosses(total.detach(), losses.detach(), detached, batch.index)
        self._log_training(total, supervised, terms, losses, batch, usable)
        return total

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Leaves the backward pass to the balancing, which may need the tasks' gradients one by one.

        Raises:
            ConfigError: It does, and a subclass's training step gave a loss without them.
        """
        step, self._step = self._step, None  # the graph should not outlive the step
        factor: Tensor | None = None
        if step is not None:
            # Lightning divides by accumulated batches and multiplies by the scale of 16-bit gradients; a subclass may
            # add, or make its loss of something else.
            (factor,) = torch.autograd.grad(loss, step[0], retain_graph=True, allow_unused=True)
        if step is not None and factor is not None:
            _, losses, usable = step
            self.balancing.backward(loss, losses * factor, usable, list(self.network.parameters()))
            return
        if type(self.balancing).backward is not Balancing.backward:
            raise ConfigError(
                f"A training step with {type(self.balancing).__name__} should return what "
                "PartialLabelModule.training_step gave, perhaps with further terms, since the tasks' gradients are "
                f"joined one by one; found a loss that {type(self).__name__} made itself. Call "
                "super().training_step() in it and return what it gives, or take another balancing, such as "
                "FixedWeights."
            )
        loss.backward(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _log_training(
        self,
        total: Tensor,
        supervised: Tensor,
        terms: Mapping[str, Tensor],
        losses: Tensor,
        batch: Batch,
        usable: Tensor,
    ) -> None:
        size = len(batch)
        # Never with prog_bar=True, for which Lightning reads a value, and waits for a GPU, in every step: see LossBar.
        self.log("train/loss", total.detach(), on_step=True, on_epoch=False, batch_size=size)
        self.log("train/supervised", supervised.detach(), on_step=True, on_epoch=False, batch_size=size)
        for name, term in terms.items():
            self.log(f"train/{name}", term.detach(), on_step=True, on_epoch=False, batch_size=size)
        self.train_losses.update(losses.detach(), batch.available, usable)

    def on_train_epoch_end(self) -> None:
        """Logs each task's mean loss over its labels of the epoch that have a valid pixel."""
        of_labels, of_measurable = self.train_losses.compute().tolist()
        self.train_losses.reset()
        self.balancing.end_epoch(of_labels)
        for name, mean in zip(self.tasks, of_measurable, strict=True):
            if not math.isnan(mean):
                self.log(f"train/{name}/loss", mean, sync_dist=True)

    # Validation and test; an earlier one may have ended within its set

    def on_validation_epoch_start(self) -> None:
        self._evaluation("val").reset()

    def on_test_epoch_start(self) -> None:
        self._evaluation("test").reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        predictions = self(batch.image)
        self._evaluation("val").update(predictions, batch)
        if batch_idx == 0 and self.regularizer is not None:
            for name, value in self.regularizer.diagnose(predictions, batch).items():
                # Rank 0's alone: a rank without a sample would leave the others waiting for its share of a mean.
                self.log(f"val/{name}", value, batch_size=len(batch), sync_dist=True, rank_zero_only=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluation("test").update(self(batch.image), batch)

    def on_validation_epoch_end(self) -> None:
        """Logs what was measured, and shows the score to a schedule that waits for it.

        Raises:
            ConfigError: There is such a schedule, but no score.
        """
        show_score(self, self._finish_evaluation("val").get("score"))

    def on_test_epoch_end(self) -> None:
        self._finish_evaluation("test")

    def predict_step(self, batch: Batch, batch_idx: int) -> Predictions:
        return cast(Predictions, self(batch.image))

    def _finish_evaluation(self, stage: str) -> dict[str, float]:
        evaluation = self._evaluation(stage)
        results = evaluation.compute()
        evaluation.reset()
        summary = evaluation.summarize(results, stage, self.baseline)
        shown = {*summary, *(f"{name}/{task.headline}" for name, task in self.tasks.items())}
        for name, value in {**results, **summary}.items():
            self.log(f"{stage}/{name}", value, sync_dist=True, prog_bar=name in shown)
        return summary

    def _evaluation(self, stage: str) -> Evaluation:
        return cast(Evaluation, self.evaluations[stage])

    # Optimizer and checkpoint

    def configure_optimizers(self) -> Any:
        """The optimizer with the parameters of network, balancing and regularizer, and its schedules.

        Raises:
            ConfigError: The optimizer refuses an argument.
        """
        groups: list[dict[str, Any]] = [{"params": list(self.network.parameters())}]
        balancing = list(self.balancing.parameters())
        if balancing:
            groups.append({"params": balancing})
        if self.regularizer is not None:
            groups.extend(self.regularizer.parameter_groups())
        optimizer, schedules = make_optimizer(groups, self.optimizer, self.lr_scheduler)
        return ([optimizer], [stepping(s, self._trainer) for s in schedules]) if schedules else optimizer

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[DESCRIPTION] = self.describe()
        checkpoint[IMAGE_SIZE] = None if self.image_size is None else list(self.image_size)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_tasks(checkpoint, self.tasks, in_order=self.trainer.state.fn == TrainerFn.FITTING)
        self.image_size = image_size(checkpoint)
        if self.strict_loading:
            check_weights(checkpoint, self.state_dict())

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: str | Path,
        map_location: torch.device | str | None = None,
        strict: bool = True,
        **overrides: Any,
    ) -> PartialLabelModule:
        """Rebuilds a trained module from its checkpoint alone, running no code from the file.

        Args:
            checkpoint_path: A checkpoint that this class wrote.
            map_location: Where to put the weights; the CPU by default.
            strict: Refuse missing or unexpected weights.
            **overrides: Arguments of ``__init__`` to use in place of the saved ones.

        Returns:
            The module, in evaluation mode.

        Raises:
            ConfigError: No such file, not a checkpoint of this library, or made with classes that are not imported.
        """
        checkpoint = read_checkpoint(checkpoint_path, map_location)
        description = checkpoint[DESCRIPTION]
        arguments = {**description["init_args"], **dict.fromkeys(overrides)}
        with torch.inference_mode(False):  # what is made within it could never be trained
            module = rebuild({**description, "init_args": {**arguments, **overrides}})
        if not isinstance(module, cls):
            raise ConfigError(
                f"The checkpoint '{checkpoint_path}' should hold a {cls.__name__}; found a {type(module).__name__}."
            )
        if strict:
            check_weights(checkpoint, module.state_dict())
        module.load_state_dict(checkpoint["state_dict"], strict=strict)
        module.image_size = image_size(checkpoint)
        # The weights were copied to where the new module's are.
        return (module if map_location is None else module.to(map_location)).eval()
