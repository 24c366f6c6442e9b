import gzip
import hashlib
import io
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torchvision

from core.data import class_names
from core.data.dataset_params import DatasetParams
from core.data.datasets import DATASETS, Arrays, Dataset, cifar_like, mnist_like
from core.pipeline import params
from core.pipeline.errors import DataError
from tests.support.downloads import FASHION, idx_bytes, needs_fashion_mnist

ROOT = Path(__file__).resolve().parents[3]


def test_params_accepts_exactly_the_data_sets_there_are() -> None:
    annotation = DatasetParams.model_fields["name"].annotation
    assert set(get_args(annotation)) == set(DATASETS)


def test_params_yaml_names_sources_for_exactly_the_data_sets_there_are() -> None:
    assert set(params.check(ROOT / "params.yaml").section(DatasetParams).mirrors) == set(DATASETS)


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


def test_the_names_of_the_classes_are_those_of_torchvision() -> None:
    assert list(class_names.FASHION) == torchvision.datasets.FashionMNIST.classes
    assert list(class_names.KUZUSHIJI) == torchvision.datasets.KMNIST.classes
    # torchvision reads CIFAR's from the archive, where they stand in alphabetical order.
    for names, count in ((class_names.CIFAR10, 10), (class_names.CIFAR100, 100)):
        assert sorted(set(names)) == list(names)
        assert len(names) == count
    # Known from the publisher's page, and spread over the range.
    assert [class_names.CIFAR100[label] for label in (0, 8, 48, 81, 99)] == [
        "apple",
        "bicycle",
        "motorcycle",
        "streetcar",
        "worm",
    ]


@needs_fashion_mnist
def test_the_sums_of_fashion_mnist_are_those_of_the_files_that_torchvision_checks() -> None:
    """Debian packed the files again, without the name and the time that gzip stores.

    With those of the publisher put back in, they are his files bit for bit.
    """
    stored = {"train": 1504176606, "t10k": 1504176627}  # 2017-08-31, 10:50 UTC
    for packed_name, md5 in torchvision.datasets.FashionMNIST.resources:
        packed = (FASHION / packed_name).read_bytes()
        assert packed[3] == 0  # RFC 1952, 2.3: neither name nor time
        name = packed_name.removesuffix(".gz")
        time = stored[name.split("-")[0]].to_bytes(4, "little")
        published = packed[:3] + b"\x08" + time + packed[8:10] + name.encode() + b"\0" + packed[10:]
        assert hashlib.md5(published).hexdigest() == md5  # noqa: S324 (what torchvision has)
        unpacked = gzip.decompress(published)
        assert hashlib.sha256(unpacked).hexdigest() == DATASETS["fashion_mnist"].files[name].sha256


@needs_fashion_mnist
def test_fashion_mnist_is_what_torchvision_reads(tmp_path: Path) -> None:
    names = DATASETS["fashion_mnist"].files
    contents = {name: gzip.decompress((FASHION / f"{name}.gz").read_bytes()) for name in names}
    raw = tmp_path / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    for name, content in contents.items():
        (raw / name).write_bytes(content)
    data = DATASETS["fashion_mnist"].decode(contents)
    train = torchvision.datasets.FashionMNIST(tmp_path, train=True)
    test = torchvision.datasets.FashionMNIST(tmp_path, train=False)
    assert np.array_equal(data.train_images[..., 0], train.data.numpy())
    assert np.array_equal(data.train_labels, train.targets.numpy())
    assert np.array_equal(data.test_images[..., 0], test.data.numpy())
    assert np.array_equal(data.test_labels, test.targets.numpy())


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
    check_small(SMALL.decode(contents))


def check_small(data: Arrays) -> None:
    assert data.train_images.shape == (3, 28, 28, 1)
    assert data.test_images.shape == (1, 28, 28, 1)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_images[2, 1, 5, 0] == (2 * 784 + 28 + 5) % 256
    assert data.test_images[0, 0, 0, 0] == 3 * 784 % 256
    assert data.train_labels.tolist() == [1, 0, 1]
    assert data.test_labels.tolist() == [0]
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64


def packed(contents: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(content) for name, content in contents.items()}


SMALL_PACKED = mnist_like(
    ("no", "yes"),
    train_images="1" * 64,
    train_labels="2" * 64,
    test_images="3" * 64,
    test_labels="4" * 64,
    train_count=3,
    test_count=1,
    packed_sizes=(10, 20, 30, 40),
)


def test_a_data_set_whose_packed_files_are_known_is_unpacked_when_it_is_decoded() -> None:
    contents = packed(small_contents())
    assert list(contents) == list(SMALL_PACKED.files)
    assert [file.size for file in SMALL_PACKED.files.values()] == [10, 20, 30, 40]
    check_small(SMALL_PACKED.decode(contents))


