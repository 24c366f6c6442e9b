"""Measures the model on the images that it may be chosen by.

Reads:  data/raw/train_images.npy, train_labels.npy and classes.json,
        data/split/train_indices.npy and val_indices.npy, models/model.pt
Writes: metrics/evaluate.json, loss and accuracy on train and val;
        metrics/val_predictions.csv, a row a validation image

It measures the file of weights, not the model in the trainer's memory: that
its digits equal those of the training history shows that the file is whole.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from core import arrays, files, numerics, params, predictions
from core.runner import run

CLASS_NAMES = Path("data/raw/classes.json")
TRAIN_IMAGES = Path("data/raw/train_images.npy")
TRAIN_LABELS = Path("data/raw/train_labels.npy")
TRAIN_INDICES = Path("data/split/train_indices.npy")
VAL_INDICES = Path("data/split/val_indices.npy")
MODEL = Path("models/model.pt")
EVALUATION = Path("metrics/evaluate.json")
VAL_PREDICTIONS = Path("metrics/val_predictions.csv")


def main() -> None:
    """Measure the model on train and val."""
    chosen = params.read("numerics", "train.threads", "train.device", "model")
    numerics.pin(chosen.numerics, chosen.train.threads, chosen.train.device)
    import torch

    from core import models, weights
    from core.evaluation import measure, predict

    raw_images, raw_labels, class_names = arrays.read_labelled_images(
        TRAIN_IMAGES, TRAIN_LABELS, CLASS_NAMES
    )
    raw_split = arrays.read_split(TRAIN_INDICES, VAL_INDICES, images=len(raw_images))
    images, labels, train_indices, val_indices = (
        torch.from_numpy(array).to(chosen.train.device)
        for array in (raw_images, raw_labels, *raw_split)
    )

    _, height, width, channels = images.shape
    model = models.build(chosen.model.name, (height, width, channels), len(class_names))
    weights.load_into(model, MODEL, name=chosen.model.name)
    model.to(chosen.train.device)

    evaluation = {}
    for side, indices in {"train": train_indices, "val": val_indices}.items():
        measured = measure(model, images, labels, indices)
        evaluation[side] = measured._asdict()
        print(f"{side:<5}  loss {measured.loss:.4f}  accuracy {measured.accuracy:.4f}")
    probabilities = predict(model, images, val_indices).cpu().numpy()  # (M, classes)

    files.write_json(EVALUATION, evaluation)
    raw_val_indices = raw_split[1]
    files.write_csv(
        VAL_PREDICTIONS,
        predictions.COLUMNS,
        predictions.rows(raw_val_indices, raw_labels[raw_val_indices], probabilities),
    )


if __name__ == "__main__":
    run(main)
