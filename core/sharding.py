"""The gradient of a batch, computed in parts side by side.

How a batch is parted is a setting; how many parts are computed at once is not,
and changes no bit: each part has a replica of the model to itself, and their
gradients are added in order. It is how portable numerics, which allow no second
thread within a sum, use more than one processor all the same.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.layers import Dropout
from core.workers import Workers


class Shards:
    """Replicas of a model that share its parameters; the first one is the model.

    Each keeps the running statistics of batch normalization, and draws the
    masks of dropout, by itself.

    Args:
        model: takes uint8 (B, H, W, C), returns logits (B, classes).
        count: into how many parts a batch is divided.
        seed: of the masks of dropout.
        workers: compute the parts.
    """

    def __init__(self, model: nn.Module, count: int, *, seed: int, workers: Workers) -> None:
        self.workers = workers
        self.replicas = [model, *(_replica(model) for _ in range(count - 1))]
        self.parameters = [list(replica.parameters()) for replica in self.replicas]
        self.generators = []
        for number, replica in enumerate(self.replicas):
            generator = torch.Generator(self.parameters[0][0].device)
            generator.manual_seed((seed + number) % 2**63)
            self.generators.append(generator)
            for layer in replica.modules():
                if isinstance(layer, Dropout):
                    layer.generator = generator

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
        parts = [
            (number, part, targets, len(part) / len(images), label_smoothing)
            for number, (part, targets) in enumerate(
                zip(images.chunk(len(self.replicas)), labels.chunk(len(self.replicas)), strict=True)
            )
        ]
        (loss, gradients), *others = self.workers.map(self._part, *zip(*parts, strict=True))
        for other_loss, other_gradients in others:
            loss = loss + other_loss
            for gradient, other in zip(gradients, other_gradients, strict=True):
                gradient.add_(other)
        return loss, gradients

    def _part(
        self, number: int, images: Tensor, labels: Tensor, share: float, label_smoothing: float
    ) -> tuple[Tensor, list[Tensor]]:
        logits = self.replicas[number](images)
        loss = functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
        if share != 1:
            loss = loss * share
        return loss.detach(), list(torch.autograd.grad(loss, self.parameters[number]))

    @torch.no_grad()
    def average_buffers(self) -> None:
        """Give all replicas the mean of their running statistics."""
        for buffers in zip(*(replica.buffers() for replica in self.replicas), strict=True):
            if buffers[0].is_floating_point() and len(buffers) > 1:
                # By what they differ: a mean of three equal numbers may be off by a bit.
                mean = buffers[0] + (torch.stack(buffers) - buffers[0]).mean(dim=0)
                for buffer in buffers:
                    buffer.copy_(mean)

    def state(self) -> list[Tensor]:
        """What the replicas carry from step to step besides parameters, to be filled in place."""
        return [buffer for replica in self.replicas for buffer in replica.buffers()]


def _replica(model: nn.Module) -> nn.Module:
    """Copy a model, but for its parameters, which are those of the model."""
    shared = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, shared)
