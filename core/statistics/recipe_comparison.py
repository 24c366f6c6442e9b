"""Whether one recipe is better than another, beyond the noise of seeds and images.

An accuracy depends on two draws: the seeds that the models were trained with,
and the images that they are measured on. Both recipes are measured on the same
of both, so the test is paired over both. It is the one of studies where every
reader reads every case under two methods: seeds are the readers, images the
cases, and what is tested is the mean difference. Its noise has three sources,
which an analysis of variance separates: how the difference varies from seed to
seed, from image to image, and the residual.

    D. D. Dorfman, K. S. Berbaum, C. E. Metz, "Receiver operating characteristic
    rating analysis", Investigative Radiology 27 (1992), 723-731.
    S. L. Hillis, "A comparison of denominator degrees of freedom methods for
    multiple observer ROC analysis", Statistics in Medicine 26 (2007), 596-619.

A paired t-test over only the seeds would ignore the images, one over only the
images the seeds. Where the images add no variance to that of the seeds, this test
is the first; with one seed it is the second, and says nothing about seeds.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

Correct = NDArray[np.bool_]  # (seeds, images): was the image predicted right?


class Difference(NamedTuple):
    """How much more of the images one recipe predicts right than another."""

    mean: float  # of the accuracies, in [-1, 1]
    standard_error: float
    degrees_of_freedom: float
    p_value: float  # two-sided


def paired_difference(first: Correct, second: Correct) -> Difference:
    """Test whether two recipes are equally accurate.

    Args:
        first: bool (S, N), S >= 1, N >= 2: a row a seed, a column an image.
        second: the same seeds and images.

    Returns:
        The accuracy of `first` minus that of `second`, and how sure it is.
    """
    [difference] = _differences([first, second])
    return difference


def _differences(recipes: Sequence[Correct]) -> list[Difference]:
    """Test all pairs of recipes, each minus a later one, in the order of `combinations`.

    The sums of squares of a difference follow from those of the recipes and their
    products, which two matrix products give for all pairs at once. They are sums
    of integers, so they are exact.
    """
    shape = recipes[0].shape
    assert all(recipe.shape == shape for recipe in recipes)
    count = len(recipes)
    by_seed = np.stack([recipe.sum(axis=1, dtype=np.int64) for recipe in recipes])  # (R, S)
    apart = by_seed[:, np.newaxis] - by_seed  # (R, R, S)
    products = np.zeros((count, count))
    for seed in range(shape[0]):
        right = np.stack([recipe[seed] for recipe in recipes]).astype(np.float64)  # (R, N)
        products += right @ right.T
    by_image = np.stack([recipe.sum(axis=0, dtype=np.float64) for recipe in recipes])  # (R, N)
    sums = (
        apart.sum(axis=2),
        (apart**2).sum(axis=2),
        _squared_distances(by_image @ by_image.T),
        _squared_distances(products),
    )
    return [
        _tested(*shape, *(int(each[i, j]) for each in sums))
        for i, j in itertools.combinations(range(count), 2)
    ]


def _squared_distances(products: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the squared distances of vectors by their products with each other."""
    own = products.diagonal()
    distances: NDArray[np.int64] = (own[:, np.newaxis] + own - 2 * products).astype(np.int64)
    return distances


def _tested(
    seeds: int, images: int, total: int, by_seed: int, by_image: int, squares: int
) -> Difference:
    """Test a difference, whose entries are -1, 0 or 1.

    Args:
        seeds: S, the rows.
        images: N, the columns.
        total: the sum of all entries.
        by_seed: the sum of the squares of the sums of the rows.
        by_image: the sum of the squares of the sums of the columns.
        squares: the sum of the squares of all entries.
    """
    entries = seeds * images
    mean = total / entries
    # Mean squares; the notation of Hillis is MS(TR), MS(TC) and MS(TRC).
    ms_images = (images * by_image - total**2) / (entries * (images - 1))
    if seeds == 1:
        return _of_t(mean, ms_images / images, images - 1)
    ms_seeds = (seeds * by_seed - total**2) / (entries * (seeds - 1))
    rest = entries * squares - seeds * by_seed - images * by_image + total**2
    ms_rest = rest / (entries * (seeds - 1) * (images - 1))
    # No variance is below 0, so a mean square below the residual is chance. Hillis
    # applies this to the images only. With two or three seeds theirs is often near
    # zero by chance as well: without this line, two equal recipes were called
    # different in up to 11 of 100 simulations, with it in 6.
    ms_seeds = max(ms_seeds, ms_rest)
    noise = ms_seeds + max(ms_images - ms_rest, 0.0)
    freedom = (seeds - 1) * (noise / ms_seeds) ** 2 if ms_seeds else math.inf
    return _of_t(mean, noise / entries, freedom)


def _of_t(mean: float, variance: float, freedom: float) -> Difference:
    error = math.sqrt(variance)
    if mean == 0:
        return Difference(mean, error, freedom, 1.0)
    if error == 0:
        return Difference(mean, error, freedom, 0.0)
    return Difference(mean, error, freedom, 2 * float(stdtr(freedom, -abs(mean) / error)))


def against_the_best(recipes: Sequence[Correct], best: int) -> list[Difference]:
    """Compare the best recipe with each, itself included.

    The best is chosen by the figures that are then tested, which any pair of
    recipes could have led to. So the p values are corrected (Holm) for all
    pairs and not only for those with the best in them.

    Args:
        recipes: bool (S, N) each, at least one.
        best: the position of the best.

    Returns:
        The best minus each, with corrected p values.
    """
    pairs = itertools.combinations(range(len(recipes)), 2)
    p_values = holm([difference.p_value for difference in _differences(recipes)])
    corrected = dict(zip(pairs, p_values, strict=True)) | {(best, best): 1.0}
    return [
        paired_difference(recipes[best], recipe)._replace(
            p_value=corrected[min(best, i), max(best, i)]
        )
        for i, recipe in enumerate(recipes)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p values for their number, so that the chance of any false alarm stays.

    Source: S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure",
    Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[position]))
        corrected[position] = highest
    return corrected
