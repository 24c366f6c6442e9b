"""Parses the binary version of CIFAR-10 and CIFAR-100.

Source: "Binary version" on A. Krizhevsky's page, www.cs.toronto.edu/~kriz/cifar.html.
A file is a sequence of records. A record is the label in one byte (CIFAR-10), or the
coarse and then the fine label in two (CIFAR-100), and 1,024 bytes for each of
red, green and blue, row by row from the top.
"""

import numpy as np

from core.data.arrays import Images, Labels
from core.pipeline import wording
from core.pipeline.errors import DataError

PIXEL_BYTES = 3 * 32 * 32


def parse(content: bytes, *, label_bytes: int, where: str) -> tuple[Images, Labels]:
    """Return the images and the labels in a file.

    Args:
        content: the whole file.
        label_bytes: how many bytes of labels a record begins with; the last counts.
        where: the file's name, for the message of an error.

    Returns:
        uint8 (N, 32, 32, 3) and int64 (N,).

    Raises:
        DataError: the file is empty or ends within a record.
    """
    size = label_bytes + PIXEL_BYTES
    if not content or len(content) % size:
        raise DataError(
            f"{where} is not a CIFAR file",
            expected=f"records of {size:,} bytes",
            found=wording.count(len(content), "byte"),
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, size)
    planes = records[:, label_bytes:].reshape(-1, 3, 32, 32)
    labels = records[:, label_bytes - 1].astype(np.int64)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
