"""The data and the training loop of the benchmarks, as stages/train.py sets them up.

Imports torch, so a benchmark imports this after it has pinned its numerics.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.mnist import RAW, SPLIT
from core.pipeline import params
from core.training import models, numerics, tensors
from core.training.loop import Training, plan_epoch, take_steps
from core.training.parallel import distributed
from core.training.parallel.distributed import DistributedWorkers, Processes
from core.training.tensors import TrainingSet


def load(raw: Path = RAW, split: Path = SPLIT) -> TrainingSet:
    """Read the training images, mapped from their file, their labels and the split."""
    return tensors.read_training_set(
        images=raw / "train_images.npy",
        labels=raw / "train_labels.npy",
        class_names=raw / "classes.json",
        train_indices=split / "train_indices.npy",
        val_indices=split / "val_indices.npy",
    )


def start(
    data: TrainingSet,
    kind: str,
    threads: int | None,
    *,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    processes: Processes = distributed.ALONE,
) -> Training:
    """Build a model and its training.

    Args:
        data: on the CPU; for the shape of the images, the number of classes, and the
            standardization, if the settings ask for it.
        kind: of numerics; `numerics.pin` was called with it and with `threads`.
        threads: how many compute; None means one for each processor.
        model: overrides of the section `model` of params.yaml.
        train: overrides of its section `train`.
        processes: those that train the model together, including this one.
    """
    given = params.check()
    model_settings = given.model.model_copy(update=model)
    settings = given.train.model_copy(update=train)
    _, height, width, channels = data.images.shape
    network = models.build(
        model_settings, (height, width, channels), len(data.class_names), seed=settings.seed
    )
    if model_settings.standardize:
        models.standardize(network, data.images, data.train_indices)
    calls = numerics.calls_at_once(kind, threads, settings.shards)
    workers = DistributedWorkers(processes, calls, max(1, torch.get_num_threads() // calls))
    return Training(network.to(settings.device), settings, workers, processes)


def train_epoch(training: Training, data: TrainingSet, *, epoch: int = 1) -> list[Tensor]:
    """Take the steps of an epoch as `Training.fit` does, and return the loss of each."""
    training.model.train()
    losses = take_steps(
        plan_epoch(data.train_indices, epoch, training.settings, training.order),
        data.images,
        data.labels,
        shards=training.shards,
        optimizer=training.optimizer,
        settings=training.settings,
    )
    taken = list(losses)
    training.shards.average_buffers()
    return taken
