"""The statistics equal those of other programs, and keep their error rate."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from core.statistics.intervals import wilson
from core.statistics.paired_tests import LEVEL, difference, holm, mcnemar, over_seeds, tango

COUNTS = st.integers(0, 2000)


def test_p_and_interval_are_those_of_the_r_package_contingencytables() -> None:
    # M. W. Fagerland, S. Lydersen, P. Laake, "Statistical Analysis of
    # Contingency Tables" (2017), chapter 8, in the figures that the authors'
    # package prints for its data set cavo_2012: 59, 6, 16, 80.
    found = difference(fixed=6, broken=16, total=161)
    assert found.mean == pytest.approx(-0.0621, abs=5e-5)
    assert (found.low, found.high) == pytest.approx((-0.1240, -0.0054), abs=5e-5)
    assert found.p == pytest.approx(0.052479, abs=5e-7)


def test_the_exact_p_is_twice_a_tail_worked_out_by_hand() -> None:
    # 1 of 8 coins: P(0) + P(1) = (1 + 8) / 256, twice.
    assert mcnemar(1, 7) == mcnemar(7, 1) == 18 / 256
    assert mcnemar(4, 4) == 1.0
    assert mcnemar(0, 0) == 1.0


def likelihood_score(delta: float, fixed: int, broken: int, total: int) -> float:
    """The score of `delta` by a numerical search for the likeliest other parameter."""
    same = total - fixed - broken

    def unlikelihood(share: float) -> float:
        chances = (share + delta, share, 1 - 2 * share - delta)  # fixed, broken, same
        return -sum(
            count * math.log(max(chance, 1e-300))
            for count, chance in zip((fixed, broken, same), chances, strict=True)
            if count
        )

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    share = minimize_scalar(unlikelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12})
    variance = total * (2 * share.x + delta - delta**2)
    return (fixed - broken - total * delta) / math.sqrt(variance)


@pytest.mark.parametrize(
    ("fixed", "broken", "total"),
    [(6, 16, 161), (40, 20, 160), (900, 80, 10_000), (3, 2, 50), (12, 1, 30), (30, 31, 12_000)],
)
def test_the_score_at_the_ends_of_the_interval_is_the_quantile(
    fixed: int, broken: int, total: int
) -> None:
    low, high = tango(fixed, broken, total)
    assert likelihood_score(low, fixed, broken, total) == pytest.approx(1.959964, abs=1e-3)
    assert likelihood_score(high, fixed, broken, total) == pytest.approx(-1.959964, abs=1e-3)


@pytest.mark.parametrize("total", [1, 7, 100, 10_000])
def test_with_no_image_decided_differently_the_interval_is_wilsons_for_none(total: int) -> None:
    low, high = tango(0, 0, total)
    assert (-low, high) == pytest.approx((wilson(0, total)[1],) * 2, abs=1e-9)


@given(COUNTS, COUNTS, COUNTS)
def test_the_interval_holds_the_difference_and_mirrors(fixed: int, broken: int, same: int) -> None:
    total = fixed + broken + same
    if total:
        low, high = tango(fixed, broken, total)
        assert -1 <= low <= (fixed - broken) / total <= high <= 1
        assert tango(broken, fixed, total) == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.slow
def test_where_the_test_finds_a_difference_the_interval_does_not_hold_0() -> None:
    called = 0
    for differing in range(1, 200):
        for broken in range(differing // 2 + 1):
            found = difference(differing - broken, broken, differing + 1000)
            if found.p <= LEVEL:
                called += 1
                assert found.low > 0
    assert called > 1000


def test_the_adjusted_values_are_holms_own() -> None:
    # By hand: 4 * 0.01, 3 * 0.015, 2 * 0.02 raised to the one before, 1 * 0.6.
    assert holm([0.02, 0.01, 0.6, 0.015]) == pytest.approx([0.045, 0.04, 0.6, 0.045])
    # 4 * 0.01, 3 * 0.02, 2 * 0.03; the third may not be below the second.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.6]) == [0.8, 0.8]
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_over_only_the_seeds_the_recipes_differ_as_a_t_test_over_seeds_says() -> None:
    by_seed = np.array([1, 0, 1, 1, 0, 1], dtype=np.int8)
    found = over_seeds(np.repeat(by_seed[:, np.newaxis], 50, axis=1))
    expected = stats.ttest_1samp(by_seed, 0)
    interval = expected.confidence_interval(0.95)
    assert found == pytest.approx((4 / 6, interval.low, interval.high, expected.pvalue))


def test_over_only_the_images_the_recipes_differ_as_a_t_test_over_images_says() -> None:
    by_image = np.random.default_rng(0).integers(-1, 2, 300).astype(np.int8)
    found = over_seeds(np.repeat(by_image[np.newaxis], 4, axis=0))
    expected = stats.ttest_1samp(by_image, 0)
    interval = expected.confidence_interval(0.95)
    assert found == pytest.approx(
        (by_image.mean(), interval.low, interval.high, expected.pvalue), abs=1e-12
    )


def test_recipes_that_decide_alike_do_not_differ() -> None:
    assert over_seeds(np.zeros((3, 20), dtype=np.int8)) == (0, 0, 0, 1)


def test_seeds_and_images_that_both_vary_are_rarely_called_a_difference() -> None:
    # No difference in truth: each seed and each image has a bias of its
    # own. Of 1,000 trials at most 5 % may be called one, and a few more by
    # chance: 5 % + 2.33 standard errors.
    generator = np.random.default_rng(1)
    called = 0
    for _ in range(1000):
        inclination = generator.normal(0, 0.15, (5, 1)) + generator.normal(0, 0.3, (1, 400))
        noise = generator.normal(0, 1, (5, 400))
        differences = np.clip(np.round(inclination + noise), -1, 1).astype(np.int8)
        called += over_seeds(differences).p <= LEVEL
    assert called <= 66


def test_under_a_true_null_the_verdict_is_a_difference_in_at_most_a_twentieth() -> None:
    # Two models of 10,000 images of which 300 are decided differently; right
    # and wrong are swapped at random, image by image. 1,000 trials.
    fixed = np.random.default_rng(2).binomial(300, 0.5, 1000)
    assert sum(mcnemar(int(count), 300 - int(count)) <= LEVEL for count in fixed) <= 50
