"""Reads the arrays on disk and checks every property; writes them atomically.

Images are uint8 (N, H, W, C), labels and indices int64 (N,), each in NumPy's
own format, one array a file. A label is a position in the list of class names.
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.pipeline import files, wording
from core.pipeline.errors import DataError

Images = NDArray[np.uint8]  # (N, H, W, C)
Labels = NDArray[np.int64]  # (N,)
Indices = NDArray[np.int64]  # (N,), each a position in the training set


def write(path: Path, array: NDArray[Any]) -> None:
    """Write `array` in NumPy's format, in C order, whole or not at all."""
    array = np.ascontiguousarray(array)
    # Not np.save, which does not raise an OSError on a full disk.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    size = header.tell() + array.nbytes
    with files.replacing(path, size=size) as file:
        file.write(header.getbuffer())
        file.write(array.data)


def read_class_names(path: Path) -> list[str]:
    """Read the names of the classes, in the order of their labels.

    Raises:
        DataError: the file is missing or does not hold a list of names.
    """
    try:
        names = json.loads(files.regular(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} is missing", todo="dvc repro makes it") from None
    except (ValueError, RecursionError) as error:
        names = error
    if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
        raise DataError(
            f"{path} does not hold the names of the classes",
            expected="a list of strings in JSON",
            found=str(names)[:60],
            todo="dvc repro --force download",
        )
    return names


def read_images(path: Path) -> Images:
    """Map images into memory: pages are read when they are used, and never written back.

    Returns:
        uint8 (N, H, W, C), N >= 1.

    Raises:
        DataError: the file is missing, truncated, or holds another kind of array.
    """
    images: Images = _map(path, np.dtype(np.uint8), 4, "uint8 images (N, H, W, C)")
    return images


def read_labels(path: Path, *, classes: int) -> Labels:
    """Read labels.

    Args:
        path: the file.
        classes: how many classes there are; labels lie in [0, classes).

    Returns:
        int64 (N,), N >= 1.

    Raises:
        DataError: as `read_images`, or a label is out of range.
    """
    return _read_integers(path, "labels", classes)


def read_indices(path: Path, *, images: int) -> Indices:
    """Read positions of images in the training set.

    Args:
        path: the file.
        images: how many training images there are; indices lie in [0, images).

    Returns:
        int64 (N,), N >= 1, each at most once.

    Raises:
        DataError: as `read_images`, or an index is out of range or occurs twice.
    """
    indices = _read_integers(path, "indices", images)
    if len(np.unique(indices)) != len(indices):
        raise DataError(
            f"{path} names an image twice",
            expected=wording.count(len(indices), "different index"),
            found=wording.count(len(np.unique(indices)), "different index"),
            todo="dvc repro --force split",
        )
    return indices


def read_labelled_images(
    images_path: Path, labels_path: Path, class_names_path: Path
) -> tuple[Images, Labels, list[str]]:
    """Read images, their labels and the names of the classes, and check that they fit.

    Raises:
        DataError: as the readers of each, or there is not one label for each image.
    """
    class_names = read_class_names(class_names_path)
    images = read_images(images_path)
    labels = read_labels(labels_path, classes=len(class_names))
    if len(images) != len(labels):
        raise DataError(
            "images and labels do not belong together",
            expected="a label for each image",
            found=f"{wording.count(len(images), 'image')} and "
            f"{wording.count(len(labels), 'label')}",
            where=f"{images_path}, {labels_path}",
            todo="dvc repro --force download",
        )
    return images, labels, class_names


def read_split(train_path: Path, val_path: Path, *, images: int) -> tuple[Indices, Indices]:
    """Read the indices to train on and those to validate on.

    Raises:
        DataError: as `read_indices`, or an image is in both files.
    """
    train_indices = read_indices(train_path, images=images)
    val_indices = read_indices(val_path, images=images)
    shared = np.intersect1d(train_indices, val_indices)
    if len(shared):
        raise DataError(
            "images are both trained on and validated on",
            expected="no index in both files",
            found=f"{len(shared):,} shared, the first is {shared[0]}",
            where=f"{train_path}, {val_path}",
            todo="dvc repro --force split",
        )
    return train_indices, val_indices


def _read_integers(path: Path, what: str, limit: int) -> NDArray[np.int64]:
    values: NDArray[np.int64] = np.array(_map(path, np.dtype(np.int64), 1, f"int64 {what} (N,)"))
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= limit:
        raise DataError(
            f"{path} holds {what} out of range",
            expected=f"from 0 to {limit - 1}",
            found=f"from {low} to {high}",
            todo=f"dvc checkout --force {path}, or dvc repro",
        )
    return values


def _map(path: Path, dtype: np.dtype[Any], dimensions: int, what: str) -> NDArray[Any]:
    try:
        # Read-only: a file larger than the memory cannot be mapped writable, even
        # privately. np.load would also open archives.
        array: np.memmap[Any, Any] = np.lib.format.open_memmap(files.regular(path), mode="r")
        surplus = path.stat().st_size - array.offset - array.nbytes
        if surplus:
            raise ValueError(f"{wording.count(surplus, 'byte')} too many")
    except FileNotFoundError:
        raise DataError(
            f"{path} is missing", expected=what, todo="dvc repro makes it; dvc pull fetches it"
        ) from None
    except OSError:  # the runner reports it
        raise
    except Exception as error:  # NumPy raises nearly anything for a header that it cannot parse
        raise DataError(
            f"{path} is not a whole array in NumPy's format",
            expected=what,
            found=f"{wording.count(path.stat().st_size, 'byte')}; {error}",
            todo=f"dvc checkout --force {path}, or dvc repro",
        ) from error
    if array.dtype != dtype or array.ndim != dimensions or 0 in array.shape:
        raise DataError(
            f"{path} holds another kind of array",
            expected=what,
            found=f"{array.dtype} {array.shape}",
            todo=f"dvc checkout --force {path}, or dvc repro",
        )
    return array
