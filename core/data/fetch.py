"""Fetches a file from the first source that serves the right bytes.

A source is a folder or an http(s) address. The SHA-256 of the unpacked bytes is
checked, so a source need not be trusted, and it does not matter who packed them.
For a file whose own name ends in .gz, the packed bytes are checked and returned.
Everything stays in memory; no unchecked byte is written to disk.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from core.data import archives
from core.data.archives import PackingError
from core.pipeline.errors import DownloadError
from core.pipeline.files import regular

PACKED = ".gz"


class Patience(NamedTuple):
    """How long to wait for a server before the next source is tried."""

    connect_seconds: float = 10
    # The answer must begin within a span, and each span but the last must deliver
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
    """Return the bytes of a file; print which source served them, and which did not.

    Args:
        file_name: NAME, to get its unpacked bytes; NAME.gz, to get the packed ones.
        sha256: of these bytes, 64 hexadecimal digits.
        size: of these bytes.
        sources: folders and http(s) addresses in the order in which they are
            tried. An address leads to NAME.gz. A folder holds NAME.gz or, if the
            unpacked bytes are wanted, NAME.
        patience: how long to wait for a server.
        todo: what the user can do when all sources fail; by default how to
            provide this file manually.

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
        except (SourceError, PackingError) as reason:
            print(f"{file_name}: skipped {shown}: {reason}", flush=True)
            reasons.append(f"{shown}: {reason}")
        else:
            print(f"{file_name}: from {shown}", flush=True)
            return content
    raise DownloadError(
        f"no source served {file_name}",
        expected=f"{size:,} bytes, SHA-256 {sha256}",
        found="\n".join(reasons) or "no sources",
        todo=todo or manual_steps({file_name: sha256}, sources),
    )


def manual_steps(sums: Mapping[str, str], sources: Sequence[str]) -> str:
    """Say how to provide files manually.

    Args:
        sums: for each file's name the SHA-256 of its bytes, as for `fetch`.
        sources: as for `fetch`.
    """
    folders = [source for source in sources if "://" not in source]
    folder = folders[0] if folders else "a folder that dataset.mirrors in params.yaml names"
    width = max(map(len, sums))
    lines = [f"download these files manually into {folder},"]
    if any(Path(folder, packed).exists() for name in sums for packed in (name, name + PACKED)):
        lines.insert(0, f"git restore {folder}, if git tracks it; otherwise")
    if any(not name.endswith(PACKED) for name in sums):
        lines.append("packed as NAME.gz or unpacked as NAME; SHA-256 of the unpacked bytes:")
    else:
        lines.append("exactly as published; SHA-256 of the packed file:")
    return "\n".join([*lines, *(f"{name:<{width}}  {sha256}" for name, sha256 in sums.items())])


def _from_address(source: str, file_name: str, sha256: str, size: int, patience: Patience) -> bytes:
    # Imported here: it takes 0.3 s, and bundled files do not need it.
    from core.data import http_client

    as_published = file_name.endswith(PACKED)
    try:
        packed = http_client.receive(
            f"{source.rstrip('/')}/{file_name.removesuffix(PACKED)}{PACKED}",
            at_most=size if as_published else _most_packed(size),
            **patience._asdict(),
        )
    except http_client.TransferError as error:
        raise SourceError(str(error)) from error
    content = packed if as_published else archives.gunzip(packed, at_most=size + 1)
    return _verified(content, file_name, sha256, size)


def _from_folder(folder: Path, file_name: str, sha256: str, size: int) -> bytes:
    names = [file_name] if file_name.endswith(PACKED) else [f"{file_name}{PACKED}", file_name]
    reasons = []
    for path in (folder / name for name in names):
        try:
            with regular(path).open("rb") as file:
                if path.name == file_name:
                    content = file.read(size + 1)
                else:
                    packed = file.read(_most_packed(size))
                    content = archives.gunzip(packed, at_most=size + 1)
            return _verified(content, file_name, sha256, size)
        except FileNotFoundError:
            continue
        except OSError as error:
            reasons.append(f"{path.name} cannot be read: {(error.strerror or '').lower()}")
        except (SourceError, PackingError) as reason:
            reasons.append(f"{path.name}: {reason}")
    if not reasons and folder.is_dir():
        reasons.append(
            f"holds neither {' nor '.join(names)}" if names[1:] else f"holds no {names[0]}"
        )
    raise SourceError("; ".join(reasons) or "no such folder")


def _most_packed(size: int) -> int:
    """The most bytes that gzip can make of `size` bytes, with room for its header.

    What it cannot compress it stores, at five bytes a block (RFC 1951, 3.2.4).
    """
    return size + size // 100 + 64 * 1024


def _verified(content: bytes, file_name: str, sha256: str, size: int) -> bytes:
    """Return `content` if it is what was expected."""
    state, hint = "unpacked", ""
    if file_name.endswith(PACKED):
        archives.check_gzip(content)
        state, hint = "packed", "; repacked or damaged: only the published file is accepted"
    if len(content) != size:
        found = f"{len(content):,}" if len(content) < size else f"more than {size:,}"
        raise SourceError(f"wrong bytes: {found} {state}, expected {size:,}{hint}")
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SourceError(f"wrong bytes: SHA-256 {found}, expected {sha256}{hint}")
    return content
