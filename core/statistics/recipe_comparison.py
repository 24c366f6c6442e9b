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
import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import stdtr

from core.statistics.paired_tests import LEVEL, holm

POWER = 0.8  # in this share of cases a difference should be found: the usual choice
MOST_SEEDS = 1000  # more would not be trained

FAR = 5  # so many times the deviation of the others makes a recipe unstable

Correct = NDArray[np.bool_]  # (seeds, images): was the image predicted right?


class Difference(NamedTuple):
    """How much more of the images one recipe predicts right than another."""

    mean: float  # of the accuracies, in [-1, 1]
    standard_error: float
    degrees_of_freedom: float
    p_value: float  # two-sided
    seeds_needed: int | None = None  # to find it, if these do not; None: no number would


def paired_difference(first: Correct, second: Correct) -> Difference:
    """Test whether two recipes are equally accurate.

    Args:
        first: bool (S, N), S >= 1, N >= 2: a row a seed, a column an image.
        second: the same seeds and images.

    Returns:
        The accuracy of `first` minus that of `second`, and how sure it is.
    """
    [squares] = _mean_squares([first, second])
    return _tested(squares)


class MeanSquares(NamedTuple):
    """The analysis of variance of a difference, whose entries are -1, 0 or 1."""

    seeds: int  # rows
    images: int  # columns
    mean: float
    of_seeds: float  # at least that of the residual; 0 for one seed
    of_images: float  # beyond the residual; for one seed, all


def _mean_squares(recipes: Sequence[Correct]) -> list[MeanSquares]:
    """Compare all pairs of recipes, each minus a later one, in the order of `combinations`.

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
        _analysed(*shape, *(int(each[i, j]) for each in sums))
        for i, j in itertools.combinations(range(count), 2)
    ]


def _squared_distances(products: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the squared distances of vectors by their products with each other."""
    own = products.diagonal()
    distances: NDArray[np.int64] = (own[:, np.newaxis] + own - 2 * products).astype(np.int64)
    return distances


def _analysed(
    seeds: int, images: int, total: int, by_seed: int, by_image: int, squares: int
) -> MeanSquares:
    """Separate the sources of noise of a difference.

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
        return MeanSquares(seeds, images, mean, 0.0, ms_images)
    ms_seeds = (seeds * by_seed - total**2) / (entries * (seeds - 1))
    rest = entries * squares - seeds * by_seed - images * by_image + total**2
    ms_rest = rest / (entries * (seeds - 1) * (images - 1))
    # No variance is below 0, so a mean square below the residual is chance. Hillis
    # applies this to the images only. With two or three seeds theirs is often near
    # zero by chance as well: without this line, two equal recipes were called
    # different in up to 11 of 100 simulations, with it in 6.
    ms_seeds = max(ms_seeds, ms_rest)
    return MeanSquares(seeds, images, mean, ms_seeds, max(ms_images - ms_rest, 0.0))


def _tested(found: MeanSquares) -> Difference:
    if found.seeds == 1:
        return _of_t(found.mean, found.of_images / found.images, found.images - 1)
    return _of_t(found.mean, *_noise(found, found.seeds))


def _noise(found: MeanSquares, seeds: int) -> tuple[float, float]:
    """Return the variance of the mean over so many seeds, and its degrees of freedom.

    More seeds reduce the noise of the seeds. That of the images stays: its mean square
    grows with the seeds.
    """
    noise = found.of_seeds + found.of_images * seeds / found.seeds
    freedom = (seeds - 1) * (noise / found.of_seeds) ** 2 if found.of_seeds else math.inf
    return noise / (seeds * found.images), freedom


def _seeds_needed(found: MeanSquares, level: float) -> int | None:
    """Return how many seeds would find a difference of this size in `POWER` of the cases.

    Both the difference and its noise are taken as they were seen, so it is a rough number.

    Args:
        found: of at least two seeds, which did not find it.
        level: of p, uncorrected.

    Returns:
        A number above theirs; None if it is above `MOST_SEEDS`, or if no number would,
        because of the noise of the images.
    """

    def enough(seeds: int) -> bool:
        variance, freedom = _noise(found, seeds)
        if variance == 0:
            return found.mean != 0
        shift = abs(found.mean) / math.sqrt(variance)
        if math.isinf(freedom):
            return float(stats.norm.sf(stats.norm.isf(level / 2) - shift)) >= POWER
        return float(stats.nct.sf(stats.t.isf(level / 2, freedom), freedom, shift)) >= POWER

    low, high = found.seeds, found.seeds + 1
    while not enough(high):
        if high >= MOST_SEEDS:
            return None
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


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
        The best minus each, with corrected p values, and how many seeds would find what
        these did not.
    """
    pairs = list(itertools.combinations(range(len(recipes)), 2))
    squares = dict(zip(pairs, _mean_squares(recipes), strict=True))
    p_values = holm([_tested(each).p_value for each in squares.values()])
    corrected = dict(zip(pairs, p_values, strict=True))
    found = []
    for i, recipe in enumerate(recipes):
        difference = paired_difference(recipes[best], recipe)
        if i != best:
            pair = (min(best, i), max(best, i))
            difference = difference._replace(p_value=corrected[pair])
            if difference.p_value >= LEVEL and squares[pair].seeds > 1:
                # Holm's correction of the smallest p, the strictest.
                needed = _seeds_needed(squares[pair], LEVEL / len(pairs))
                difference = difference._replace(seeds_needed=needed)
        found.append(difference)
    return found


def unstable(recipes: Sequence[Correct]) -> list[float | None]:
    """Find the recipes whose seeds disagree by far more than those of the others.

    Its deviation between seeds is more than `FAR` times the median of the others', and more
    than chance gives (F test, corrected for the number of recipes). Deviations below the
    noise of the images count as that: below it, no two seeds are known to differ.

    Args:
        recipes: bool (S, N) each, S >= 2.

    Returns:
        For each how many times as much its seeds disagree; None where it is not by far.
    """
    seeds, images = recipes[0].shape
    freedom = seeds - 1
    deviations = [float(recipe.mean(axis=1).std(ddof=1)) for recipe in recipes]
    # What the images alone would give; where all are right, or all wrong, nothing.
    of_images = [math.sqrt(float(r.mean() * (1 - r.mean())) / images) for r in recipes]
    # The median of the deviations of few seeds lies below the true one: corrected as in the
    # median absolute deviation.
    correction = math.sqrt(float(stats.chi2.median(freedom)) / freedom)
    found: list[float | None] = []
    for i, own in enumerate(deviations):
        rest = [j for j in range(len(recipes)) if j != i]
        if not rest:
            return [None]
        usual = max(
            statistics.median(deviations[j] for j in rest) / correction,
            statistics.median(of_images[j] for j in rest),
        )
        ratio = own / usual if usual else 0.0
        by_chance = float(stats.f.sf(ratio**2, freedom, freedom * len(rest)))
        found.append(ratio if ratio > FAR and by_chance * len(recipes) < LEVEL else None)
    return found
