"""Whether the second of two models is better, worse, or cannot be told apart.

The verdict goes by one number, the accuracy on the test set: so it needs no
correction for looking at several. The classes, of which one may look at all,
are corrected by Holm's method. A paired test takes the two models as fixed;
whether their recipes differ is told by several seeds of each.
"""

from typing import Literal, NamedTuple

import numpy as np

from core.data.arrays import Indices
from core.statistics import paired_tests
from core.statistics.paired_tests import LEVEL, Difference
from tools.review import formatting
from tools.review.results import SETS, Predictions, Set, Side
from tools.review.seed_runs import Trained

# What fixes the images of a set besides its predictions: hashes in dvc.lock.
TEST_DATA = ("data/raw/test_images.npy", "data/raw/test_labels.npy")
VAL_DATA = ("data/raw/train_images.npy", "data/raw/train_labels.npy", "data/split/val_indices.npy")

Kind = Literal["better", "worse", "same", "incomparable"]


class Obstacle(NamedTuple):
    """Why two sides cannot be compared on a set."""

    text: str
    missing: bool = False  # a side lacks its predictions; else the images are not the same


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
    figures: str  # what it rests on, a sentence without its full stop

    @property
    def line(self) -> str:
        """All of it."""
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
    """Compare two models image by image; both decided the same images."""
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


def by_class(compared: Compared, side: Side) -> list[ClassChange]:
    """Compare two models class by class on the test set, with p adjusted for their number.

    Args:
        compared: both on the test set.
        side: either of the two; a class of which it has no name is named by its number.
    """
    labels = side.predictions["test"].labels
    classes = [int(label) for label in np.unique(labels)]
    images, fixed, broken = (
        [int((some == label).sum()) for label in classes]
        for some in (labels, labels[compared.fixed], labels[compared.broken])
    )
    adjusted = paired_tests.holm(list(map(paired_tests.mcnemar, fixed, broken)))
    return [
        ClassChange(
            name=side.classes[label] if label < len(side.classes) else str(label),
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
    """Say what a difference means."""
    if difference.p > LEVEL or difference.mean == 0:
        return "same"
    return "better" if difference.mean > 0 else "worse"


def obstacle(before: Side, after: Side, which: Set) -> Obstacle | None:
    """Say why two sides cannot be compared on a set, if they cannot."""
    file = SETS[which]
    other = "another test set" if which == "test" else "another split of the data"
    for path in TEST_DATA if which == "test" else VAL_DATA:
        old_hash, new_hash = before.hashes.get(path), after.hashes.get(path)
        if old_hash and new_hash and old_hash != new_hash:
            return Obstacle(f"{other} ({path} is not the same)")
    missing = [side.snapshot.name for side in (before, after) if which not in side.predictions]
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


def whole_obstacle(before: Side, after: Side) -> Obstacle | None:
    """Say why there can be no verdict, if there can be none.

    It goes by the test set; but after another split neither model was chosen
    on the images of the other.
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
    """Put the verdict in words: on two recipes if several seeds of each are there.

    Args:
        compared: two models on the test set, if they can be compared.
        trained: several seeds of each recipe, if they were trained.
        obstacle: why there is neither.
        one_recipe: whether the two sides differ by their seed alone. Then no p
            makes one better: another seed does as much.
    """
    if trained:
        before, after = float(np.mean(trained.before)), float(np.mean(trained.after))
        kind, words = _words(trained.difference, "the new recipe is", "the two recipes")
        figures = _figures(before, after, trained.difference)
        return Verdict(kind, words, f"{figures}, mean of {len(trained.seeds)} seeds of each")
    if compared is None:
        text = obstacle.text if obstacle else "no predictions"
        figures = f"{text[0].upper()}{text[1:]}; the metrics alone are below"
        return Verdict("incomparable", "Cannot be compared", figures)
    images = formatting.count(compared.images, "test image")
    kind, words = _words(
        compared.difference, "of these two models, the new one is", "these two models"
    )
    if one_recipe:
        kind = "same"
        words = "No difference beyond noise: both sides are one recipe, with two seeds"
    if not len(compared.fixed) + len(compared.broken):
        return Verdict(
            kind, words, f"Both get the same of {images} right, {formatting.share(compared.after)}"
        )
    figures = _figures(compared.before, compared.after, compared.difference)
    return Verdict(kind, words, f"{figures}, {images}")


def _words(difference: Difference, who: str, both: str) -> tuple[Kind, str]:
    kind = judge(difference)
    return kind, {
        "better": f"Better: {who} right more often",
        "worse": f"Worse: {who} right less often",
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
