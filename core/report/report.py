"""Builds a test report: the findings on a test set, and the page that shows them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from core.data.arrays import Images, Indices
from core.data.dataset_params import DatasetParams
from core.data.split_params import SplitParams
from core.report import calibration, charts, classification, image_selection, pages, seen_images
from core.report.calibration import Bin, Coverage
from core.report.classification import Matrix
from core.report.image_selection import Classified, Shown
from core.report.results import Measured
from core.statistics import intervals
from core.statistics.intervals import Difference
from core.training.model_params import ModelParams
from core.training.train_params import TrainParams

SAMPLE_SEED = 0  # of the random sample
SHARES = [count / 100 for count in range(51)]  # of the images that are rejected
TABLE_SHARES = [0.0, 0.01, 0.05, 0.1, 0.2]  # of these, those in the page's table
MOST_CLASSES = 20  # whose best and worst images the page shows
LARGEST_PAGE = 1_990_000  # bytes


@dataclass(frozen=True)
class Findings:
    """The results of a model on a test set, in numbers and in images."""

    matrix: Matrix
    per_class: pd.DataFrame  # as `classification.per_class` returns it
    bins: list[Bin]
    coverage: list[Coverage]
    most_wrong: list[Shown]
    least_certain: list[Shown]
    random_sample: list[Shown]
    extremes: list[Shown]  # of each class the best and the worst, in turn
    balanced_accuracy: float
    largest_class: str
    largest_share: float  # the accuracy of always predicting the largest class
    seen: int  # images that the model was trained on
    seen_correct: int  # of these

    @property
    def correct(self) -> int:
        """How many images are predicted right."""
        return int(self.matrix.trace())


@dataclass(frozen=True)
class Validation:
    """What earlier stages measured, to compare the test with."""

    correct: int  # validation images that are predicted right
    images: int
    train: Measured
    val: Measured
    history: list[dict[str, float]]  # a row an epoch, the columns of metrics/history.csv

    @property
    def interval(self) -> tuple[float, float]:
        """The interval of the validation accuracy."""
        return intervals.wilson(self.correct, self.images)

    def above(self, correct: int, images: int) -> Difference:
        """Return by how much a test accuracy is above validation's."""
        return intervals.newcombe(correct, images, self.correct, self.images)


def find(
    tested: Classified, *, train_images: Images, train_indices: Indices, count: int
) -> Findings:
    """Evaluate a model on a test set in every way that the report shows.

    Args:
        tested: the test set.
        train_images: uint8 (M, H, W, C).
        train_indices: int64, positions in `train_images`, of those trained on.
        count: of the images in each gallery.
    """
    labels, probabilities = tested.labels, tested.probabilities
    matrix = classification.confusion_matrix(labels, tested.predicted, classes=len(tested.names))
    extremes = [
        position
        for _, best, worst in classification.best_and_worst(labels, probabilities)
        for position in (best, worst)
    ]
    largest, largest_share = classification.largest_class(matrix)
    seen = seen_images.seen(tested.images, train_images, train_indices)
    sample = classification.random_sample(len(labels), count=count, seed=SAMPLE_SEED)
    return Findings(
        matrix=matrix,
        per_class=classification.per_class(matrix, tested.names),
        bins=calibration.reliability(labels, probabilities),
        coverage=calibration.coverage(labels, probabilities, SHARES),
        most_wrong=image_selection.show(
            tested, classification.most_wrong(labels, probabilities, count=count)
        ),
        least_certain=image_selection.show(
            tested, calibration.least_certain(probabilities, count=count)
        ),
        random_sample=image_selection.show(tested, sample),
        extremes=image_selection.show(tested, extremes),
        balanced_accuracy=classification.balanced_accuracy(matrix),
        largest_class=tested.names[largest],
        largest_share=largest_share,
        seen=int(seen.sum()),
        seen_correct=int((seen & (tested.predicted == labels)).sum()),
    )


def recipe(
    dataset: DatasetParams, split: SplitParams, model: ModelParams, train: TrainParams, kind: str
) -> dict[str, dict[str, Any]]:
    """List the parameters that made a model, by section, without those that it does not use.

    The number of threads is not part of it.

    Args:
        dataset: of which only the name counts.
        split: the whole section.
        model: of which only the architecture `name` counts.
        train: the whole section.
        kind: of numerics, `portable` or `fast`.
    """
    training = train.model_dump()
    augment = training.pop("augment")
    del training["threads"]
    return {
        "Data set": {"name": dataset.name},
        "Split": split.model_dump(),
        "Model": {"name": model.name, "standardize": model.standardize, **model.own.model_dump()},
        "Training": training,
        "Augmentation": augment,
        "Numerics": {"numerics": kind},
    }


def page(
    template: str,
    style: str,
    script: str,
    *,
    recipe: dict[str, dict[str, Any]],
    tested: Classified,
    findings: Findings,
    metrics: dict[str, float],
    validation: Validation,
    templates: Images | None,
) -> str:
    """Render the page, with as many images as fit into `LARGEST_PAGE`.

    Args:
        template: of Jinja.
        style: in CSS.
        script: in JavaScript.
        recipe: as the function of this name returns it.
        tested: the test set.
        findings: of it.
        metrics: as metrics/test.json holds them.
        validation: what to compare them with.
        templates: the weights of a linear model as images, uint8 (classes, H, W, 3).
    """
    facts = {
        "style": style,
        "script": script,
        "recipe": recipe,
        "names": tested.names,
        "shape": tested.images.shape[1:3],
        "metrics": metrics,
        "findings": findings,
        "per_class": findings.per_class.to_dict("records"),
        "extremes": _of_the_weakest(findings),
        "shades": classification.shades(findings.matrix).tolist(),
        "coverage_table": [each for each in findings.coverage if each.handed_over in TABLE_SHARES],
        "bins": calibration.BINS,
        "validation": validation,
        "difference": validation.above(findings.correct, len(tested.labels)),
        "sample_seed": SAMPLE_SEED,
        "templates": []
        if templates is None
        else [image_selection.address(each) for each in templates],
        "charts": _charts(findings, validation.history),
    }
    cells = {"names": tested.names, "matrix": findings.matrix.tolist()}
    without_images = pages.render(template, **facts, cells={**cells, "rows": []})
    room = LARGEST_PAGE - len(without_images.encode("utf-8"))
    rows = image_selection.sheets(tested, room=room)
    return pages.render(template, **facts, cells={**cells, "rows": rows})


def _of_the_weakest(findings: Findings) -> list[Shown]:
    """Return the extremes of the classes with the lowest F1, in the order of the labels."""
    table = findings.per_class[findings.per_class["support"] > 0].reset_index(drop=True)
    weakest = sorted(table["f1"].sort_values(kind="stable").index[:MOST_CLASSES])
    return [shown for row in weakest for shown in findings.extremes[2 * row : 2 * row + 2]]


def _charts(findings: Findings, history: Sequence[dict[str, float]]) -> dict[str, str]:
    """Draw the charts, by name, as SVG."""
    specs = {
        "loss": charts.learning_curve(history, "loss"),
        "accuracy": charts.learning_curve(history, "accuracy"),
        "reliability": charts.reliability(findings.bins),
        "confidences": charts.confidences(findings.bins),
        "coverage": charts.coverage(findings.coverage, TABLE_SHARES),
    }
    return {name: charts.draw(spec) for name, spec in specs.items()}
