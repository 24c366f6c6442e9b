"""Finds test images that a model was trained on.

The test accuracy is that on new images only if no test image is among the training images.
"""

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import Images, Indices


def seen(images: Images, train_images: Images, train_indices: Indices) -> NDArray[np.bool_]:
    """Find the images that are among those trained on, by all of their pixels.

    Args:
        images: uint8 (N, H, W, C).
        train_images: uint8 (M, ...), read one at a time, so they may be mapped from a file.
        train_indices: int64, positions in `train_images`, of those trained on.

    Returns:
        bool (N,).
    """
    found = np.zeros(len(images), dtype=bool)
    if images.shape[1:] != train_images.shape[1:]:
        return found
    positions: dict[bytes, list[int]] = {}
    for position, image in enumerate(images):
        positions.setdefault(image.tobytes(), []).append(position)
    for index in np.sort(train_indices):  # in the order of the file
        found[positions.get(train_images[index].tobytes(), [])] = True
    return found
