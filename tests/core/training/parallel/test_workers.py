"""Parallel calls: their results come in order, and each uses its share of the threads."""

import threading

import pytest
import torch

from core.training.parallel import distributed
from core.training.parallel.distributed import DistributedWorkers
from core.training.parallel.workers import ONE_WORKER, Workers


@pytest.mark.parametrize("count", [1, 2, 4])
def test_results_come_in_the_order_of_the_calls(count: int) -> None:
    waits = [0.03, 0.0, 0.02, 0.0, 0.01, 0.0]
    pause = threading.Event()

    def call(number: int, seconds: float) -> int:
        pause.wait(seconds)
        return number

    assert list(Workers(count).map(call, range(6), waits)) == [0, 1, 2, 3, 4, 5]


def test_as_many_calls_run_at_once_as_there_are_workers() -> None:
    meeting = threading.Barrier(3, timeout=30)  # breaks unless three wait at once

    assert len(list(Workers(3).map(lambda _: meeting.wait(), range(6)))) == 6


@pytest.mark.parametrize("count", [1, 3])
def test_few_results_wait_for_the_caller(count: int) -> None:
    called: list[int] = []

    def call(number: int) -> int:
        called.append(number)
        return number

    results = Workers(count).map(call, range(1000))

    assert [next(results) for _ in range(20)] == list(range(20))
    assert max(called) <= 19 + 2 * count  # twice as many as run at once


def test_one_process_yields_each_result_before_it_computes_the_next() -> None:
    made: list[int] = []

    def call(number: int) -> int:
        made.append(number)
        return number

    results = DistributedWorkers(distributed.ONE_PROCESS, 1).map(call, range(6))

    # Kept until the end, each result would keep the memory of its batch from being used again.
    assert (next(results), made) == (0, [0])
    assert list(results) == [1, 2, 3, 4, 5]


def test_one_worker_is_the_thread_of_the_caller() -> None:
    (thread,) = ONE_WORKER.map(lambda _: threading.current_thread(), [0])

    assert thread is threading.current_thread()


@pytest.mark.parametrize("threads", [1, 3])
def test_each_worker_computes_with_the_threads_it_is_given(threads: int) -> None:
    before = torch.get_num_threads()
    meeting = threading.Barrier(2, timeout=30)

    def call(_: int) -> int:
        meeting.wait()  # so that each worker takes one call
        return torch.get_num_threads()

    assert list(Workers(2, threads).map(call, range(2))) == [threads, threads]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_in_a_call_is_raised_where_its_result_would_come(count: int) -> None:
    results = Workers(count).map(lambda number: 6 // number, [3, 0, 2])

    assert next(results) == 2
    with pytest.raises(ZeroDivisionError):
        next(results)
