"""The data sets beyond MNIST, through the real stages.

Of KMNIST, CIFAR-10 and CIFAR-100 only the sums are known here: small archives in
the published format stand in for them, in a copy of the code that expects them.
Fashion-MNIST is the real one, where Debian's package of it is installed.
"""

import gzip
import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest

from tests.support.downloads import (
    FASHION,
    copy_code,
    download,
    idx_bytes,
    needs_fashion_mnist,
    written,
)
from tests.support.misbehaving_server import serving
from tests.support.project import copy_project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_code(tmp_path)


def expect(project: Path, replacements: dict[str, str]) -> None:
    """Replace each key, a pattern that stands once, in the copy's core/data/datasets.py."""
    file = project / "core/data/datasets.py"
    text = file.read_text(encoding="utf-8")
    for pattern, new in replacements.items():
        text, count = re.subn(pattern, new, text)
        assert count == 1, pattern
    file.write_text(text, encoding="utf-8")


def expect_archive(project: Path, archive: str, content: bytes) -> None:
    """Make the copy expect `content` as the archive's, three images a file."""
    sha256 = hashlib.sha256(content).hexdigest()
    expect(
        project,
        {
            rf'(archive="{archive}",\s+sha256=)"\w+",(\s+size=)[\d_]+': (
                rf'\g<1>"{sha256}",\g<2>{len(content)}'
            )
        },
    )
    file = project / "core/data/datasets.py"
    text = file.read_text(encoding="utf-8")
    file.write_text(re.sub(r"(\.bin\": )[15]0_000\b", r"\g<1>3", text), encoding="utf-8")


