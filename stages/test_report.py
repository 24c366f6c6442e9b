"""Measure the model on the test set, once, and write a report on it.

The only stage that reads the test set. No stage reads what it writes, so no
setting can be chosen by it.

Reads data/raw/ (the test images and labels, the names of the classes) and
models/model.pt. Writes metrics/test.json, metrics/test_predictions.csv and
metrics/per_class.csv, two pictures, and reports/test_report.html: a page with
all of it that needs no network.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import math

from core import arrays, classification, files, intervals, numerics, pages, params, pictures
from core.arrays import Images, Labels
from core.classification import Probabilities
from core.errors import ModelError
from core.pages import percent
from core.pictures import Picture
from core.runner import run

RAW = Path("data/raw")
MODEL = Path("models/model.pt")
METRICS = Path("metrics")
REPORTS = Path("reports")
TEMPLATE = Path(__file__).with_suffix(".html.j2")

COLUMNS = 4  # of a picture: readable on a phone; even, so that best stands beside worst
PROBABILITY_DECIMALS = 4  # of each image's; the file lies in git


def draw_most_wrong(
    images: Images, labels: Labels, probabilities: Probabilities, names: list[str], count: int
) -> Picture:
    """Draw the `count` most confidently wrong images, or a notice if none is wrong."""
    predictions = probabilities.argmax(axis=1)  # (N,)
    shown = classification.most_wrong(labels, probabilities, count=count)
    if not shown:
        return pictures.notice(f"None of the {len(labels):,} images is wrong.")
    captions = [
        f"{names[labels[i]]} seen as {names[predictions[i]]}\n"
        + percent(probabilities[i, predictions[i]])
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


def main() -> None:
    """Run the stage."""
    knobs = params.read("numerics", "train.threads", "model", "test_report")
    numerics.pin(knobs.numerics, knobs.train.threads)
    import torch

    from core import evaluation, models, weights

    names = arrays.read_class_names(RAW / "classes.json")
    images = arrays.read_images(RAW / "test_images.npy")
    labels = arrays.read_labels(RAW / "test_labels.npy", classes=len(names))
    arrays.check_same_length(RAW / "test_images.npy", images, RAW / "test_labels.npy", labels)
    _, height, width, channels = images.shape
    model = models.build(knobs.model.name, (height, width, channels), len(names))
    weights.load_into(model, MODEL, name=knobs.model.name)

    pixels, every = torch.from_numpy(images), torch.arange(len(labels))
    loss, accuracy = evaluation.measure(model, pixels, torch.from_numpy(labels), every)
    if not math.isfinite(loss):
        raise ModelError(
            "the model's loss on the test set is not a number",
            found=str(loss),
            where=str(MODEL),
            todo="train with a smaller train.lr: dvc repro",
        )
    low, high = intervals.wilson(round(accuracy * len(labels)), len(labels))
    metrics = files.rounded(
        {
            "loss": loss,
            "accuracy": accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "images": len(labels),
        }
    )
    probabilities = evaluation.predict(model, pixels, every).numpy()  # (N, classes)
    predictions = probabilities.argmax(axis=1)  # (N,)
    matrix = classification.confusion_matrix(labels, predictions, classes=len(names))
    table = classification.per_class(matrix, names).round(files.DECIMALS)
    wrong = draw_most_wrong(images, labels, probabilities, names, knobs.test_report.most_wrong)
    extremes = draw_best_and_worst(images, labels, probabilities, names)
    page = pages.render(
        TEMPLATE.read_text(encoding="utf-8"),
        model=knobs.model.name,
        metrics=metrics,
        table=table.to_dict("records"),
        matrix=matrix.tolist(),
        shades=classification.shades(matrix).tolist(),
        names=names,
        most_wrong=wrong,
        best_and_worst=extremes,
    )

    files.write_json(METRICS / "test.json", metrics)
    files.write_csv(
        METRICS / "test_predictions.csv",
        ["index", "label", "prediction", "probability"],
        (
            (index, label, prediction, round(row[prediction], PROBABILITY_DECIMALS))
            for index, (label, prediction, row) in enumerate(
                zip(labels.tolist(), predictions.tolist(), probabilities.tolist(), strict=True)
            )
        ),
    )
    files.write_csv(
        METRICS / "per_class.csv", list(table.columns), table.itertuples(index=False, name=None)
    )
    files.write_bytes(REPORTS / "most_wrong.png", wrong.png)
    files.write_bytes(REPORTS / "best_and_worst.png", extremes.png)
    files.write_text(REPORTS / "test_report.html", page)
    print(
        f"test accuracy {metrics['accuracy']:.4f} (95 % interval "
        f"{metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f}), "
        f"loss {metrics['loss']:.4f}, {len(labels):,} images"
    )
    print(f"report: {REPORTS / 'test_report.html'}")


if __name__ == "__main__":
    run(main)
