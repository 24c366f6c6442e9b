"""Trains the model and notes how it went, epoch by epoch.

Reads:  data/raw/train_images.npy, train_labels.npy and classes.json,
        data/split/train_indices.npy and val_indices.npy
Writes: models/model.pt, a bare state_dict;
        metrics/history.csv, a row an epoch from epoch 0, before training
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from tqdm import tqdm

from core import arrays, files, numerics, params
from core.runner import run

CLASS_NAMES = Path("data/raw/classes.json")
TRAIN_IMAGES = Path("data/raw/train_images.npy")
TRAIN_LABELS = Path("data/raw/train_labels.npy")
TRAIN_INDICES = Path("data/split/train_indices.npy")
VAL_INDICES = Path("data/split/val_indices.npy")
MODEL = Path("models/model.pt")
HISTORY = Path("metrics/history.csv")


def main() -> None:
    """Train as params.yaml says."""
    chosen = params.read("numerics", "model", "train")
    numerics.pin(chosen.numerics, chosen.train.threads, chosen.train.device)
    import torch

    from core import models, training, weights

    raw_images, raw_labels, class_names = arrays.read_labelled_images(
        TRAIN_IMAGES, TRAIN_LABELS, CLASS_NAMES
    )
    raw_split = arrays.read_split(TRAIN_INDICES, VAL_INDICES, images=len(raw_images))
    images, labels, train_indices, val_indices = (
        torch.from_numpy(array).to(chosen.train.device)
        for array in (raw_images, raw_labels, *raw_split)
    )
    _, height, width, channels = images.shape
    model = models.build(
        chosen.model.name, (height, width, channels), len(class_names), seed=chosen.train.seed
    ).to(chosen.train.device)

    for stale in (MODEL, HISTORY):  # a training that fails leaves no older result behind
        stale.unlink(missing_ok=True)
    history: list[training.HistoryRow] = []

    def report(row: training.HistoryRow) -> None:
        history.append(row)
        print(f"{row.epoch:>5}  " + "  ".join(f"{value:>14.4f}" for value in row[1:]))

    def progress(epoch: int, batches: Sequence[torch.Tensor]) -> Iterable[torch.Tensor]:
        return tqdm(batches, desc=f"epoch {epoch}", leave=False, disable=None)

    columns = training.HistoryRow._fields
    print("epoch  " + "  ".join(f"{column.replace('_', ' '):>14}" for column in columns[1:]))
    kept = training.fit(
        model,
        images,
        labels,
        train_indices,
        val_indices,
        settings=chosen.train,
        report=report,
        progress=progress,
    )

    files.write_csv(HISTORY, columns, history)
    weights.save(MODEL, kept)


if __name__ == "__main__":
    run(main)