def tarred(entries: dict[str, bytes | tarfile.TarInfo]) -> bytes:
    """A .tar.gz of files by their content, and of other things by their header."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, entry in entries.items():
            info = entry if isinstance(entry, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(entry, bytes):
                info.size = len(entry)
            archive.addfile(info, io.BytesIO(entry) if isinstance(entry, bytes) else None)
    return file.getvalue()


def link(kind: bytes, name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def records(labels: list[bytes]) -> bytes:
    """Three images: the planes of the first hold 1, 2, 3, of the second 2, 3, 4, ..."""
    return b"".join(
        label + b"".join(bytes([1 + image + plane]) * 1024 for plane in range(3))
        for image, label in enumerate(labels)
    )


CIFAR10 = "cifar-10-binary.tar.gz"
CIFAR100 = "cifar-100-binary.tar.gz"
FOLDER = "cifar-10-batches-bin"

SMALL_CIFAR10: dict[str, bytes | tarfile.TarInfo] = {
    f"{FOLDER}/batches.meta.txt": b"airplane\nautomobile\n",
    **{
        f"{FOLDER}/data_batch_{i}.bin": records([bytes([i]), b"\0", b"\x09"])
        for i in (1, 3, 2, 4, 5)
    },
    f"{FOLDER}/readme.html": b"<html></html>",
    f"{FOLDER}/test_batch.bin": records([b"\7", b"\1", b"\2"]),
}
SMALL_CIFAR100: dict[str, bytes | tarfile.TarInfo] = {
    "cifar-100-binary/train.bin": records([b"\x13\x63", b"\0\0", b"\1\x62"]),
    "cifar-100-binary/test.bin": records([b"\0\x32", b"\0\1", b"\0\2"]),
}


def test_cifar10_from_a_server_becomes_arrays(project: Path) -> None:
    content = tarred(SMALL_CIFAR10)
    expect_archive(project, CIFAR10, content)
    with serving(content) as server:
        ended = download(project, [server.address("right")], name="cifar10")
        assert server.asked_for == [f"/right/{CIFAR10}"]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "15 training and 3 test images, 32 x 32 x 3"
    raw = project / "data/raw"
    images = np.load(raw / "train_images.npy", allow_pickle=False)
    labels = np.load(raw / "train_labels.npy", allow_pickle=False)
    assert (images.shape, images.dtype) == ((15, 32, 32, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((15,), np.int64)
    assert labels.tolist() == [1, 0, 9, 2, 0, 9, 3, 0, 9, 4, 0, 9, 5, 0, 9]
    assert images[4].reshape(-1, 3).tolist() == [[2, 3, 4]] * 1024
    assert np.load(raw / "test_labels.npy").tolist() == [7, 1, 2]
    assert json.loads((raw / "classes.json").read_text())[9] == "truck"
    assert len(written(project)) == 5


def test_cifar100_from_a_folder_becomes_arrays_with_its_fine_labels(project: Path) -> None:
    content = tarred(SMALL_CIFAR100)
    expect_archive(project, CIFAR100, content)
    (project / "mirror").mkdir()
    (project / "mirror" / CIFAR100).write_bytes(content)
    ended = download(project, ["mirror"], name="cifar100")
    assert (ended.returncode, ended.stderr) == (0, "")
    raw = project / "data/raw"
    assert np.load(raw / "train_labels.npy").tolist() == [99, 0, 98]
    assert np.load(raw / "test_labels.npy").tolist() == [50, 1, 2]
    assert np.load(raw / "test_images.npy")[2, 31, 31].tolist() == [3, 4, 5]
    assert json.loads((raw / "classes.json").read_text())[99] == "worm"


# Entries of a harmful archive, besides the files of CIFAR-10 or instead of them, and
# the error message even if its hash is the expected one.
HARMFUL: dict[str, tuple[dict[str, bytes | tarfile.TarInfo], str]] = {
    "a name that leaves the folder": (
        {f"{FOLDER}/../../outside.bin": b"!"},
        f"found:    '{FOLDER}/../../outside.bin'",
    ),
    "an absolute name": ({"/outside.bin": b"!"}, "found:    '/outside.bin'"),
    "a symbolic link": (
        {f"{FOLDER}/link": link(tarfile.SYMTYPE, f"{FOLDER}/link", "../../params.yaml")},
        f"found:    a symbolic link, '{FOLDER}/link'",
    ),
    "a hard link in the place of a file": (
        {
            f"{FOLDER}/test_batch.bin": link(
                tarfile.LNKTYPE, f"{FOLDER}/test_batch.bin", "params.yaml"
            )
        },
        f"found:    a hard link, '{FOLDER}/test_batch.bin'",
    ),
    "a device": (
        {f"{FOLDER}/zero": link(tarfile.CHRTYPE, f"{FOLDER}/zero", "")},
        f"found:    a device, '{FOLDER}/zero'",
    ),
    "a bomb": (
        {f"{FOLDER}/readme.html": bytes(30_000_000)},
        f"found:    '{FOLDER}/readme.html' of 30,000,000 bytes",
    ),
    "another size": (
        {f"{FOLDER}/data_batch_5.bin": records([b"\0"] * 2)},
        f"expected: {FOLDER}/data_batch_5.bin of 9,219 bytes\n  found:    it with 6,146 bytes",
    ),
    "a file twice": (
        {f"./{FOLDER}/data_batch_1.bin": records([b"\0"] * 3)},
        f"expected: {FOLDER}/data_batch_1.bin once",
    ),
    "a label that is no class": (
        {f"{FOLDER}/test_batch.bin": records([b"\0", b"\x0a", b"\0"])},
        f"error: {CIFAR10}: {FOLDER}/test_batch.bin holds labels out of range\n"
        "  expected: from 0 to 9\n  found:    from 0 to 10",
    ),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_a_harmful_archive_is_refused_even_with_the_right_sum(project: Path, case: str) -> None:
    entries, message = HARMFUL[case]
    refused(project, tarred(SMALL_CIFAR10 | entries), message)


def refused(project: Path, content: bytes, message: str) -> None:
    """Check that `content` is refused as CIFAR-10 and that nothing is written anywhere."""
    expect_archive(project, CIFAR10, content)
    (project / "mirror").mkdir()
    (project / "mirror" / CIFAR10).write_bytes(content)
    around = sorted(project.parent.iterdir())
    # One run before, so that the bytecode is not taken for what the archive wrote.
    assert download(project, ["nowhere"], name="cifar10").returncode == 1
    before = sorted(path for path in project.rglob("*") if path.suffix != ".pyc")
    ended = download(project, ["mirror"], name="cifar10")
    assert ended.returncode == 1
    assert CIFAR10 in ended.stderr
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr
    assert sorted(path for path in project.rglob("*") if path.suffix != ".pyc") == before
    assert sorted(project.parent.iterdir()) == around
    assert not (project / "data").exists()


def test_an_archive_without_one_of_its_files_is_refused(project: Path) -> None:
    entries = {name: entry for name, entry in SMALL_CIFAR10.items() if "batch_3" not in name}
    refused(
        project, tarred(entries), f"expected: {FOLDER}/data_batch_3.bin\n  found:    no such file"
    )


def test_an_archive_that_is_truncated_is_refused(project: Path) -> None:
    refused(project, tarred(SMALL_CIFAR10)[:-20], "found:    a truncated gzip file")


def test_an_archive_with_another_sum_is_not_opened(project: Path) -> None:
    with serving(tarred(SMALL_CIFAR10)) as server:
        ended = download(project, [server.address("right")], name="cifar10")
    assert ended.returncode == 1
    assert f"error: no source served {CIFAR10}" in ended.stderr
    assert "expected 170,052,171; repacked or damaged" in ended.stderr
    assert "exactly as published; SHA-256 of the packed file:" in ended.stderr
    assert not (project / "data").exists()


def small_kmnist() -> dict[str, bytes]:
    images = np.arange(5 * 28 * 28).reshape(5, 28, 28) % 251
    return {
        "train-images-idx3-ubyte": idx_bytes(images[:3]),
        "train-labels-idx1-ubyte": idx_bytes(np.array([8, 0, 9])),
        "t10k-images-idx3-ubyte": idx_bytes(images[3:]),
        "t10k-labels-idx1-ubyte": idx_bytes(np.array([2, 9])),
    }


def expect_kmnist(project: Path, packed: dict[str, bytes]) -> None:
    sums = dict(
        zip(
            ("51467d22", "e38f9ebc", "edd7a857", "20bb9a0e"),
            (hashlib.sha256(content).hexdigest() for content in packed.values()),
            strict=True,
        )
    )
    sizes = ", ".join(str(len(content)) for content in packed.values())
    expect(
        project,
        {rf'"{old}\w+"': f'"{new}"' for old, new in sums.items()}
        | {
            r"packed_sizes=\(18_165_135, .*\)": (
                f"packed_sizes=({sizes}), train_count=3, test_count=2"
            )
        },
    )


def test_kmnist_as_published_becomes_arrays_and_packed_again_is_refused(project: Path) -> None:
    published = {name: gzip.compress(content) for name, content in small_kmnist().items()}
    expect_kmnist(project, published)
    for folder, level in (("published", 9), ("again", 1)):
        (project / folder).mkdir()
        for name, content in small_kmnist().items():
            (project / folder / f"{name}.gz").write_bytes(gzip.compress(content, level, mtime=0))

    refused = download(project, [str(project / "again")], name="kmnist")
    assert refused.returncode == 1
    assert "error: no source served train-images-idx3-ubyte.gz" in refused.stderr
    assert "repacked or damaged: only the published file is accepted" in refused.stderr
    assert not (project / "data").exists()

    for name, content in published.items():
        (project / "published" / f"{name}.gz").write_bytes(content)
    with serving(folder=project / "published") as server:
        ended = download(project, [server.address("from_folder")], name="kmnist")
        assert server.asked_for == [f"/from_folder/{name}.gz" for name in published]
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.splitlines()[-1] == "3 training and 2 test images, 28 x 28 x 1"
    raw = project / "data/raw"
    assert np.load(raw / "train_labels.npy").tolist() == [8, 0, 9]
    assert np.load(raw / "test_labels.npy").tolist() == [2, 9]
    assert np.load(raw / "test_images.npy")[1, 27, 27, 0] == (5 * 784 - 1) % 251
    assert json.loads((raw / "classes.json").read_text())[8] == "re"


@needs_fashion_mnist
def test_another_data_set_is_one_word_in_params_yaml(tmp_path: Path) -> None:
    switched = copy_project(tmp_path / "clone")
    switched.replace("params.yaml", "  name: mnist\n", "  name: fashion_mnist\n")
    printed = switched.must("dvc", "repro", "split")
    assert f"train-images-idx3-ubyte: from {FASHION}" in printed
    assert "60,000 training and 10,000 test images, 28 x 28 x 1" in printed
    assert "48,000 images to train on, 12,000 to validate on" in printed
    data = switched.folder / "data"
    labels = np.load(data / "raw/train_labels.npy")
    assert labels[:10].tolist() == [9, 0, 0, 3, 0, 2, 7, 2, 5, 5]  # as in every tutorial on it
    assert np.bincount(labels).tolist() == [6000] * 10
    published = gzip.decompress((FASHION / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert np.load(data / "raw/test_images.npy").tobytes() == published
    assert json.loads((data / "raw/classes.json").read_text())[9] == "Ankle boot"
    assert len(np.load(data / "split/train_indices.npy")) == 48_000
