"""Measures the model on the test set, once, and writes a report on it.

The only stage that reads the test set. No stage reads what it writes, so no
parameter can be chosen by it.

Reads:  data/raw/test_images.npy, test_labels.npy and classes.json,
        models/model.pt;
        data/raw/train_images.npy and data/split/train_indices.npy, to count the test
        images that the model was trained on;
        metrics/evaluate.json, history.csv and val_predictions.csv, for what the
        report compares the test with
Writes: metrics/test.json, loss and accuracy with its interval, its difference
        from validation, and how well calibrated the probabilities are;
        metrics/test_predictions.csv, a row an image;
        metrics/per_class.csv, precision, recall, F1 and support of each class;
        metrics/calibration.csv, confidence and accuracy of each bin;
        metrics/coverage.csv, accuracy if the least certain are rejected;
        reports/most_wrong.png, least_certain.png, random_sample.png,
        best_and_worst.png and weights.png;
        reports/test_report.html, everything on one page that needs no network
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import core  # noqa: F401 - as stages/__init__.py

import math

import numpy as np

from core.data import arrays
from core.data.arrays import Images
from core.data.dataset_params import DatasetParams
from core.data.split_params import SplitParams
from core.pipeline import files, params, wording
from core.pipeline.errors import ModelError
from core.pipeline.runner import run
from core.pipeline.visible import visible
from core.report import calibration, image_grids, pages, predictions, report, results
from core.report.image_grids import Picture
from core.report.image_selection import Classified, Shown
from core.report.report import Findings, Validation
from core.report.test_report_params import TestReportParams
from core.statistics import intervals
from core.training.inputs import Inputs, load
from core.training.model_params import ModelParams
from core.training.numerics_params import NumericsParams
from core.training.train_params import TrainParams

CLASS_NAMES = Path("data/raw/classes.json")
TEST_IMAGES = Path("data/raw/test_images.npy")
TEST_LABELS = Path("data/raw/test_labels.npy")
TRAIN_IMAGES = Path("data/raw/train_images.npy")
TRAIN_INDICES = Path("data/split/train_indices.npy")
MODEL = Path("models/model.pt")
EVALUATION = Path("metrics/evaluate.json")
HISTORY = Path("metrics/history.csv")
VAL_PREDICTIONS = Path("metrics/val_predictions.csv")
TEMPLATE = Path("stages/test_report.html.j2")
STYLE = Path("stages/test_report.css")
SCRIPT = Path("stages/test_report.js")
TEST = Path("metrics/test.json")
TEST_PREDICTIONS = Path("metrics/test_predictions.csv")
PER_CLASS = Path("metrics/per_class.csv")
CALIBRATION = Path("metrics/calibration.csv")
COVERAGE = Path("metrics/coverage.csv")
MOST_WRONG = Path("reports/most_wrong.png")
LEAST_CERTAIN = Path("reports/least_certain.png")
RANDOM_SAMPLE = Path("reports/random_sample.png")
BEST_AND_WORST = Path("reports/best_and_worst.png")
WEIGHTS = Path("reports/weights.png")
REPORT = Path("reports/test_report.html")

HISTORY_COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")
COLUMNS = 4  # of a picture: readable on a phone; even, so that best and worst share a row


def measure(inputs: Inputs, device: str) -> tuple[Classified, float]:
    """Measure the model on the test set.

    Args:
        inputs: the test set and the model, on the CPU.
        device: that computes, `cpu` or `cuda`.

    Returns:
        Its predictions for each image, and its mean cross-entropy in nats.
    """
    from core.training import evaluation, tensors  # torch comes after `load`

    data, model, workers = inputs.to(device)
    every = tensors.of(np.arange(len(data.labels))).to(device)
    loss = evaluation.measure(model, data.images, data.labels, every, workers=workers).loss
    if not math.isfinite(loss):
        raise ModelError(
            "the model's loss on the test set is not a number",
            found=str(loss),
            where=str(MODEL),
            todo="train with a smaller train.lr: dvc repro",
        )
    probabilities = evaluation.predict(model, data.images, every, workers=workers)  # (N, classes)
    images, labels = inputs.data.images.numpy(), inputs.data.labels.numpy()
    return Classified(images, labels, probabilities.cpu().numpy(), data.class_names), loss


def weights_as_images(inputs: Inputs) -> Images:
    """Return the weights of a linear model as images, uint8 (classes, H, W, 3)."""
    _, height, width, channels = inputs.data.images.shape
    weight = inputs.model.get_parameter("linear.weight").detach().numpy()
    return image_grids.templates(weight, (height, width, channels))


def read_validation() -> Validation:
    """Read what earlier stages measured."""
    rows = results.read_numbers(VAL_PREDICTIONS, predictions.COLUMNS)
    measured = results.read_evaluation(EVALUATION)
    return Validation(
        correct=sum(label == prediction for _, label, prediction, _ in rows),
        images=len(rows),
        train=measured["train"],
        val=measured["val"],
        history=[
            dict(zip(HISTORY_COLUMNS, row, strict=True))
            for row in results.read_numbers(HISTORY, HISTORY_COLUMNS)
        ],
    )


def test_metrics(
    tested: Classified, loss: float, findings: Findings, validation: Validation
) -> dict[str, float]:
    """Return the content of metrics/test.json, rounded as it is written."""
    correct, total = findings.correct, len(tested.labels)
    low, high = intervals.wilson(correct, total)
    above = validation.above(correct, total)
    metrics: dict[str, float] = files.rounded(
        {
            "loss": loss,
            "accuracy": correct / total,
            "accuracy_low": low,
            "accuracy_high": high,
            "images": total,
            "above_val": above.points,
            "above_val_low": above.low,
            "above_val_high": above.high,
            "ece": calibration.expected_calibration_error(findings.bins),
            "brier": calibration.brier_score(tested.labels, tested.probabilities),
        }
    )
    return metrics


def draw(shown: list[Shown], images: Images) -> Picture:
    """Draw a gallery, each image with label, prediction and confidence below it."""
    if not shown:
        return image_grids.notice(f"None of the {len(images):,} images is wrong.")
    captions = [
        (each.label if each.right else f"{each.label} seen as {each.prediction}")
        + f"\n{pages.percent(each.confidence)}"
        for each in shown
    ]
    return image_grids.grid(images[[each.position for each in shown]], captions, columns=COLUMNS)


def draw_extremes(shown: list[Shown], images: Images) -> Picture:
    """Draw each class's best and worst image, by the probability of its label."""
    captions = [
        f"{'worst' if position % 2 else 'best'} {each.label}\n{pages.percent(each.of_label)}"
        + ("" if each.right else f"\nseen as {each.prediction}")
        for position, each in enumerate(shown)
    ]
    return image_grids.grid(images[[each.position for each in shown]], captions, columns=COLUMNS)


