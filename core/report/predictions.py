"""The prediction of a model for each image, as rows of a file that git tracks.

They allow two models to be compared image by image, in a few hundred kilobytes and
without any picture.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import Indices, Labels

COLUMNS = ("index", "label", "prediction", "probability")
PROBABILITY_DECIMALS = 4

Probabilities = NDArray[np.float32]  # (N, classes), each row sums to 1


def rows(
    indices: Indices, labels: Labels, probabilities: Probabilities
) -> Iterator[tuple[int, int, int, float]]:
    """Yield the `COLUMNS` of one image after the other.

    Args:
        indices: int64 (N,), the position of each image in its set.
        labels: int64 (N,).
        probabilities: float32 (N, classes); the highest of a row is predicted.
    """
    predictions = probabilities.argmax(axis=1)  # (N,)
    highest = probabilities[np.arange(len(labels)), predictions]  # (N,)
    for index, label, prediction, probability in zip(
        indices.tolist(), labels.tolist(), predictions.tolist(), highest.tolist(), strict=True
    ):
        yield index, label, prediction, round(probability, PROBABILITY_DECIMALS)
