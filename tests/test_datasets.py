import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from core import params
from core.datasets import DATASETS, mnist_like
from core.errors import DataError

ROOT = Path(__file__).resolve().parents[1]


def test_params_accepts_exactly_the_data_sets_there_are() -> None:
    annotation = params.DatasetParams.model_fields["name"].annotation
    assert set(get_args(annotation)) == set(DATASETS)


def test_params_yaml_names_sources_for_exactly_the_data_sets_there_are() -> None:
    assert set(params.check(ROOT / "params.yaml").dataset.mirrors) == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_each_sum_is_a_whole_sha256_and_stands_once(name: str) -> None:
    sums = [file.sha256 for file in DATASETS[name].files.values()]
    assert all(re.fullmatch("[0-9a-f]{64}", sum_) for sum_ in sums)
    assert len(set(sums)) == len(sums)
    assert len(set(DATASETS[name].classes)) == len(DATASETS[name].classes)


def test_mnist_is_the_files_of_the_bundled_mirror() -> None:
    table = (ROOT / "data/mirror/mnist/README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\S+-ubyte) \| [0-9a-f]{32} \| ([0-9a-f]{64}) \|$", table, re.MULTILINE)
    assert dict(rows) == {name: file.sha256 for name, file in DATASETS["mnist"].files.items()}
    # By hand: a header of 16 or 8 bytes, and a byte for each pixel or label.
    assert [file.size for file in DATASETS["mnist"].files.values()] == [
        47_040_016,
        60_008,
        7_840_016,
        10_008,
    ]


def idx_bytes(array: np.ndarray) -> bytes:
    dimensions = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return bytes([0, 0, 8, array.ndim]) + dimensions + array.astype(np.uint8).tobytes()


def small_contents() -> dict[str, bytes]:
    """Three training images and one test image; pixels count up from 0, and wrap at 256."""
    pixels = np.arange(4 * 28 * 28) % 256
    return {
        "train-images-idx3-ubyte": idx_bytes(pixels[:2352].reshape(3, 28, 28)),
        "train-labels-idx1-ubyte": idx_bytes(np.array([1, 0, 1])),
        "t10k-images-idx3-ubyte": idx_bytes(pixels[2352:].reshape(1, 28, 28)),
        "t10k-labels-idx1-ubyte": idx_bytes(np.array([0])),
    }


SMALL = mnist_like(
    ("no", "yes"),
    train_images="1" * 64,
    train_labels="2" * 64,
    test_images="3" * 64,
    test_labels="4" * 64,
    train_count=3,
    test_count=1,
)


def test_a_data_set_like_mnist_is_a_call() -> None:
    contents = small_contents()
    assert {name: len(content) for name, content in contents.items()} == {
        name: file.size for name, file in SMALL.files.items()
    }
    assert [file.sha256[0] for file in SMALL.files.values()] == ["1", "2", "3", "4"]
    data = SMALL.decode(contents)
    assert data.train_images.shape == (3, 28, 28, 1)
    assert data.test_images.shape == (1, 28, 28, 1)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_images[2, 1, 5, 0] == (2 * 784 + 28 + 5) % 256
    assert data.test_images[0, 0, 0, 0] == 3 * 784 % 256
    assert data.train_labels.tolist() == [1, 0, 1]
    assert data.test_labels.tolist() == [0]
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64


def test_training_and_test_files_that_were_swapped_are_noticed() -> None:
    contents = small_contents()
    contents["train-labels-idx1-ubyte"] = contents["t10k-labels-idx1-ubyte"]
    with pytest.raises(DataError, match=r"^train-labels-idx1-ubyte holds another kind of array"):
        SMALL.decode(contents)


def test_the_list_of_data_sets_is_read_without_torch() -> None:
    # torch takes seconds to import, and must not be imported before its kernels are pinned.
    command = "import core.datasets, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0
