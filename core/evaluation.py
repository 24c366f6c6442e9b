"""What a model makes of images: logits, and from them loss and accuracy.

Training, evaluate and test_report all measure with these functions, batch by
batch in the same order, so that the same weights on the same images give the
same digits everywhere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_SIZE = 1000  # images at a time: a few megabytes of floats


class Measurement(NamedTuple):
    """Loss and accuracy over a set of images."""

    loss: float  # mean cross-entropy in nats
    accuracy: float  # fraction in [0, 1]


@torch.inference_mode()
def measure(model: nn.Module, images: Tensor, labels: Tensor, indices: Tensor) -> Measurement:
    """Measure `model` on the images at `indices`.

    Args:
        model: takes uint8 (B, H, W, C), returns logits (B, classes).
        images: uint8 (N, H, W, C), on the model's device as the others.
        labels: int64 (N,).
        indices: int64 (M,), positions in `images`, M >= 1.
    """
    loss_sum = torch.zeros((), dtype=torch.float64, device=images.device)
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    with _evaluation_mode(model):
        for batch, logits in _batches(model, images, indices):
            targets = labels[batch]
            loss_sum += functional.cross_entropy(logits, targets, reduction="sum")
            correct += (logits.argmax(dim=1) == targets).sum()
    return Measurement(float(loss_sum) / len(indices), int(correct) / len(indices))


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor, indices: Tensor) -> Tensor:
    """Return the probability of each class for the images at `indices`.

    Returns:
        float32 (M, classes), each row sums to 1.
    """
    with _evaluation_mode(model):
        return torch.cat(
            [torch.softmax(logits, dim=1) for _, logits in _batches(model, images, indices)]
        )


def _batches(model: nn.Module, images: Tensor, indices: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for batch in torch.split(indices, BATCH_SIZE):
        yield batch, model(images.index_select(0, batch))


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch off what differs in training (dropout), and leave `model` as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
