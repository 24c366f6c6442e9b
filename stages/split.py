"""Splits the training images: which ones train, which ones validate.

Reads:  data/raw/train_labels.npy, data/raw/classes.json
Writes: data/split/train_indices.npy and val_indices.npy, int64, ascending

The test set is not touched. The authors of the data set separated it, and only
test_report reads it.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import core  # noqa: F401 - as stages/__init__.py

from core.data import arrays
from core.data.split_params import SplitParams
from core.data.splitting import split
from core.pipeline import params, provenance, wording
from core.pipeline.runner import run

CLASS_NAMES = Path("data/raw/classes.json")
TRAIN_LABELS = Path("data/raw/train_labels.npy")
TRAIN_INDICES = Path("data/split/train_indices.npy")
VAL_INDICES = Path("data/split/val_indices.npy")


def main() -> None:
    """Split the training images as params.yaml says."""
    chosen = params.check().section(SplitParams)
    provenance.check(CLASS_NAMES, TRAIN_LABELS)
    class_names = arrays.read_class_names(CLASS_NAMES)
    labels = arrays.read_labels(TRAIN_LABELS, classes=len(class_names))

    train_indices, val_indices = split(
        labels,
        seed=chosen.seed,
        val_fraction=chosen.val_fraction,
        stratify=chosen.stratify,
        train_size=chosen.train_size,
    )

    arrays.write(TRAIN_INDICES, train_indices)
    arrays.write(VAL_INDICES, val_indices)
    print(
        f"{wording.count(len(train_indices), 'image')} to train on, "
        f"{len(val_indices):,} to validate on"
    )


if __name__ == "__main__":
    run(main)
