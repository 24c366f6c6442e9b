"""Any bytes instead of a file that a stage reads: a correct value or the reader's own error.

A short run is part of the suite, the same each time. `make fuzz` makes a long
one from a seed that it prints: make fuzz EXAMPLES=10000 SEED=1. The parameters
are fuzzed in test_params.py, the split in test_splitting.py.
"""

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.data import archives, arrays, idx
from core.data.archives import PackingError
from core.pipeline.errors import DataError, ModelError
from core.training import weights
from core.training.checkpoints import FileCheckpoint

pytestmark = [
    pytest.mark.fuzz,
    # PyTorch warns of what it finds in a pickle before it refuses it.
    pytest.mark.filterwarnings("ignore"),
]
# Each example rewrites the same file.
writes = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

Edit = tuple[str, float, int, bytes]
edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["flip", "replace", "insert", "cut", "repeat", "end"]),
        st.floats(0, 1, exclude_max=True),  # where, as a share of the length
        st.integers(1, 64),  # how many bytes
        st.binary(min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=4,
)


def mutated(good: bytes, changes: list[Edit]) -> bytes:
    """Change a valid file as disks, networks and attackers do."""
    content = bytearray(good)
    for kind, share, count, junk in changes:
        at = int(share * len(content))
        if kind == "flip" and content:
            content[at] ^= 1 << count % 8
        elif kind == "replace":
            content[at : at + len(junk)] = junk
        elif kind == "insert":
            content[at:at] = junk
        elif kind == "cut":
            del content[at : at + count]
        elif kind == "repeat":
            content[at:at] = content[at : at + count]
        elif kind == "end":
            del content[at:]
    return bytes(content)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


IMAGES = npy(np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1))
INTEGERS = npy(np.array([1, 0, 2, 3]))
READERS: dict[str, tuple[bytes, Callable[[Path], np.ndarray], type, int]] = {
    "images": (IMAGES, arrays.read_images, np.uint8, 4),
    "labels": (INTEGERS, lambda path: arrays.read_labels(path, classes=4), np.int64, 1),
    "indices": (INTEGERS, lambda path: arrays.read_indices(path, images=4), np.int64, 1),
}


@pytest.mark.parametrize("kind", READERS)
@writes
@given(changes=edits, junk=st.none() | st.binary(max_size=200))
def test_an_array_is_of_its_kind_and_in_range_or_refused(
    tmp_path: Path, kind: str, changes: list[Edit], junk: bytes | None
) -> None:
    good, read, dtype, dimensions = READERS[kind]
    content = mutated(good, changes) if junk is None else good[:8] + junk
    (tmp_path / "a.npy").write_bytes(content)
    try:
        array = read(tmp_path / "a.npy")
    except DataError:
        return
    assert array.dtype == dtype
    assert array.ndim == dimensions
    assert 0 < array.size <= len(content)
    if kind != "images":
        assert set(array.tolist()) <= set(range(4))
    if kind == "indices":
        assert len(set(array.tolist())) == len(array)


@writes
@given(changes=edits, junk=st.none() | st.binary(max_size=60) | st.text(max_size=60))
def test_names_of_classes_are_texts_or_refused(
    tmp_path: Path, changes: list[Edit], junk: bytes | str | None
) -> None:
    content = mutated(json.dumps(["zéro", "one"], ensure_ascii=False).encode(), changes)
    if junk is not None:
        content = junk if isinstance(junk, bytes) else json.dumps(junk).encode()
    (tmp_path / "classes.json").write_bytes(content)
    try:
        names = arrays.read_class_names(tmp_path / "classes.json")
    except DataError:
        return
    assert names == json.loads(content)
    assert names
    assert all(type(name) is str for name in names)


IDX = b"\0\0\x08\x02" + struct.pack(">2I", 2, 3) + bytes(range(6))


@given(changes=edits, junk=st.none() | st.binary(max_size=40))
def test_idx_is_of_the_shape_that_was_asked_for_or_refused(
    changes: list[Edit], junk: bytes | None
) -> None:
    content = mutated(IDX, changes) if junk is None else b"\0\0\x08" + junk
    try:
        array = idx.parse(content, dtype="uint8", shape=(2, 3), where="a-file")
    except DataError:
        return
    assert array.dtype == np.uint8
    assert array.shape == (2, 3)
    assert content == IDX[:12] + array.tobytes()


