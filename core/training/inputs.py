"""Loads what train, evaluate and test_report need: images, and a model for them.

torch is imported in the functions: `numerics.pin` comes before it.
"""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core.pipeline import provenance
from core.training import numerics
from core.training.model_params import ModelParams
from core.training.train_params import TrainParams

if TYPE_CHECKING:
    from torch import nn

    from core.training.parallel.workers import Workers
    from core.training.tensors import ImageSet


class Inputs(NamedTuple):
    """Images, a model, and the workers to measure it with."""

    data: "ImageSet"
    model: "nn.Module"
    workers: "Workers"  # to measure the model with

    def to(self, device: str) -> "Inputs":
        """Move the images and the model to a device."""
        return Inputs(self.data.to(device), self.model.to(device), self.workers)


def load(
    kind: str,
    compute: TrainParams,
    architecture: ModelParams,
    *,
    images: Path,
    labels: Path,
    class_names: Path,
    train_indices: Path | None = None,
    val_indices: Path | None = None,
    weights: Path | None = None,
    seed: int = 0,
    others: Collection[Path] = (),
) -> Inputs:
    """Pin the numerics, compare the inputs with dvc.lock, read them, and build the model.

    Args:
        kind: of numerics, `portable` or `fast`.
        compute: the section `train` of params.yaml, or its `threads` and `device`.
        architecture: the section `model`, or its `name` and the parameters of that.
        images: a file of uint8 (N, H, W, C).
        labels: of int64 (N,).
        class_names: of the names of the classes, in the order of their labels.
        train_indices: of int64, positions of the images that train; None for a
            set that is not split.
        val_indices: likewise, of those that validate.
        weights: of a trained model; None for fresh weights.
        seed: of fresh weights.
        others: further inputs of the stage to compare with dvc.lock.

    Returns:
        All on the CPU, the model in evaluation mode if its weights were read.

    Raises:
        SetupError: as `numerics.pin`.
        DataError: an input changed since a stage wrote it, or is not what it should be.
        ModelError: the weights do not fit the architecture, or are damaged.
    """
    numerics.pin(kind, compute.threads, compute.device)
    files = [class_names, images, labels, train_indices, val_indices, weights, *others]
    provenance.check(*(file for file in files if file))
    from core.training import architectures, tensors
    from core.training import weights as model_files
    from core.training.parallel.workers import Workers

    data = tensors.read_images(
        images=images,
        labels=labels,
        class_names=class_names,
        train_indices=train_indices,
        val_indices=val_indices,
    )
    _, height, width, channels = data.images.shape
    shape = (height, width, channels)
    model = architectures.build(architecture, shape, len(data.class_names), seed=seed)
    if weights:
        model_files.load_into(model, weights, name=architecture.name)
    return Inputs(data, model, Workers(numerics.calls_at_once(kind, compute.threads)))
