"""Runs calls in parallel threads, and returns their results in order.

PyTorch releases Python's global lock while it computes, so that two calls use two
processors. The result of a call does not depend on the others, nor on how many run
at once: one worker gives the same bits.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


class Workers:
    """Threads that last as long as the object.

    Args:
        count: how many calls run at once; with one, in the thread of the caller.
        threads: how many threads PyTorch uses within a call.
    """

    def __init__(self, count: int, threads: int = 1) -> None:
        # PyTorch keeps this setting for each calling thread.
        self.pool = (
            ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads,))
            if count > 1
            else None
        )

    def map(self, function: Callable[..., Result], *arguments: Iterable[Any]) -> Iterator[Result]:
        """Call `function` as the built-in `map` does."""
        return self.pool.map(function, *arguments) if self.pool else map(function, *arguments)


ONE_WORKER = Workers(1)
