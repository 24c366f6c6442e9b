"""Splits the training images into those to train on and those to validate on.

Nothing depends on the processor, so the same seed gives the
same split on every machine.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.data.arrays import Indices, Labels
from core.pipeline import wording
from core.pipeline.errors import ParamsError


class Split(NamedTuple):
    """Two disjoint sets of positions in the training set, each in ascending order."""

    train_indices: Indices
    val_indices: Indices


def split(
    labels: Labels,
    *,
    seed: int,
    val_fraction: float,
    stratify: bool = False,
    train_size: int | None = None,
) -> Split:
    """Permute all images; the first ones validate, of the others `train_size` train.

    Args:
        labels: int64 (N,), the class of each image.
        seed: of the permutation.
        val_fraction: share of N for validation, rounded to whole images.
        stratify: keep each class's share in train and val, exact by largest remainder.
        train_size: how many of the other images train; None for all of them.

    Raises:
        ParamsError: train or val would be empty, or `train_size` is more than is left.
    """
    total = len(labels)
    val_size = round(total * val_fraction)
    rest = total - val_size
    if val_size == 0 or rest == 0:
        raise ParamsError(
            "split.val_fraction leaves train or val without images",
            expected="at least one image to train on and one to validate on",
            found=f"{val_fraction} of {wording.count(total, 'image')} is {val_size:,} to validate "
            f"on and {rest:,} to train on",
            todo="choose a val_fraction further from 0 and 1",
        )
    if train_size is not None and train_size > rest:
        raise ParamsError(
            "split.train_size is larger than the number of images left",
            expected=f"at most {rest:,}: {wording.count(total, 'image')} less {val_size:,} for "
            "validation",
            found=f"{train_size:,}",
            todo="lower split.train_size or split.val_fraction, or set train_size: null for all",
        )

    order: Indices = np.random.default_rng(seed).permutation(total)
    val, others = _take(order, labels, val_size, stratify=stratify)
    train = others
    if train_size is not None:
        train, _ = _take(others, labels, train_size, stratify=stratify)
    return Split(np.sort(train), np.sort(val))


def _take(order: Indices, labels: Labels, count: int, *, stratify: bool) -> tuple[Indices, Indices]:
    """Return the first `count` of `order`, by class if asked for, and the others."""
    if not stratify:
        return order[:count], order[count:]
    ordered_labels = labels[order]
    taken = np.zeros(len(order), dtype=bool)
    for label, quota in enumerate(_quotas(np.bincount(ordered_labels), count)):
        taken[np.flatnonzero(ordered_labels == label)[:quota]] = True
    return order[taken], order[~taken]


def _quotas(class_counts: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Divide `count` in proportion to `class_counts`, by largest remainder.

    Each class gets its share rounded down; the images still missing go to the
    classes with the largest remainders, among equals to the lower label.
    """
    shares = class_counts * count
    quotas: NDArray[np.int64] = shares // class_counts.sum()
    remainders = shares % class_counts.sum()
    missing = count - quotas.sum()
    quotas[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return quotas
