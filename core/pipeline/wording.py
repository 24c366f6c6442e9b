"""Writes counts, lists and measures for a reader, in one way everywhere."""

import math
from collections.abc import Sequence

FROM_HERE_ON_POWERS = 1e6  # of ten: 5.43e+07


def count(number: int, what: str) -> str:
    """Write a count with its noun: 1 file of code, 2 files of code, 10 classes."""
    if number == 1:
        return f"1 {what}"
    noun, space, rest = what.partition(" of ")
    if noun.endswith("index"):
        return f"{number:,} {noun.removesuffix('ex')}ices{space}{rest}"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{number:,} {noun[:-1]}ies{space}{rest}"
    return f"{number:,} {noun}{'es' if noun.endswith('s') else 's'}{space}{rest}"


def listed(items: Sequence[str], most: int = 6) -> str:
    """Join items for a sentence: the first ones, and how many more."""
    if len(items) > most:
        return ", ".join(items[:most]) + f" and {len(items) - most} more"
    return ", ".join(items)


def measure(value: float, deviation: float | None = None) -> str:
    """Write a loss or an accuracy, and its deviation: five digits, at most four decimals."""
    scale = max(abs(value), deviation or 0.0)
    if scale >= FROM_HERE_ON_POWERS:
        texts = [f"{value:.2e}"] + ([] if deviation is None else [f"{deviation:.1e}"])
    else:
        decimals = 4 - max(0, math.floor(math.log10(scale))) if scale else 4
        texts = [f"{each:,.{max(decimals, 0)}f}" for each in (value, deviation) if each is not None]
    return " ± ".join(texts)
