"""Runs experiments. Where and how is known here and nowhere else.

An executor is anything with the methods of `Executor`. What it is given and what
it hands back holds no path and no process, so that experiments run on other
machines as well: `LocalExecutor` runs them here, and tools/ray_executor.py on the
nodes of a Ray cluster.
"""

import fcntl
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from core import numerics
from core.errors import SetupError
from tools import extra
from tools.checkouts import POLL_SECONDS, Checkout, Run, python_for, remove
from tools.experiments import Outcome, Snapshot
from tools.grid import Experiment

WORK = Path(".dvc/tmp/compare")  # DVC keeps .dvc/tmp out of git


class Executor(Protocol):
    """Runs experiments, several at once if it can."""

    def how(self, experiments: Sequence[Experiment]) -> str:
        """Say how many of these it runs at once, or where: `2 at a time`."""

    def run(
        self, experiments: Sequence[Experiment], snapshot: Snapshot
    ) -> Generator[Outcome, None, None]:
        """Run each experiment from `snapshot` and yield how it ended, as soon as it did.

        What it computed is in DVC's cache by then. Closing the iterator stops what
        still runs and leaves nothing behind.
        """


def chosen(root: Path, jobs: int | None, ray: str | None) -> Executor:
    """Return the executor that the command line asks for.

    Args:
        root: of the repository.
        jobs: how many at a time; None for as many as have processors of their own.
        ray: the address of a Ray cluster, or `local`; None for no Ray.

    Raises:
        SetupError: Ray, an optional package, is not installed.
    """
    if ray is None:
        return LocalExecutor(root, jobs)
    extra.require("ray", "ray", "--ray")
    from tools.ray_executor import RayExecutor

    return RayExecutor(root, jobs, ray)


class LocalExecutor:
    """Runs experiments on this machine, each in a process group of its own.

    Args:
        root: of the repository.
        jobs: how many at a time; None for as many as have processors of their own.
    """

    def __init__(self, root: Path, jobs: int | None) -> None:
        self.root = root
        self.jobs = jobs

    def how(self, experiments: Sequence[Experiment]) -> str:
        """Say how many of these run at once."""
        return f"{self._jobs(experiments)} at a time"

    def run(
        self, experiments: Sequence[Experiment], snapshot: Snapshot
    ) -> Generator[Outcome, None, None]:
        """Run each experiment from `snapshot` and yield how it ended, as soon as it did.

        The output of one that failed stays in .dvc/tmp/compare/NAME.log.

        Raises:
            SetupError: another comparison runs in this repository.
        """
        waiting = deque(experiments)
        with alone(self.root / WORK) as folder, ExitStack() as stack:
            pythons = {
                kernels: stack.enter_context(python_for(kernels))
                for kernels in sorted({each.numerics for each in experiments})
            }
            free = [
                Checkout(self.root, folder / str(number), snapshot)
                for number in range(self._jobs(experiments))
            ]
            running: dict[Checkout, Run] = {}
            try:
                while waiting or running:
                    while waiting and free:
                        checkout, experiment = free.pop(), waiting.popleft()
                        python = pythons[experiment.numerics]
                        log = self.root / WORK / f"{experiment.name}.log"
                        running[checkout] = checkout.start(experiment, python, log)
                    ended = [checkout for checkout, run in running.items() if run.ended()]
                    for checkout in ended:
                        outcome = running.pop(checkout).outcome()
                        free.append(checkout)
                        yield outcome
                    if not ended:
                        time.sleep(POLL_SECONDS)
            finally:
                for run in running.values():
                    run.stop()

    def _jobs(self, experiments: Sequence[Experiment]) -> int:
        return min(self.jobs or jobs_that_fit(experiments), max(1, len(experiments)))


def jobs_that_fit(experiments: Sequence[Experiment]) -> int:
    """Return how many experiments have processors of their own, even the largest of them."""
    available = numerics.processors()
    return max(
        1, available // max((each.processors or available for each in experiments), default=1)
    )


@contextmanager
def alone(folder: Path) -> Iterator[Path]:
    """Hand out an empty folder for checkouts, to one process of a repository at a time.

    What a process that was killed left there is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkouts = folder / "checkouts"
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process
        except BlockingIOError:
            raise SetupError(
                "another comparison is running in this repository",
                where=str(folder),
                todo="wait for it, or stop it with Ctrl-C",
            ) from None
        remove(checkouts)
        try:
            yield checkouts
        finally:
            remove(checkouts)
