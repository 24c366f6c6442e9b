"""The training loop: stochastic gradient descent on cross-entropy, batch by batch."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.errors import TrainingError
from core.evaluation import Measurement


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


def check_finite(epoch: int, lr: float, losses: Tensor, *measurements: Measurement) -> None:
    """Stop a training whose loss is no longer a number.

    Args:
        epoch: counted from 1.
        lr: learning rate, for the message.
        losses: float32 (steps,), what `train_epoch` returned.
        measurements: what was measured after the epoch's last step.

    Raises:
        TrainingError: a loss is NaN or infinite; names the first step, from 1.
    """
    steps = len(losses)
    diverged = torch.nonzero(~torch.isfinite(losses))
    if len(diverged):
        step = int(diverged[0]) + 1
        loss = float(losses[step - 1])
    else:
        infinite = [m.loss for m in measurements if not math.isfinite(m.loss)]
        if not infinite:
            return
        step, loss = steps, infinite[0]
    raise TrainingError(
        f"the training diverged: its loss became {loss}",
        expected="a finite loss",
        found=f"{loss}",
        where=f"epoch {epoch}, step {step} of {steps}, train.lr = {lr:g}",
        todo="lower train.lr; no model was written",
    )
