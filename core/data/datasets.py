"""The data sets: what their files are, and how their bytes become arrays.

A file is identified by the SHA-256 of its unpacked bytes, so that it does not
matter who packed it; or, where nobody published that sum, by the one of the
packed file. Where files may come from is a parameter: `dataset.mirrors` in
params.yaml.

To add a data set: write its entry in `DATASETS`, its name in `DatasetName` of
core/data/dataset_params.py, and its sources in params.yaml. For MNIST's files call
`mnist_like`, for CIFAR's `cifar_like`; another format needs its own `decode`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.data import archives, cifar, class_names, idx
from core.data.archives import PackingError
from core.data.arrays import Images, Labels
from core.pipeline.errors import DataError


class File(NamedTuple):
    """What a file must be. Its name says of which bytes.

    Those of NAME.gz are the packed ones, exactly as published. Those of any other
    NAME are the unpacked ones, which sources may offer as NAME.gz, packed by anyone.
    """

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
    """All about a data set except where to get it.

    Args:
        classes: the names of the classes, in the order of their labels.
        files: for each name what the file must be; `File` says of which bytes.
        decode: turns the bytes of all `files` into arrays.
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
    packed_sizes: tuple[int, int, int, int] | None = None,
) -> Dataset:
    """Describe a data set of 28×28 grey images in four IDX files, named as MNIST's.

    Args:
        classes: the names of the classes, in the order of their labels.
        train_images: SHA-256 of the unpacked file, as the next three; but of the
            .gz as published if there are `packed_sizes`.
        train_labels: the same.
        test_images: the same.
        test_labels: the same.
        train_count: how many training images there are.
        test_count: how many test images there are.
        packed_sizes: of the four .gz in bytes, in the order of the sums.
    """
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    sums = (train_images, train_labels, test_images, test_labels)
    sizes = packed_sizes or (
        16 + 28 * 28 * train_count,
        8 + train_count,
        16 + 28 * 28 * test_count,
        8 + test_count,
    )
    files = {
        f"{name}.gz" if packed_sizes else name: File(sha256, size)
        for name, sha256, size in zip(names, sums, sizes, strict=True)
    }
    decode = partial(
        _decode_mnist_like, classes=len(classes), train_count=train_count, test_count=test_count
    )
    return Dataset(classes, files, decode)


def _decode_mnist_like(
    contents: Mapping[str, bytes], *, classes: int, train_count: int, test_count: int
) -> Arrays:
    def numbers(name: str, shape: tuple[int, ...]) -> NDArray[Any]:
        if name in contents:
            content = contents[name]
        else:  # one byte more than expected reveals a file that is too long
            at_most = 4 + 4 * len(shape) + math.prod(shape) + 1
            try:
                content = archives.gunzip(contents[f"{name}.gz"], at_most=at_most)
            except PackingError as error:
                raise DataError(f"{name}.gz cannot be unpacked", found=str(error)) from error
        return idx.parse(content, dtype=np.uint8, shape=shape, where=name)

    def images(name: str, count: int) -> Images:
        return numbers(name, (count, 28, 28))[..., np.newaxis]  # (N, 28, 28, 1)

    def labels(name: str, count: int) -> Labels:
        return _checked(numbers(name, (count,)).astype(np.int64), classes, name)

    return Arrays(
        images("train-images-idx3-ubyte", train_count),
        labels("train-labels-idx1-ubyte", train_count),
        images("t10k-images-idx3-ubyte", test_count),
        labels("t10k-labels-idx1-ubyte", test_count),
    )


def cifar_like(
    classes: tuple[str, ...],
    *,
    archive: str,
    sha256: str,
    size: int,
    label_bytes: int,
    train: Mapping[str, int],
    test: Mapping[str, int],
) -> Dataset:
    """Describe a data set of 32×32 colour images in an archive like CIFAR's binary ones.

    Args:
        classes: the names of the classes, in the order of their labels.
        archive: the name of the .tar.gz.
        sha256: of the archive as published.
        size: of the archive in bytes.
        label_bytes: how many bytes of labels a record begins with; the last counts.
        train: for each file in the archive, in order, how many training images it holds.
        test: the same for the test images.
    """
    decode = partial(
        _decode_cifar_like,
        classes=len(classes),
        archive=archive,
        label_bytes=label_bytes,
        train=train,
        test=test,
    )
    return Dataset(classes, {archive: File(sha256, size)}, decode)


