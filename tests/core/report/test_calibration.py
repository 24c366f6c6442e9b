"""Calibration and coverage, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from core.data.arrays import Labels
from core.report import calibration
from core.report.calibration import Coverage
from core.report.predictions import Probabilities

# Five images of three classes: right at 0.5, wrong at 0.6, right at 0.6, right at 1, wrong at 0.4.
LABELS = np.array([0, 1, 2, 0, 1])
PROBABILITIES = np.array(
    [[0.5, 0.25, 0.25], [0.6, 0.4, 0.0], [0.2, 0.2, 0.6], [1.0, 0.0, 0.0], [0.3, 0.3, 0.4]],
    dtype=np.float32,
)


def drawn(seed: int, images: int = 500, classes: int = 7) -> tuple[Labels, Probabilities]:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.full(classes, 0.4), images).astype(np.float32)
    return generator.integers(0, classes, images), probabilities


def test_bins_worked_out_by_hand() -> None:
    bins = calibration.reliability(LABELS, PROBABILITIES, bins=2)
    assert [tuple(each) for each in bins] == [
        pytest.approx((0.0, 0.5, 2, 0.45, 0.5)),  # 0.5 belongs to the lower bin
        pytest.approx((0.5, 1.0, 3, 2.2 / 3, 2 / 3)),
    ]
    # 2 of 5 times 0.05, and 3 of 5 times 0.2 / 3
    assert calibration.expected_calibration_error(bins) == pytest.approx(0.02 + 0.04)


def test_a_certain_image_lies_in_the_last_bin() -> None:
    bins = calibration.reliability(np.array([0]), np.array([[1.0, 0.0]], dtype=np.float32))
    assert [(each.low, each.high) for each in bins] == [(14 / 15, 1.0)]


@pytest.mark.parametrize("seed", range(3))
def test_the_bins_are_those_of_scikit_learn(seed: int) -> None:
    labels, probabilities = drawn(seed)
    bins = calibration.reliability(labels, probabilities)
    accuracies, confidences = calibration_curve(
        probabilities.argmax(axis=1) == labels, probabilities.max(axis=1), n_bins=15
    )
    assert sum(each.images for each in bins) == len(labels)
    assert [each.accuracy for each in bins] == pytest.approx(accuracies.tolist())
    assert [each.confidence for each in bins] == pytest.approx(confidences.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_the_brier_score_is_that_of_scikit_learn(seed: int) -> None:
    labels, probabilities = drawn(seed)
    rescaled = probabilities / probabilities.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = brier_score_loss(labels, rescaled, labels=range(7), scale_by_half=False)
    assert calibration.brier_score(labels, probabilities) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("label", "score"), [(0, 0.0), (1, 2.0)])
def test_the_brier_score_goes_from_0_to_2(label: int, score: float) -> None:
    certain = np.array([[1.0, 0.0]], dtype=np.float32)
    assert calibration.brier_score(np.array([label]), certain) == score


def test_the_least_certain_are_rejected_first() -> None:
    assert calibration.least_certain(PROBABILITIES, count=9) == [4, 0, 1, 2, 3]  # 1 before 2: equal
    assert calibration.coverage(LABELS, PROBABILITIES, [0.0, 0.2, 0.6]) == [
        Coverage(0.0, 5, 3 / 5),
        Coverage(0.2, 4, 3 / 4),
        Coverage(0.6, 2, 1.0),
    ]


def test_no_order_of_the_images_changes_a_digit() -> None:
    labels, probabilities = drawn(0)
    order = np.random.default_rng(1).permutation(len(labels))
    assert calibration.brier_score(labels, probabilities) == calibration.brier_score(
        labels[order], probabilities[order]
    )
    assert calibration.reliability(labels, probabilities) == calibration.reliability(
        labels[order], probabilities[order]
    )
