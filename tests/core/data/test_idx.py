import re
import struct
from typing import Any

import numpy as np
import pytest

from core.data import idx
from core.pipeline.errors import DataError

# A 2×3 array of bytes, written by hand from the description of the format.
BYTES = b"\0\0\x08\x02" + b"\0\0\0\x02" + b"\0\0\0\x03" + b"\x00\x01\x02\x03\xfe\xff"


def parse(content: bytes, dtype: str = "uint8", shape: tuple[int, ...] = (2, 3)) -> Any:
    return idx.parse(content, dtype=dtype, shape=shape, where="a-file")


def test_bytes_come_out_row_by_row() -> None:
    array = parse(BYTES)
    assert array.dtype == np.uint8
    assert array.tolist() == [[0, 1, 2], [3, 254, 255]]


@pytest.mark.parametrize(
    ("code", "layout", "dtype", "numbers"),
    [
        (0x08, "B", "uint8", [0, 255]),
        (0x09, "b", "int8", [-128, 127]),
        (0x0B, "h", "int16", [-32768, 258]),
        (0x0C, "i", "int32", [-(2**31), 16909060]),
        (0x0D, "f", "float32", [-1.5, 0.25]),
        (0x0E, "d", "float64", [-1.5, 0.1]),
    ],
)
def test_each_type_of_number_is_read_most_significant_byte_first(
    code: int, layout: str, dtype: str, numbers: list[float]
) -> None:
    content = bytes([0, 0, code, 1, 0, 0, 0, 2]) + struct.pack(f">2{layout}", *numbers)
    array = parse(content, dtype, (2,))
    assert array.dtype == np.dtype(dtype)
    assert array.dtype.isnative
    assert array.tolist() == numbers


@pytest.mark.parametrize(
    ("content", "what", "expected", "found"),
    [
        (b"", "is not an IDX file", "two zero bytes, a type", "an empty file"),
        (b"\0\0\x08", "is not an IDX file", "two zero bytes, a type", "00 00 08"),
        (b"\x1f\x8b" + BYTES[2:], "is not an IDX file", "two zero bytes", "1f 8b 08 02"),
        (b"\0\0\x0a" + BYTES[3:], "is not an IDX file", "from 08 to 0e", "00 00 0a 02"),
        (BYTES[:11], "ends within its header", "12 bytes of header for 2 dim", "11 bytes in all"),
        (BYTES[:-1], "is truncated", "18 bytes for uint8 (2, 3)", "17 bytes"),
        (BYTES[:12], "is truncated", "18 bytes for uint8 (2, 3)", "12 bytes"),
        (BYTES + b"\0", "is too long", "18 bytes for uint8 (2, 3)", "19 bytes"),
    ],
)
def test_a_malformed_file_is_described(
    content: bytes, what: str, expected: str, found: str
) -> None:
    with pytest.raises(DataError, match=f"^a-file {what}\n") as caught:
        parse(content)
    assert expected in caught.value.details["expected"]
    assert caught.value.details["found"] == found


@pytest.mark.parametrize(
    ("dtype", "shape"), [("uint8", (3, 2)), ("uint8", (6,)), ("uint8", (2, 3, 1)), ("int8", (2, 3))]
)
def test_an_array_of_another_kind_is_refused(dtype: str, shape: tuple[int, ...]) -> None:
    expected = re.escape(f"expected: {dtype} {shape}\n")
    with pytest.raises(DataError, match=rf"another kind of array\n  {expected}.*uint8 \(2, 3\)"):
        parse(BYTES, dtype, shape)


def test_dimensions_too_large_for_any_machine_are_compared_and_not_reserved() -> None:
    content = b"\0\0\x08\x03" + b"\xff" * 12 + b"\x07"
    with pytest.raises(DataError, match=r"found: +uint8 \(4294967295, 4294967295, 4294967295\)"):
        parse(content)
    huge = (2**32 - 1,) * 3
    with pytest.raises(DataError, match="a-file is truncated"):
        parse(content, "uint8", huge)
