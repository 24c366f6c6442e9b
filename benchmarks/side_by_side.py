"""Runs the variants of a benchmark alternately, each in its own process.

They alternate, so that a busy machine slows all of them equally. They need their own
processes, because numerics are fixed for each process. A benchmark is a module that prints
one JSON object when it is called with `--variant NAME ...`.
"""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence

from core.training import numerics

Variant = tuple[str, ...]
Results = dict[Variant, list[dict[str, float]]]


def take_turns(module: str, variants: Sequence[Variant], rounds: int) -> Results:
    """Run every variant once in each round and return their results by round."""
    results: Results = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            results[variant].append(run(module, variant))
    return results


def run(module: str, variant: Variant) -> dict[str, float]:
    """Run one variant once."""
    command = [sys.executable, "-m", module, "--variant", *variant]
    # Threads do not spin for long: otherwise any other process on the machine would slow
    # the variants with several threads many times over.
    environment = {**numerics.WAITING, **os.environ}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout)
    return result


def seconds(results: list[dict[str, float]]) -> list[float]:
    """The `seconds` of each round."""
    return [result["seconds"] for result in results]


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios round by round."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def spread(runs: Sequence[float], digits: int = 3) -> str:
    """Median, and in parentheses the lowest and the highest."""
    low, middle, high = min(runs), statistics.median(runs), max(runs)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"
