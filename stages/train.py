"""Trains the model and notes how it went, epoch by epoch.

Reads:  data/raw/train_images.npy, train_labels.npy and classes.json,
        data/split/train_indices.npy and val_indices.npy
Writes: models/model.pt, a bare state_dict;
        metrics/history.csv, a row an epoch from epoch 0, before training
"""

import sys
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

HISTORY_COLUMNS = ("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy")


def main() -> None:
    """Train as params.yaml says."""
    chosen = params.read("numerics", "model", "train")
    numerics.pin(chosen.numerics, chosen.train.threads, chosen.train.device)
    import torch

    from core import models, training, weights
    from core.evaluation import measure

    raw_images, raw_labels, class_names = arrays.read_labelled_images(
        TRAIN_IMAGES, TRAIN_LABELS, CLASS_NAMES
    )
    raw_split = arrays.read_split(TRAIN_INDICES, VAL_INDICES, images=len(raw_images))
    settings = chosen.train
    images, labels, train_indices, val_indices = (
        torch.from_numpy(array).to(settings.device)
        for array in (raw_images, raw_labels, *raw_split)
    )

    height, width, channels = images.shape[1:]
    model = models.build(
        chosen.model.name, (height, width, channels), len(class_names), seed=settings.seed
    ).to(settings.device)
    order = torch.Generator().manual_seed(settings.seed)

    for stale in (MODEL, HISTORY):  # a training that fails leaves no older result behind
        stale.unlink(missing_ok=True)
    history: list[tuple[float, ...]] = []
    best_val_loss = float("inf")
    print("epoch  " + "  ".join(f"{name.replace('_', ' '):>14}" for name in HISTORY_COLUMNS[1:]))
    for epoch in range(settings.epochs + 1):
        losses = torch.zeros(1)
        if epoch > 0:
            batches = training.shuffled_batches(train_indices, settings.batch_size, order)
            progress = tqdm(batches, desc=f"epoch {epoch}", leave=False, disable=None)
            losses = training.train_epoch(model, images, labels, progress, settings.lr)
        train = measure(model, images, labels, train_indices)
        val = measure(model, images, labels, val_indices)
        training.check_finite(epoch, settings.lr, losses, train, val)
        history.append((epoch, *train, *val))
        print(f"{epoch:>5}  " + "  ".join(f"{value:>14.4f}" for value in history[-1][1:]))
        if settings.keep == "last" or val.loss < best_val_loss:
            best_val_loss = val.loss
            kept = {name: value.cpu().clone() for name, value in model.state_dict().items()}

    weights.save(MODEL, kept)
    files.write_csv(HISTORY, HISTORY_COLUMNS, history)


if __name__ == "__main__":
    run(main)
