"""The figures of a review: learning curves and pictures of images."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from core.data import arrays
from core.data.arrays import Indices
from core.report import image_grids
from core.report.image_grids import Picture
from core.report.pages import percent
from tools.review.results import ModelResults, Predictions
from tools.review.verdict import Compared

TEST_IMAGES = Path("data/raw/test_images.npy")
MOST_PICTURES = 12  # of images fixed, and as many of images broken
COLUMNS = 4  # of a picture: readable on a phone

MOST_LOSS = 10  # times the highest loss of the better curve: more would make that a flat line
MOST_POINTS = 41  # of a curve: more cannot be distinguished on a page
CURVES = {"val_loss": "Validation loss (nats)", "val_accuracy": "Validation accuracy"}


class Chart(NamedTuple):
    """One measure by epoch, of base and head."""

    title: str
    epochs: list[int]
    before: list[float]  # may be shorter than `epochs`, as `after` may, or empty
    after: list[float]

    def path(self, values: list[float], width: int, height: int) -> str:
        """Return the points of a curve for an SVG of that size."""
        every = self.before + self.after
        low, high = min(every), max(every)
        across = width / max(len(self.epochs) - 1, 1)
        up = height / ((high - low) or 1)
        return " ".join(
            f"{position * across:.1f},{height - (value - low) * up:.1f}"
            for position, value in enumerate(values)
        )

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value of both curves."""
        return min(self.before + self.after), max(self.before + self.after)


def charts(before: ModelResults, after: ModelResults) -> list[Chart]:
    """Pair the learning curves of base and head."""
    old, new = before.history, after.history
    longest = max(len(history.get("epoch", [])) for history in (old, new))
    step = max(1, -(-longest // MOST_POINTS))

    def thinned(values: list[float]) -> list[float]:
        return [round(value, 4) for value in values[::step]]

    return [
        _truncated(
            Chart(
                title,
                list(range(0, longest, step)),
                thinned(old.get(name, [])),
                thinned(new.get(name, [])),
            )
        )
        for name, title in CURVES.items()
        if name in old or name in new
    ]


def _truncated(chart: Chart) -> Chart:
    """End the axis where a curve leaves those values that are worth reading."""
    both = [curve for curve in (chart.before, chart.after) if curve]
    limit = MOST_LOSS * min(map(max, both))
    if max(map(max, both)) <= limit or limit <= 0:
        return chart
    before, after = ([min(each, limit) for each in curve] for curve in (chart.before, chart.after))
    title = f"{chart.title}, truncated above {limit:.3g}"
    return chart._replace(title=title, before=before, after=after)


def draw(
    before: ModelResults, after: ModelResults, compared: Compared
) -> tuple[dict[str, Picture], str]:
    """Draw the fixed and the broken test images, if the data exists.

    The most confidently wrong come first.

    Returns:
        The pictures that have images, and if there are none, why.
    """
    if not TEST_IMAGES.exists():
        return {}, "The pictures need the data: dvc repro, or dvc pull."
    found = hashlib.md5(TEST_IMAGES.read_bytes(), usedforsecurity=False).hexdigest()
    if found != after.hashes.get(TEST_IMAGES.as_posix()):
        return {}, f"{TEST_IMAGES} is not the test set of these models: dvc checkout restores it."
    images = arrays.read_images(TEST_IMAGES)
    old, new = before.predictions["test"], after.predictions["test"]
    drawn = {}
    for kind, positions, wrong in (
        ("fixed", compared.fixed, old),
        ("broken", compared.broken, new),
    ):
        shown = _most_confident(positions, wrong)
        if len(shown):
            captions = [_caption(old, new, after.classes, int(i)) for i in shown]
            drawn[kind] = image_grids.grid(images[new.indices[shown]], captions, columns=COLUMNS)
    return drawn, "" if drawn else "There are no pictures: both get the same images right."


def _most_confident(positions: Indices, predictions: Predictions) -> Indices:
    order = np.argsort(-predictions.probabilities[positions], kind="stable")
    return positions[order[:MOST_PICTURES]]


def _caption(old: Predictions, new: Predictions, names: list[str], position: int) -> str:
    def name(label: Any) -> str:
        return names[label] if label < len(names) else str(label)

    return (
        f"label {name(old.labels[position])}\n"
        f"was {name(old.predicted[position])}, {percent(old.probabilities[position], 0)}\n"
        f"now {name(new.predicted[position])}, {percent(new.probabilities[position], 0)}"
    )
