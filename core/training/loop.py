"""The training loop: minimizes cross-entropy batch by batch, and resumes where it stopped.

A whole epoch is planned at once: the order of the images, how each is changed,
the learning rates. So a training that was stopped plans its epoch again from the
same state of the generator, and resumes at the step where it was, with the same
bits.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from core.pipeline import wording
from core.pipeline.errors import ParamsError, SetupError, TrainingError
from core.training import augmentation, optimizers, schedules
from core.training.augmentation import Draws
from core.training.evaluation import measure, predict
from core.training.optimizers import Optimizer
from core.training.parallel import distributed, workers
from core.training.parallel.distributed import DistributedShards, Processes
from core.training.parallel.sharding import Shards
from core.training.parallel.workers import Workers
from core.training.train_params import TrainParams


class HistoryRow(NamedTuple):
    """How the model does after an epoch; epoch 0 is before training."""

    epoch: int
    train_loss: float  # mean cross-entropy in nats
    train_accuracy: float  # fraction in [0, 1]
    val_loss: float
    val_accuracy: float


class Step(NamedTuple):
    """The inputs of one step."""

    indices: Tensor  # int64 (B,), positions in the images
    draws: Draws  # how each of the B images is changed
    lr: float


class Checkpoint(Protocol):
    """Where a training saves what it needs to resume."""

    def load(self) -> dict[str, Any] | None:
        """Return what was saved last, or None."""

    def due(self) -> bool:
        """Whether it is time to save again."""

    def save(self, state: dict[str, Any]) -> None:
        """Save atomically."""


def plan_epoch(
    train_indices: Tensor, epoch: int, settings: TrainParams, generator: torch.Generator
) -> list[Step]:
    """Shuffle the images, cut them into batches, and draw how each image is changed.

    Args:
        train_indices: int64 (N,).
        epoch: counted from 1.
        settings: the section `train` of params.yaml.
        generator: source of all random numbers; each call advances it.

    Returns:
        Steps of `batch_size` images that hold each index once; the last one may
        be smaller.
    """
    count, size, device = len(train_indices), settings.batch_size, train_indices.device
    # Drawn on the CPU, so that the order does not depend on the device.
    order = torch.randperm(count, generator=generator).to(device)
    draws = augmentation.draw(count, settings.augment, generator, device)
    batches = torch.split(train_indices[order], size)
    done, total = (epoch - 1) * len(batches), settings.epochs * len(batches)
    return [
        Step(
            batch,
            draws.of(number * size, (number + 1) * size),
            settings.lr * schedules.factor(settings.schedule, done + number, total),
        )
        for number, batch in enumerate(batches)
    ]


def take_steps(
    steps: Iterable[Step],
    images: Tensor,
    labels: Tensor,
    *,
    shards: Shards | DistributedShards,
    optimizer: Optimizer,
    settings: TrainParams,
) -> Iterator[Tensor]:
    """Take each step in place, and yield the mean cross-entropy of its batch before the step.

    Args:
        steps: as `plan_epoch` returns them.
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        shards: the model.
        optimizer: of the model's parameters.
        settings: the section `train` of params.yaml.
    """
    for step in steps:
        batch = augmentation.augment(
            images.index_select(0, step.indices), settings.augment, step.draws
        )
        loss, gradients = shards.gradients(
            batch, labels[step.indices], label_smoothing=settings.label_smoothing
        )
        optimizer.step(gradients, step.lr)
        yield loss


def check_batches(
    model: nn.Module,
    images: Tensor,
    train_indices: Tensor,
    settings: TrainParams,
    processes: Processes = distributed.ONE_PROCESS,
) -> None:
    """Refuse batches for which batch normalization is undefined.

    It needs the variance of each channel over all pixels of a microbatch: one image
    whose map has shrunk to 1 × 1 has none.

    Args:
        model: takes uint8 (B, H, W, C).
        images: uint8 (N, H, W, C).
        train_indices: int64 (M,), positions in `images`.
        settings: the section `train` of params.yaml.
        processes: those that train the model together.

    Raises:
        ParamsError: a microbatch holds one image, and a map has one pixel.
    """
    count, size = len(train_indices), settings.batch_size
    batches = {min(size, count), count % size or size}
    shards = max(settings.shards, processes.count)
    parts = [part for batch in batches for part in torch.empty(batch).chunk(shards)]
    if min(map(len, parts)) > 1:
        return
    pixels: list[int] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs: pixels.append(inputs[0][0, 0].numel()))
        for layer in model.modules()
        if isinstance(layer, nn.BatchNorm2d)
    ]
    predict(model, images, train_indices[:1])
    for hook in hooks:
        hook.remove()
    if 1 in pixels:
        raise ParamsError(
            "a batch of one image cannot be normalized: its maps have shrunk to one pixel",
            expected="at least 2 images in each batch and microbatch",
            found=f"1, of {wording.count(count, 'image')} with train.batch_size: {size} "
            f"and train.shards: {shards}",
            todo="change train.batch_size, train.shards or split.train_size a little",
        )


class Training:
    """The state of a training between two steps.

    Args:
        model: takes uint8 (B, H, W, C), returns logits (B, classes).
        settings: the section `train` of params.yaml.
        workers: compute the microbatches, and measure.
        processes: those that train the model together; each runs the same
            training, and gets the same weights.

    Raises:
        SetupError: there are several processes, and another number of shards.
    """

    def __init__(
        self,
        model: nn.Module,
        settings: TrainParams,
        workers: Workers = workers.ONE_WORKER,
        processes: Processes = distributed.ONE_PROCESS,
    ) -> None:
        if processes.count > 1 and settings.shards not in (1, processes.count):
            raise SetupError(
                "train.shards does not fit the processes",
                expected=f"1 or {processes.count}, as each process computes one microbatch",
                found=str(settings.shards),
                todo=f"set train.shards: 1, or have the launcher start {settings.shards}",
            )
        self.model = model
        self.settings = settings
        self.workers = workers
        self.processes = processes
        self.shards: Shards | DistributedShards = (
            Shards(model, settings.shards, seed=settings.seed, workers=workers)
            if processes.count == 1
            else DistributedShards(model, processes, seed=settings.seed)
        )
        self.optimizer = optimizers.build(model, settings)
        self.order = torch.Generator().manual_seed(settings.seed)
        self.epoch_order = self.order.get_state()  # before the epoch was planned
        self.epoch = 0
        self.taken = 0  # steps of this epoch
        # Of these steps, with room for all of the epoch: a small tensor for each would split
        # the freed memory of the batches, so that the next batch does not fit.
        self.losses = torch.empty(0)
        self.history: list[HistoryRow] = []
        self.best_epoch = 0
        self.kept: dict[str, Tensor] = {}  # on the CPU

    def fit(
        self,
        images: Tensor,
        labels: Tensor,
        train_indices: Tensor,
        val_indices: Tensor,
        *,
        report: Callable[[HistoryRow], None],
        progress: Callable[[int, Sequence[Step], int], Iterable[Step]],
        checkpoint: Checkpoint | None = None,
    ) -> dict[str, Tensor]:
        """Train the model in place and return the weights to keep.

        Args:
            images: uint8 (N, H, W, C), on the model's device as the others.
            labels: int64 (N,).
            train_indices: int64, positions in `images`.
            val_indices: int64, positions in `images`.
            report: gets a row after each epoch, the first before training.
            progress: wraps the steps of an epoch; gets its number, the steps, and
                how many of them were taken before.
            checkpoint: saves the state between steps, to resume from it.

        Returns:
            A `state_dict` on the CPU: of the last epoch, or of the one with the
            lowest validation loss, the untrained one included.

        Raises:
            TrainingError: a loss is NaN or infinite.
        """
        # Only the first process reads and writes it: other machines may not have it.
        first = self.processes.first
        saved = self.processes.broadcast(checkpoint.load() if checkpoint and first else None)
        if saved:
            self._restore(saved)
        for row in self.history:
            report(row)
        while not self._ended():
            self.model.train()
            if self.epoch > 0:
                steps = plan_epoch(train_indices, self.epoch, self.settings, self.order)
                self.losses = _lengthened(self.losses, len(steps), images.device)
                for loss in take_steps(
                    progress(self.epoch, steps[self.taken :], self.taken),
                    images,
                    labels,
                    shards=self.shards,
                    optimizer=self.optimizer,
                    settings=self.settings,
                ):
                    self.losses[self.taken] = loss
                    self.taken += 1
                    if checkpoint and self.processes.broadcast(checkpoint.due()):
                        state = self._state()
                        if first:
                            checkpoint.save(state)
                self.shards.average_buffers()
            row = HistoryRow(
                self.epoch,
                *measure(self.model, images, labels, train_indices, workers=self.workers),
                *measure(self.model, images, labels, val_indices, workers=self.workers),
            )
            check_finite(self.epoch, self.settings.lr, self.losses, row.train_loss, row.val_loss)
            self._note(row)
            report(row)
        return self.kept

    def _ended(self) -> bool:
        patience = self.settings.patience
        waited = self.epoch - 1 - self.best_epoch
        return self.epoch > self.settings.epochs or (patience is not None and waited >= patience)

    def _note(self, row: HistoryRow) -> None:
        """End an epoch."""
        best = not self.history or row.val_loss < self.history[self.best_epoch].val_loss
        if best:
            self.best_epoch = self.epoch
        if best or self.settings.keep == "last":
            state = self.model.state_dict()
            self.kept = {name: value.cpu().clone() for name, value in state.items()}
        self.history.append(row)
        self.epoch += 1
        self.taken, self.losses = 0, torch.empty(0)
        self.epoch_order = self.order.get_state()

    def _state(self) -> dict[str, Any]:
        return {
            "epoch": self.epoch,
            "epoch_order": self.epoch_order,
            "losses": self.losses[: self.taken].cpu().clone(),  # not its storage
            "history": [tuple(row) for row in self.history],
            "best_epoch": self.best_epoch,
            "kept": self.kept,
            "dropout": self.shards.generator_states(),
            "buffers": [buffer.cpu() for buffer in self.shards.buffers()],
            "tensors": [tensor.detach().cpu() for tensor in self._tensors()],
        }

    @torch.no_grad()
    def _restore(self, state: dict[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.epoch_order = state["epoch_order"]
        self.order.set_state(self.epoch_order)
        self.losses = state["losses"]
        self.taken = len(self.losses)
        self.history = [HistoryRow(*row) for row in state["history"]]
        self.best_epoch = state["best_epoch"]
        self.kept = state["kept"]
        self.shards.restore(state["buffers"], state["dropout"])
        for tensor, saved in zip(self._tensors(), state["tensors"], strict=True):
            tensor.copy_(saved)

    def _tensors(self) -> list[Tensor]:
        """The tensors that a step changes in place, the same in all processes."""
        return [*self.model.parameters(), *self.optimizer.state()]


def _lengthened(losses: Tensor, length: int, device: torch.device) -> Tensor:
    """Return a tensor of that length that starts with `losses`."""
    longer = losses.new_empty(length, device=device)
    longer[: len(losses)] = losses
    return longer


def check_finite(epoch: int, lr: float, losses: Tensor, *measured: float) -> None:
    """Stop a training whose loss is no longer a number.

    Args:
        epoch: counted from 1; 0 is before training.
        lr: learning rate, for the message.
        losses: of each step of the epoch, float32 (steps,).
        measured: the losses that were measured after the last step.

    Raises:
        TrainingError: a loss is NaN or infinite; names the first step, from 1.
    """
    steps = len(losses)
    every = [*losses.tolist(), *measured]
    broken = [position for position, loss in enumerate(every) if not math.isfinite(loss)]
    if broken:
        step = min(broken[0] + 1, steps)
        raise TrainingError(
            "the training diverged",
            expected="a finite loss",
            found=str(every[broken[0]]),
            where=f"epoch {epoch}, step {step} of {steps}, train.lr = {lr:g}",
            todo="lower train.lr; no model was written",
        )
