"""What runs experiments: the interface, and the folder that all executors work in.

What an executor is given and what it hands back holds no path and no process, so
that experiments can run on other machines as well.
"""

import fcntl
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from core.pipeline.errors import SetupError
from tools.experiments.checkouts import remove
from tools.experiments.grid import Experiment
from tools.experiments.store import Outcome, Snapshot

WORK = Path(".dvc/tmp/compare")  # DVC keeps .dvc/tmp out of git


class Executor(Protocol):
    """Runs experiments, several at once if it can."""

    def how(self, experiments: Sequence[Experiment]) -> str:
        """Describe how it runs these: `2 at a time`."""

    def run(
        self, experiments: Sequence[Experiment], snapshot: Snapshot
    ) -> Generator[Outcome, None, None]:
        """Run each experiment from `snapshot` and yield how it ended, as soon as it did.

        Its outputs are in DVC's cache by then. Closing the iterator stops running
        experiments and removes their checkouts.
        """


@contextmanager
def exclusive(folder: Path) -> Iterator[Path]:
    """Yield an empty folder for checkouts, to one process of a repository at a time.

    Whatever a killed process left there is removed.
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
