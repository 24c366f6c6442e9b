"""The interval of an accuracy is the one that SciPy computes."""

import pytest
from scipy.stats import binomtest, norm

from core.statistics.intervals import Z_95, newcombe, wilson

TOTALS = [1, 2, 3, 10, 99, 1000, 10_000, 60_000]


def test_the_quantile_is_that_of_the_normal_distribution() -> None:
    assert pytest.approx(norm.ppf(0.975), abs=1e-15) == Z_95


@pytest.mark.parametrize("total", TOTALS)
def test_the_interval_is_that_of_scipy(total: int) -> None:
    for correct in {0, 1, total // 3, total // 2, total * 9 // 10, total - 1, total}:
        low, high = wilson(correct, total)

        expected = binomtest(correct, total).proportion_ci(0.95, method="wilson")
        assert low == pytest.approx(expected.low, abs=1e-12)
        assert high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize("total", TOTALS)
def test_the_interval_holds_the_share_and_stays_within_0_and_1(total: int) -> None:
    for correct in range(0, total + 1, max(1, total // 100)):
        low, high = wilson(correct, total)

        assert 0 <= low <= correct / total <= high <= 1
        assert low < high


def test_none_and_all_reach_exactly_to_the_ends() -> None:
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == 1.0


def test_an_interval_worked_out_by_hand() -> None:
    # 9,200 of 10,000, z = 1.959964: z^2 / n = 0.000384146, so the centre is
    # (0.92 + 0.000192073) / 1.000384146 = 0.919838721, and half of the width is
    # 1.959964 / 1.000384146 * sqrt(0.92 * 0.08 / 10000 + 0.000384146 / 40000) = 0.005318674.
    assert wilson(9200, 10_000) == pytest.approx((0.914520047, 0.925157395), abs=2e-9)


# Newcombe 1998, table II, method 10: its cases (a), (b), (d), (e), (f), (h).
@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_difference_of_two_is_that_of_newcombes_table(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    difference = newcombe(*first, *second)
    assert difference.points == first[0] / first[1] - second[0] / second[1]
    assert (difference.low, difference.high) == pytest.approx((low, high), abs=5e-5)
    assert difference.beyond_chance == (low > 0)
    other_way = newcombe(*second, *first)
    assert (other_way.low, other_way.high) == pytest.approx((-high, -low), abs=5e-5)
    assert other_way.beyond_chance == difference.beyond_chance
