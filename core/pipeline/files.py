"""Writes files atomically, and every number in one format.

A file appears under its final name only when it is complete: it is written
beside its target under another name and then renamed, which also replaces a
link into DVC's cache instead of writing through it. The next writer
removes the temporary file of one that was killed.
"""

import csv
import errno
import glob
import io
import json
import math
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from numbers import Integral, Real
from pathlib import Path
from typing import IO, Any, BinaryIO

from core.pipeline import wording
from core.pipeline.errors import StorageError

if sys.platform != "win32":
    import fcntl

DECIMALS = 6  # of numbers in metrics files: finer than any difference that matters


@contextmanager
def replacing(path: Path, *, size: int | None = None) -> Iterator[BinaryIO]:
    """Open a file for writing that replaces `path` once it is complete.

    If the block raises, `path` is as it was and nothing else is left behind. An
    OSError that names no file, or names the unfinished one, is raised with the
    name of `path`.

    Args:
        path: of the file.
        size: how many bytes will be written, if that is known.

    Raises:
        StorageError: the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    _remove_abandoned(path)
    try:
        with _held(partial):
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(partial)):
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _no_room(path, size) from error
            error.filename = str(path)
        raise


def _no_room(path: Path, size: int | None) -> StorageError:
    free = shutil.disk_usage(path.parent).free
    return StorageError(
        f"there is no room for {path}",
        expected="" if size is None else wording.count(size, "byte"),
        found=f"{wording.count(free, 'byte')} free",
        where=str(path.parent.absolute()),
        todo="make room there and run it again",
    )


@contextmanager
def _held(partial: Path) -> Iterator[None]:
    """Make an empty file that `_remove_abandoned` keeps, until this ends."""
    while sys.platform != "win32":
        with partial.open("wb") as file:
            lock(file)
            if os.fstat(file.fileno()).st_nlink:  # not removed as abandoned before it was locked
                yield
                return
    yield


def remove(path: Path) -> None:
    """Remove a file, if it exists, and the temporary files that its killed writers left."""
    path.unlink(missing_ok=True)
    _remove_abandoned(path)


def _remove_abandoned(path: Path) -> None:
    """Remove the temporary files of killed writers of `path`: a live one holds its lock."""
    for partial in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        # Removed meanwhile, owned by another user, or still open (Windows).
        with suppress(FileNotFoundError, PermissionError), partial.open("rb") as file:
            if lock(file, wait=False):
                partial.unlink()


def lock(file: IO[Any], *, wait: bool = True) -> bool:
    """Lock an open file, until it is closed or this process ends, however it ends.

    Not on Windows, where an open file cannot be removed anyway, nor on file systems
    without locks, as some network ones.

    Args:
        file: to lock; others may still read and write it.
        wait: until the holder releases the lock.

    Returns:
        Whether it is locked now.
    """
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
    return True


def regular(path: Path) -> Path:
    """Return `path` of a file to read, unless reading it might never end.

    Raises:
        OSError: it is a pipe, a socket or a device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise OSError(errno.EINVAL, "not a file but a pipe, a socket or a device", str(path))
    return path


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path, size=len(content)) as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with Unix line ends, on every system."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write `content` in the order of its keys, floats rounded to `DECIMALS`."""
    write_text(path, json.dumps(rounded(content), indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write `header` and `rows`, floats rounded to `DECIMALS`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rounded(list(row)) for row in rows)
    write_text(path, text.getvalue())


def rounded(value: Any) -> Any:
    """Round each float in `value`, at any depth and of any library, to `DECIMALS`.

    Raises:
        ValueError: a float is not finite: no file here needs it, and JSON cannot
            represent it.
    """
    if isinstance(value, Real) and not isinstance(value, Integral):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a number that is written to a file")
        return round(float(value), DECIMALS) + 0.0  # + 0.0 makes 0.0 of -0.0
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value
