"""Against scikit-learn, and against cases small enough to count by hand."""

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics
from torch import Tensor, nn

from core.data.arrays import Labels
from core.report import classification
from core.training import evaluation

NEVER_PREDICTED, NEVER_SEEN = 3, 4
CLASSES = 5


@pytest.fixture
def outcome() -> tuple[Labels, Labels]:
    """Labels and predictions of 300 images; one class is never predicted, one has no images."""
    random = np.random.default_rng(7)
    labels = random.choice([0, 1, 2, NEVER_PREDICTED], size=300).astype(np.int64)
    predictions = random.choice([0, 1, 2, NEVER_SEEN], size=300).astype(np.int64)
    return labels, predictions


def test_a_row_of_the_matrix_is_a_label_and_a_column_a_prediction() -> None:
    matrix = classification.confusion_matrix(
        np.array([0, 0, 0, 1, 2]), np.array([0, 2, 2, 1, 0]), classes=3
    )
    assert matrix.tolist() == [[1, 0, 2], [0, 1, 0], [1, 0, 0]]
    assert matrix.dtype == np.int64


def test_the_matrix_is_that_of_scikit_learn(
    outcome: tuple[Labels, Labels],
) -> None:
    labels, predictions = outcome
    matrix = classification.confusion_matrix(labels, predictions, classes=CLASSES)
    expected = sklearn_metrics.confusion_matrix(labels, predictions, labels=range(CLASSES))
    assert matrix.tolist() == expected.tolist()


def test_balanced_accuracy_is_that_of_scikit_learn(outcome: tuple[Labels, Labels]) -> None:
    labels, predictions = outcome
    matrix = classification.confusion_matrix(labels, predictions, classes=CLASSES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class that has no images
        expected = sklearn_metrics.balanced_accuracy_score(labels, predictions)
    assert classification.balanced_accuracy(matrix) == pytest.approx(expected, abs=1e-15)


def test_a_class_counts_alike_in_balanced_accuracy_and_the_first_of_the_largest_is_named() -> None:
    matrix = np.array([[3, 1, 0], [4, 4, 0], [8, 0, 0]])  # recalls of 3/4, 1/2 and 0
    assert classification.balanced_accuracy(matrix) == pytest.approx(1.25 / 3)
    assert classification.largest_class(matrix) == (1, 8 / 20)


def test_precision_recall_f1_and_support_are_those_of_scikit_learn(
    outcome: tuple[Labels, Labels],
) -> None:
    labels, predictions = outcome
    matrix = classification.confusion_matrix(labels, predictions, classes=CLASSES)
    table = classification.per_class(matrix, ["a", "b", "c", "d", "e"])
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(CLASSES), zero_division=0
    )
    assert table.columns.tolist() == ["class", "precision", "recall", "f1", "support"]
    assert table["class"].tolist() == ["a", "b", "c", "d", "e"]
    for column, values in zip(["precision", "recall", "f1"], expected[:3], strict=True):
        assert table[column].tolist() == pytest.approx(values.tolist(), abs=1e-15)
    assert table["support"].tolist() == expected[3].tolist()
    assert table["precision"][NEVER_PREDICTED] == 0
    assert table["recall"][NEVER_SEEN] == 0


def test_a_class_neither_seen_nor_predicted_has_zeros_and_no_warning() -> None:
    matrix = classification.confusion_matrix(np.array([0]), np.array([0]), classes=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = classification.per_class(matrix, ["a", "b"])
        shades = classification.shades(matrix)
    assert table.iloc[1].tolist() == ["b", 0, 0, 0, 0]
    assert shades.tolist() == [[1, 0], [0, 0]]


def test_wrong_cells_are_shaded_against_the_largest_wrong_share() -> None:
    matrix = np.array([[8, 2, 0], [4, 16, 0], [0, 5, 5]])
    # Shares of the rows: .8 .2 0 / .2 .8 0 / 0 .5 .5; the largest wrong one is .5.
    assert classification.shades(matrix).tolist() == [[0.8, 0.4, 0], [0.4, 0.8, 0], [0, 1, 0.5]]


PROBABILITIES = np.array(
    [
        [0.75, 0.25],
        [0.25, 0.75],  # wrong
        [0.00, 1.00],  # wrong, the most confidently
        [0.25, 0.75],
        [0.75, 0.25],  # wrong, as confidently as the first
        [0.50, 0.50],  # a tie goes to the first class: right
    ],
    dtype=np.float32,
)
LABELS = np.array([0, 0, 0, 1, 1, 0])


@pytest.mark.parametrize(("count", "expected"), [(1, [2]), (2, [2, 1]), (9, [2, 1, 4])])
def test_the_most_confidently_wrong_come_first_and_of_equals_the_earlier(
    count: int, expected: list[int]
) -> None:
    assert classification.most_wrong(LABELS, PROBABILITIES, count=count) == expected


def test_nothing_is_found_when_nothing_is_wrong() -> None:
    right = PROBABILITIES.argmax(axis=1)
    assert classification.most_wrong(right, PROBABILITIES, count=3) == []


def test_best_and_worst_go_by_the_probability_of_the_label() -> None:
    assert classification.best_and_worst(LABELS, PROBABILITIES) == [(0, 0, 2), (1, 3, 4)]


def test_a_class_without_images_has_neither_best_nor_worst() -> None:
    only_the_second = np.ones(len(LABELS), dtype=np.int64)
    assert classification.best_and_worst(only_the_second, PROBABILITIES) == [(1, 2, 0)]


class Lookup(nn.Module):
    """Has an image of one pixel stand for a row of given logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[images[:, 0, 0, 0].long()]


def test_loss_accuracy_and_probabilities_are_those_of_scikit_learn_over_several_batches() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = 5 * torch.randn((256, CLASSES), generator=generator)
    images = torch.randint(256, (2500, 1, 1, 1), generator=generator, dtype=torch.uint8)
    labels = torch.randint(CLASSES, (2500,), generator=generator)
    indices = torch.randperm(2500, generator=generator)[:2300]
    assert len(indices) > 2 * evaluation.BATCH_SIZE

    model = Lookup(logits)
    measured = evaluation.measure(model, images, labels, indices)
    probabilities = evaluation.predict(model, images, indices)

    seen = logits[images[indices, 0, 0, 0].long()].double().numpy()
    expected = np.exp(seen) / np.exp(seen).sum(axis=1, keepdims=True)
    truth = labels[indices].numpy()
    assert measured.loss == pytest.approx(
        sklearn_metrics.log_loss(truth, expected, labels=range(CLASSES)), rel=1e-6
    )
    assert measured.accuracy == sklearn_metrics.accuracy_score(truth, expected.argmax(axis=1))
    np.testing.assert_allclose(probabilities.numpy(), expected, rtol=1e-5, atol=1e-9)


def test_a_random_sample_is_a_part_of_one_permutation() -> None:
    everything = classification.random_sample(50, count=50, seed=0)
    assert sorted(everything) == list(range(50)) != everything
    assert classification.random_sample(50, count=7, seed=0) == everything[:7]
    assert classification.random_sample(50, count=99, seed=0) == everything
    assert classification.random_sample(50, count=50, seed=1) != everything
