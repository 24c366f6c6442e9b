"""Fetches the data set, verifies it, and writes its arrays to data/raw/.

Reads: the sources that `dataset.mirrors` in params.yaml lists for the data set.
Writes: data/raw/train_images.npy, uint8 (N, H, W, C), and train_labels.npy,
int64 (N,); the same for the test set; classes.json, the names of the classes
in the order of their labels.

It is the only stage that may touch the network. All files are fetched,
verified by SHA-256 and decoded before any is written, so that data/raw/ never
mixes two data sets.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: find core/ as `python -m` does
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from core import arrays, files, params
from core.datasets import DATASETS, Arrays
from core.fetch import by_hand, fetch
from core.runner import run

RAW = Path("data/raw")


def load(name: str, sources: list[str]) -> Arrays:
    """Fetch and decode the data set `name` from the first of `sources` that serves it.

    Raises:
        DownloadError: a file of it came from none of them.
    """
    dataset = DATASETS[name]
    todo = by_hand({file: sums.sha256 for file, sums in dataset.files.items()}, sources)
    contents = {
        file: fetch(file, sums.sha256, sums.size, sources, todo=todo)
        for file, sums in dataset.files.items()
    }
    return dataset.decode(contents)


def main() -> None:
    """Read params.yaml, write data/raw/."""
    dataset = params.read("dataset").dataset
    data = load(dataset.name, dataset.mirrors[dataset.name])
    for name, array in data._asdict().items():
        arrays.write(RAW / f"{name}.npy", array)
    files.write_json(RAW / "classes.json", DATASETS[dataset.name].classes)
    print(f"{RAW}: {', '.join(f'{name} {array.shape}' for name, array in data._asdict().items())}")


if __name__ == "__main__":
    run(main)
