"""Parses IDX, the format in which MNIST and its successors are published.

Source: "The IDX file format" at the end of Y. LeCun's page on MNIST. A file is
two zero bytes, a byte for the type of the numbers, a byte for the number of
dimensions, each dimension as four bytes, and then the numbers, all big-endian,
the last dimension varying fastest.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from core.pipeline import wording
from core.pipeline.errors import DataError

TYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype("uint8"),
    0x09: np.dtype("int8"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}


def parse(content: bytes, *, dtype: DTypeLike, shape: tuple[int, ...], where: str) -> NDArray[Any]:
    """Return the array in an IDX file.

    Args:
        content: the whole file, unpacked.
        dtype: what its numbers must be.
        shape: what its dimensions must be.
        where: the file's name, for the message of an error.

    Returns:
        The array, of `dtype` in this machine's byte order; read-only.

    Raises:
        DataError: the file is empty, truncated or too long, is not IDX, or holds
            another kind of array.
    """
    stored = TYPES.get(content[2]) if content[:2] == b"\0\0" and len(content) >= 4 else None
    if stored is None:
        raise DataError(
            f"{where} is not an IDX file",
            expected="two zero bytes, a type from 08 to 0e, a number of dimensions",
            found=content[:4].hex(" ") or "an empty file",
        )
    header_size = 4 + 4 * content[3]
    if len(content) < header_size:
        raise DataError(
            f"{where} ends within its header",
            expected=f"{header_size:,} bytes of header for "
            f"{wording.count(content[3], 'dimension')}",
            found=f"{wording.count(len(content), 'byte')} in all",
        )
    dimensions = tuple(int(n) for n in np.frombuffer(content[4:header_size], ">u4"))
    if stored.newbyteorder("=") != np.dtype(dtype) or dimensions != shape:
        raise DataError(
            f"{where} holds another kind of array",
            expected=f"{np.dtype(dtype)} {shape}",
            found=f"{stored.newbyteorder('=')} {dimensions}",
        )
    size = header_size + math.prod(dimensions) * stored.itemsize
    if len(content) != size:
        raise DataError(
            f"{where} is {'truncated' if len(content) < size else 'too long'}",
            expected=f"{size:,} bytes for {np.dtype(dtype)} {shape}",
            found=wording.count(len(content), "byte"),
        )
    array: NDArray[Any] = np.frombuffer(content, stored, offset=header_size).reshape(shape)
    return array.astype(dtype, copy=False)
