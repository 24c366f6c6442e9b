"""Arrays on disk are read only if they are what a stage needs, and never changed."""

import io
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from core.data import arrays
from core.pipeline.errors import DataError

IMAGES: NDArray[np.uint8] = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1)
LABELS: NDArray[np.int64] = np.array([1, 0, 2, 1])


def npy(array: NDArray[Any], *, allow_pickle: bool = False) -> bytes:
    """The bytes that NumPy itself writes for `array`."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def npz(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    "array",
    [IMAGES, LABELS, np.float32(np.eye(3)), np.asfortranarray(np.eye(2, 3)), IMAGES[:, ::2]],
)
def test_what_is_written_is_what_numpy_writes_and_reads(
    tmp_path: Path, array: NDArray[Any]
) -> None:
    arrays.write(tmp_path / "a.npy", array)

    assert (tmp_path / "a.npy").read_bytes() == npy(np.ascontiguousarray(array))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), array, strict=True)


def test_the_order_of_an_array_in_memory_does_not_change_its_bytes(tmp_path: Path) -> None:
    arrays.write(tmp_path / "c.npy", np.ascontiguousarray(np.eye(3, 4)))
    arrays.write(tmp_path / "f.npy", np.asfortranarray(np.eye(3, 4)))

    assert (tmp_path / "c.npy").read_bytes() == (tmp_path / "f.npy").read_bytes()


def test_an_array_that_does_not_fit_on_the_disk_is_reported_with_its_file(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            arrays.write(tmp_path / "a.npy", np.zeros(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert caught.value.filename == str(tmp_path / "a.npy")
    assert list(tmp_path.iterdir()) == []


def test_images_are_read_as_they_were_written(tmp_path: Path) -> None:
    arrays.write(tmp_path / "images.npy", IMAGES)

    np.testing.assert_array_equal(arrays.read_images(tmp_path / "images.npy"), IMAGES, strict=True)


def test_images_are_mapped_and_nothing_can_be_written_to_them(tmp_path: Path) -> None:
    arrays.write(tmp_path / "images.npy", IMAGES)
    (tmp_path / "images.npy").chmod(0o444)  # as DVC protects its cache

    images = arrays.read_images(tmp_path / "images.npy")

    assert isinstance(images, np.memmap)  # not read as a whole
    with pytest.raises(ValueError, match="read-only"):
        images[:] = 255
    np.testing.assert_array_equal(arrays.read_images(tmp_path / "images.npy"), IMAGES)


def test_labels_and_indices_are_read_as_they_were_written(tmp_path: Path) -> None:
    arrays.write(tmp_path / "labels.npy", LABELS)
    arrays.write(tmp_path / "indices.npy", np.array([3, 0, 2]))

    labels = arrays.read_labels(tmp_path / "labels.npy", classes=3)
    indices = arrays.read_indices(tmp_path / "indices.npy", images=4)

    np.testing.assert_array_equal(labels, LABELS, strict=True)
    np.testing.assert_array_equal(indices, np.array([3, 0, 2]), strict=True)
    assert type(labels) is type(indices) is np.ndarray  # in memory, not mapped


READERS: dict[str, Callable[[Path], object]] = {
    "images": arrays.read_images,
    "labels": lambda path: arrays.read_labels(path, classes=3),
    "indices": lambda path: arrays.read_indices(path, images=4),
}
EXPECTED = {
    "images": "uint8 images (N, H, W, C)",
    "labels": "int64 labels (N,)",
    "indices": "int64 indices (N,)",
}


@pytest.mark.parametrize("kind", READERS)
def test_a_missing_file_is_reported_with_what_makes_it(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npy"

    with pytest.raises(DataError) as caught:
        READERS[kind](path)

    assert str(caught.value) == (
        f"{path} is missing\n"
        f"  expected: {EXPECTED[kind]}\n"
        "  next:     dvc repro makes it; dvc pull fetches it"
    )


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "0 bytes; EOF"),
        (b"hello, world", "12 bytes; the magic string is not correct"),
        (npy(IMAGES)[:-1], "151 bytes; mmap length is greater than file size"),
        (npy(IMAGES)[:60], "60 bytes; EOF"),
        (npy(IMAGES) + b"\0", "153 bytes; 1 byte too many"),
        (npy(IMAGES).replace(b"(2,", b"(((", 1), "152 bytes; "),
        (npy(IMAGES).replace(b"(2,", b"(02", 1), "152 bytes; "),
        (npy(IMAGES).replace(b"'descr'", b"b'desc'", 1), "152 bytes; "),
        (
            npy(LABELS).replace(b"(4,), }" + b" " * 7, b"(40000000,), }", 1),
            "160 bytes; mmap length",
        ),
        (npy(np.array([{}], object), allow_pickle=True), "bytes; .*Python objects"),
        (npz(IMAGES), "bytes; the magic string is not correct"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_a_file_that_is_no_whole_array_is_refused(
    tmp_path: Path, kind: str, content: bytes, found: str
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(content)

    with pytest.raises(
        DataError,
        match=rf"a\.npy is not a whole array in NumPy's format\n .*\n  found:    .*{found}",
    ) as caught:
        READERS[kind](path)

    assert caught.value.details["expected"] == EXPECTED[kind]
    assert caught.value.details["next"] == f"dvc checkout --force {path}, or dvc repro"


def test_a_pickle_in_its_place_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    (tmp_path / "a.npy").write_bytes(npy(np.array([Trap()], object), allow_pickle=True))

    with pytest.raises(DataError, match="Python objects"):
        arrays.read_labels(tmp_path / "a.npy", classes=3)

    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("kind", "array", "found"),
    [
        ("images", IMAGES.astype(np.float32), "float32 (2, 3, 4, 1)"),
        ("images", IMAGES.astype(np.int8), "int8 (2, 3, 4, 1)"),
        ("images", IMAGES[..., 0], "uint8 (2, 3, 4)"),
        ("images", IMAGES[:0], "uint8 (0, 3, 4, 1)"),
        ("images", IMAGES[:, :0], "uint8 (2, 0, 4, 1)"),
        ("labels", LABELS.astype(np.int32), "int32 (4,)"),
        ("labels", LABELS.astype(np.uint64), "uint64 (4,)"),
        ("labels", LABELS.astype(">i8"), ">i8 (4,)"),
        ("labels", LABELS[:, None], "int64 (4, 1)"),
        ("labels", np.array(1), "int64 ()"),
        ("indices", LABELS[:0], "int64 (0,)"),
        ("indices", LABELS > 0, "bool (4,)"),
    ],
)
def test_another_kind_of_array_is_refused(
    tmp_path: Path, kind: str, array: NDArray[Any], found: str
) -> None:
    path = tmp_path / "a.npy"
    np.save(path, array)

    with pytest.raises(DataError) as caught:
        READERS[kind](path)

    assert str(caught.value) == (
        f"{path} holds another kind of array\n"
        f"  expected: {EXPECTED[kind]}\n"
        f"  found:    {found}\n"
        f"  next:     dvc checkout --force {path}, or dvc repro"
    )


@pytest.mark.parametrize(("low", "high"), [(-1, 2), (0, 3), (-(2**63), 2**63 - 1)])
def test_labels_out_of_range_are_refused(tmp_path: Path, low: int, high: int) -> None:
    arrays.write(tmp_path / "labels.npy", np.array([1, high, low, 1]))

    with pytest.raises(DataError, match=r"labels\.npy holds labels out of range") as caught:
        arrays.read_labels(tmp_path / "labels.npy", classes=3)

    assert caught.value.details["expected"] == "from 0 to 2"
    assert caught.value.details["found"] == f"from {low} to {high}"


def test_indices_out_of_range_are_refused(tmp_path: Path) -> None:
    arrays.write(tmp_path / "indices.npy", np.array([0, 4]))

    with pytest.raises(DataError, match=r"indices\.npy holds indices out of range") as caught:
        arrays.read_indices(tmp_path / "indices.npy", images=4)

    assert caught.value.details["expected"] == "from 0 to 3"


def test_an_index_that_stands_twice_is_refused(tmp_path: Path) -> None:
    arrays.write(tmp_path / "indices.npy", np.array([3, 0, 3, 1]))

    with pytest.raises(DataError) as caught:
        arrays.read_indices(tmp_path / "indices.npy", images=4)

    assert str(caught.value) == (
        f"{tmp_path / 'indices.npy'} names an image twice\n"
        "  expected: 4 different indices\n"
        "  found:    3 different indices\n"
        "  next:     dvc repro --force split"
    )


def write_set(folder: Path, labels: NDArray[np.int64]) -> tuple[Path, Path, Path]:
    paths = folder / "images.npy", folder / "labels.npy", folder / "classes.json"
    arrays.write(paths[0], IMAGES)
    arrays.write(paths[1], labels)
    paths[2].write_text('["a", "b", "c", "d"]')
    return paths


def test_as_many_labels_as_images_belong_together(tmp_path: Path) -> None:
    images, labels, names = arrays.read_labelled_images(*write_set(tmp_path, LABELS[:2]))
    assert np.array_equal(images, IMAGES)
    assert np.array_equal(labels, LABELS[:2])
    assert names == ["a", "b", "c", "d"]

    images_path, labels_path, names_path = write_set(tmp_path, LABELS)
    with pytest.raises(DataError) as caught:
        arrays.read_labelled_images(images_path, labels_path, names_path)
    assert str(caught.value) == (
        "images and labels do not belong together\n"
        "  expected: a label for each image\n"
        "  found:    2 images and 4 labels\n"
        f"  where:    {images_path}, {labels_path}\n"
        "  next:     dvc repro --force download"
    )


def test_an_image_in_both_train_and_val_is_refused(tmp_path: Path) -> None:
    train, val = tmp_path / "train.npy", tmp_path / "val.npy"
    arrays.write(train, np.array([0, 2, 5]))
    arrays.write(val, np.array([1, 5, 2]))
    with pytest.raises(DataError, match="both trained on and validated on") as caught:
        arrays.read_split(train, val, images=6)
    assert "2 shared, the first is 2" in str(caught.value)
    arrays.write(val, np.array([1, 3]))
    assert [len(side) for side in arrays.read_split(train, val, images=6)] == [3, 2]


def test_class_names_are_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('["zéro", "one"]', encoding="utf-8")

    assert arrays.read_class_names(tmp_path / "classes.json") == ["zéro", "one"]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "Expecting value: line 1 column 1"),
        (b"[", "Expecting value: line 1 column 2"),
        (b"[]", "[]"),
        (b'{"0": "zero"}', "{'0': 'zero'}"),
        (b'["zero", 1]', "['zero', 1]"),
        (b'"zero"', "zero"),
        (b'["\xff"]', "'utf-8' codec can't decode byte 0xff"),
        (b"[" * 100_000, "maximum recursion depth exceeded"),
    ],
    ids=range(8),
)
def test_class_names_that_are_no_list_of_names_are_refused(
    tmp_path: Path, content: bytes, found: str
) -> None:
    path = tmp_path / "classes.json"
    path.write_bytes(content)

    with pytest.raises(DataError, match=r"does not hold the names of the classes") as caught:
        arrays.read_class_names(path)

    assert caught.value.details["expected"] == "a list of strings in JSON"
    assert caught.value.details["found"].startswith(found)
    assert caught.value.details["next"] == "dvc repro --force download"


def test_missing_class_names_are_reported(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"classes\.json is missing\n  next:     dvc repro makes it"
    ):
        arrays.read_class_names(tmp_path / "classes.json")