def test_a_packed_file_that_holds_more_or_no_gzip_is_refused() -> None:
    contents = packed(
        small_contents() | {"t10k-labels-idx1-ubyte": idx_bytes(np.array([0])) + b"!"}
    )
    with pytest.raises(DataError, match=r"^t10k-labels-idx1-ubyte is too long"):
        SMALL_PACKED.decode(contents)
    contents["t10k-labels-idx1-ubyte.gz"] = b"no gzip"
    with pytest.raises(
        DataError, match=r"^t10k-labels-idx1-ubyte\.gz cannot be unpacked"
    ) as caught:
        SMALL_PACKED.decode(contents)
    assert caught.value.details["found"] == "not a gzip file"


def test_a_label_that_is_no_class_is_refused() -> None:
    contents = small_contents()
    contents["train-labels-idx1-ubyte"] = idx_bytes(np.array([1, 2, 0]))
    with pytest.raises(
        DataError, match=r"^train-labels-idx1-ubyte holds labels out of range"
    ) as caught:
        SMALL.decode(contents)
    assert caught.value.details["expected"] == "from 0 to 1"
    assert caught.value.details["found"] == "from 0 to 2"


def tar_gz(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def records(labels: list[int], first_image: int) -> bytes:
    """Records of CIFAR-100; the bytes of the image numbered n are 3 n, 3 n + 1 and 3 n + 2."""
    return b"".join(
        bytes([19, label]) + b"".join(bytes([3 * image + colour]) * 1024 for colour in range(3))
        for image, label in enumerate(labels, first_image)
    )


SMALL_CIFAR: Dataset = cifar_like(
    ("a", "b", "c"),
    archive="small.tar.gz",
    sha256="5" * 64,
    size=50,
    label_bytes=2,
    train={"f/2.bin": 2, "f/1.bin": 1},
    test={"f/test.bin": 2},
)


def test_a_data_set_like_cifar_joins_its_files_in_their_order() -> None:
    assert [(name, *file) for name, file in SMALL_CIFAR.files.items()] == [
        ("small.tar.gz", "5" * 64, 50)
    ]
    archive = tar_gz(
        {
            "f/1.bin": records([0], 3),
            "f/test.bin": records([2, 1], 7),
            "f/2.bin": records([1, 2], 1),
        }
    )
    data = SMALL_CIFAR.decode({"small.tar.gz": archive})
    assert data.train_images.shape == (3, 32, 32, 3)
    assert data.test_images.shape == (2, 32, 32, 3)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.train_labels.tolist() == [1, 2, 0]
    assert data.test_labels.tolist() == [2, 1]
    assert data.train_images[:, 9, 9].tolist() == [[3, 4, 5], [6, 7, 8], [9, 10, 11]]
    assert data.test_images[:, 31, 0].tolist() == [[21, 22, 23], [24, 25, 26]]


def test_a_label_in_an_archive_that_is_no_class_is_refused_with_its_position() -> None:
    archive = tar_gz(
        {
            "f/2.bin": records([1, 2], 0),
            "f/1.bin": records([3], 0),
            "f/test.bin": records([0, 0], 0),
        }
    )
    with pytest.raises(DataError, match=r"^small\.tar\.gz: f/1\.bin holds labels out of range"):
        SMALL_CIFAR.decode({"small.tar.gz": archive})


def test_the_files_in_the_archives_of_cifar_are_as_large_as_published() -> None:
    """The publisher's page: records of 3,073 bytes, 10,000 a file; of 3,074 bytes."""
    with pytest.raises(DataError, match="does not hold what it should") as caught:
        DATASETS["cifar10"].decode({"cifar-10-binary.tar.gz": tar_gz({})})
    assert caught.value.details["expected"].splitlines() == [
        "cifar-10-batches-bin/data_batch_1.bin",
        "cifar-10-batches-bin/data_batch_2.bin",
        "cifar-10-batches-bin/data_batch_3.bin",
        "cifar-10-batches-bin/data_batch_4.bin",
        "cifar-10-batches-bin/data_batch_5.bin",
        "cifar-10-batches-bin/test_batch.bin",
    ]
    for name, archive, member, size in (
        ("cifar10", "cifar-10-binary.tar.gz", "cifar-10-batches-bin/test_batch.bin", "30,730,000"),
        ("cifar100", "cifar-100-binary.tar.gz", "cifar-100-binary/train.bin", "153,700,000"),
        ("cifar100", "cifar-100-binary.tar.gz", "cifar-100-binary/test.bin", "30,740,000"),
    ):
        with pytest.raises(DataError, match="does not hold what it should") as caught:
            DATASETS[name].decode({archive: tar_gz({member: b"few"})})
        assert caught.value.details["expected"] == f"{member} of {size} bytes"


def test_training_and_test_files_that_were_swapped_are_noticed() -> None:
    contents = small_contents()
    contents["train-labels-idx1-ubyte"] = contents["t10k-labels-idx1-ubyte"]
    with pytest.raises(DataError, match=r"^train-labels-idx1-ubyte holds another kind of array"):
        SMALL.decode(contents)


def test_the_list_of_data_sets_is_read_without_torch() -> None:
    # torch takes seconds to import, and must not be imported before its kernels are pinned.
    command = "import core.data.datasets, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], cwd=ROOT).returncode == 0
