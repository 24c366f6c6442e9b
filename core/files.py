"""Writes files whole or not at all, and every number in one way.

A file appears under its final name only when it is complete: it is written
beside its target under another name and then renamed, which also replaces a
link into DVC's cache instead of writing through it.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO

DECIMALS = 6  # of numbers in metrics files: finer than any difference that matters


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` once it is complete.

    If the block raises, `path` is as it was and nothing else is left behind. An
    OSError that names no file, as that of a full disk, or names the unfinished
    one, is raised with the name of `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(partial)):
            error.filename = str(path)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with replacing(path) as file:
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
        ValueError: a float is not finite. No file of ours has a use for it, and
            JSON has no way to write it.
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
