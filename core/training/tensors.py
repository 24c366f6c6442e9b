"""The data on disk as tensors, without a copy: images stay mapped from their file.

So a data set may be larger than the memory; pages of it are read when a batch
needs them, and the system drops those that it needs room for.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from core.data import arrays


class TrainingSet(NamedTuple):
    """All that a model is trained on and chosen by."""

    images: Tensor  # uint8 (N, H, W, C); not to be written to
    labels: Tensor  # int64 (N,)
    train_indices: Tensor  # int64, positions in the images
    val_indices: Tensor  # int64, likewise
    class_names: list[str]

    def to(self, device: str) -> "TrainingSet":
        """Copy all tensors to a device, unless it is theirs."""
        return TrainingSet(
            self.images.to(device),
            self.labels.to(device),
            self.train_indices.to(device),
            self.val_indices.to(device),
            self.class_names,
        )


def read_training_set(
    *, images: Path, labels: Path, class_names: Path, train_indices: Path, val_indices: Path
) -> TrainingSet:
    """Read the training images and how they were dealt out.

    Raises:
        DataError: as `arrays.read_labelled_images` and `arrays.read_split`.
    """
    pixels, classes, names = arrays.read_labelled_images(images, labels, class_names)
    train, val = arrays.read_split(train_indices, val_indices, images=len(pixels))
    return TrainingSet(of(pixels), of(classes), of(train), of(val), names)


def of(array: NDArray[Any]) -> Tensor:
    """Return a tensor on the memory of `array`, which may be read-only."""
    with warnings.catch_warnings():
        # Nothing here writes to its inputs; if anything did, the system would end it.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
