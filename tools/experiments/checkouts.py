"""Checkouts of their own, in which experiments run one after the other: `dvc repro`.

They share git's objects and DVC's cache with the repository; nobody's working tree
is touched. `dvc exp run --temp` would do as well, but makes a checkout for each
experiment, which costs a third more processor time, and while it starts it
stashes the user's changes away. DVC's queue is known to hang.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.pipeline.params import PARAMS_FILE
from core.training import numerics
from tools.experiments import outputs
from tools.experiments.grid import Experiment
from tools.experiments.preloaded import preloaded
from tools.experiments.store import Outcome, Snapshot
from tools.repository import git

DIVERGED = "error: the training diverged"  # how core.training.loop begins to say it
TRAINED = "Running stage 'train':"  # how DVC says it, where it takes nothing from its cache
MIRRORS = "data/mirror"  # its folders are ignored but for what is bundled
POLL_SECONDS = 0.02


@dataclass
class Run:
    """An experiment that runs in a checkout, in a process group of its own."""

    folder: Path
    experiment: Experiment
    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)

    def ended(self) -> bool:
        """Say whether it has ended by itself."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """End every process of it. What it was doing goes with its checkout."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def outcome(self) -> Outcome:
        """Return how it ended. Its log stays only if it failed."""
        seconds = time.monotonic() - self.started
        self.stop()  # a stage outlives a DVC that was killed
        text = self.log.read_text(encoding="utf-8", errors="replace")
        if self.process.returncode == 0:
            self.log.unlink()
            trained = TRAINED in text
            return Outcome(self.experiment, seconds, changed_files(self.folder), trained=trained)
        problem = _problem(text, self.process.returncode)
        return Outcome(
            self.experiment, seconds, {}, problem=problem, diverged=problem.startswith(DIVERGED)
        )


class Checkout:
    """A working tree with its own lock, made when the first experiment starts in it.

    Args:
        root: of the repository that it shares everything else with.
        folder: where it will be.
        snapshot: what every experiment in it starts from.
    """

    def __init__(self, root: Path, folder: Path, snapshot: Snapshot) -> None:
        self.root = root
        self.folder = folder
        self.snapshot = snapshot

    def start(self, experiment: Experiment, python: Path, log: Path) -> Run:
        """Start an experiment, from a clean state.

        Args:
            experiment: what runs.
            python: the folder of the `python` that runs it.
            log: where what it prints goes.
        """
        if not self.folder.exists():
            self._check_out()
        git.run("reset", "--quiet", "--hard", self.snapshot.commit, cwd=self.folder)
        git.run("clean", "--quiet", "--force", "-d", cwd=self.folder)
        (self.folder / PARAMS_FILE).write_bytes(experiment.params)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python / "python", "-m", "dvc", "repro"],
                cwd=self.folder,
                env=self._environment(python, experiment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # to be stopped as one, and no Ctrl-C of the terminal
            )
        return Run(self.folder, experiment, process, log)

    def _check_out(self) -> None:
        git.run(
            *("clone", "--quiet", "--shared", "--no-checkout", str(self.root), str(self.folder)),
            cwd=self.root,
        )
        git.run("checkout", "--quiet", "--detach", self.snapshot.commit, cwd=self.folder)
        _share_cache(self.root, self.folder)
        for name in placed_by_hand(self.root):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).symlink_to(self.root / name)

    def _environment(self, python: Path, experiment: Experiment) -> dict[str, str]:
        """What the processes of an experiment find in their environment."""
        inherited = _inherited()
        return {
            **inherited,
            "PATH": f"{python}{os.pathsep}{inherited.get('PATH', '')}",  # `python` of dvc.yaml
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder / ".dvc/tmp/site"),  # goes with the checkout
            "DVC_EXP_NAME": experiment.name,  # as DVC itself tells its experiments
            "DVC_EXP_BASELINE_REV": self.snapshot.baseline,
        }


def _share_cache(root: Path, folder: Path) -> None:
    """Give a checkout the local settings of the repository, and its cache."""
    from dvc.config import Config

    cache = outputs.opened(root).folder
    local: dict[str, Any] = Config(str(root / ".dvc"), validate=False).read("local")
    local.setdefault("cache", {})["dir"] = str(cache)
    with Config(str(folder / ".dvc"), validate=False).edit("local") as settings:
        settings.update(local)


def placed_by_hand(root: Path) -> list[str]:
    """Return the files of data sets that were placed by hand, and that git ignores."""
    ignored = ("--others", "--ignored", "--exclude-standard", "-z", "--", MIRRORS)
    listed = git.run("ls-files", *ignored, cwd=root)
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


@contextmanager
def python_for(kernels: str) -> Iterator[Path]:
    """Offer the folder of the `python` to run experiments with: this one, or a quick one.

    Only portable numerics are known before a stage reads its params.yaml, and
    have no threads or devices that a copy of a process could not take over.

    Args:
        kernels: `portable` or `fast`, the numerics of the experiments.
    """
    if kernels == "portable":
        variables = numerics.PORTABLE_KERNELS | numerics.WAITING
        with preloaded(variables, _inherited()) as folder:
            yield folder
    else:
        yield Path(sys.executable).parent


def _inherited() -> dict[str, str]:
    """The environment of this process, without what would lead git and DVC elsewhere."""
    environment = git.undirected(os.environ)
    return {name: value for name, value in environment.items() if not name.startswith("DVC_")}


def remove(folder: Path) -> None:
    """Remove a folder, even while a process that was stopped still ends in it."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(POLL_SECONDS)
    shutil.rmtree(folder)


def changed_files(folder: Path) -> dict[str, bytes | None]:
    """Read the files that git keeps and that a run left changed; None for one it removed."""
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
    # A stage's own words, as core.pipeline.runner prints them, or else those of DVC.
    told = re.findall(r"^error: .*(?:\n  \w+: .*(?:\n {12}.*)*)*", log, re.MULTILINE)
    if told:
        return str(told[-1])
    failed = re.findall(r"^ERROR: (.*)", log, re.MULTILINE)
    reason = str(failed[-1]) if failed else f"dvc repro ended with status {status}"
    return re.sub(r"exited with (-9|137)$", "which was killed by SIGKILL", reason)
