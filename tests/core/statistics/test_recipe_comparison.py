"""The test of two recipes: against SciPy where it is a known one, by hand, and its error rate."""

import numpy as np
import pytest
from scipy import stats

from core.statistics.paired_tests import holm
from core.statistics.recipe_comparison import (
    Correct,
    against_the_best,
    paired_difference,
    unstable,
)


def predictions(
    generator: np.random.Generator, shift: float, difficulty: np.ndarray, luck: np.ndarray
) -> Correct:
    """Draw which images are right: (seeds, images), from hard and easy images, and lucky seeds."""
    chance = difficulty + luck[:, np.newaxis] + shift
    right: Correct = generator.normal(size=chance.shape) < chance
    return right


def test_with_one_seed_it_is_the_paired_t_test_over_the_images() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((1, 500)) < 0.9, generator.random((1, 500)) < 0.85
    expected = stats.ttest_rel(first[0].astype(float), second[0].astype(float))

    found = paired_difference(first, second)

    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.degrees_of_freedom == 499
    assert found.mean / found.standard_error == pytest.approx(expected.statistic)


def test_where_images_tell_nothing_beyond_the_seeds_it_is_the_paired_t_test_over_the_seeds() -> (
    None
):
    # Seeds differ by 1, 2 and 4 images, never the same image: what an image adds
    # is all in the seed.
    first = np.ones((3, 12), dtype=bool)
    second = first.copy()
    second[0, 0] = second[1, 1:3] = second[2, 3:7] = False
    expected = stats.ttest_rel(first.mean(axis=1), second.mean(axis=1))

    found = paired_difference(first, second)

    assert found.mean == pytest.approx(7 / 36)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.degrees_of_freedom == pytest.approx(2)


def test_two_seeds_and_three_images_are_as_worked_out_by_hand() -> None:
    # Differences 1 1 0 and 0 1 0; their mean is 1/2, of the seeds 2/3 and 1/3,
    # of the images 1/2, 1 and 0. Mean squares: of the seeds 3 * 2 * (1/6)^2 = 1/6,
    # of the images 2 * (0 + 1/4 + 1/4) / 2 = 1/2, of the rest
    # (1/3)^2 * 2 + (1/6)^2 * 4 = 1/3 over 2, which is 1/6.
    first = np.array([[1, 1, 0], [0, 1, 0]], dtype=bool)
    second = np.zeros((2, 3), dtype=bool)

    found = paired_difference(first, second)

    noise = 1 / 6 + 1 / 2 - 1 / 6
    assert found.mean == pytest.approx(1 / 2)
    assert found.standard_error == pytest.approx((noise / 6) ** 0.5)
    assert found.degrees_of_freedom == pytest.approx((noise / (1 / 6)) ** 2)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.5 / (noise / 6) ** 0.5, 9))


def test_the_same_predictions_differ_by_nothing() -> None:
    same = np.random.default_rng(1).random((3, 50)) < 0.9
    assert paired_difference(same, same) == (0.0, 0.0, np.inf, 1.0, None)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("luck", [0.0, 0.1, 0.3])
def test_equal_recipes_are_distinguished_in_at_most_one_case_of_twenty(
    seeds: int, luck: float
) -> None:
    # Both the images and the seeds of each trial are drawn again, and each
    # recipe has its own luck with a seed.
    generator = np.random.default_rng(seeds)
    trials, alarms = 1000, 0
    for _ in range(trials):
        difficulty = generator.normal(1.5, 1.0, size=400)
        first, second = (
            predictions(generator, 0.0, difficulty, generator.normal(0, luck, size=seeds))
            for _ in range(2)
        )
        alarms += paired_difference(first, second).p_value < 0.05
    # 0.05 and three standard errors of a share of 1,000 trials.
    assert alarms / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5


