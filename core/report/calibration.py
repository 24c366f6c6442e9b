"""Calibration of a classifier's probabilities, and selective prediction.

Sums are exact (`math.fsum`), so that neither the processor nor the order of
additions changes a digit. Everything else is comparisons and one operation a
number, which every processor does alike.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import Labels
from core.report.predictions import Probabilities

BINS = 15  # as Guo et al. have them


class Bin(NamedTuple):
    """The images whose highest probability lies above `low`, up to `high`."""

    low: float
    high: float
    images: int  # at least 1
    confidence: float  # mean highest probability, in [0, 1]
    accuracy: float  # share that is right, in [0, 1]


class Coverage(NamedTuple):
    """Selective prediction: what the model still decides if it rejects some images."""

    handed_over: float  # share of the images that it rejects, in [0, 1]
    images: int  # that it decides, at least 1
    accuracy: float  # share of these that is right, in [0, 1]


def reliability(labels: Labels, probabilities: Probabilities, *, bins: int = BINS) -> list[Bin]:
    """Compare confidence with accuracy, in bins of equal width.

    Source: C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of
    Modern Neural Networks", ICML 2017, section 2. The confidence of an image is
    its highest probability; bin m holds those in ((m - 1) / bins, m / bins].

    Args:
        labels: int64 (N,).
        probabilities: float32 (N, classes); the highest of a row is predicted.
        bins: how many there are between 0 and 1.

    Returns:
        The bins that hold an image, in ascending order.
    """
    confidence, right = _confidence(probabilities), _right(labels, probabilities)
    numbers = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)  # (N,)
    found = []
    for number in np.unique(numbers).tolist():
        inside = numbers == number
        images = int(inside.sum())
        found.append(
            Bin(
                low=number / bins,
                high=(number + 1) / bins,
                images=images,
                confidence=math.fsum(confidence[inside].tolist()) / images,
                accuracy=int(right[inside].sum()) / images,
            )
        )
    return found


def expected_calibration_error(bins: Sequence[Bin]) -> float:
    """Return the mean distance between confidence and accuracy, weighted by images.

    Source: as `reliability`, equation 3.

    Args:
        bins: as `reliability` returns them, at least one.

    Returns:
        From 0, calibrated, to 1.
    """
    total = sum(each.images for each in bins)
    gaps = [each.images * abs(each.accuracy - each.confidence) for each in bins]
    return math.fsum(gaps) / total


def brier_score(labels: Labels, probabilities: Probabilities) -> float:
    """Return the mean squared distance of the probabilities from the truth.

    Source: G. W. Brier, "Verification of Forecasts Expressed in Terms of
    Probability", Monthly Weather Review 78 (1950), 1-3, equation 2: summed over
    all classes, and not halved, as some do for two classes.

    Args:
        labels: int64 (N,).
        probabilities: float32 (N, classes), each row sums to 1.

    Returns:
        From 0, certain and right, to 2, certain and wrong.
    """
    distances = probabilities.astype(np.float64)  # (N, classes)
    distances[np.arange(len(labels)), labels] -= 1
    return math.fsum((distances * distances).ravel().tolist()) / len(labels)


def coverage(
    labels: Labels, probabilities: Probabilities, shares: Sequence[float]
) -> list[Coverage]:
    """Measure the accuracy on the rest when the least certain images are rejected.

    Args:
        labels: int64 (N,).
        probabilities: float32 (N, classes); the highest of a row is its
            confidence; of equals the earlier image is rejected first.
        shares: of the images to reject, rounded to whole images; each leaves at
            least one.

    Returns:
        One a share, in their order.
    """
    total = len(labels)
    order = least_certain(probabilities, count=total)
    # The right ones among the least certain k, for k from 0 to N.
    passed = np.concatenate([[0], np.cumsum(_right(labels, probabilities)[order])])
    found = []
    for share in shares:
        rejected = round(share * total)
        decided = total - rejected
        right = int(passed[total] - passed[rejected])
        found.append(Coverage(share, decided, right / decided))
    return found


def least_certain(probabilities: Probabilities, *, count: int) -> list[int]:
    """Find the images whose highest probability is lowest.

    Args:
        probabilities: float32 (N, classes).
        count: how many images to find.

    Returns:
        At most `count` positions, the least certain first; of equals the
        earlier image first.
    """
    order = np.argsort(_confidence(probabilities), kind="stable")[:count]
    return [int(position) for position in order]


def _confidence(probabilities: Probabilities) -> NDArray[np.float64]:
    confidence: NDArray[np.float64] = probabilities.max(axis=1).astype(np.float64)
    return confidence


def _right(labels: Labels, probabilities: Probabilities) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = probabilities.argmax(axis=1) == labels
    return right
