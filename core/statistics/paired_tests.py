"""Whether one model is better than another beyond chance: paired statistics.

Two models that decide the same images are compared image by image: those that
both get right, or both wrong, say nothing about which is better.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from core.statistics.intervals import Z_95

LEVEL = 0.05  # a p below it is called a difference; the intervals hold 95 %
CLOSE = 1e-12  # how near to -1 and 1, where the variance vanishes, a limit is searched


class Difference(NamedTuple):
    """How much more the second of two is right than the first."""

    mean: float  # a difference of two fractions, in [-1, 1]
    low: float  # of the 95 % interval
    high: float
    p: float  # two-sided, of no difference


def difference(fixed: int, broken: int, total: int) -> Difference:
    """Compare two models by the images that only one of them gets right.

    Args:
        fixed: how many images the second gets right and the first wrong.
        broken: how many the first gets right and the second wrong.
        total: how many images both decided, at least 1.
    """
    low, high = tango(fixed, broken, total)
    return Difference((fixed - broken) / total, low, high, mcnemar(fixed, broken))


def mcnemar(fixed: int, broken: int) -> float:
    """Return the two-sided p of McNemar's exact test.

    If neither model were better, each image that they decide differently would
    be a fair coin. Source: Q. McNemar, "Note on the sampling error of the
    difference between correlated proportions or percentages", Psychometrika 12
    (1947), 153-157; exact, as a binomial test.
    """
    if fixed + broken == 0:
        return 1.0
    return float(stats.binomtest(fixed, fixed + broken).pvalue)


def tango(fixed: int, broken: int, total: int) -> tuple[float, float]:
    """Return the 95 % score interval of the difference of two paired fractions.

    It contains every difference that the score test does not reject. For a
    difference of 0, that test is McNemar's asymptotic one: so whenever the exact
    test finds a difference, the interval excludes 0.

    Source: T. Tango, "Equivalence test and confidence interval for the
    difference in proportions for the paired-sample design", Statistics in
    Medicine 17 (1998), 891-908.

    Args:
        fixed: as for `difference`.
        broken: as for `difference`.
        total: as for `difference`.
    """

    def score(delta: float) -> float:
        """The distance of `delta` from what was seen, in standard errors."""
        # The likeliest share of broken images if the difference is delta, as
        # the root of a * q^2 + b * q + c = 0.
        a = 2 * total
        b = -fixed - broken + (2 * total - fixed + broken) * delta
        c = -broken * delta * (1 - delta)
        share = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = total * (2 * share + delta * (1 - delta))
        return (fixed - broken - total * delta) / math.sqrt(max(variance, CLOSE**2))

    mean = (fixed - broken) / total
    low, high = -1.0, 1.0
    if broken < total:
        low = float(brentq(lambda delta: score(delta) - Z_95, -1 + CLOSE, mean))
    if fixed < total:
        high = float(brentq(lambda delta: score(delta) + Z_95, mean, 1 - CLOSE))
    return low, high


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values for their number, so that one may look at all of them.

    The chance that any true null falls below the level stays below the level.
    Source: S. Holm, "A simple sequentially rejective multiple test procedure",
    Scandinavian Journal of Statistics 6 (1979), 65-70.

    Returns:
        The adjusted values in the order of `p_values`.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    for rank, position in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = highest
    return adjusted


def over_seeds(differences: NDArray[np.int8]) -> Difference:
    """Compare two recipes of which several seeds decided the same images.

    Seeds and images are both drawn from many: the variance of the mean is that
    between seeds, plus that between images, less what both count twice. The
    degrees of freedom follow from the parts; with few seeds they are few.

    Sources: H. H. Clark, "The language-as-fixed-effect fallacy", Journal of
    Verbal Learning and Verbal Behavior 12 (1973), 335-359, for the sum;
    F. E. Satterthwaite, "An approximate distribution of estimates of variance
    components", Biometrics Bulletin 2 (1946), 110-114, for the degrees.

    Args:
        differences: int8 (K, N), a row a seed, a column an image, K and N >= 2:
            1 if only the second recipe is right, -1 if only the first, else 0.
    """
    seeds, images = differences.shape
    by_seed = differences.mean(axis=1)  # (K,)
    by_image = differences.mean(axis=0)  # (N,)
    mean = float(by_seed.mean())
    rest = differences - by_seed[:, np.newaxis] - by_image + mean  # (K, N)

    rest_degrees = (seeds - 1) * (images - 1)
    seed_square = images * float(np.square(by_seed - mean).sum()) / (seeds - 1)
    image_square = seeds * float(np.square(by_image - mean).sum()) / (images - 1)
    rest_square = float(np.square(rest).sum()) / rest_degrees

    total = seed_square + image_square - rest_square
    degrees = total**2 / max(
        seed_square**2 / (seeds - 1)
        + image_square**2 / (images - 1)
        + rest_square**2 / rest_degrees,
        1e-300,
    )
    # A component may be negative by chance: then it is left out.
    for square, own_degrees in ((seed_square, seeds - 1), (image_square, images - 1)):
        if square > total:
            total, degrees = square, own_degrees
    if total <= 0:  # all are equal: there is nothing to estimate a variance from
        return Difference(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    error = math.sqrt(total / (seeds * images))
    half_width = error * float(stats.t.ppf(1 - LEVEL / 2, degrees))
    p = 2 * float(stats.t.sf(abs(mean) / error, degrees))
    return Difference(mean, mean - half_width, mean + half_width, p)