def _decode_cifar_like(
    contents: Mapping[str, bytes],
    *,
    classes: int,
    archive: str,
    label_bytes: int,
    train: Mapping[str, int],
    test: Mapping[str, int],
) -> Arrays:
    record_size = label_bytes + cifar.PIXEL_BYTES
    sizes = {name: count * record_size for name, count in {**train, **test}.items()}
    members = archives.tar_members(contents[archive], sizes, where=archive)

    def joined(counts: Mapping[str, int]) -> tuple[Images, Labels]:
        images = np.empty((sum(counts.values()), 32, 32, 3), np.uint8)
        labels = np.empty(len(images), np.int64)
        start = 0
        for name, count in counts.items():
            where = f"{archive}: {name}"
            part = slice(start, start + count)
            content = members.pop(name)  # frees its memory
            images[part], found = cifar.parse(content, label_bytes=label_bytes, where=where)
            labels[part] = _checked(found, classes, where)
            start += count
        return images, labels

    return Arrays(*joined(train), *joined(test))


def _checked(labels: Labels, classes: int, where: str) -> Labels:
    """Return `labels` if each is the position of a class."""
    if labels.max() >= classes:
        raise DataError(
            f"{where} holds labels out of range",
            expected=f"from 0 to {classes - 1}",
            found=f"from {labels.min()} to {labels.max()}",
        )
    return labels


DATASETS: dict[str, Dataset] = {
    # Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten
    # digits"; the sums' origin is in data/mirror/mnist/README.md.
    "mnist": mnist_like(
        class_names.DIGITS,
        train_images="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        train_labels="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        test_images="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        test_labels="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    # H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for
    # benchmarking machine learning algorithms", arXiv:1708.07747; MIT licence. The
    # sums are of the files in Debian's package dataset-fashion-mnist. They are the
    # publisher's bit for bit: with the names and the times that gzip stored there,
    # they give the packed files of the MD5 sums in the publisher's README.md and in
    # torchvision (a test does it).
    "fashion_mnist": mnist_like(
        class_names.FASHION,
        train_images="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        train_labels="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        test_images="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        test_labels="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    # "KMNIST Dataset" (created by CODH), adapted from "Kuzushiji Dataset" (created
    # by NIJL and others), doi:10.20676/00000341; licence CC BY-SA 4.0. T. Clanuwat
    # et al., "Deep learning for classical Japanese literature", arXiv:1812.01718.
    # Sums and sizes of the packed files: tensorflow/datasets, url_checksums/kmnist.txt;
    # the same sums stand in pytorch/vision, prototype/datasets/_builtin/mnist.py.
    "kmnist": mnist_like(
        class_names.KUZUSHIJI,
        train_images="51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
        train_labels="e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
        test_images="edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
        test_labels="20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        packed_sizes=(18_165_135, 29_497, 3_041_136, 5_120),
    ),
    # A. Krizhevsky, "Learning multiple layers of features from tiny images", 2009,
    # www.cs.toronto.edu/~kriz/cifar.html; no licence is stated. Sums and sizes of
    # the archives: tensorflow/datasets, url_checksums/cifar10.txt and cifar100.txt;
    # the same sums stand in JuliaML/MLDatasets.jl and gomlx/gomlx. The publisher's
    # page gives MD5 only: c32a1d4ab5d03f1284b67883e8d87530 for cifar-10-binary.tar.gz,
    # 03b5dce01913d631647c71ecec9e9cb8 for cifar-100-binary.tar.gz.
    "cifar10": cifar_like(
        class_names.CIFAR10,
        archive="cifar-10-binary.tar.gz",
        sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        size=170_052_171,
        label_bytes=1,
        train={f"cifar-10-batches-bin/data_batch_{i}.bin": 10_000 for i in range(1, 6)},
        test={"cifar-10-batches-bin/test_batch.bin": 10_000},
    ),
    "cifar100": cifar_like(
        class_names.CIFAR100,
        archive="cifar-100-binary.tar.gz",
        sha256="58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        size=168_513_733,
        label_bytes=2,
        train={"cifar-100-binary/train.bin": 50_000},
        test={"cifar-100-binary/test.bin": 10_000},
    ),
}
