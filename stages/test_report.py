"""Measures the model on the test set, once, and writes a report on it.

The only stage that reads the test set. No stage reads what it writes, so no
setting can be chosen by it.

Reads:  data/raw/test_images.npy, test_labels.npy and classes.json,
        models/model.pt
Writes: metrics/test.json, loss and accuracy with its interval;
        metrics/test_predictions.csv, a row an image;
        metrics/per_class.csv, precision, recall, F1 and support of each class;
        reports/most_wrong.png and best_and_worst.png;
        reports/test_report.html, all of it on one page that needs no network
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import math

import numpy as np

from core import (
    arrays,
    classification,
    files,
    intervals,
    numerics,
    pages,
    params,
    pictures,
    predictions,
    provenance,
)
from core.arrays import Images, Labels
from core.errors import ModelError
from core.pages import percent
from core.pictures import Picture
from core.predictions import Probabilities
from core.runner import run

CLASS_NAMES = Path("data/raw/classes.json")
TEST_IMAGES = Path("data/raw/test_images.npy")
TEST_LABELS = Path("data/raw/test_labels.npy")
MODEL = Path("models/model.pt")
TEMPLATE = Path("stages/test_report.html.j2")
TEST = Path("metrics/test.json")
TEST_PREDICTIONS = Path("metrics/test_predictions.csv")
PER_CLASS = Path("metrics/per_class.csv")
MOST_WRONG = Path("reports/most_wrong.png")
BEST_AND_WORST = Path("reports/best_and_worst.png")
REPORT = Path("reports/test_report.html")

COLUMNS = 4  # of a picture: readable on a phone; even, so that best stands beside worst


def draw_most_wrong(
    images: Images, labels: Labels, probabilities: Probabilities, names: list[str], count: int
) -> Picture:
    """Draw the `count` most confidently wrong images, or a notice if none is wrong."""
    predicted = probabilities.argmax(axis=1)  # (N,)
    shown = classification.most_wrong(labels, probabilities, count=count)
    if not shown:
        return pictures.notice(f"None of the {len(labels):,} images is wrong.")
    captions = [
        f"{names[labels[i]]} seen as {names[predicted[i]]}\n"
        + percent(probabilities[i, predicted[i]])
        for i in shown
    ]
    return pictures.grid(images[shown], captions, columns=COLUMNS)


def draw_best_and_worst(
    images: Images, labels: Labels, probabilities: Probabilities, names: list[str]
) -> Picture:
    """Draw each class's best image beside its worst, by the probability of its label."""
    shown, captions = [], []
    for label, best, worst in classification.best_and_worst(labels, probabilities):
        for kind, i in (("best", best), ("worst", worst)):
            prediction = int(probabilities[i].argmax())
            seen = "" if prediction == label else f"\nseen as {names[prediction]}"
            shown.append(i)
            captions.append(f"{kind} {names[label]}\n{percent(probabilities[i, label])}{seen}")
    return pictures.grid(images[shown], captions, columns=COLUMNS)


def test_metrics(loss: float, correct: int, total: int) -> dict[str, float]:
    """Put together what metrics/test.json holds, rounded as it is written."""
    if not math.isfinite(loss):
        raise ModelError(
            "the model's loss on the test set is not a number",
            found=str(loss),
            where=str(MODEL),
            todo="train with a smaller train.lr: dvc repro",
        )
    low, high = intervals.wilson(correct, total)
    metrics: dict[str, float] = files.rounded(
        {
            "loss": loss,
            "accuracy": correct / total,
            "accuracy_low": low,
            "accuracy_high": high,
            "images": total,
        }
    )
    return metrics


def main() -> None:
    """Measure the model on the test set and report on it."""
    chosen = params.read("numerics", "train.threads", "train.device", "model", "test_report")
    numerics.pin(chosen.numerics, chosen.train.threads, chosen.train.device)
    provenance.check(CLASS_NAMES, TEST_IMAGES, TEST_LABELS, MODEL)
    from core import evaluation, models, tensors, weights
    from core.workers import Workers

    images, labels, names = arrays.read_labelled_images(TEST_IMAGES, TEST_LABELS, CLASS_NAMES)
    _, height, width, channels = images.shape
    model = models.build(chosen.model, (height, width, channels), len(names))
    weights.load_into(model, MODEL, name=chosen.model.name)
    model.to(chosen.train.device)

    pixels, targets, every = (
        tensors.of(array).to(chosen.train.device)
        for array in (images, labels, np.arange(len(labels)))
    )
    workers = Workers(numerics.calls_at_once(chosen.numerics, chosen.train.threads))
    loss = evaluation.measure(model, pixels, targets, every, workers=workers).loss
    probabilities = (
        evaluation.predict(model, pixels, every, workers=workers).cpu().numpy()
    )  # (N, classes)
    predicted = probabilities.argmax(axis=1)  # (N,)
    matrix = classification.confusion_matrix(labels, predicted, classes=len(names))
    metrics = test_metrics(loss, int(matrix.trace()), len(labels))
    table = classification.per_class(matrix, names).round(files.DECIMALS)
    wrong = draw_most_wrong(images, labels, probabilities, names, chosen.test_report.most_wrong)
    extremes = draw_best_and_worst(images, labels, probabilities, names)
    page = pages.render(
        TEMPLATE.read_text(encoding="utf-8"),
        model=chosen.model.name,
        metrics=metrics,
        table=table.to_dict("records"),
        matrix=matrix.tolist(),
        shades=classification.shades(matrix).tolist(),
        names=names,
        most_wrong=wrong,
        best_and_worst=extremes,
    )

    files.write_json(TEST, metrics)
    files.write_csv(
        TEST_PREDICTIONS,
        predictions.COLUMNS,
        predictions.rows(np.arange(len(labels)), labels, probabilities),
    )
    files.write_csv(PER_CLASS, list(table.columns), table.itertuples(index=False, name=None))
    files.write_bytes(MOST_WRONG, wrong.png)
    files.write_bytes(BEST_AND_WORST, extremes.png)
    files.write_text(REPORT, page)
    print(
        f"test accuracy {metrics['accuracy']:.4f} (95 % interval "
        f"{metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f}), "
        f"loss {metrics['loss']:.4f}, {len(labels):,} images"
    )
    print(f"report: {REPORT}")


if __name__ == "__main__":
    run(main)
