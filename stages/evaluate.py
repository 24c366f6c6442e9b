"""Measures the model on train and val, the images that it may be chosen by.

Reads:  data/raw/train_images.npy, train_labels.npy and classes.json,
        data/split/train_indices.npy and val_indices.npy, models/model.pt
Writes: metrics/evaluate.json, loss and accuracy on train and val;
        metrics/val_predictions.csv, a row a validation image

It measures the file of weights, not the model in the trainer's memory: equal digits
in the training history show that the file is intact.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import core  # noqa: F401 - as stages/__init__.py

from core.pipeline import files, params
from core.pipeline.runner import run
from core.report import predictions
from core.training.inputs import load
from core.training.model_params import ModelParams
from core.training.numerics_params import NumericsParams
from core.training.train_params import TrainParams

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
    chosen = params.check()
    compute = chosen.section(TrainParams, "threads", "device")
    inputs = load(
        chosen.section(NumericsParams).root,
        compute,
        chosen.section(ModelParams, "name", "${model.name}"),
        images=TRAIN_IMAGES,
        labels=TRAIN_LABELS,
        class_names=CLASS_NAMES,
        train_indices=TRAIN_INDICES,
        val_indices=VAL_INDICES,
        weights=MODEL,
    )
    data, model, workers = inputs.to(compute.device)
    from core.training.evaluation import measure, predict  # torch comes after `load`

    evaluation = {}
    for part, indices in {"train": data.train_indices, "val": data.val_indices}.items():
        measured = measure(model, data.images, data.labels, indices, workers=workers)
        evaluation[part] = measured._asdict()
        print(f"{part:<5}  loss {measured.loss:.4f}  accuracy {measured.accuracy:.4f}")
    probabilities = predict(model, data.images, data.val_indices, workers=workers)

    files.write_json(EVALUATION, evaluation)
    files.write_csv(
        VAL_PREDICTIONS,
        predictions.COLUMNS,
        predictions.rows(
            data.val_indices.cpu().numpy(),
            data.labels[data.val_indices].cpu().numpy(),
            probabilities.cpu().numpy(),
        ),
    )


if __name__ == "__main__":
    run(main)