def draw_weights(templates: Images | None, names: list[str]) -> Picture:
    """Draw the weights of each class, if there are any that are images."""
    if templates is None:
        return image_grids.notice("Only a linear model has weights that are images.")
    return image_grids.grid(templates, names, columns=COLUMNS)


def main() -> None:
    """Measure the model on the test set and report on it."""
    chosen = params.check()
    kind = chosen.section(NumericsParams).root
    architecture = chosen.section(ModelParams, "name", "standardize", "${model.name}")
    settings = chosen.section(TrainParams)
    inputs = load(
        kind,
        settings,
        architecture,
        images=TEST_IMAGES,
        labels=TEST_LABELS,
        class_names=CLASS_NAMES,
        weights=MODEL,
        others=[TRAIN_IMAGES, TRAIN_INDICES, EVALUATION, HISTORY, VAL_PREDICTIONS],
    )
    train_images = arrays.read_images(TRAIN_IMAGES)
    train_indices = arrays.read_indices(TRAIN_INDICES, images=len(train_images))
    validation = read_validation()
    linear = architecture.name == "logistic_regression"
    templates = weights_as_images(inputs) if linear else None
    tested, loss = measure(inputs, settings.device)
    images, labels, probabilities, names = tested
    findings = report.find(
        tested,
        train_images=train_images,
        train_indices=train_indices,
        count=chosen.section(TestReportParams).most_wrong,
    )
    metrics = test_metrics(tested, loss, findings, validation)
    pictures_of = {
        MOST_WRONG: draw(findings.most_wrong, images),
        LEAST_CERTAIN: draw(findings.least_certain, images),
        RANDOM_SAMPLE: draw(findings.random_sample, images),
        BEST_AND_WORST: draw_extremes(findings.extremes, images),
        WEIGHTS: draw_weights(templates, names),
    }
    page = report.page(
        *(path.read_text(encoding="utf-8") for path in (TEMPLATE, STYLE, SCRIPT)),
        recipe=report.recipe(
            chosen.section(DatasetParams, "name"),
            chosen.section(SplitParams),
            architecture,
            settings,
            kind,
        ),
        tested=tested,
        findings=findings,
        metrics=metrics,
        validation=validation,
        templates=templates,
    )

    files.write_json(TEST, metrics)
    files.write_csv(
        TEST_PREDICTIONS,
        predictions.COLUMNS,
        predictions.rows(np.arange(len(labels)), labels, probabilities),
    )
    files.write_csv(
        PER_CLASS,
        list(findings.per_class.columns),
        findings.per_class.itertuples(index=False, name=None),
    )
    files.write_csv(CALIBRATION, calibration.Bin._fields, findings.bins)
    files.write_csv(COVERAGE, calibration.Coverage._fields, findings.coverage)
    for path, picture in pictures_of.items():
        files.write_bytes(path, picture.png)
    files.write_text(REPORT, page)
    print(
        f"test accuracy {metrics['accuracy']:.4f} (95 % interval "
        f"{metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f}), "
        f"loss {metrics['loss']:.4f}, {wording.count(len(labels), 'image')}"
    )
    print(
        f"balanced accuracy {findings.balanced_accuracy:.4f}, "
        f"always {visible(findings.largest_class)}, the largest class: {findings.largest_share:.4f}"
    )
    if findings.seen:
        print(f"trained on {findings.seen:,} of the {len(labels):,} test images")
    print(f"report: {REPORT}")


if __name__ == "__main__":
    run(main)