def test_a_difference_of_three_points_is_found_with_three_seeds() -> None:
    generator = np.random.default_rng(3)
    found = 0
    for _ in range(100):
        difficulty = generator.normal(1.5, 1.0, size=4000)
        better, worse = (
            predictions(generator, shift, difficulty, generator.normal(0, 0.01, size=3))
            for shift in (0.25, 0.0)
        )
        difference = paired_difference(better, worse)
        found += difference.p_value < 0.05 and difference.mean > 0
    assert found >= 95


def test_the_best_is_tested_with_the_correction_for_every_pair() -> None:
    generator = np.random.default_rng(5)
    difficulty = generator.normal(1.5, 1.0, size=300)
    recipes = [predictions(generator, s, difficulty, np.zeros(2)) for s in (0.3, 0.2, 0.0)]
    pairs = [(0, 1), (0, 2), (1, 2)]
    corrected = holm([paired_difference(recipes[i], recipes[j]).p_value for i, j in pairs])

    itself, second, third = against_the_best(recipes, best=0)

    assert (itself.mean, itself.p_value) == (0.0, 1.0)
    assert (second.p_value, third.p_value) == (corrected[0], corrected[1])
    assert third.mean == pytest.approx(recipes[0].mean() - recipes[2].mean())


def wrong_apart(*counts: int, images: int = 1000) -> Correct:
    """Seeds that predict so many images wrong, none of them twice."""
    right = np.ones((len(counts), images), dtype=bool)
    start = 0
    for seed, count in enumerate(counts):
        right[seed, start : start + count] = False
        start += count
    return right


@pytest.mark.parametrize(
    ("wrong", "needed"),
    [
        # Means over deviations of 1, 0.8 and 0.5: G*Power's table of the paired t-test,
        # two-sided at 0.05 with a power of 0.8.
        ((20, 40, 0), 10),
        ((40, 90, -10), 15),
        ((20, 60, -20), 34),
    ],
)
def test_the_seeds_needed_are_those_of_a_table_of_the_paired_t_test(
    wrong: tuple[int, ...], needed: int
) -> None:
    # A negative count is of images that only the second recipe predicts wrong.
    best = wrong_apart(*(max(-count, 0) for count in wrong))
    other = wrong_apart(*(max(count, 0) for count in wrong))[:, ::-1]
    _, found = against_the_best([best, other], best=0)
    assert found.p_value >= 0.05
    assert found.seeds_needed == needed


def test_no_number_of_seeds_is_needed_for_what_is_found_or_for_the_noise_of_the_images() -> None:
    best, worse = wrong_apart(0, 0, 0), wrong_apart(80, 81, 82)
    assert against_the_best([best, worse], best=0)[1].seeds_needed is None
    # Every seed makes the same three mistakes more: more seeds would not say more.
    same = best.copy()
    same[:, :3] = False
    found = against_the_best([best, same], best=0)[1]
    assert found.p_value == pytest.approx(2 * stats.norm.sf(0.003 / (0.003 * 0.997 / 999) ** 0.5))
    assert found.seeds_needed is None


def test_a_recipe_whose_seeds_disagree_by_far_more_is_unstable() -> None:
    # Deviations: 50 and 200 of 1,000 images are 0.1061; 95 and 105 are 0.00707, of which 0.6745
    # is the median of a half-normal: 0.01048. That is above the noise of the images, the
    # root of 0.1 * 0.9 / 1000, which is 0.0095. F of 1 and 2 degrees is 102: p = 0.0096.
    steady, wild = wrong_apart(95, 105), wrong_apart(50, 200)
    [none, ratio, other] = unstable([steady, wild, steady])
    assert (none, other) == (None, None)
    assert ratio == pytest.approx(0.10607 / 0.01048, rel=1e-3)
    assert unstable([wild]) == [None]
    assert unstable([wild, wild]) == [None, None]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_recipes_of_the_same_noise_are_seldom_called_unstable(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    trials, alarms = 300, 0
    for _ in range(trials):
        recipes = [
            wrong_apart(*generator.normal(1000, 300, seeds).clip(0, 1900).astype(int), images=10000)
            for _ in range(4)
        ]
        alarms += any(unstable(recipes))
    assert alarms / trials <= 0.1
