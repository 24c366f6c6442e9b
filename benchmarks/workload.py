"""The data and the training loop of the benchmarks, as stages/train.py sets them up.

Imports torch, so a benchmark imports this after it has pinned its numerics.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from benchmarks.mnist import RAW, SPLIT
from core.pipeline import params
from core.pipeline.params import Section
from core.training import architectures, numerics, tensors
from core.training.loop import Training, plan_epoch, take_steps
from core.training.model_params import ModelParams
from core.training.parallel import distributed
from core.training.parallel.distributed import DistributedWorkers, Processes
from core.training.tensors import ImageSet
from core.training.train_params import TrainParams

Sections = TypeVar("Sections", bound=Section)


def load(raw: Path = RAW, split: Path = SPLIT) -> ImageSet:
    """Read the training images, mapped from their file, their labels and the split."""
    return tensors.read_images(
        images=raw / "train_images.npy",
        labels=raw / "train_labels.npy",
        class_names=raw / "classes.json",
        train_indices=split / "train_indices.npy",
        val_indices=split / "val_indices.npy",
    )


def start(
    data: ImageSet,
    kind: str,
    threads: int | None,
    *,
    model: Mapping[str, Any] | None = None,
    train: Mapping[str, Any] | None = None,
    processes: Processes = distributed.ONE_PROCESS,
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
    model_settings = _changed(given.section(ModelParams), model or {})
    settings = _changed(given.section(TrainParams), train or {})
    _, height, width, channels = data.images.shape
    network = architectures.build(
        model_settings, (height, width, channels), len(data.class_names), seed=settings.seed
    )
    if model_settings.standardize:
        architectures.standardize(network, data.images, data.train_indices)
    calls = numerics.calls_at_once(kind, threads, settings.shards)
    workers = DistributedWorkers(processes, calls, max(1, torch.get_num_threads() // calls))
    return Training(network.to(settings.device), settings, workers, processes)


def _changed(section: Sections, changes: Mapping[str, Any]) -> Sections:
    return type(section).model_validate(section.model_dump() | dict(changes))


def train_epoch(training: Training, data: ImageSet, *, epoch: int = 1) -> None:
    """Take the steps of an epoch as `Training.fit` does, and note the loss of each."""
    training.model.train()
    steps = plan_epoch(data.train_indices, epoch, training.settings, training.order)
    losses = torch.empty(len(steps), device=data.images.device)
    taken = take_steps(
        steps,
        data.images,
        data.labels,
        shards=training.shards,
        optimizer=training.optimizer,
        settings=training.settings,
    )
    for number, loss in enumerate(taken):
        losses[number] = loss
    training.shards.average_buffers()
