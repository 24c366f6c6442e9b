"""Two models are compared only on the same images, and called different only beyond noise."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest

from core.statistics.paired_tests import Difference
from tools.repository.snapshots import Snapshot
from tools.review import verdict
from tools.review.results import ModelResults, Predictions, Set
from tools.review.seed_runs import Trained

LABELS = [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]


def predictions(predicted: list[int], labels: list[int] | None = None) -> Predictions:
    count = len(predicted)
    return Predictions(
        np.arange(count),
        np.array(LABELS[:count] if labels is None else labels),
        np.array(predicted),
        np.full(count, 0.5),
    )


def results(name: str = "a revision", **changed: Any) -> ModelResults:
    both: dict[Set, Predictions] = {"test": predictions(LABELS), "validation": predictions(LABELS)}
    whole = ModelResults(Snapshot(name, None), {}, {}, {}, both, {}, ["zero", "one", "two"])
    return replace(whole, **changed)


def many(fixed: int, broken: int, both: int) -> tuple[Predictions, Predictions]:
    """Two models of one class: label 0, wrong is 1."""
    labels = [0] * (fixed + broken + both)
    before = [1] * fixed + [0] * broken + [0] * both
    after = [0] * fixed + [1] * broken + [0] * both
    return predictions(before, labels), predictions(after, labels)


def test_images_fixed_and_broken_are_found() -> None:
    before = predictions([0, 0, 1, 1, 1, 1, 1, 0, 2, 2])  # wrong on 2, 3, 7
    after = predictions([0, 1, 0, 1, 1, 1, 1, 1, 2, 0])  # wrong on 1, 3, 9
    compared = verdict.compare(before, after)
    assert compared.fixed.tolist() == [2, 7]
    assert compared.broken.tolist() == [1, 9]
    assert (compared.before, compared.after, compared.images) == (0.7, 0.7, 10)
    assert compared.difference.mean == 0


@pytest.mark.parametrize(
    ("fixed", "broken", "kind"),
    # Six coins all alike: p = 2 / 64 = 0.031. Five: 2 / 32 = 0.063.
    [(6, 0, "better"), (0, 6, "worse"), (5, 0, "same"), (0, 5, "same"), (3, 3, "same")],
)
def test_the_verdict_follows_the_exact_test(fixed: int, broken: int, kind: str) -> None:
    found = verdict.headline(verdict.compare(*many(fixed, broken, 94)), None, None)
    assert found.kind == kind


def test_the_words_speak_of_two_models_or_of_two_recipes() -> None:
    compared = verdict.compare(*many(60, 10, 9930))
    assert verdict.headline(compared, None, None).line == (
        "Better: of these two models, the new one is right more often. "
        "Test accuracy 99.40\u00a0% → 99.90\u00a0%, +0.50 points "
        "(95 % interval +0.35 to +0.68; p <\u00a00.0001), 10,000 test images."
    )
    # A seed changes as much by itself: nothing follows for the recipes.
    trained = Trained([1, 2], [0.9, 0.91], [0.91, 0.90], Difference(0.0, -0.1, 0.1, 1.0))
    assert verdict.headline(compared, trained, None).words == (
        "No difference beyond noise between the two recipes"
    )
    trained = trained._replace(difference=Difference(-0.02, -0.03, -0.01, 0.001))
    assert verdict.headline(compared, trained, None).words == (
        "Worse: the new recipe is right less often"
    )


def test_another_seed_is_not_better_however_small_its_p_is() -> None:
    found = verdict.headline(verdict.compare(*many(60, 10, 9930)), None, None, one_recipe=True)
    assert found.kind == "same"
    assert found.words == "No difference beyond noise: base and head are one recipe with two seeds"
    assert "p <\u00a00.0001" in found.figures


def test_models_that_decide_alike_are_said_to() -> None:
    alike = verdict.compare(*many(0, 0, 50))
    assert verdict.headline(alike, None, None).line == (
        "No difference beyond noise between these two models. "
        "Both get the same of 50 test images right, 100.00\u00a0%."
    )


def test_each_class_is_compared_with_its_p_adjusted() -> None:
    labels = [0] * 10 + [1] * 10 + [2] * 10
    before = predictions([9] * 8 + [0] * 2 + [1] * 10 + [9] + [2] * 9, labels)
    after = predictions([0] * 10 + [1] * 9 + [9] + [2] * 10, labels)
    zero, one, two = verdict.by_class(
        verdict.compare(before, after), results(predictions={"test": after})
    )
    assert (zero.name, zero.images, zero.fixed, zero.broken) == ("zero", 10, 8, 0)
    assert zero.p == pytest.approx(3 * binomtest(8, 8).pvalue)  # the smallest of three
    assert zero.beyond_noise
    assert zero.difference == 0.8
    assert (one.fixed, one.broken, one.p, one.beyond_noise) == (0, 1, 1.0, False)
    assert (two.fixed, two.broken, two.p, two.beyond_noise) == (1, 0, 1.0, False)


def test_a_class_without_a_name_is_named_by_its_number() -> None:
    nameless = results(classes=[])
    names = [
        change.name
        for change in verdict.by_class(
            verdict.compare(predictions(LABELS), predictions(LABELS)), nameless
        )
    ]
    assert names == ["0", "1", "2"]


SPLIT = "data/split/val_indices.npy"
IMAGES = "data/raw/test_images.npy"


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (results(), None),
        (
            results(hashes={SPLIT: "other"}),
            "another split of the data (data/split/val_indices.npy is not the same)",
        ),
        (
            results(hashes={IMAGES: "other"}),
            "another test set (data/raw/test_images.npy is not the same)",
        ),
        (
            results(predictions={"test": predictions(LABELS[:7])}),
            "a different number of test images, 10 before and 7 after",
        ),
        (
            results(predictions={"test": predictions(LABELS, LABELS[::-1])}),
            "another test set (metrics/test_predictions.csv lists other images or labels)",
        ),
        (results("new", predictions={}), "no metrics/test_predictions.csv in new"),
        # The verdict needs no validation predictions, only the same split.
        (results(predictions={"test": predictions(LABELS)}), None),
    ],
)
def test_what_stands_against_a_verdict_is_named(after: ModelResults, reason: str | None) -> None:
    before = results(hashes={SPLIT: "this", IMAGES: "this"})
    found = verdict.whole_obstacle(before, after)
    assert (found.text if found else None) == reason


def test_without_a_verdict_only_the_metrics_are_announced() -> None:
    line = verdict.headline(None, None, verdict.Obstacle("another test set (x)")).line
    assert line == "Cannot be compared. Another test set (x); only the metrics are shown below."
