"""Reads what earlier stages measured, and checks every property.

The stages that write these files define their rows and columns; this only checks
what the report uses.
"""

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from core.pipeline import files, wording
from core.pipeline.errors import DataError


class Measured(NamedTuple):
    """Loss and accuracy on train or val."""

    loss: float  # mean cross-entropy in nats
    accuracy: float  # fraction in [0, 1]


def read_evaluation(path: Path) -> dict[str, Measured]:
    """Read what metrics/evaluate.json says of train and val.

    Raises:
        DataError: the file is missing or does not hold it.
    """
    expected = "loss and accuracy of train and val, in JSON"
    try:
        content = json.loads(_text(path, expected))
        found = {
            part: Measured(float(content[part]["loss"]), float(content[part]["accuracy"]))
            for part in ("train", "val")
        }
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _unreadable(path, expected, f"{type(error).__name__}: {error}") from error
    if not all(math.isfinite(each.loss) and 0 <= each.accuracy <= 1 for each in found.values()):
        raise _unreadable(path, expected, str(found))
    return found


def read_numbers(path: Path, columns: Sequence[str]) -> list[list[float]]:
    """Read a table of finite numbers.

    Args:
        path: of a CSV.
        columns: its header.

    Returns:
        A list a row, at least one.

    Raises:
        DataError: the file is missing or does not hold it.
    """
    expected = f"rows of finite numbers below the header {','.join(columns)}"
    text = _text(path, expected)
    try:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        table = [[float(field) for field in row] for row in rows]
    except (csv.Error, ValueError) as error:
        raise _unreadable(path, expected, str(error)) from error
    if header != list(columns) or not table:
        raise _unreadable(
            path, expected, f"{wording.count(len(table), 'row')} below {','.join(header)}"
        )
    for number, row in enumerate(table, start=1):
        if len(row) != len(columns) or not all(map(math.isfinite, row)):
            raise _unreadable(path, expected, f"row {number:,}: {row}")
    return table


def _text(path: Path, expected: str) -> str:
    try:
        return files.regular(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} is missing", todo="dvc repro makes it") from None
    except UnicodeDecodeError as error:
        raise _unreadable(path, expected, str(error)) from error


def _unreadable(path: Path, expected: str, found: str) -> DataError:
    return DataError(
        f"{path} does not hold what its stage writes",
        expected=expected,
        found=found[:200],
        todo=f"git checkout {path}, or dvc repro",
    )
