"""What a classifier gets right and wrong, class by class and image by image.

Everything here is counting, comparisons and one division a number, which every
processor does alike. core.training.evaluation computes the probabilities: NumPy's
exp and log differ between processors.
"""

from statistics import fmean
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.data.arrays import Labels
from core.report.predictions import Probabilities

Matrix = NDArray[np.int64]  # (classes, classes): a row a label, a column a prediction


class BestAndWorst(NamedTuple):
    """Two images of one class, as positions in the set."""

    label: int
    best: int  # highest probability of the label
    worst: int  # lowest probability of the label


def confusion_matrix(labels: Labels, predictions: Labels, *, classes: int) -> Matrix:
    """Count the images of each label by what was predicted for them.

    Args:
        labels: int64 (N,) in [0, classes).
        predictions: int64 (N,) in [0, classes).
        classes: how many classes there are.

    Returns:
        int64 (classes, classes): a row a label, a column a prediction.
    """
    counts = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def per_class(matrix: Matrix, class_names: list[str]) -> pd.DataFrame:
    """Tabulate precision, recall, F1 and support of each class.

    A share of nothing is 0: the precision of a class that is never predicted,
    the recall of one without images, the F1 of one with neither.

    Args:
        matrix: as `confusion_matrix` returns it.
        class_names: one a class.

    Returns:
        The columns class, precision, recall, f1, support; a row a class.
    """
    table = pd.DataFrame(
        {
            "class": class_names,
            "correct": matrix.diagonal(),
            "predicted": matrix.sum(axis=0),
            "support": matrix.sum(axis=1),
        }
    )
    # Where a divisor is 0, so is the count above it: 0 / 1 instead of 0 / 0.
    table["precision"] = table["correct"] / table["predicted"].clip(lower=1)
    table["recall"] = table["correct"] / table["support"].clip(lower=1)
    table["f1"] = 2 * table["correct"] / (table["predicted"] + table["support"]).clip(lower=1)
    return table[["class", "precision", "recall", "f1", "support"]]


def balanced_accuracy(matrix: Matrix) -> float:
    """Return the mean recall of the classes that have images: each class counts alike."""
    counts = zip(matrix.diagonal().tolist(), matrix.sum(axis=1).tolist(), strict=True)
    return fmean(correct / support for correct, support in counts if support)


def largest_class(matrix: Matrix) -> tuple[int, float]:
    """Return the label with the most images, and the accuracy of always predicting it."""
    supports = matrix.sum(axis=1)
    largest = int(supports.argmax())
    return largest, int(supports[largest]) / int(supports.sum())


def shades(matrix: Matrix) -> NDArray[np.float64]:
    """Return how dark to draw each cell of a confusion matrix.

    A right cell by its share of its row. A wrong one likewise, but relative to the
    largest wrong share: these are small, and all would be pale otherwise.

    Returns:
        float64 (classes, classes) in [0, 1], to two decimals.
    """
    shares: NDArray[np.float64] = matrix / matrix.sum(axis=1, keepdims=True).clip(min=1)
    wrong = ~np.eye(len(matrix), dtype=bool)
    largest = shares[wrong].max(initial=0)
    if largest > 0:
        shares[wrong] /= largest
    return shares.round(2)


def most_wrong(labels: Labels, probabilities: Probabilities, *, count: int) -> list[int]:
    """Find the images that were predicted wrong with the highest probability.

    Args:
        labels: int64 (N,).
        probabilities: float32 (N, classes); the highest of a row is predicted.
        count: how many images to find.

    Returns:
        At most `count` positions, the most confident first; of equals the
        earlier image first.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != labels)
    confidence = probabilities[wrong].max(axis=1)
    order = np.argsort(-confidence, kind="stable")[:count]
    return [int(position) for position in wrong[order]]


def best_and_worst(labels: Labels, probabilities: Probabilities) -> list[BestAndWorst]:
    """Find the image of each class that the model knows best, and the one it knows worst.

    Both go by the probability of the label, whatever was predicted: so a class
    with one image has it twice, and of equals the earlier image is taken.

    Args:
        labels: int64 (N,).
        probabilities: float32 (N, classes).

    Returns:
        One a class that has images, in the order of the labels.
    """
    found = []
    for label in range(probabilities.shape[1]):
        positions = np.flatnonzero(labels == label)
        if len(positions):
            own = probabilities[positions, label]  # (images of this class,)
            best, worst = positions[own.argmax()], positions[own.argmin()]
            found.append(BestAndWorst(label, int(best), int(worst)))
    return found


def random_sample(total: int, *, count: int, seed: int) -> list[int]:
    """Draw a random sample of the images.

    Args:
        total: how many images there are.
        count: how many to draw.
        seed: of the permutation whose first images they are.

    Returns:
        At most `count` positions in [0, total), each at most once.
    """
    order = np.random.default_rng(seed).permutation(total)[:count]
    return [int(position) for position in order]
