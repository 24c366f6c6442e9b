"""Temporary checkouts, each of which runs one experiment after another by `dvc repro`.

They share git's objects and DVC's cache with the repository and leave the user's
working tree alone. `dvc exp run --temp` creates a checkout for each experiment, which
takes a third more processor time, and stashes the user's changes while it starts.
DVC's queue is known to hang.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.pipeline.errors import SetupError
from core.pipeline.params import PARAMS_FILE
from core.training import numerics
from tools.experiments import outputs
from tools.experiments.grid import Experiment
from tools.experiments.preloaded import preloaded
from tools.experiments.store import Outcome, Snapshot
from tools.repository import added_data, git

DIVERGED = "error: the training diverged"  # how the message of core.training.loop begins
TRAINED = "Running stage 'train':"  # what DVC prints unless it restores the stage from its cache
MIRRORS = "data/mirror"  # git ignores its folders, except the bundled one
POLL_SECONDS = 0.02


@dataclass
class Run:
    """An experiment that runs in a checkout, in its own process group."""

    folder: Path
    experiment: Experiment
    process: subprocess.Popen[bytes]
    log: Path
    started: float = field(default_factory=time.monotonic)

    def ended(self) -> bool:
        """Say whether it has ended."""
        return self.process.poll() is not None

    def stop(self) -> None:
        """Kill all of its processes. Partial results are removed with the checkout."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def outcome(self) -> Outcome:
        """Return how it ended. The log is kept only if it failed."""
        seconds = time.monotonic() - self.started
        self.stop()  # a stage survives a killed DVC
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
    """A working tree with its own lock, created when the first experiment starts in it.

    Args:
        root: of the project that it shares everything else with.
        folder: where the checkout of its repository will be.
        snapshot: what every experiment in it starts from.
    """

    def __init__(self, root: Path, folder: Path, snapshot: Snapshot) -> None:
        self.root = root
        self.top = folder
        self.folder = folder / git.prefix(root)  # the project in it
        self.snapshot = snapshot

    def start(self, experiment: Experiment, python: Path, log: Path) -> Run:
        """Start an experiment, from a clean state.

        Args:
            experiment: what runs.
            python: the folder of the `python` that runs it.
            log: the file that its output is written to.
        """
        environment = self._environment(python, experiment)
        if not self.top.exists():
            self._check_out(python, environment)
        git.run("reset", "--quiet", "--hard", self.snapshot.commit, cwd=self.top)
        git.run("clean", "--quiet", "--force", "-d", cwd=self.top)
        (self.folder / PARAMS_FILE).write_bytes(experiment.params)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [python / "python", "-m", "dvc", "repro"],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,  # killed as a group; Ctrl-C in the terminal does not reach it
            )
        return Run(self.folder, experiment, process, log)

    def _check_out(self, python: Path, environment: Mapping[str, str]) -> None:
        git.check_out(self.root, self.top, self.snapshot.commit)
        _share_cache(self.root, self.folder)
        for name in local_data_files(self.root):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).symlink_to(self.root / name)
        listed = git.run("ls-files", "-z", cwd=self.folder).split(b"\0")
        added = added_data.records(map(os.fsdecode, listed))
        if added:
            _check_out_data(self.folder, added, python, environment)

    def _environment(self, python: Path, experiment: Experiment) -> dict[str, str]:
        """Return the environment of the processes of an experiment."""
        inherited = _inherited()
        return {
            **inherited,
            "PATH": f"{python}{os.pathsep}{inherited.get('PATH', '')}",  # `python` of dvc.yaml
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder / ".dvc/tmp/site"),  # removed with the checkout
            "DVC_EXP_NAME": experiment.name,  # as DVC sets it
            "DVC_EXP_BASELINE_REV": self.snapshot.baseline,
        }


def _check_out_data(
    folder: Path, records: Sequence[str], python: Path, environment: Mapping[str, str]
) -> None:
    """Bring the data that `dvc add` tracks into a checkout, as `dvc exp run --temp` does.

    Raises:
        SetupError: DVC's cache does not have it.
    """
    done = subprocess.run(
        [python / "python", "-m", "dvc", "checkout", *records],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if done.returncode != 0:
        raise SetupError(
            "the data that dvc add tracks cannot be brought into a checkout",
            found=done.stdout.decode("utf-8", "replace").strip(),
            where=", ".join(records),
            todo="dvc pull gets it from the remote, if it is not in DVC's cache",
        )


def _share_cache(root: Path, folder: Path) -> None:
    """Give a checkout the local settings of the repository, and its cache."""
    from tools.repository.dvc_config import Utf8Config

    cache = outputs.opened(root).folder
    local: dict[str, Any] = Utf8Config(root / ".dvc").read("local")
    local.setdefault("cache", {})["dir"] = str(cache)
    with Utf8Config(folder / ".dvc").edit("local") as settings:
        settings.update(local)


def local_data_files(root: Path) -> list[str]:
    """Return the local files of data sets, which git ignores."""
    ignored = ("--others", "--ignored", "--exclude-standard", "-z", "--", MIRRORS)
    listed = git.run("ls-files", *ignored, cwd=root)
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


@contextmanager
def python_for(kernels: str) -> Iterator[Path]:
    """Yield the folder of the `python` that runs experiments: this one, or a preloaded one.

    Only portable numerics can be preloaded: they are known before a stage reads its
    params.yaml, and have no threads or devices that a forked process would lose.

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
    """Return the environment without the variables that redirect git and DVC."""
    environment = git.undirected(os.environ)
    return {name: value for name, value in environment.items() if not name.startswith("DVC_")}


def remove(folder: Path) -> None:
    """Remove a folder, even while a killed process is still ending in it."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(POLL_SECONDS)
    shutil.rmtree(folder)


def changed_files(folder: Path) -> dict[str, bytes | None]:
    """Read the tracked files that a run changed; None for one that it removed."""
    git.run("add", "--all", ".", cwd=folder)
    changed = ("diff", "--cached", "--name-only", "--relative", "--no-renames", "-z", "HEAD")
    listed = git.run(*changed, cwd=folder)
    names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    return {
        name: (folder / name).read_bytes() if (folder / name).exists() else None for name in names
    }


def _problem(log: str, status: int) -> str:
    """Return from the output of a run why it failed."""
    if status < 0:
        return f"it was killed by {signal.Signals(-status).name}"
    # The message of a stage, as core.pipeline.runner prints it, or else of DVC.
    messages = re.findall(r"^error: .*(?:\n  \w+: .*(?:\n {12}.*)*)*", log, re.MULTILINE)
    if messages:
        return str(messages[-1])
    failed = re.findall(r"^ERROR: (.*)", log, re.MULTILINE)
    reason = str(failed[-1]) if failed else f"dvc repro ended with status {status}"
    return re.sub(r"exited with (-9|137)$", "which was killed by SIGKILL", reason)
