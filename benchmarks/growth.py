"""A table of growth: a line for each measure, a column for each size.

The last columns have the slopes, from the first size to the second and from the last but
one to the last: two equal slopes mean linear growth.
"""

import statistics
import time
from collections.abc import Callable
from typing import TypeVar

WIDTH = 50  # of the names of the lines

Value = TypeVar("Value")


class Growth:
    """Measurements at several sizes, taken one size after another."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.figures: dict[str, dict[int, list[float]]] = {}  # by line and size, all runs

    def at(self, size: int) -> None:
        """Set the size of the next measurements."""
        self.sizes.append(size)

    def note(self, line: str, figure: float) -> None:
        """Record a measurement, once for each run."""
        self.figures.setdefault(line, {}).setdefault(self.sizes[-1], []).append(figure)

    def timed(self, line: str, call: Callable[[], Value]) -> Value:
        """Record the seconds of a call, and return its result."""
        start = time.perf_counter()
        value = call()
        self.note(line, time.perf_counter() - start)
        return value

    def print(self, unit: str, more: int) -> None:
        """Print the medians, the slopes and the largest spread of the runs.

        Args:
            unit: of the sizes.
            more: the number of units that the slopes are for.
        """
        ends = [(0, 1), (-2, -1)] if len(self.sizes) > 2 else [(0, -1)]
        columns = [f"{size:,}" for size in self.sizes] + [f"+{more:,}"] * len(ends)
        print(f"{unit:<{WIDTH}}" + "".join(f"{column:>11}" for column in columns))
        for line, runs in self.figures.items():
            medians = [statistics.median(runs[size]) for size in self.sizes]
            slopes = [
                more * (medians[j] - medians[i]) / max(1, self.sizes[j] - self.sizes[i])
                for i, j in ends
            ]
            print(f"{line:<{WIDTH}}" + "".join(f"{written(x):>11}" for x in (*medians, *slopes)))
        print(self.spread())

    def spread(self) -> str:
        """Return the largest spread of the runs of one measure."""
        apart = [
            ((max(taken) - min(taken)) / statistics.median(taken), line, size)
            for line, runs in self.figures.items()
            for size, taken in runs.items()
            if statistics.median(taken) > 0
        ]
        rounds = max(len(taken) for runs in self.figures.values() for taken in runs.values())
        if rounds == 1:
            return "one run each"
        share, line, size = max(apart)
        return (
            f"medians of {rounds} runs, which lie at most {share:.0%} of them apart "
            f"({line}, at {size:,})"
        )


def written(figure: float) -> str:
    """Write a figure with three digits, or all digits before the point, at most four after it."""
    if isinstance(figure, int):
        return f"{figure:,}"
    before = len(str(int(abs(figure)))) if abs(figure) >= 1 else 0
    digits = max(0, 3 - before) if abs(figure) >= 0.1 else 4
    return f"{figure:,.{digits}f}"
