"""Evaluates a model on images: logits, and from them loss and accuracy.

Training, evaluate and test_report all measure with these functions, batch by
batch in the same order, so that the same weights on the same images give the
same digits everywhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.training.parallel.workers import ONE_WORKER, Result, Workers

BATCH_SIZE = 250  # images at a time: a CNN needs 50 kB of activations for each


class Measurement(NamedTuple):
    """Loss and accuracy over a set of images."""

    loss: float  # mean cross-entropy in nats
    accuracy: float  # fraction in [0, 1]


def measure(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    indices: Tensor,
    *,
    workers: Workers = ONE_WORKER,
) -> Measurement:
    """Measure `model` on the images at `indices`.

    Args:
        model: takes uint8 (B, H, W, C), returns logits (B, classes).
        images: uint8 (N, H, W, C), on the model's device as the others.
        labels: int64 (N,).
        indices: int64 (M,), positions in `images`, M >= 1.
        workers: measure batches in parallel; any number gives the same bits.
    """

    def measure_batch(batch: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        targets = labels[batch]
        loss = functional.cross_entropy(logits, targets, reduction="sum")
        return loss, (logits.argmax(dim=1) == targets).sum()

    loss_sum = torch.zeros((), dtype=torch.float64, device=images.device)
    correct = torch.zeros((), dtype=torch.int64, device=images.device)
    for loss, right in _each_batch(measure_batch, model, images, indices, workers):
        loss_sum += loss
        correct += right
    return Measurement(float(loss_sum) / len(indices), int(correct) / len(indices))


def predict(
    model: nn.Module, images: Tensor, indices: Tensor, *, workers: Workers = ONE_WORKER
) -> Tensor:
    """Return the probability of each class for the images at `indices`.

    Returns:
        float32 (M, classes), each row sums to 1.
    """

    def predict_batch(batch: Tensor, logits: Tensor) -> Tensor:
        return torch.softmax(logits, dim=1)

    # Not a list of all results: they would split the freed memory of the batches.
    probabilities = torch.empty(0)
    done = 0
    for part in _each_batch(predict_batch, model, images, indices, workers):
        if not done:
            probabilities = part.new_empty(len(indices), part.shape[1])
        probabilities[done : done + len(part)] = part
        done += len(part)
    return probabilities


def _each_batch(
    function: Callable[[Tensor, Tensor], Result],
    model: nn.Module,
    images: Tensor,
    indices: Tensor,
    workers: Workers,
) -> Iterator[Result]:
    """Yield for each batch the result of `function` for its indices and logits."""

    @torch.inference_mode()  # holds for one thread
    def run(batch: Tensor) -> Result:
        return function(batch, model(images.index_select(0, batch)))

    with _evaluation_mode(model):
        yield from workers.map(run, torch.split(indices, BATCH_SIZE))


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Switch off what differs in training (dropout), and leave `model` as it was."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
