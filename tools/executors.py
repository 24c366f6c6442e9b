"""Runs experiments. Where and how is known here and nowhere else.

An executor is anything with the method of `Executor`. What it is given and what
it hands back holds no path and no process, so that experiments could as well
run on another machine, as long as DVC's cache gets what they computed.

The one here, `LocalExecutor`, runs `dvc repro` in checkouts of its own, one for
each of its jobs. They share git's objects and DVC's cache with the repository;
nobody's working tree is touched. `dvc exp run --temp` would do as well, but makes
a checkout for each experiment, which costs a third more processor time, and
while it starts it stashes the user's changes away. DVC's queue is known to hang.
"""

import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from core import numerics
from core.errors import SetupError
from core.params import PARAMS_FILE
from tools import git
from tools.experiments import Outcome, Snapshot
from tools.grid import Experiment
from tools.preloaded import preloaded

WORK = Path(".dvc/tmp/compare")  # DVC keeps .dvc/tmp out of git
DIVERGED = "error: the training diverged"  # how core.training begins to say it
TRAINED = "Running stage 'train':"  # how DVC says it, where it takes nothing from its cache
MIRRORS = "data/mirror"  # its folders are ignored but for what is bundled
POLL_SECONDS = 0.02


class Executor(Protocol):
    """Runs experiments, several at once if it can."""

    def run(
        self, experiments: Sequence[Experiment], snapshot: Snapshot
    ) -> Generator[Outcome, None, None]:
        """Run each experiment from `snapshot` and yield how it ended, as soon as it did.

        Closing the iterator stops what still runs and leaves nothing behind.
        """


@dataclass
class _Job:
    """A checkout, and the experiment that runs in it."""

    folder: Path
    experiment: Experiment
    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)


class LocalExecutor:
    """Runs experiments on this machine, `jobs` at a time, each in a process group of its own.

    Args:
        root: of the repository.
        jobs: how many at a time.
    """

    def __init__(self, root: Path, jobs: int) -> None:
        self.root = root
        self.jobs = jobs

    def run(
        self, experiments: Sequence[Experiment], snapshot: Snapshot
    ) -> Generator[Outcome, None, None]:
        """Run each experiment from `snapshot` and yield how it ended, as soon as it did.

        The output of one that failed stays in .dvc/tmp/compare/NAME.log.

        Raises:
            SetupError: another comparison runs in this repository.
        """
        waiting = deque(experiments)
        with _alone(self.root / WORK) as folder, _pythons(experiments) as pythons:
            free = [folder / str(number) for number in range(min(self.jobs, len(waiting)))]
            running: list[_Job] = []
            try:
                while waiting or running:
                    while waiting and free:
                        running.append(
                            self._start(free.pop(), waiting.popleft(), snapshot, pythons)
                        )
                    ended = [job for job in running if job.process.poll() is not None]
                    for job in ended:
                        running.remove(job)
                        outcome = _outcome(job)
                        free.append(job.folder)
                        yield outcome
                    if not ended:
                        time.sleep(POLL_SECONDS)
            finally:
                for job in running:
                    _stop(job)

    def _start(
        self, folder: Path, experiment: Experiment, snapshot: Snapshot, pythons: Mapping[str, Path]
    ) -> _Job:
        if not folder.exists():
            self._check_out(folder, snapshot)
        git.run("reset", "--quiet", "--hard", snapshot.commit, cwd=folder)
        git.run("clean", "--quiet", "--force", "-d", cwd=folder)
        (folder / PARAMS_FILE).write_bytes(experiment.params)
        log = self.root / WORK / f"{experiment.name}.log"
        python = pythons[experiment.numerics]
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python / "python", "-m", "dvc", "repro"],
                cwd=folder,
                env=_environment(python, folder, experiment, snapshot),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # to be stopped as one, and no Ctrl-C of the terminal
            )
        return _Job(folder, experiment, process, log)

    def _check_out(self, folder: Path, snapshot: Snapshot) -> None:
        """Make a checkout that has its own working tree and lock, and shares everything else."""
        git.run(
            *("clone", "--quiet", "--shared", "--no-checkout", str(self.root), str(folder)),
            cwd=self.root,
        )
        git.run("checkout", "--quiet", "--detach", snapshot.commit, cwd=folder)
        _share_cache(self.root, folder)
        _share_mirrors(self.root, folder)


