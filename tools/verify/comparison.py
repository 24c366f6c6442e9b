"""Describes in a few lines what differs between two versions of a file.

The file extension decides what is compared: the fields of JSON or CSV, the elements of a
NumPy array, the tensors of a model, the pixels of an image, the lines of a text; for any
other file, the first byte that differs.
"""

import csv
import io
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from core.pipeline import wording

MOST_LINES = 12  # of one file; the rest is counted

# Errors of the readers below for a file that does not match its extension.
UNREADABLE = (ValueError, OSError, EOFError, RuntimeError, KeyError, csv.Error, pickle.PickleError)


def differences(name: str, committed: bytes, rebuilt: bytes) -> list[str]:
    """Describe what differs between two versions of a file.

    Args:
        name: of the file; its extension decides how it is read.
        committed: one version.
        rebuilt: the other.

    Returns:
        At most `MOST_LINES` lines and a count of the rest; none if the bytes
        are the same.
    """
    if committed == rebuilt:
        return []
    compare = KINDS.get(PurePosixPath(name).suffix.lower(), _text)
    try:
        lines = compare(committed, rebuilt)
    except UNREADABLE as error:
        reason = str(error).strip().split("\n")[0]
        return [f"cannot be read: {reason}", _first_byte(committed, rebuilt)]
    if not lines:
        return ["the same values in other bytes", _first_byte(committed, rebuilt)]
    more = len(lines) - MOST_LINES
    return lines if more <= 0 else [*lines[:MOST_LINES], f"and {more:,} more"]


def _json(committed: bytes, rebuilt: bytes) -> list[str]:
    old, new = (dict(_leaves(json.loads(content))) for content in (committed, rebuilt))
    return [
        f"{field}: {_value(old, field)} → {_value(new, field)}"
        for field in {**old, **new}
        if _value(old, field) != _value(new, field)
    ]


def _value(fields: dict[str, Any], field: str) -> str:
    return json.dumps(fields[field], ensure_ascii=False) if field in fields else "missing"


def _csv(committed: bytes, rebuilt: bytes) -> list[str]:
    old, new = (
        list(csv.reader(io.StringIO(content.decode("utf-8"), newline=""), strict=True))
        for content in (committed, rebuilt)
    )
    if old[:1] != new[:1]:
        names = [",".join(rows[0]) if rows else "none" for rows in (old, new)]
        return [f"columns: {names[0]} → {names[1]}"]
    lines = []
    if len(old) != len(new):
        lines.append(f"rows: {len(old) - 1:,} → {len(new) - 1:,}")
    header = old[0] if old else []
    for number, (before, after) in enumerate(zip(old[1:], new[1:], strict=False), start=1):
        if len(before) != len(after):
            lines.append(f"row {number:,}: {len(before)} → {wording.count(len(after), 'field')}")
            continue
        row = f"row {number:,} ({header[0]} {before[0]})" if before else f"row {number:,}"
        for position, (a, b) in enumerate(zip(before, after, strict=True)):
            if a != b:
                column = header[position] if position < len(header) else f"field {position + 1}"
                lines.append(f"{row}, {column}: {a} → {b}")
    return lines


def _array(committed: bytes, rebuilt: bytes) -> list[str]:
    old, new = (np.load(io.BytesIO(c), allow_pickle=False) for c in (committed, rebuilt))
    kinds = [f"{array.dtype} {array.shape}" for array in (old, new)]
    if kinds[0] != kinds[1]:
        return [f"{kinds[0]} → {kinds[1]}"]
    count, largest = _distance(old, new)
    return [f"{kinds[0]}: {_share(count, old.size)}, by at most {largest:.3g}"] if count else []


