"""The training loop: stochastic gradient descent on cross-entropy, batch by batch."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import TrainingError
from core.evaluation import measure
from core.params import TrainParams


class HistoryRow(NamedTuple):
    """How the model does after an epoch; epoch 0 is before training."""

    epoch: int
    train_loss: float  # mean cross-entropy in nats
    train_accuracy: float  # fraction in [0, 1]
    val_loss: float
    val_accuracy: float


def shuffled_batches(
    indices: Tensor, batch_size: int, generator: torch.Generator
) -> Sequence[Tensor]:
    """Shuffle `indices` and cut them into batches; the last one may be smaller.

    Args:
        indices: int64 (N,).
        batch_size: images a batch.
        generator: source of the permutation; each call advances it.

    Returns:
        int64 tensors of `batch_size` indices that hold each index once.
    """
    # Drawn on the CPU, so that the order does not depend on the device.
    order = torch.randperm(len(indices), generator=generator).to(indices.device)
    return torch.split(indices[order], batch_size)


def train_epoch(
    model: nn.Module, images: Tensor, labels: Tensor, batches: Iterable[Tensor], lr: float
) -> Tensor:
    """Take one step of gradient descent for each batch, in place.

    Args:
        model: takes uint8 (B, H, W, C), returns logits (B, classes).
        images: uint8 (N, H, W, C).
        labels: int64 (N,).
        batches: int64 (B,) each, positions in `images`.
        lr: learning rate; each weight moves by `-lr` times its gradient.

    Returns:
        float32 (steps,), the mean cross-entropy of each batch before its step.
    """
    model.train()
    parameters = list(model.parameters())
    losses = []
    for batch in batches:
        loss = functional.cross_entropy(model(images.index_select(0, batch)), labels[batch])
        gradients = torch.autograd.grad(loss, parameters)
        # Plain SGD is this one line; the first torch.optim.SGD of a process
        # would import PyTorch's compiler, which takes longer than five epochs.
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(gradient, alpha=lr)
        losses.append(loss.detach())
    return torch.stack(losses)


def fit(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    train_indices: Tensor,
    val_indices: Tensor,
    *,
    settings: TrainParams,
    report: Callable[[HistoryRow], None],
    progress: Callable[[int, Sequence[Tensor]], Iterable[Tensor]],
) -> dict[str, Tensor]:
    """Train `model` in place and return the weights to keep.

    Args:
        model: takes uint8 (B, H, W, C), returns logits (B, classes).
        images: uint8 (N, H, W, C), on the model's device as the others.
        labels: int64 (N,).
        train_indices: int64, positions in `images`.
        val_indices: int64, positions in `images`.
        settings: the section `train` of params.yaml.
        report: gets a row after each epoch, the first before training.
        progress: wraps the batches of an epoch; gets its number and the batches.

    Returns:
        A `state_dict` on the CPU: of the last epoch, or of the one with the
        lowest validation loss, the untrained one included.

    Raises:
        TrainingError: a loss is NaN or infinite.
    """
    order = torch.Generator().manual_seed(settings.seed)
    best_val_loss = math.inf
    kept: dict[str, Tensor] = {}
    for epoch in range(settings.epochs + 1):
        losses = torch.empty(0)
        if epoch > 0:
            batches = shuffled_batches(train_indices, settings.batch_size, order)
            losses = train_epoch(model, images, labels, progress(epoch, batches), settings.lr)
        row = HistoryRow(
            epoch,
            *measure(model, images, labels, train_indices),
            *measure(model, images, labels, val_indices),
        )
        check_finite(epoch, settings.lr, losses, row.train_loss, row.val_loss)
        report(row)
        if settings.keep == "last" or row.val_loss < best_val_loss:
            best_val_loss = row.val_loss
            kept = {name: value.cpu().clone() for name, value in model.state_dict().items()}
    return kept


def check_finite(epoch: int, lr: float, losses: Tensor, *measured: float) -> None:
    """Stop a training whose loss is no longer a number.

    Args:
        epoch: counted from 1; 0 is before training.
        lr: learning rate, for the message.
        losses: float32 (steps,), the loss of each step of the epoch.
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