MEMBER = bytes(range(256)) * 4


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("a.bin", "b" * 120 + ".bin"):  # a long name has a header of its own
            info = tarfile.TarInfo(name)
            info.size = len(MEMBER)
            archive.addfile(info, io.BytesIO(MEMBER))
    return file.getvalue()


TAR = tarred()


@given(changes=edits)
def test_gzip_unpacks_to_what_was_packed_or_is_refused(changes: list[Edit]) -> None:
    packed = mutated(gzip.compress(MEMBER, mtime=0), changes)
    try:
        content = archives.gunzip(packed, at_most=len(MEMBER) + 1)
    except PackingError:
        return
    # Its checksum may lie beyond the limit; and several may stand in a row.
    assert len(content) <= len(MEMBER) + 1


@given(changes=edits, before_packing=st.booleans(), junk=st.none() | st.binary(max_size=600))
def test_an_archive_gives_the_file_in_its_size_or_is_refused(
    changes: list[Edit], before_packing: bool, junk: bytes | None
) -> None:
    if junk is not None:
        packed = gzip.compress(junk, 1) if before_packing else junk
    elif before_packing:
        packed = gzip.compress(mutated(TAR, changes), 1)
    else:
        packed = mutated(gzip.compress(TAR, 1), changes)
    try:
        found = archives.tar_members(packed, {"a.bin": len(MEMBER)}, where="a.tar.gz")
    except DataError:
        return
    assert list(found) == ["a.bin"]
    assert len(found["a.bin"]) == len(MEMBER)


STATE = {"linear.weight": torch.arange(6).reshape(2, 3) / 8, "linear.bias": torch.ones(2)}


def model_file() -> bytes:
    file = io.BytesIO()
    torch.save(STATE, file)
    return file.getvalue()


MODEL = model_file()


def repacked(change: Callable[[bytes], bytes], member: str) -> bytes:
    """The model file with one member changed and every checksum right."""
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(MODEL)) as source,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as target,
    ):
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, change(content) if name == member else content)
    return file.getvalue()


def layer() -> torch.nn.Module:
    return torch.nn.ModuleDict({"linear": torch.nn.Linear(3, 2)})


@writes
@given(changes=edits)
def test_a_model_file_gives_the_weights_that_were_saved_or_is_refused(
    tmp_path: Path, changes: list[Edit]
) -> None:
    (tmp_path / "model.pt").write_bytes(mutated(MODEL, changes))
    model = layer()
    try:
        weights.load_into(model, tmp_path / "model.pt", name="a layer")
    except ModelError:
        return
    for key, value in model.state_dict().items():
        assert torch.equal(value, STATE[key])


@writes
@given(
    changes=edits,
    member=st.sampled_from(
        [name for name in zipfile.ZipFile(io.BytesIO(MODEL)).namelist() if "/data" in name]
    ),
)
def test_a_forged_model_file_gives_finite_weights_of_the_model_or_is_refused(
    tmp_path: Path, changes: list[Edit], member: str
) -> None:
    forged = repacked(lambda content: mutated(content, changes), member)
    (tmp_path / "model.pt").write_bytes(forged)
    model = layer()
    try:
        weights.load_into(model, tmp_path / "model.pt", name="a layer")
    except ModelError:
        return
    for key, value in model.state_dict().items():
        assert value.shape == STATE[key].shape
        assert value.isfinite().all()


@writes
@given(changes=edits)
def test_a_checkpoint_gives_what_was_saved_or_nothing(tmp_path: Path, changes: list[Edit]) -> None:
    checkpoint = FileCheckpoint(tmp_path / "checkpoint.pt", "me")
    checkpoint.save({"epoch": 3, "weights": STATE})
    checkpoint.path.write_bytes(mutated(checkpoint.path.read_bytes(), changes))
    found = checkpoint.load()
    if found is not None:
        assert found["epoch"] == 3
        assert all(torch.equal(found["weights"][key], value) for key, value in STATE.items())
