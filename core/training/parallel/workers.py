"""Runs calls in parallel threads, and returns their results in order.

PyTorch releases Python's global lock while it computes, so that two calls use two
processors. The result of a call does not depend on the others, nor on how many run
at once: one worker gives the same bits.
"""

import itertools
from collections import deque
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
        self.count = count
        # PyTorch keeps this setting for each calling thread.
        self.pool = (
            ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads,))
            if count > 1
            else None
        )

    def map(self, function: Callable[..., Result], *arguments: Iterable[Any]) -> Iterator[Result]:
        """Call `function` as the built-in `map` does, with a few results waiting at most.

        More of them would split the freed memory of the batches that they are computed
        from, so that the next batch does not fit.
        """
        if not self.pool:
            yield from map(function, *arguments)
            return
        calls = zip(*arguments, strict=False)  # as `map`
        # Twice as many as run at once, so that no worker waits for the caller.
        ahead = itertools.islice(calls, 2 * self.count)
        running = deque(self.pool.submit(function, *call) for call in ahead)
        try:
            while running:
                result = running.popleft().result()
                running += [
                    self.pool.submit(function, *call) for call in itertools.islice(calls, 1)
                ]
                yield result
        finally:
            for call in running:
                call.cancel()


ONE_WORKER = Workers(1)
