"""How precisely a measured accuracy is known."""

import math

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
