"""The data sets: what their files are, and how their bytes become arrays.

A file is known by the SHA-256 of its unpacked bytes, so that it does not
matter who packed it, nor how well. Where files may come from is a knob:
`dataset.mirrors` in params.yaml.

To add a data set: write its entry in `DATASETS`, its name in `DatasetParams`
of core/params.py, and its sources in params.yaml. One in the files of MNIST is
a call of `mnist_like`; another format brings its own `decode`. A file that
servers offer as `NAME.tar.gz` is entered as `NAME.tar`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from core import idx
from core.arrays import Images, Labels


class File(NamedTuple):
    """What a file must be, once it is unpacked."""

    sha256: str
    size: int  # in bytes


class Arrays(NamedTuple):
    """A data set, ready to be written."""

    train_images: Images  # (N, H, W, C) uint8
    train_labels: Labels  # (N,) int64
    test_images: Images  # (M, H, W, C) uint8
    test_labels: Labels  # (M,) int64


@dataclass(frozen=True)
class Dataset:
    """What there is to know about a data set, but for where to get it.

    Args:
        classes: the names of the classes, in the order of their labels.
        files: for each name, without the `.gz`, what the unpacked file must be.
        decode: makes arrays of the unpacked bytes of all `files`.
    """

    classes: tuple[str, ...]
    files: Mapping[str, File]
    decode: Callable[[Mapping[str, bytes]], Arrays]


def mnist_like(
    classes: tuple[str, ...],
    *,
    train_images: str,
    train_labels: str,
    test_images: str,
    test_labels: str,
    train_count: int = 60_000,
    test_count: int = 10_000,
) -> Dataset:
    """Describe a data set of 28×28 grey images in four IDX files, named as MNIST's.

    Args:
        classes: the names of the classes, in the order of their labels.
        train_images: SHA-256 of the unpacked file, as the next three.
        train_labels: the same.
        test_images: the same.
        test_labels: the same.
        train_count: how many training images there are.
        test_count: how many test images there are.
    """
    files = {
        "train-images-idx3-ubyte": File(train_images, 16 + 28 * 28 * train_count),
        "train-labels-idx1-ubyte": File(train_labels, 8 + train_count),
        "t10k-images-idx3-ubyte": File(test_images, 16 + 28 * 28 * test_count),
        "t10k-labels-idx1-ubyte": File(test_labels, 8 + test_count),
    }
    decode = partial(_decode_mnist_like, train_count=train_count, test_count=test_count)
    return Dataset(classes, files, decode)


def _decode_mnist_like(
    contents: Mapping[str, bytes], *, train_count: int, test_count: int
) -> Arrays:
    def images(name: str, count: int) -> Images:
        pixels = idx.parse(contents[name], dtype=np.uint8, shape=(count, 28, 28), where=name)
        return pixels[..., np.newaxis]  # (N, 28, 28, 1)

    def labels(name: str, count: int) -> Labels:
        stored = idx.parse(contents[name], dtype=np.uint8, shape=(count,), where=name)
        return stored.astype(np.int64)

    return Arrays(
        images("train-images-idx3-ubyte", train_count),
        labels("train-labels-idx1-ubyte", train_count),
        images("t10k-images-idx3-ubyte", test_count),
        labels("t10k-labels-idx1-ubyte", test_count),
    )


DATASETS: dict[str, Dataset] = {
    # Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten
    # digits"; the sums' origin is in data/mirror/mnist/README.md.
    "mnist": mnist_like(
        ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
        train_images="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        train_labels="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        test_images="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        test_labels="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
}
