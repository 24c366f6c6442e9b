import numpy as np
import pytest

from core.data import cifar
from core.pipeline.errors import DataError


def record(labels: bytes, red: bytes, green: bytes, blue: bytes) -> bytes:
    assert {len(red), len(green), len(blue)} == {32 * 32}
    return labels + red + green + blue


def test_planes_become_pixels_and_labels_integers() -> None:
    rising = bytes(position % 256 for position in range(1024))  # row by row
    content = record(b"\3", rising, bytes(1024), b"\7" * 1024)
    content += record(b"\0", bytes(1024), rising[::-1], b"\xff" * 1024)
    images, labels = cifar.parse(content, label_bytes=1, where="some.bin")
    assert labels.dtype == np.int64
    assert labels.tolist() == [3, 0]
    assert images.dtype == np.uint8
    assert images.shape == (2, 32, 32, 3)
    assert images[0, 0, 5].tolist() == [5, 0, 7]
    assert images[0, 1, 0].tolist() == [32, 0, 7]  # the second row begins after 32 pixels
    assert images[0, 31, 31].tolist() == [255, 0, 7]
    assert images[1, 0, 0].tolist() == [0, 255, 255]
    assert images[1, 0, 1].tolist() == [0, 254, 255]


def test_of_two_labels_the_fine_one_counts() -> None:
    content = record(b"\x13\x62", *[bytes(1024)] * 3)
    _, labels = cifar.parse(content, label_bytes=2, where="some.bin")
    assert labels.tolist() == [98]


@pytest.mark.parametrize("size", [0, 3072, 3074, 2 * 3073 - 1])
def test_a_file_that_ends_within_a_record_is_refused(size: int) -> None:
    with pytest.raises(DataError, match=r"^some\.bin is not a CIFAR file") as caught:
        cifar.parse(bytes(size), label_bytes=1, where="some.bin")
    assert caught.value.details["expected"] == "records of 3,073 bytes"
    assert caught.value.details["found"] == f"{size:,} bytes"
