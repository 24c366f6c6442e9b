"""Decides whether the second of two models is better, worse or not different.

The verdict uses one number, the test accuracy, so it needs no correction for multiple
comparisons. The p values of the classes are corrected by Holm's method. A paired test
takes the two models as fixed; a difference of their recipes needs several seeds of each.
"""

from typing import Literal, NamedTuple

import numpy as np

from core.data.arrays import Indices
from core.pipeline import wording
from core.statistics import paired_tests
from core.statistics.paired_tests import LEVEL, Difference
from tools.review import formatting
from tools.review.results import SETS, ModelResults, Predictions, Set
from tools.review.seed_runs import Trained

# Files whose hashes in dvc.lock determine the images of a set.
TEST_DATA = ("data/raw/test_images.npy", "data/raw/test_labels.npy")
VAL_DATA = ("data/raw/train_images.npy", "data/raw/train_labels.npy", "data/split/val_indices.npy")

Kind = Literal["better", "worse", "same", "incomparable"]


class Obstacle(NamedTuple):
    """Why base and head cannot be compared on a set."""

    text: str
    missing: bool = False  # base or head lacks predictions; else the images differ


class Compared(NamedTuple):
    """Two models on the images of one set."""

    before: float  # accuracy, in [0, 1]
    after: float
    images: int
    fixed: Indices  # positions that only the second gets right
    broken: Indices  # positions that only the first gets right
    difference: Difference


class Verdict(NamedTuple):
    """The first line of a review."""

    kind: Kind
    words: str
    figures: str  # the evidence, a sentence without its full stop

    @property
    def line(self) -> str:
        """The verdict and its figures."""
        return f"{self.words}. {self.figures}."


class ClassChange(NamedTuple):
    """One class of the set."""

    name: str
    images: int
    fixed: int
    broken: int
    difference: float  # of its recall
    p: float  # adjusted for the number of classes
    beyond_noise: bool


def compare(before: Predictions, after: Predictions) -> Compared:
    """Compare two models that predicted the same images, image by image."""
    fixed = np.flatnonzero(after.right & ~before.right)
    broken = np.flatnonzero(before.right & ~after.right)
    images = len(before.labels)
    return Compared(
        before=float(before.right.mean()),
        after=float(after.right.mean()),
        images=images,
        fixed=fixed,
        broken=broken,
        difference=paired_tests.difference(len(fixed), len(broken), images),
    )


def by_class(compared: Compared, results: ModelResults) -> list[ClassChange]:
    """Compare two models class by class on the test set, with p adjusted for their number.

    Args:
        compared: both on the test set.
        results: of either model; a class without a name gets its number.
    """
    labels = results.predictions["test"].labels
    classes = [int(label) for label in np.unique(labels)]
    images, fixed, broken = (
        [int((some == label).sum()) for label in classes]
        for some in (labels, labels[compared.fixed], labels[compared.broken])
    )
    adjusted = paired_tests.holm(list(map(paired_tests.mcnemar, fixed, broken)))
    return [
        ClassChange(
            name=results.classes[label] if label < len(results.classes) else str(label),
            images=images[row],
            fixed=fixed[row],
            broken=broken[row],
            difference=(fixed[row] - broken[row]) / images[row],
            p=adjusted[row],
            beyond_noise=adjusted[row] <= LEVEL,
        )
        for row, label in enumerate(classes)
    ]


def judge(difference: Difference) -> Kind:
    """Return the verdict on a difference."""
    if difference.p > LEVEL or difference.mean == 0:
        return "same"
    return "better" if difference.mean > 0 else "worse"


def obstacle(before: ModelResults, after: ModelResults, which: Set) -> Obstacle | None:
    """Return why base and head cannot be compared on a set, or None."""
    file = SETS[which]
    other = "another test set" if which == "test" else "another split of the data"
    for path in TEST_DATA if which == "test" else VAL_DATA:
        old_hash, new_hash = before.hashes.get(path), after.hashes.get(path)
        if old_hash and new_hash and old_hash != new_hash:
            return Obstacle(f"{other} ({path} is not the same)")
    missing = [each.snapshot.name for each in (before, after) if which not in each.predictions]
    if missing:
        return Obstacle(f"no {file} in {' and '.join(missing)}", missing=True)
    old, new = before.predictions[which], after.predictions[which]
    if len(old.labels) != len(new.labels):
        return Obstacle(
            f"a different number of {which} images, "
            f"{len(old.labels):,} before and {len(new.labels):,} after"
        )
    if (old.indices != new.indices).any() or (old.labels != new.labels).any():
        return Obstacle(f"{other} ({file} lists other images or labels)")
    return None


def whole_obstacle(before: ModelResults, after: ModelResults) -> Obstacle | None:
    """Return why there can be no verdict, or None.

    The test sets have to be the same, and so do the splits: otherwise the two models
    were chosen by different images.
    """
    found = obstacle(before, after, "validation")
    return obstacle(before, after, "test") or (None if found and found.missing else found)


def headline(
    compared: Compared | None,
    trained: Trained | None,
    obstacle: Obstacle | None,
    *,
    one_recipe: bool = False,
) -> Verdict:
    """Write the verdict: on two recipes if several seeds of each were trained.

    Args:
        compared: two models on the test set, if they can be compared.
        trained: several seeds of each recipe, if they were trained.
        obstacle: why there is neither.
        one_recipe: whether base and head differ only in the seed. Then neither is better,
            whatever p is: another seed may differ as much.
    """
    if trained:
        before, after = float(np.mean(trained.before)), float(np.mean(trained.after))
        kind, words = _words(trained.difference, "the new recipe is", "the two recipes")
        figures = _figures(before, after, trained.difference)
        return Verdict(kind, words, f"{figures}, mean of {len(trained.seeds)} seeds of each")
    if compared is None:
        text = obstacle.text if obstacle else "no predictions"
        figures = f"{text[0].upper()}{text[1:]}; only the metrics are shown below"
        return Verdict("incomparable", "Cannot be compared", figures)
    images = wording.count(compared.images, "test image")
    kind, words = _words(
        compared.difference, "of these two models, the new one is", "these two models"
    )
    if one_recipe:
        kind = "same"
        words = "No difference beyond noise: base and head are one recipe with two seeds"
    if not len(compared.fixed) + len(compared.broken):
        return Verdict(
            kind, words, f"Both get the same of {images} right, {formatting.share(compared.after)}"
        )
    figures = _figures(compared.before, compared.after, compared.difference)
    return Verdict(kind, words, f"{figures}, {images}")


def _words(difference: Difference, subject: str, both: str) -> tuple[Kind, str]:
    kind = judge(difference)
    return kind, {
        "better": f"Better: {subject} right more often",
        "worse": f"Worse: {subject} right less often",
        "same": f"No difference beyond noise between {both}",
    }[kind]


def _figures(before: float, after: float, difference: Difference) -> str:
    p = formatting.p_value(difference.p)
    return (
        f"Test accuracy {formatting.share(before)} → {formatting.share(after)}, "
        f"{formatting.points(difference.mean)} points "
        f"(95 % interval {formatting.span(difference.low, difference.high)}; "
        f"p {p if p.startswith('<') else '= ' + p})"
    )
