"""Fetches a file from the first source that serves the right bytes.

A source is a folder or an http(s) address. What counts are the unpacked bytes:
their SHA-256 is checked, so a source need not be trusted, and it does not
matter who packed them. They stay in memory; nothing unchecked reaches a disk.
"""

import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from core.errors import DownloadError

GZIP_MAGIC = b"\x1f\x8b"  # RFC 1952, 2.3.1


class Patience(NamedTuple):
    """How long to wait for a server before the next source is tried."""

    connect_seconds: float = 10
    # The answer must begin within a span, and each span but the last must bring
    # the bytes: 10 kB a second, at which MNIST takes 20 minutes.
    span_seconds: float = 30
    span_bytes: int = 300_000


PATIENCE = Patience()


class SourceError(Exception):
    """Why a source did not serve the file, in a few plain words."""


def fetch(
    file_name: str,
    sha256: str,
    size: int,
    sources: Sequence[str],
    *,
    patience: Patience = PATIENCE,
    todo: str = "",
) -> bytes:
    """Return the unpacked bytes of a file; print which source served them, and which did not.

    Args:
        file_name: without the `.gz`.
        sha256: of the unpacked bytes, 64 hexadecimal digits.
        size: of the unpacked bytes.
        sources: folders and http(s) addresses in the order in which they are
            tried. A folder holds the file packed by gzip (NAME.gz) or plain
            (NAME), an address leads to NAME.gz.
        patience: how long to wait for a server.
        todo: what the user can do when all sources fail; by default how to
            place this file by hand.

    Raises:
        DownloadError: no source served the bytes; says of each why not.
    """
    reasons = []
    for source in sources:
        shown = re.sub(r"//[^/]*@", "//", source)  # without user name and password
        try:
            if re.match("https?://", source, re.IGNORECASE):
                content = _from_address(source, file_name, sha256, size, patience)
            elif "://" in source:
                raise SourceError("neither a folder nor an http(s) address")
            else:
                content = _from_folder(Path(source), file_name, sha256, size)
        except SourceError as reason:
            print(f"{file_name}: skipped {shown}: {reason}", flush=True)
            reasons.append(f"{shown}: {reason}")
        else:
            print(f"{file_name}: from {shown}", flush=True)
            return content
    raise DownloadError(
        f"no source served {file_name}",
        expected=f"{size:,} bytes, SHA-256 {sha256}",
        found="\n".join(reasons) or "no sources",
        todo=todo or by_hand({file_name: sha256}, sources),
    )


def by_hand(sums: Mapping[str, str], sources: Sequence[str]) -> str:
    """Say how to place files by hand.

    Args:
        sums: for each file's name the SHA-256 of its unpacked bytes.
        sources: as for `fetch`.
    """
    folders = [source for source in sources if "://" not in source]
    folder = folders[0] if folders else "a folder that dataset.mirrors in params.yaml names"
    width = max(map(len, sums))
    return "\n".join(
        [
            f"get by other means what is listed here, and put it in {folder};",
            "as NAME.gz, whoever packed it, or unpacked as NAME; SHA-256 of the unpacked bytes:",
            *(f"{name:<{width}}  {sha256}" for name, sha256 in sums.items()),
        ]
    )


def _from_address(source: str, file_name: str, sha256: str, size: int, patience: Patience) -> bytes:
    # Here and not above: importing it takes 0.3 s, which the bundled files do not need.
    from core import network

    try:
        packed = network.receive(
            f"{source.rstrip('/')}/{file_name}.gz",
            at_most=_most_packed(size),
            **patience._asdict(),
        )
    except network.TransferError as error:
        raise SourceError(str(error)) from error
    return _verified(_unpacked(packed, size), sha256, size)


def _from_folder(folder: Path, file_name: str, sha256: str, size: int) -> bytes:
    reasons = []
    for path in (folder / f"{file_name}.gz", folder / file_name):
        try:
            with path.open("rb") as file:
                if path.name == file_name:
                    content = file.read(size + 1)
                else:
                    content = _unpacked(file.read(_most_packed(size)), size)
            return _verified(content, sha256, size)
        except FileNotFoundError:
            continue
        except OSError as error:
            reasons.append(f"{path.name} can not be read: {(error.strerror or '').lower()}")
        except SourceError as reason:
            reasons.append(f"{path.name}: {reason}")
    if not reasons and folder.is_dir():
        reasons.append(f"holds neither {file_name}.gz nor {file_name}")
    raise SourceError("; ".join(reasons) or "no such folder")


def _most_packed(size: int) -> int:
    """The most bytes that gzip can make of `size` bytes, with room for its header.

    What it can not compress it stores, at five bytes a block (RFC 1951, 3.2.4).
    """
    return size + size // 100 + 64 * 1024


def _unpacked(packed: bytes, size: int) -> bytes:
    """Unpack gzip, never past `size` + 1 bytes."""
    if not packed.startswith(GZIP_MAGIC):
        beginning = packed[:1024].lower()
        is_page = b"<html" in beginning or b"<!doctype html" in beginning
        raise SourceError("an HTML page, not the file" if is_page else "not a gzip file")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            return file.read(size + 1)
    except EOFError as error:
        raise SourceError("a gzip file that is cut off") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise SourceError("a damaged gzip file") from error


def _verified(content: bytes, sha256: str, size: int) -> bytes:
    """Return `content` if it is what was expected."""
    if len(content) != size:
        found = f"{len(content):,}" if len(content) < size else f"more than {size:,}"
        raise SourceError(f"wrong bytes: {found} unpacked, expected {size:,}")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SourceError(f"wrong bytes: SHA-256 {found}, expected {sha256}")
    return content
