"""The arrays on disk as tensors, without a copy: images stay mapped from their file.

So a data set may be larger than the memory: the system reads pages when a batch
needs them, and drops them when it needs the memory.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.data import arrays


class ImageSet(NamedTuple):
    """Images with their labels, and which of them train and which validate."""

    images: Tensor  # uint8 (N, H, W, C); not to be written to
    labels: Tensor  # int64 (N,)
    train_indices: Tensor  # int64, positions in the images; none of a test set
    val_indices: Tensor  # int64, likewise
    class_names: list[str]

    def to(self, device: str) -> "ImageSet":
        """Copy all tensors to a device, unless it is theirs."""
        return ImageSet(
            self.images.to(device),
            self.labels.to(device),
            self.train_indices.to(device),
            self.val_indices.to(device),
            self.class_names,
        )


def read_images(
    *,
    images: Path,
    labels: Path,
    class_names: Path,
    train_indices: Path | None = None,
    val_indices: Path | None = None,
) -> ImageSet:
    """Read images and, if the files of a split are given, how they were split.

    Raises:
        DataError: as `arrays.read_labelled_images` and `arrays.read_split`.
    """
    pixels, classes, names = arrays.read_labelled_images(images, labels, class_names)
    train = val = np.empty(0, dtype=np.int64)
    if train_indices and val_indices:
        train, val = arrays.read_split(train_indices, val_indices, images=len(pixels))
    return ImageSet(of(pixels), of(classes), of(train), of(val), names)


def of(array: NDArray[Any]) -> Tensor:
    """Return a tensor on the memory of `array`, which may be read-only."""
    with warnings.catch_warnings():
        # Nothing here writes to its inputs; a write would end the process.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
