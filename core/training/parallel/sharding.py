"""The gradient of a batch, computed as microbatches in parallel.

How a batch is divided is a parameter. How many microbatches are computed at once
is not, and changes no bit: each has a replica of the model to itself, and their
gradients are added in order. So portable numerics, which allow one thread within a
sum, still use several processors.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.training.layers import Dropout
from core.training.parallel.workers import Workers


def parts(images: Tensor, labels: Tensor, count: int) -> list[tuple[Tensor, Tensor]]:
    """Divide a batch into at most `count` microbatches, as `torch.chunk` does."""
    return list(zip(images.chunk(count), labels.chunk(count), strict=True))


def loss_of_part(logits: Tensor, labels: Tensor, share: float, label_smoothing: float) -> Tensor:
    """Return what a microbatch adds to the mean cross-entropy of its batch.

    Args:
        logits: float32 (B, classes).
        labels: int64 (B,).
        share: of the batch, from 0 to 1, that this microbatch is.
        label_smoothing: share of the label that is spread over all classes.
    """
    loss = functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    return loss if share == 1 else loss * share


def give_generator(model: nn.Module, seed: int, part: int) -> torch.Generator:
    """Let the model of a microbatch draw its dropout masks from a generator of its own."""
    generator = torch.Generator(next(model.parameters()).device)
    generator.manual_seed((seed + part) % 2**63)
    for layer in model.modules():
        if isinstance(layer, Dropout):
            layer.generator = generator
    return generator


def mean(buffers: Sequence[Tensor]) -> Tensor:
    """Return the mean of tensors, exactly their value if they are equal."""
    # By their differences: a mean of three equal numbers may be off by a bit.
    return buffers[0] + (torch.stack(list(buffers)) - buffers[0]).mean(dim=0)


class Shards:
    """Replicas of a model that share its parameters; the first one is the model.

    Each keeps the running statistics of batch normalization, and draws the
    masks of dropout, by itself.

    Args:
        model: takes uint8 (B, H, W, C), returns logits (B, classes).
        count: into how many microbatches a batch is divided.
        seed: of the masks of dropout.
        workers: compute the microbatches.
    """

    def __init__(self, model: nn.Module, count: int, *, seed: int, workers: Workers) -> None:
        self.workers = workers
        self.replicas = [model, *(_replica(model) for _ in range(count - 1))]
        self.parameters = [list(replica.parameters()) for replica in self.replicas]
        self.generators = [
            give_generator(replica, seed, part) for part, replica in enumerate(self.replicas)
        ]

    def gradients(
        self, images: Tensor, labels: Tensor, *, label_smoothing: float
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the mean cross-entropy of a batch and its gradient by each parameter.

        Args:
            images: uint8 (B, H, W, C).
            labels: int64 (B,).
            label_smoothing: share of the label that is spread over all classes.
        """
        if len(self.replicas) == 1:
            return self._part(0, images, labels, 1.0, label_smoothing)
        calls = [
            (number, part, targets, len(part) / len(images), label_smoothing)
            for number, (part, targets) in enumerate(parts(images, labels, len(self.replicas)))
        ]
        (loss, gradients), *others = self.workers.map(self._part, *zip(*calls, strict=True))
        for other_loss, other_gradients in others:
            loss = loss + other_loss
            for gradient, other in zip(gradients, other_gradients, strict=True):
                gradient.add_(other)
        return loss, gradients

    def _part(
        self, number: int, images: Tensor, labels: Tensor, share: float, label_smoothing: float
    ) -> tuple[Tensor, list[Tensor]]:
        loss = loss_of_part(self.replicas[number](images), labels, share, label_smoothing)
        return loss.detach(), list(torch.autograd.grad(loss, self.parameters[number]))

    @torch.no_grad()
    def average_buffers(self) -> None:
        """Give all replicas the mean of their running statistics."""
        for buffers in zip(*(replica.buffers() for replica in self.replicas), strict=True):
            if buffers[0].is_floating_point() and len(buffers) > 1:
                average = mean(buffers)
                for buffer in buffers:
                    buffer.copy_(average)

    def buffers(self) -> list[Tensor]:
        """The running statistics of all replicas, one replica after the other."""
        return [buffer for replica in self.replicas for buffer in replica.buffers()]

    def generator_states(self) -> list[Tensor]:
        """The state of the generator of each replica."""
        return [generator.get_state() for generator in self.generators]

    @torch.no_grad()
    def restore(self, buffers: Sequence[Tensor], generator_states: Sequence[Tensor]) -> None:
        """Restore what `buffers` and `generator_states` returned."""
        for buffer, saved in zip(self.buffers(), buffers, strict=True):
            buffer.copy_(saved)
        for generator, state in zip(self.generators, generator_states, strict=True):
            generator.set_state(state)


def _replica(model: nn.Module) -> nn.Module:
    """Copy a model, except for its parameters, which are shared."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, shared)