def _share_cache(root: Path, folder: Path) -> None:
    """Give a checkout the local settings of the repository, and its cache."""
    from dvc.config import Config
    from dvc.repo import Repo

    with Repo(str(root)) as repo:
        local: dict[str, Any] = repo.config.read("local")
        local.setdefault("cache", {})["dir"] = repo.cache.local_cache_dir
    with Config(str(folder / ".dvc"), validate=False).edit("local") as settings:
        settings.update(local)


def _share_mirrors(root: Path, folder: Path) -> None:
    """Give a checkout the files of data sets that were placed by hand, and that git ignores."""
    ignored = ("--others", "--ignored", "--exclude-standard", "-z", "--", MIRRORS)
    listed = git.run("ls-files", *ignored, cwd=root)
    for name in [os.fsdecode(name) for name in listed.split(b"\0") if name]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(root / name)


@contextmanager
def _pythons(experiments: Sequence[Experiment]) -> Iterator[Mapping[str, Path]]:
    """Find for each numerics the folder of the `python` to run with: this one, or a quick one.

    Only portable numerics are known before a stage reads its params.yaml, and
    have no threads or devices that a copy of a process could not take over.
    """
    pythons = {name: Path(sys.executable).parent for name in ("portable", "fast")}
    with ExitStack() as stack:
        if any(experiment.numerics == "portable" for experiment in experiments):
            variables = numerics.PORTABLE_KERNELS | numerics.WAITING
            pythons["portable"] = stack.enter_context(preloaded(variables, _inherited()))
        yield pythons


def _inherited() -> dict[str, str]:
    """The environment of this process, without what would lead git and DVC elsewhere."""
    environment = git.undirected(os.environ)
    return {name: value for name, value in environment.items() if not name.startswith("DVC_")}


def _environment(
    python: Path, folder: Path, experiment: Experiment, snapshot: Snapshot
) -> dict[str, str]:
    """What the processes of an experiment find in their environment."""
    inherited = _inherited()
    return {
        **inherited,
        "PATH": f"{python}{os.pathsep}{inherited.get('PATH', '')}",  # `python` of dvc.yaml
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(folder / ".dvc/tmp/site"),  # goes with the checkout
        "DVC_EXP_NAME": experiment.name,  # as DVC itself tells its experiments
        "DVC_EXP_BASELINE_REV": snapshot.baseline,
    }


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
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
        _remove(checkouts)
        try:
            yield checkouts
        finally:
            _remove(checkouts)


def _remove(folder: Path) -> None:
    """Remove a folder, even while a process that was stopped still ends in it."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(POLL_SECONDS)
    shutil.rmtree(folder)


def _stop(job: _Job) -> None:
    """End every process of a job. Its checkout goes with it, so there is nothing to tidy."""
    with suppress(ProcessLookupError):
        os.killpg(job.process.pid, signal.SIGKILL)
    job.process.wait()


def _outcome(job: _Job) -> Outcome:
    seconds = time.monotonic() - job.started
    _stop(job)  # a stage outlives a DVC that was killed
    text = job.log.read_text(encoding="utf-8", errors="replace")
    if job.process.returncode == 0:
        job.log.unlink()
        trained = TRAINED in text
        return Outcome(job.experiment, seconds, _changed_files(job.folder), trained=trained)
    problem = _problem(text, job.process.returncode)
    return Outcome(
        job.experiment, seconds, {}, problem=problem, diverged=problem.startswith(DIVERGED)
    )


def _changed_files(folder: Path) -> dict[str, bytes | None]:
    """Read the files that git keeps and that a run left changed."""
    git.run("add", "--all", cwd=folder)
    listed = git.run("diff", "--cached", "--name-only", "--no-renames", "-z", "HEAD", cwd=folder)
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return {
        name: (folder / name).read_bytes() if (folder / name).exists() else None for name in names
    }


def _problem(log: str, status: int) -> str:
    """Find in the output of a run why it failed."""
    if status < 0:
        return f"it was killed by {signal.Signals(-status).name}"
    # A stage's own words, as core.runner prints them, or else those of DVC.
    told = re.findall(r"^error: .*(?:\n  \w+: .*(?:\n {12}.*)*)*", log, re.MULTILINE)
    if told:
        return str(told[-1])
    failed = re.findall(r"^ERROR: (.*)", log, re.MULTILINE)
    reason = str(failed[-1]) if failed else f"dvc repro ended with status {status}"
    return re.sub(r"exited with (-9|137)$", "which was killed by SIGKILL", reason)
