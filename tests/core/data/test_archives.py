import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.data.archives import OVERHEAD, PackingError, gunzip, tar_members
from core.pipeline.errors import DataError

ONE = b"one" * 1000
TWO = b"\0\xff" * 700
SIZES = {"folder/one.bin": len(ONE), "folder/two.bin": len(TWO)}


def entry(name: str, content: bytes = b"", **attributes: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info, content


FOLDER = entry("folder", type=tarfile.DIRTYPE)
GOOD = [
    FOLDER,
    entry("folder/two.bin", TWO),  # the order in an archive says nothing
    entry("folder/readme.html", b"<html>"),
    entry("folder/one.bin", ONE),
]


def tarred(
    entries: list[tuple[tarfile.TarInfo, bytes]], format: int = tarfile.USTAR_FORMAT
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as archive:
        for info, content in entries:
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def refusal(packed: bytes) -> DataError:
    with pytest.raises(DataError, match=r"^some\.tar\.gz ") as caught:
        tar_members(packed, SIZES, where="some.tar.gz")
    return caught.value


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_files_asked_for_are_returned_and_others_passed_over(format: int) -> None:
    packed = gzip.compress(tarred(GOOD, format))
    assert tar_members(packed, SIZES, where="some.tar.gz") == {
        "folder/one.bin": ONE,
        "folder/two.bin": TWO,
    }


def test_a_name_that_begins_with_a_dot_is_the_same_name() -> None:
    packed = gzip.compress(tarred([entry("./folder/one.bin", ONE), entry("./folder/two.bin", TWO)]))
    assert tar_members(packed, SIZES, where="some.tar.gz")["folder/two.bin"] == TWO


# Entries that make an archive harmful, each with the error message.
HARMFUL = {
    "a name that leaves the folder": (
        entry("folder/../../outside.bin", b"!"),
        "names below its own folder",
        "'folder/../../outside.bin'",
    ),
    "an absolute name": (
        entry("/srv/outside.bin", b"!"),
        "names below its own folder",
        "'/srv/outside.bin'",
    ),
    "a symbolic link": (
        entry("folder/link", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "files and folders only",
        "a symbolic link, 'folder/link'",
    ),
    "a hard link": (
        entry("folder/link", type=tarfile.LNKTYPE, linkname="folder/one.bin"),
        "files and folders only",
        "a hard link, 'folder/link'",
    ),
    "a character device": (
        entry("folder/tty", type=tarfile.CHRTYPE, devmajor=5),
        "files and folders only",
        "a device, 'folder/tty'",
    ),
    "a block device": (
        entry("folder/disk", type=tarfile.BLKTYPE, devmajor=8),
        "files and folders only",
        "a device, 'folder/disk'",
    ),
    "a pipe": (
        entry("folder/pipe", type=tarfile.FIFOTYPE),
        "files and folders only",
        "a pipe, 'folder/pipe'",
    ),
    "a kind that nobody knows": (
        entry("folder/what", type=b"Z"),
        "files and folders only",
        "something else, 'folder/what'",
    ),
    "a name with a terminal's escape sequence": (
        entry("/\x1b[2J", b""),
        "names below its own folder",
        "'/\\x1b[2J'",
    ),
    "a file twice": (entry("folder/one.bin", ONE), "folder/one.bin once", "it twice"),
    "a file twice under two spellings": (
        entry("./folder//one.bin", ONE),
        "folder/one.bin once",
        "it twice",
    ),
}


@pytest.mark.parametrize("case", HARMFUL)
def test_an_archive_with_a_harmful_entry_is_refused_wherever_it_stands(case: str) -> None:
    harmful, expected, found = HARMFUL[case]
    for entries in ([*GOOD, harmful], [harmful, *GOOD]):
        error = refusal(gzip.compress(tarred(entries)))
        assert error.what == "some.tar.gz does not hold what it should"
        assert (error.details["expected"], error.details["found"]) == (expected, found)


def test_a_link_in_the_place_of_a_file_is_refused() -> None:
    link = entry("folder/one.bin", type=tarfile.SYMTYPE, linkname="two.bin")
    error = refusal(gzip.compress(tarred([entry("folder/two.bin", TWO), link])))
    assert error.details["found"] == "a symbolic link, 'folder/one.bin'"


def test_a_file_with_holes_is_refused() -> None:
    sparse = entry("folder/one.bin", ONE, type=tarfile.GNUTYPE_SPARSE)
    error = refusal(gzip.compress(tarred([sparse])))
    assert error.details["found"] == "a file with holes, 'folder/one.bin'"


@pytest.mark.parametrize("size", [len(ONE) - 1, len(ONE) + 1, 0])
def test_a_file_of_another_size_is_refused(size: int) -> None:
    wrong = entry("folder/one.bin", (ONE + b"!")[:size])
    error = refusal(gzip.compress(tarred([wrong, entry("folder/two.bin", TWO)])))
    assert error.details["expected"] == "folder/one.bin of 3,000 bytes"
    assert error.details["found"] == f"it with {size:,} bytes"


def test_files_that_are_missing_are_named() -> None:
    error = refusal(gzip.compress(tarred([FOLDER, entry("other/one.bin", ONE)])))
    assert error.details["expected"] == "folder/one.bin\nfolder/two.bin"
    assert error.details["found"] == "no such file"
    folder = entry("folder/one.bin", type=tarfile.DIRTYPE)
    error = refusal(gzip.compress(tarred([folder, entry("folder/two.bin", TWO)])))
    assert error.details["expected"] == "folder/one.bin"


def announcing(size: int) -> bytes:
    """An archive whose first entry, a few bytes long, claims to be `size` bytes long."""
    info = tarfile.TarInfo("folder/readme.html")
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(10_240)


@pytest.mark.parametrize("size", [4400 + OVERHEAD + 1, 8 * 10**9, 2**80, -512])
def test_a_size_that_cannot_be_right_is_refused_before_it_is_believed(size: int) -> None:
    error = refusal(gzip.compress(announcing(size)))
    assert error.details["expected"] == f"at most {4400 + OVERHEAD:,} bytes in all"
    assert error.details["found"] == f"'folder/readme.html' of {size:,} bytes"


def endless_name() -> bytes:
    """An archive that begins with the long name of a file, 50 MB long."""
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    info.size = 50_000_000
    return info.tobuf(tarfile.GNU_FORMAT) + b"a" * info.size + tarred(GOOD)


BOMBS: dict[str, Callable[[], bytes]] = {
    "after the files": lambda: tarred(GOOD) + bytes(50_000_000),
    "before the files": lambda: tarred([entry("zeros", bytes(OVERHEAD)), *GOOD]),
    "in a name": endless_name,
}


@pytest.mark.parametrize("place", BOMBS)
def test_a_bomb_is_not_unpacked(place: str) -> None:
    packed = gzip.compress(BOMBS[place](), 6)
    tracemalloc.start()
    try:
        error = refusal(packed)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert error.what == "some.tar.gz cannot be unpacked"
    assert error.details["found"] == f"more than the {4400 + OVERHEAD:,} bytes that can be right"
    assert peak_bytes < 5 * OVERHEAD


def test_an_archive_that_is_truncated_is_refused_wherever_it_ends() -> None:
    packed = gzip.compress(tarred(GOOD))
    for end in range(2, len(packed)):
        error = refusal(packed[:end])
        assert error.details["found"] == "a truncated gzip file"
    # Byte 6,000 lies within the last file.
    cut_inside = refusal(gzip.compress(tarred(GOOD)[:6000]))
    assert cut_inside.what == "some.tar.gz is not a tar archive"
    assert cut_inside.details["found"] == "unexpected end of data"


def test_a_flipped_bit_that_gzip_notices_is_reported() -> None:
    packed = bytearray(gzip.compress(tarred(GOOD)))
    packed[-6] ^= 1  # in the checksum, RFC 1952, 2.3.1
    assert refusal(bytes(packed)).details["found"] == "a damaged gzip file"


@pytest.mark.parametrize(
    ("packed", "found"),
    [
        (b"", "not a gzip file"),
        (b"PK\3\4", "not a gzip file"),
        (tarred(GOOD), "not a gzip file"),
        (b"<!DOCTYPE html><html>Please log in", "an HTML page, not the file"),
    ],
)
def test_what_is_no_gzip_file_is_reported(packed: bytes, found: str) -> None:
    error = refusal(packed)
    assert (error.what, error.details["found"]) == ("some.tar.gz cannot be unpacked", found)


def test_what_is_packed_but_no_tar_archive_is_reported() -> None:
    assert refusal(gzip.compress(b"no archive" * 100)).what == "some.tar.gz is not a tar archive"
    assert refusal(gzip.compress(b"")).what == "some.tar.gz is not a tar archive"


def test_headers_over_which_tarfile_stumbles_are_reported() -> None:
    holes = tarfile.TarInfo("folder/one.bin")
    holes.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(holes.tobuf(tarfile.GNU_FORMAT))
    header[482] = 1  # another header follows, which does not
    error = refusal(gzip.compress(bytes(with_checksum(header))))
    assert error.what == "some.tar.gz is not a tar archive"
    mapped = entry("folder/one.bin", ONE, pax_headers={"GNU.sparse.map": "here,there"})
    error = refusal(gzip.compress(tarred([mapped], tarfile.PAX_FORMAT)))
    assert error.what == "some.tar.gz is not a tar archive"


def with_checksum(header: bytearray) -> bytearray:
    """The header with the sum of its bytes where it belongs, counted as spaces."""
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return header


@pytest.mark.fuzz
@given(position=st.integers(0, 4 * 512 - 1), value=st.integers(0, 255))
def test_a_damaged_header_gives_the_right_bytes_or_an_error_of_ours(
    position: int, value: int
) -> None:
    content = bytearray(tarred([FOLDER, *GOOD[1:]]))
    headers = [at for at in range(0, len(content), 512) if content[at : at + 6] == b"folder"]
    at = headers[position // 512] + position % 512
    content[at] = value
    start = at - at % 512
    content[start : start + 512] = with_checksum(content[start : start + 512])
    try:
        found = tar_members(gzip.compress(bytes(content), 1), SIZES, where="some.tar.gz")
    except DataError:
        return
    assert found == {"folder/one.bin": ONE, "folder/two.bin": TWO}


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tar_members(gzip.compress(tarred(GOOD)), SIZES, where="some.tar.gz")
    for harmful, _, _ in HARMFUL.values():
        refusal(gzip.compress(tarred([harmful, *GOOD])))
    assert list(tmp_path.iterdir()) == []


def test_gzip_is_unpacked_up_to_the_limit() -> None:
    packed = gzip.compress(b"0123456789")
    assert gunzip(packed, at_most=11) == b"0123456789"
    assert gunzip(packed, at_most=4) == b"0123"
    with pytest.raises(PackingError, match=r"^a truncated gzip file$"):
        gunzip(packed[:-9], at_most=11)
