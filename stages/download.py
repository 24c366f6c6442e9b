"""Fetches the data set, verifies it, and writes its arrays to data/raw/.

Reads:  the sources that `dataset.mirrors` in params.yaml lists for the data set
Writes: data/raw/train_images.npy, uint8 (N, H, W, C), and train_labels.npy,
        int64 (N,); test_images.npy and test_labels.npy likewise;
        classes.json, the names of the classes in the order of their labels

It is the only stage that may touch the network. All files are fetched,
verified by SHA-256 and decoded before any is written.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    import core  # noqa: F401 - as stages/__init__.py

from core.data import arrays
from core.data.dataset_params import DatasetParams
from core.data.datasets import DATASETS, Arrays
from core.data.fetch import fetch, manual_steps
from core.pipeline import files, params, wording
from core.pipeline.runner import run

CLASS_NAMES = Path("data/raw/classes.json")
TRAIN_IMAGES = Path("data/raw/train_images.npy")
TRAIN_LABELS = Path("data/raw/train_labels.npy")
TEST_IMAGES = Path("data/raw/test_images.npy")
TEST_LABELS = Path("data/raw/test_labels.npy")


def load(name: str, sources: list[str]) -> Arrays:
    """Fetch and decode the data set `name` from the first of `sources` that serves it.

    Raises:
        DownloadError: a file of it came from none of them.
        DataError: a file has the expected hash, but is not in the data set's format.
    """
    dataset = DATASETS[name]
    todo = manual_steps({file: sums.sha256 for file, sums in dataset.files.items()}, sources)
    contents = {
        file: fetch(file, sums.sha256, sums.size, sources, todo=todo)
        for file, sums in dataset.files.items()
    }
    return dataset.decode(contents)


def main() -> None:
    """Fetch the data set that params.yaml names and write its arrays."""
    chosen = params.check().section(DatasetParams)
    data = load(chosen.name, chosen.mirrors[chosen.name])

    arrays.write(TRAIN_IMAGES, data.train_images)
    arrays.write(TRAIN_LABELS, data.train_labels)
    arrays.write(TEST_IMAGES, data.test_images)
    arrays.write(TEST_LABELS, data.test_labels)
    files.write_json(CLASS_NAMES, DATASETS[chosen.name].classes)
    shape = " x ".join(str(length) for length in data.train_images.shape[1:])
    print(
        f"{len(data.train_images):,} training and "
        f"{wording.count(len(data.test_images), 'test image')}, {shape}"
    )


if __name__ == "__main__":
    run(main)
