"""Unpacks gzip and tar in memory: nothing is written to disk, and no header is trusted.

An archive may claim anything: names that leave the folder, links, devices,
sizes that fill the memory. So the caller says which files it expects and how large
they are; only these are read, and no more is unpacked than it takes to reach them.
"""

import gzip
import io
import posixpath
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from core.pipeline import wording
from core.pipeline.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1
PIECE = 64 * 1024  # bytes at a time
# Bytes that an archive may hold besides the expected files: headers, padding, a read-me.
OVERHEAD = 1024 * 1024

KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
}


class PackingError(Exception):
    """Why bytes cannot be unpacked, in a few plain words."""


def gunzip(packed: bytes, *, at_most: int) -> bytes:
    """Unpack gzip; what comes after `at_most` bytes stays packed.

    Raises:
        PackingError: it is not gzip, it is truncated, or it is damaged.
    """
    with _opened(packed) as file:
        return file.read(at_most)


def check_gzip(packed: bytes) -> None:
    """Check that `packed` begins as gzip does.

    Raises:
        PackingError: it does not; says whether it is an HTML page.
    """
    if not packed.startswith(GZIP_MAGIC):
        beginning = packed[:1024].lower()
        is_page = b"<html" in beginning or b"<!doctype html" in beginning
        raise PackingError("an HTML page, not the file" if is_page else "not a gzip file")


def tar_members(packed: bytes, sizes: Mapping[str, int], *, where: str) -> dict[str, bytes]:
    """Return the files that `sizes` names from a tar archive that is packed by gzip.

    Args:
        packed: the archive.
        sizes: for each file that must be in it, exactly once, its size in bytes.
            Other files are passed over.
        where: the archive's name, for the message of an error.

    Raises:
        DataError: the archive is truncated or damaged, unpacks to much more than
            `sizes` adds up to, lacks a file, holds one twice or in another size,
            or holds anything but files and folders below its own.
    """
    limit = sum(sizes.values()) + OVERHEAD
    found: dict[str, bytes] = {}
    try:
        with (
            _opened(packed, limit) as file,
            tarfile.open(fileobj=file, mode="r|") as archive,
        ):
            for member in archive:
                _check_harmless(member, limit, where)
                name = posixpath.normpath(member.name)
                if name not in sizes or member.isdir():
                    continue
                if name in found:
                    raise _refused(where, expected=f"{name} once", found="it twice")
                if member.size != sizes[name]:
                    raise _refused(
                        where,
                        expected=f"{name} of {wording.count(sizes[name], 'byte')}",
                        found=f"it with {wording.count(member.size, 'byte')}",
                    )
                content = archive.extractfile(member)
                assert content is not None  # it is a file
                found[name] = content.read()
            while file.read(PIECE):  # up to gzip's checksum
                pass
    except PackingError as error:
        raise DataError(f"{where} cannot be unpacked", found=str(error)) from error
    # tarfile trusts what it reads: a damaged header can end in any of these.
    except (tarfile.TarError, LookupError, ValueError) as error:
        raise DataError(f"{where} is not a tar archive", found=str(error)) from error
    missing = [name for name in sizes if name not in found]
    if missing:
        raise _refused(where, expected="\n".join(missing), found="no such file")
    return found


class _Limited(gzip.GzipFile):
    """Unpacks, and fails once there are more than `limit` bytes."""

    def __init__(self, packed: bytes, limit: int | None) -> None:
        super().__init__(fileobj=io.BytesIO(packed))
        self.limit = limit

    def read(self, size: int | None = -1) -> bytes:
        content = super().read(size)
        if self.limit is not None and self.tell() > self.limit:
            raise PackingError(
                f"more than the {wording.count(self.limit, 'byte')} that can be right"
            )
        return content


@contextmanager
def _opened(packed: bytes, limit: int | None = None) -> Iterator[gzip.GzipFile]:
    check_gzip(packed)
    try:
        with _Limited(packed, limit) as file:
            yield file
    except EOFError as error:
        raise PackingError("a truncated gzip file") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise PackingError("a damaged gzip file") from error


def _check_harmless(member: tarfile.TarInfo, limit: int, where: str) -> None:
    if member.issparse() or not (member.isfile() or member.isdir()):
        kind = KINDS.get(member.type, "something else")
        raise _refused(where, expected="files and folders only", found=f"{kind}, {member.name!r}")
    if member.name.startswith("/") or ".." in member.name.split("/"):
        raise _refused(where, expected="names below its own folder", found=repr(member.name))
    if not 0 <= member.size <= limit:  # before tarfile goes there
        raise _refused(
            where,
            expected=f"at most {wording.count(limit, 'byte')} in all",
            found=f"{member.name!r} of {wording.count(member.size, 'byte')}",
        )


def _refused(where: str, *, expected: str, found: str) -> DataError:
    return DataError(f"{where} does not hold what it should", expected=expected, found=found)
