"""How precisely a measured accuracy is known, and the difference of two."""

import math
from typing import NamedTuple

# The 97.5 % quantile of the standard normal distribution: two-sided 95 %.
Z_95 = 1.959963984540054


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of `correct` of `total`.

    Source: E. B. Wilson, "Probable Inference, the Law of Succession, and
    Statistical Inference", Journal of the American Statistical Association 22
    (1927), 209-212. Unlike the normal approximation it stays within [0, 1] and
    keeps its coverage when nearly all or nearly none are correct.

    Args:
        correct: from 0 to `total`.
        total: at least 1.

    Returns:
        The low and the high end, fractions in [0, 1].
    """
    share = correct / total
    spread = Z_95 * Z_95 / total
    centre = (share + spread / 2) / (1 + spread)
    half_width = Z_95 / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    low = 0.0 if correct == 0 else centre - half_width
    high = 1.0 if correct == total else centre + half_width
    return low, high


class Difference(NamedTuple):
    """By how much one accuracy is above another, and how precisely that is known."""

    points: float  # in [-1, 1]
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval excludes 0."""
        return not self.low <= 0 <= self.high


def newcombe(correct: int, total: int, other_correct: int, other_total: int) -> Difference:
    """Return the difference of two accuracies on different images, with its 95 % interval.

    Source: R. G. Newcombe, "Interval Estimation for the Difference Between
    Independent Proportions: Comparison of Eleven Methods", Statistics in
    Medicine 17 (1998), 873-890, method 10: combines the Wilson score intervals
    of both, without continuity correction.

    Args:
        correct: from 0 to `total`.
        total: at least 1.
        other_correct: of what is subtracted, from 0 to `other_total`.
        other_total: at least 1.
    """
    share, other = correct / total, other_correct / other_total
    low, high = wilson(correct, total)
    other_low, other_high = wilson(other_correct, other_total)
    points = share - other
    below = math.dist((share, other), (low, other_high))
    above = math.dist((share, other), (high, other_low))
    return Difference(points, points - below, points + above)