def _model(committed: bytes, rebuilt: bytes) -> list[str]:
    import torch  # here, because no other kind of file needs its two seconds

    old, new = (
        dict(_leaves(torch.load(io.BytesIO(c), map_location="cpu", weights_only=True)))
        for c in (committed, rebuilt)
    )
    others = []
    tensors = []
    for name in {**old, **new}:
        a, b = old.get(name), new.get(name)
        if not (isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor)):
            if type(a) is not type(b) or a != b:
                others.append(f"{name}: {_kind(a)} → {_kind(b)}")
        elif _kind(a) != _kind(b):
            others.append(f"{name}: {_kind(a)} → {_kind(b)}")
        else:
            count, largest = _distance(a.double().numpy(), b.double().numpy())
            if count:
                share = _share(count, a.numel())
                line = f"{name}, {_kind(a)}: {share}, by at most {largest:.3g}"
                tensors.append((largest, line))
    # The largest difference first; NaN before all.
    tensors.sort(key=lambda pair: -pair[0] if pair[0] == pair[0] else float("-inf"))
    return others + [line for _, line in tensors]


def _kind(value: Any) -> str:
    """Dtype and shape of a tensor; anything else as it is."""
    if value is None:
        return "missing"
    if not hasattr(value, "dtype"):
        return repr(value)[:60]
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _image(committed: bytes, rebuilt: bytes) -> list[str]:
    old, new = (Image.open(io.BytesIO(content)) for content in (committed, rebuilt))
    kinds = [f"{image.width} × {image.height} {image.mode}" for image in (old, new)]
    if kinds[0] != kinds[1]:
        return [f"{kinds[0]} → {kinds[1]}"]
    before, after = (np.atleast_3d(np.asarray(image)) for image in (old, new))  # (H, W, C)
    pixels = int((before != after).any(axis=2).sum())
    _, largest = _distance(before, after)
    share = _share(pixels, old.width * old.height, "pixels ")
    return [f"{kinds[0]}: {share}, by at most {largest:.3g} of 255"] if pixels else []


def _text(committed: bytes, rebuilt: bytes) -> list[str]:
    try:
        old, new = (content.decode("utf-8").split("\n") for content in (committed, rebuilt))
    except UnicodeDecodeError:
        return [_first_byte(committed, rebuilt)]
    lines = [f"lines: {len(old):,} → {len(new):,}"] if len(old) != len(new) else []
    for number, (a, b) in enumerate(zip(old, new, strict=False), start=1):
        if a != b:
            column = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
            start = max(0, (min(len(a), len(b)) if column is None else column) - 20)
            shown = [repr(line[start : start + 60]) for line in (a, b)]
            lines.append(f"line {number:,}: {shown[0]} → {shown[1]}")
    return lines


KINDS: dict[str, Callable[[bytes, bytes], list[str]]] = {
    ".json": _json,
    ".csv": _csv,
    ".npy": _array,
    ".pt": _model,
    ".png": _image,
    ".jpg": _image,
}


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield everything in nested dicts and lists under its dotted name."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    if not items:
        yield name or "the whole", value
    for key, item in items:
        yield from _leaves(item, f"{name}.{key}" if name else str(key))


def _distance(a: NDArray[Any], b: NDArray[Any]) -> tuple[int, float]:
    """Return how many elements differ, and the largest difference; two NaN are equal."""
    differ = (a != b) & ~((a != a) & (b != b))
    if a.dtype.kind not in "biuf":
        return int(differ.sum()), float("nan")
    pairs = a[differ].astype(np.float64), b[differ].astype(np.float64)
    return int(differ.sum()), float(np.abs(pairs[0] - pairs[1]).max(initial=0))


def _share(count: int, total: int, what: str = "") -> str:
    return f"{count:,} of {total:,} {what}differ"


def _first_byte(committed: bytes, rebuilt: bytes) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(committed, rebuilt, strict=False)) if a != b),
        min(len(committed), len(rebuilt)),
    )
    sizes = f"{len(committed):,} → {wording.count(len(rebuilt), 'byte')}"
    return f"{sizes}, the same up to byte {at:,}"
