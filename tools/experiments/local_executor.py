"""Runs experiments on this machine, each in its own checkout."""

import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from pathlib import Path

from core.training import numerics
from tools.experiments.checkouts import POLL_SECONDS, Checkout, Run, python_for
from tools.experiments.executor_interface import WORK, exclusive
from tools.experiments.grid import Experiment
from tools.experiments.store import Outcome, Snapshot


class LocalExecutor:
    """Runs experiments on this machine, each in its own process group.

    Args:
        root: of the repository.
        jobs: how many at a time; None for as many as the processors allow.
    """

    def __init__(self, root: Path, jobs: int | None) -> None:
        self.root = root
        self.jobs = jobs

    def how(self, experiments: Sequence[Experiment]) -> str:
        """Describe how many of these run at once."""
        return f"{self._jobs(experiments)} at a time"

    def run(
        self, experiments: Sequence[Experiment], snapshot: Snapshot
    ) -> Generator[Outcome, None, None]:
        """Run each experiment from `snapshot` and yield how it ended, as soon as it did.

        The log of one that failed is kept in .dvc/tmp/compare/NAME.log.

        Raises:
            SetupError: another comparison runs in this repository.
        """
        waiting = deque(experiments)
        with exclusive(self.root / WORK) as folder, ExitStack() as stack:
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
    """Return how many experiments fit, if each needs as many processors as the largest."""
    available = numerics.processors()
    return max(
        1, available // max((each.processors or available for each in experiments), default=1)
    )
